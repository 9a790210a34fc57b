//! `layercake minos`: makes Layer 0. Needs no server.

use super::Failure;
use crate::args::{self, Minos, Output};
use crate::show::{self, Column};
use indicatif::{ProgressBar, ProgressStyle};
use layercake_minos::{Architecture, Metadata, Profile, Progress, Recipe};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) async fn build(output: Output, build: Minos) -> Result<(), Failure> {
    let metadata = tokio::task::spawn_blocking(move || make(build)).await??;
    let answer = serde_json::to_value(&metadata)?;
    show::answer(output, &answer, || table(&metadata), Vec::new)?;
    // Beside the answer: whoever reads that with a program is to see it too.
    for warning in metadata.warnings() {
        show::note(&format!("layercake: warning: {warning}"));
    }
    Ok(())
}

fn make(build: Minos) -> Result<Metadata, Failure> {
    let Minos::Build { out, node, kernel, kernel_package, profile, modules, shell, cache } = build;
    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}")?);
    progress.enable_steady_tick(Duration::from_millis(100));
    let node = match node {
        Some(path) => path,
        None => beside_this_program()?,
    };
    let kernel = match kernel {
        Some(path) => path,
        None => {
            let kernel_package = kernel_package.unwrap_or_else(|| package_for(&node).to_owned());
            progress.set_message(format!("downloading {kernel_package}"));
            layercake_minos::kernel_package(&kernel_package, &cache)?
        }
    };
    let mut recipe = Recipe::new(kernel, node, out);
    recipe.profile = match profile {
        args::Profile::Virtual => Profile::Virtual,
        args::Profile::Full => Profile::Full,
    };
    recipe.extra_modules = modules;
    recipe.debug_shell = shell;
    let built = layercake_minos::build(&recipe, &mut |step| {
        progress.set_message(match step {
            Progress::Unpack => "unpacking the kernel".to_owned(),
            Progress::Choose => "choosing kernel modules".to_owned(),
            Progress::Compress { bytes } => format!("compressing {}", show::size(bytes)),
            Progress::Write => "writing".to_owned(),
        });
    })?;
    progress.finish_and_clear();
    Ok(built.metadata)
}

/// The kernel of the machines that a node binary is for. One that cannot be read is refused when it is needed.
fn package_for(node: &Path) -> &'static str {
    let program = std::fs::read(node).unwrap_or_default();
    Architecture::of_program(&program).unwrap_or(Architecture::Amd64).kernel_package()
}

fn beside_this_program() -> Result<PathBuf, Failure> {
    let node = std::env::current_exe()?.with_file_name("layercake-node");
    if node.is_file() {
        return Ok(node);
    }
    Err(format!("there is no {}: name the static node binary with --node", node.display()).into())
}

fn table(metadata: &Metadata) -> String {
    let size = |bytes| show::size(bytes);
    let rows = [
        ("kernel", metadata.kernel_release.clone(), size(metadata.vmlinuz.size_bytes)),
        ("initramfs", metadata.initramfs.digest.clone(), size(metadata.initramfs.size_bytes)),
        ("  without modules", String::new(), size(metadata.without_modules_bytes)),
        ("modules", metadata.modules.len().to_string(), String::new()),
    ];
    let rows = rows.map(|(what, which, size)| vec![what.to_owned(), which, size]);
    show::table(&[Column::key("WHAT"), Column::text("WHICH", 1), Column::word("SIZE", 2)], rows)
}
