//! The static node binary: the whole userland of Layer 0.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::error::Error;
use crate::run::{cargo, check, host_triple, target};

/// The program header that names a dynamic loader (ELF, "Program Header", `PT_INTERP`).
const PT_INTERP: u32 = 3;

/// Builds the node binary and returns where it is.
pub(crate) fn build() -> Result<PathBuf, Error> {
    check(&mut command())?;
    let path = path();
    let elf = fs::read(&path).map_err(Error::file("read", &path))?;
    match needs_loader(&elf) {
        Some(false) => Ok(path),
        Some(true) => Err(Error::Refused(format!("{} is not static", path.display()))),
        None => Err(Error::Refused(format!("{} is not a 64-bit ELF file", path.display()))),
    }
}

/// For the test run: builds it and says how large it is.
pub(crate) fn build_and_describe() -> Result<String, Error> {
    let path = build()?;
    let size = fs::metadata(&path).map_err(Error::file("look at", &path))?.len();
    Ok(format!("{}.{} MB", size / 1_000_000, size % 1_000_000 / 100_000))
}

fn path() -> PathBuf {
    target().join(host_triple()).join("node/layercake-node")
}

fn command() -> Command {
    let mut command = cargo();
    command.args(["build", "--package", "layercake-node", "--profile", "node"]);
    // With --target the flags are for the binary alone and not for build scripts and macros.
    command.args(["--target", &host_triple()]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    command
}

/// Whether an ELF file needs a dynamic loader; nothing when it is not a 64-bit little-endian ELF file.
fn needs_loader(elf: &[u8]) -> Option<bool> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let offset = usize::try_from(u64::from_le_bytes(elf.get(32..40)?.try_into().ok()?)).ok()?;
    let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    let mut headers = (0..count).map(|index| {
        let at = offset.checked_add(index * size)?;
        Some(u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?))
    });
    headers.try_fold(false, |found, kind| Some(found | (kind? == PT_INTERP)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_what_is_none() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(needs_loader(&own), Some(true));
        assert_eq!(needs_loader(b"#!/bin/sh\n"), None);
        assert_eq!(needs_loader(&own[..60]), None);
        let mut none = own[..64].to_vec();
        none[56..58].fill(0);
        assert_eq!(needs_loader(&none), Some(false));
    }
}
