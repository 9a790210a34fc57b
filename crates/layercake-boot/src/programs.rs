//! The boot programs that firmware loads: iPXE, as a distribution packages it.
//!
//! They are read once, at the start: no request from the network ever opens a file. A file that cannot
//! be used is left out and reported; it never keeps the others from being served.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crate::{
    arch::{Arch, Machine},
    dhcp::{BootPrograms, FIRMWARE, processor_of},
    hosts::{BootFile, BootFileError},
};

/// Where Debian's package `ipxe` puts them.
pub const DEFAULT_DIRECTORY: &str = "/usr/lib/ipxe";
/// What to do when a boot program is missing, for people.
pub const REMEDY: &str = "install the Debian package ipxe, or name the directory that holds it with \
    `layercake serve --boot-programs DIR`, and start the server again";
/// Programs are small; whatever is larger does not belong into their directory.
const MAX_PROGRAM_BYTES: u64 = 16 << 20;
/// Files that are taken from the directory.
const MAX_PROGRAMS: usize = 64;

/// A file of the directory, or the directory itself, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The directory cannot be listed.
    #[error("cannot list the boot programs in {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A file in it cannot be read.
    #[error(transparent)]
    File(#[from] BootFileError),
    /// A file is larger than a boot program.
    #[error(
        "boot program {} has {bytes} bytes, more than {MAX_PROGRAM_BYTES}; left out", path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// More files than boot programs there can be.
    #[error("more than {MAX_PROGRAMS} boot programs in {}; {} is left out", path.display(), name)]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The file that is one too many.
        name: String,
    },
    /// A program is not for the machines that would be given it.
    #[error(
        "boot program {} is for {}, and not for the {expected} firmware that asks for this name; left \
         out",
        path.display(),
        machine(*.found)
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The number of its machine in the PE header.
        found: Option<Arch>,
        /// The processor that its name stands for.
        expected: Arch,
    },
}

fn machine(found: Option<Arch>) -> &'static str {
    found.map_or("another processor", Arch::word)
}

/// What was found in a directory of boot programs.
#[derive(Debug, Default)]
pub struct Programs {
    /// The programs by name.
    pub found: BootPrograms,
    /// What could not be used, and why.
    pub left_out: Vec<ProgramsError>,
}

impl Programs {
    /// The kinds of firmware of machines with this processor that no program was found for, with the
    /// names of those that would do.
    pub fn missing(&self, arch: Option<Arch>) -> Vec<String> {
        let mut missing: Vec<String> = Vec::new();
        for row in FIRMWARE.iter().filter(|row| !row.programs.is_empty()) {
            let wanted = arch.is_none_or(|arch| row.processor == Some(arch));
            if wanted && !row.programs.iter().any(|name| self.found.contains_key(*name)) {
                let line = format!("{} ({})", row.name, row.programs.join(" or "));
                if !missing.contains(&line) {
                    missing.push(line);
                }
            }
        }
        missing
    }
}

/// Reads the `*.kpxe`, `*.pxe` and `*.efi` of a directory. Blocks: call it where that is allowed.
pub fn read_programs(directory: &Path) -> Programs {
    let mut programs = Programs::default();
    let listed = std::fs::read_dir(directory).and_then(|list| {
        let named = list.map(|entry| Ok((entry?.file_name(), ())));
        named.collect::<io::Result<BTreeMap<_, _>>>()
    });
    let names = match listed {
        Ok(names) => names,
        Err(source) => {
            programs.left_out.push(ProgramsError::List { path: directory.to_owned(), source });
            return programs;
        }
    };
    let mut names: Vec<&str> = names.keys().filter_map(|name| name.to_str()).collect();
    names.retain(|name| [".kpxe", ".pxe", ".efi"].iter().any(|end| name.ends_with(end)));
    // Those that firmware is told of first, so that no crowd of others keeps them out.
    names.sort_by_key(|name| processor_of(name).is_none());
    for name in names {
        let path = directory.join(name);
        if path.is_dir() {
            continue;
        }
        if programs.found.len() == MAX_PROGRAMS {
            let name = name.to_owned();
            programs.left_out.push(ProgramsError::TooMany { path: directory.to_owned(), name });
            break;
        }
        match read(name, path) {
            Ok(program) => drop(programs.found.insert(name.to_owned(), program)),
            Err(error) => programs.left_out.push(error),
        }
    }
    programs
}

fn read(name: &str, path: PathBuf) -> Result<BootFile, ProgramsError> {
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    if bytes > MAX_PROGRAM_BYTES {
        return Err(ProgramsError::TooLarge { path, bytes });
    }
    let program = BootFile::read(&path)?;
    if let (Some(expected), Some(machine)) = (processor_of(name), Machine::of_pe(program.bytes())) {
        let found = match machine {
            Machine::Known(arch) => Some(arch),
            Machine::Other(_) => None,
        };
        if found != Some(expected) {
            return Err(ProgramsError::Foreign { path, found, expected });
        }
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::arch::tests::pe;

    #[test]
    fn only_boot_programs_are_taken_from_their_directory() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["undionly.kpxe", "snponly.efi", "README", "big.iso"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        std::fs::create_dir(directory.path().join("old.efi")).unwrap();
        let Programs { found, left_out } = read_programs(directory.path());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["snponly.efi", "undionly.kpxe"]);
        assert_eq!(found["snponly.efi"].bytes(), "snponly.efi");
        assert!(left_out.is_empty(), "{left_out:?}");
    }

    #[test]
    fn one_odd_file_is_named_and_the_others_are_served() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("undionly.kpxe"), "bios").unwrap();
        std::fs::write(at("empty.efi"), "").unwrap();
        std::fs::write(at("ipxe.efi"), pe(0xaa64)).unwrap();
        std::fs::write(at("snponly.efi"), pe(0x8664)).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling.efi")).unwrap();
        let big = std::fs::File::create(at("big.pxe")).unwrap();
        big.set_len(MAX_PROGRAM_BYTES + 1).unwrap();
        let Programs { found, left_out } = read_programs(directory.path());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["snponly.efi", "undionly.kpxe"]);
        let said: Vec<String> = left_out.iter().map(ToString::to_string).collect();
        let base = directory.path().display();
        assert_eq!(
            said,
            [
                format!(
                    "boot program {base}/ipxe.efi is for aarch64, and not for the x86_64 firmware \
                     that asks for this name; left out"
                ),
                format!(
                    "boot program {base}/big.pxe has 16777217 bytes, more than 16777216; left out"
                ),
                format!("cannot read boot file {base}/dangling.efi"),
                format!("boot file {base}/empty.efi has 0 bytes; expected 1 to 1073741824"),
            ]
        );
    }

    #[test]
    fn a_missing_directory_is_named_and_so_is_what_is_lacking() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none");
        let programs = read_programs(&missing);
        let said = programs.left_out[0].to_string();
        assert_eq!(said, format!("cannot list the boot programs in {}", missing.display()));
        assert_eq!(
            programs.missing(Some(Arch::X86_64)),
            [
                "x86 BIOS (undionly.kpxe)",
                "x86-64 UEFI (snponly.efi or ipxe.efi)",
                "x86-64 UEFI HTTP (snponly.efi or ipxe.efi)"
            ]
        );
        assert_eq!(programs.missing(None).len(), 7);
    }

    #[test]
    fn a_crowd_of_files_does_not_keep_out_what_firmware_asks_for() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..MAX_PROGRAMS {
            std::fs::write(directory.path().join(format!("a{number:02}.efi")), "a").unwrap();
        }
        std::fs::write(directory.path().join("undionly.kpxe"), "bios").unwrap();
        let programs = read_programs(directory.path());
        assert_eq!(programs.found.len(), MAX_PROGRAMS);
        assert!(programs.found.contains_key("undionly.kpxe"));
        assert!(
            matches!(&programs.left_out[..], [ProgramsError::TooMany { name, .. }] if name == "a63.efi")
        );
    }
}
