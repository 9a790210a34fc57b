//! `layercake image`: images in the server's store.

use super::Failure;
use crate::args::Output;
use crate::client::{Client, quoted};
use crate::show::{self, Column};
use indicatif::{ProgressBar, ProgressStyle};
use layercake_image::DirectoryError;
use layercake_server::api::ImageInfo;
use serde_json::Value;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

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
    let (stream, size, archived) = open(source).await?;
    let progress = progress_bar(size)?;
    let bar = progress.clone();
    let sent = move |length| match length {
        // The server reads it a second time then, and that takes longer.
        0 => pack(&bar),
        length => bar.inc(length),
    };
    let uploaded = client.upload::<ImageInfo>(&query, stream, sent).await;
    progress.finish_and_clear();
    let archived = archived.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut remarks = match archived {
        // It is what broke the upload off. A server that takes no more says itself why.
        Some(Err(error)) if !matches!(error, DirectoryError::Write(_)) => return Err(error.into()),
        Some(Ok(remarks)) => remarks,
        _ => Vec::new(),
    };
    let imported = uploaded?;
    remarks.extend(imported.meta.remarks.iter().cloned());
    remarks.iter().for_each(|remark| show::note(remark));
    let names = || vec![imported.meta.digest.to_string()];
    show::answer(
        output,
        &serde_json::to_value(&imported)?,
        || table(std::slice::from_ref(&imported)),
        names,
    )
}

type Source = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// How the reading of a directory ended, once it has: with what was left out, or why it failed.
type Archived = Arc<Mutex<Option<Result<Vec<String>, DirectoryError>>>>;

/// What is to be imported, as a stream; its size, where that is known.
async fn open(source: &Path) -> Result<(Source, Option<u64>, Archived), Failure> {
    let archived = Archived::default();
    if source == Path::new("-") {
        return Ok((Box::new(tokio::io::stdin()), None, archived));
    }
    let at = |error| format!("cannot read {}: {error}", source.display());
    let metadata = tokio::fs::metadata(source).await.map_err(at)?;
    if !metadata.is_dir() {
        let file = tokio::fs::File::open(source).await.map_err(at)?;
        return Ok((Box::new(file), Some(metadata.len()), archived));
    }
    let (reader, writer) = std::io::pipe()?;
    let directory = source.to_owned();
    let archiving = tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(1 << 17, writer);
        let remarks = layercake_image::archive_directory(&directory, &mut out)?;
        out.flush().map_err(DirectoryError::Write)?;
        Ok(remarks)
    });
    let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
    let stream = Archiving { pipe, archiving, archived: Arc::clone(&archived) };
    Ok((Box::new(stream), None, archived))
}

/// The archive of a directory, while it is made. It ends well only if all of the directory was read.
struct Archiving {
    pipe: pipe::Receiver,
    archiving: JoinHandle<Result<Vec<String>, DirectoryError>>,
    archived: Archived,
}

impl AsyncRead for Archiving {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.pipe).poll_read(context, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let outcome = ready!(Pin::new(&mut this.archiving).poll(context));
        let outcome = outcome.map_err(std::io::Error::other)?;
        let failed = outcome.is_err();
        *this.archived.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        Poll::Ready(if failed { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
    }
}

/// Shows that everything was sent.
fn pack(bar: &ProgressBar) {
    if let Ok(style) = ProgressStyle::with_template("{spinner} the server packs it {elapsed}") {
        bar.set_style(style);
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
    }
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
    show::answer(output, &serde_json::to_value(&images)?, || table(&images), names)
}

pub(crate) async fn remove(client: &Client, output: Output, image: &str) -> Result<(), Failure> {
    let removed: Value = client.delete(&format!("/v1/images/{}", quoted(image))).await?;
    show::answer(output, &removed, || format!("removed {image}"), || vec![image.to_owned()])
}

pub(crate) async fn inspect(client: &Client, output: Output, image: &str) -> Result<(), Failure> {
    let image: ImageInfo = client.get(&format!("/v1/images/{}", quoted(image))).await?;
    let names = || vec![image.meta.digest.to_string()];
    show::answer(output, &serde_json::to_value(&image)?, || details(&image), names)
}

/// Everything about an image, a line each.
fn details(image: &ImageInfo) -> String {
    let meta = &image.meta;
    let tags: Vec<&str> = image.tags.iter().map(|tag| tag.as_str()).collect();
    let mut lines = vec![
        ("digest", meta.digest.to_string()),
        ("names", tags.join(", ")),
        ("kind", kind(image)),
        ("arch", arch(image).to_owned()),
        ("size", show::size(meta.size_bytes)),
        ("files", meta.file_count.to_string()),
        ("source", meta.source.clone()),
    ];
    if !meta.entry.command.is_empty() {
        lines.push(("command", serde_json::json!(meta.entry.command).to_string()));
    }
    lines.extend(meta.entry.env.iter().map(|(name, value)| ("env", format!("{name}={value}"))));
    lines.extend(meta.remarks.iter().map(|remark| ("remark", remark.clone())));
    let lines = lines.into_iter().map(|(name, value)| format!("{name:<8} {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn kind(image: &ImageInfo) -> String {
    format!("{:?}", image.meta.entry.kind).to_lowercase()
}

fn arch(image: &ImageInfo) -> &str {
    image.meta.arch.as_deref().unwrap_or("-")
}

fn table(images: &[ImageInfo]) -> String {
    let rows = images.iter().map(|image| {
        let tags: Vec<&str> = image.tags.iter().map(|tag| tag.as_str()).collect();
        let size = show::size(image.meta.size_bytes);
        let digest = image.meta.digest.to_string();
        vec![tags.join(", "), kind(image), arch(image).to_owned(), size, digest]
    });
    let columns = [
        Column::key("NAMES"),
        Column::word("KIND", 2),
        Column::word("ARCH", 1),
        Column::word("SIZE", 3),
        Column::text("DIGEST", 4),
    ];
    show::table(&columns, rows)
}
