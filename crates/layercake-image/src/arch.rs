//! For which processors an image is.

use std::path::Path;

use crate::mksquashfs::{Listing, ToolError, first_bytes};

/// Programs that nearly every system has, the first that is there tells.
const TELLING: &[&str] =
    &["sbin/init", "lib/systemd/systemd", "bin/sh", "usr/bin/env", "bin/busybox", "usr/bin/true"];
/// Where a command without `/` is looked for.
const DIRECTORIES: &[&str] =
    &["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];
/// How much of a program is looked at: its ELF header, or the line that names an interpreter.
const START_BYTES: u64 = 256;

/// Finds the architecture of an image by the ELF header of what it starts, or of programs that nearly
/// every system has.
pub(crate) fn of_image(
    image: &Path,
    listing: &Listing,
    command: Option<&str>,
) -> Result<Option<String>, ToolError> {
    let mut candidates: Vec<String> = TELLING.iter().rev().map(|&path| path.to_owned()).collect();
    match command {
        Some(command) if command.contains('/') => candidates.push(command.to_owned()),
        Some(command) => {
            candidates.extend(DIRECTORIES.iter().rev().map(|dir| format!("{dir}/{command}")));
        }
        None => {}
    }
    // A script that names a script that names a script would do it for ever.
    for _ in 0..32 {
        let Some(candidate) = candidates.pop() else { break };
        let Some(path) = listing.resolve(&candidate) else { continue };
        let start = first_bytes(image, &path, START_BYTES)?;
        if let Some(arch) = of_elf(&start) {
            return Ok(Some(arch));
        }
        candidates.extend(interpreter(&start));
    }
    Ok(None)
}

/// The program that a script wants to be run by.
fn interpreter(start: &[u8]) -> Option<String> {
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split_whitespace().next().map(str::to_owned)
}

/// The architecture of an ELF file, as `uname -m` names it where there is one that runs it (System V
/// ABI, chapter 4, and elf.h).
fn of_elf(start: &[u8]) -> Option<String> {
    let (class, order) = match start {
        [0x7f, b'E', b'L', b'F', class @ 1..=2, order @ 1..=2, ..] => (*class, *order),
        _ => return None,
    };
    let machine: [u8; 2] = start.get(18..20)?.try_into().ok()?;
    let little = order == 1;
    let machine = if little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    let name = match (machine, class, little) {
        (62, 2, _) => "x86_64",
        (62, 1, _) => "x32",
        (3, ..) => "i386",
        (183, _, true) => "aarch64",
        (183, _, false) => "aarch64_be",
        (40, ..) => "arm",
        (243, 2, _) => "riscv64",
        (243, 1, _) => "riscv32",
        (21, _, true) => "ppc64le",
        (21, _, false) => "ppc64",
        (22, 2, _) => "s390x",
        (258, 2, _) => "loongarch64",
        (8, 2, true) => "mips64el",
        (8, 1, true) => "mipsel",
        (8, ..) => "mips",
        _ => return Some(format!("elf-{machine}")),
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut start = vec![0; 64];
        start[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        start[18..20].copy_from_slice(&machine);
        start
    }

    #[test]
    fn machines_are_named_as_the_kernel_names_them() {
        let name = |class, order, machine| of_elf(&elf(class, order, machine));
        assert_eq!(name(2, 1, [62, 0]).as_deref(), Some("x86_64"));
        assert_eq!(name(2, 1, [183, 0]).as_deref(), Some("aarch64"));
        assert_eq!(name(1, 1, [3, 0]).as_deref(), Some("i386"));
        assert_eq!(name(2, 2, [0, 22]).as_deref(), Some("s390x"));
        assert_eq!(name(2, 1, [21, 0]).as_deref(), Some("ppc64le"));
        assert_eq!(name(2, 2, [0, 21]).as_deref(), Some("ppc64"));
        assert_eq!(name(2, 1, [0xff, 0x7f]).as_deref(), Some("elf-32767"));
        assert_eq!((of_elf(b"#!/bin/sh"), of_elf(b"\x7fELF"), of_elf(b"")), (None, None, None));
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(of_elf(&own).as_deref(), Some(std::env::consts::ARCH));
    }

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(interpreter(b"#! /usr/bin/env python3\nx").as_deref(), Some("/usr/bin/env"));
        assert_eq!((interpreter(b"#!\n"), interpreter(b"x")), (None, None));
    }
}
