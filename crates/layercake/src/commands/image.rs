//! `layercake image`: images in the server's store.

use super::Failure;
use crate::args::Output;
use crate::client::{Client, quoted};
use crate::show;
use indicatif::{ProgressBar, ProgressStyle};
use layercake_server::api::ImageInfo;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};

pub(crate) async fn import(
    client: &Client,
    output: Output,
    source: &Path,
    name: &str,
    command: &[String],
) -> Result<(), Failure> {
    let mut query = format!("/v1/images?name={}", quoted(name));
    if !command.is_empty() {
        let command = serde_json::to_string(command)?;
        query.push_str(&format!("&command={}", quoted(&command)));
    }
    let (stream, size, packer) = open(source).await?;
    let progress = progress_bar(size)?;
    let bar = progress.clone();
    let imported: ImageInfo = client.upload(&query, stream, move |sent| bar.inc(sent)).await?;
    progress.finish_and_clear();
    if let Some(mut packer) = packer {
        let status = packer.wait().await?;
        if !status.success() {
            return Err(format!("tar could not read all of {}: {status}", source.display()).into());
        }
    }
    let names = || vec![imported.meta.digest.to_string()];
    show::answer(
        output,
        &serde_json::to_value(&imported)?,
        || table(std::slice::from_ref(&imported)),
        names,
    );
    Ok(())
}

type Source = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// What is to be imported, as a stream; its size, where that is known; and who makes the stream.
async fn open(source: &Path) -> Result<(Source, Option<u64>, Option<Child>), Failure> {
    if source == Path::new("-") {
        return Ok((Box::new(tokio::io::stdin()), None, None));
    }
    let at = |error| format!("cannot read {}: {error}", source.display());
    let metadata = tokio::fs::metadata(source).await.map_err(at)?;
    if !metadata.is_dir() {
        let file = tokio::fs::File::open(source).await.map_err(at)?;
        return Ok((Box::new(file), Some(metadata.len()), None));
    }
    // GNU tar knows everything a root file system can hold: devices, links, owners, attributes.
    let mut packer = Command::new("tar")
        .args(["--create", "--numeric-owner", "--xattrs", "--acls", "--sort=name", "--directory"])
        .arg(source)
        .arg(".")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    let stream = packer.stdout.take().ok_or("tar has no output")?;
    Ok((Box::new(stream), None, Some(packer)))
}

fn progress_bar(size: Option<u64>) -> Result<ProgressBar, Failure> {
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:40} {bytes}/{total_bytes} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} sent {elapsed}"),
    };
    bar.set_style(ProgressStyle::with_template(template)?);
    Ok(bar)
}

pub(crate) async fn list(client: &Client, output: Output) -> Result<(), Failure> {
    let images: Vec<ImageInfo> = client.get("/v1/images").await?;
    let names = || images.iter().map(|image| image.meta.digest.to_string()).collect();
    show::answer(output, &serde_json::to_value(&images)?, || table(&images), names);
    Ok(())
}

pub(crate) async fn remove(client: &Client, output: Output, image: &str) -> Result<(), Failure> {
    let removed: Value = client.delete(&format!("/v1/images/{}", quoted(image))).await?;
    show::answer(output, &removed, || format!("removed {image}"), || vec![image.to_owned()]);
    Ok(())
}

fn table(images: &[ImageInfo]) -> String {
    let rows = images.iter().map(|image| {
        let tags: Vec<&str> = image.tags.iter().map(|tag| tag.as_str()).collect();
        let kind = format!("{:?}", image.meta.entry.kind).to_lowercase();
        let size = show::size(image.meta.size_bytes);
        vec![tags.join(", "), kind, size, image.meta.digest.to_string()]
    });
    show::table(&["NAMES", "KIND", "SIZE", "DIGEST"], rows)
}
