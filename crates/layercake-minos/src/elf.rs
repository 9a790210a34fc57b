//! Is this a static program for that machine? The few ELF fields that answer it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An architecture, by Debian's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86_64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    pub(crate) fn from_debian(name: &str) -> Option<Self> {
        match name {
            "amd64" => Some(Self::Amd64),
            "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// Debian's kernel for any hardware of it: a meta package, which follows the current kernel.
    #[must_use]
    pub const fn kernel_package(self) -> &'static str {
        match self {
            Self::Amd64 => "linux-image-amd64",
            Self::Arm64 => "linux-image-arm64",
        }
    }

    /// The one that a program is for, by its ELF header; nothing for one of neither.
    #[must_use]
    pub fn of_program(program: &[u8]) -> Option<Self> {
        let machine = program.starts_with(b"\x7fELF\x02\x01").then(|| u16_at(program, 18).ok())?;
        [Self::Amd64, Self::Arm64].into_iter().find(|known| Some(known.machine()) == machine)
    }

    /// `e_machine` of its programs.
    const fn machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// Why a program cannot run in the initramfs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ElfError {
    /// It is no 64-bit little-endian ELF program.
    #[error("it is not a 64-bit ELF program")]
    NotElf,
    /// It is for another machine.
    #[error("it is built for another machine (ELF machine {found}) than the kernel ({wanted})")]
    Machine {
        /// `e_machine` of the program.
        found: u16,
        /// What the kernel runs.
        wanted: Architecture,
    },
    /// It wants a dynamic loader, which the initramfs does not have.
    #[error(
        "it is dynamically linked, and the initramfs has no libraries; build it with RUSTFLAGS=\"-C target-feature=+crt-static\" and --target"
    )]
    Dynamic,
}

const PT_INTERP: u32 = 3;

/// Checks a program of the initramfs.
pub(crate) fn check_static(program: &[u8], wanted: Architecture) -> Result<(), ElfError> {
    // ELF64, little-endian: `\x7fELF`, EI_CLASS 2, EI_DATA 1.
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return Err(ElfError::NotElf);
    }
    let found = u16_at(program, 18)?;
    if found != wanted.machine() {
        return Err(ElfError::Machine { found, wanted });
    }
    let table = usize::try_from(u64_at(program, 32)?).map_err(|_| ElfError::NotElf)?;
    let entry_bytes = usize::from(u16_at(program, 54)?);
    for index in 0..usize::from(u16_at(program, 56)?) {
        let at = index.checked_mul(entry_bytes).and_then(|at| at.checked_add(table));
        if u32_at(program, at.ok_or(ElfError::NotElf)?)? == PT_INTERP {
            return Err(ElfError::Dynamic);
        }
    }
    Ok(())
}

fn bytes_at<const N: usize>(program: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    let bytes = program.get(at..).and_then(|rest| rest.first_chunk::<N>());
    bytes.copied().ok_or(ElfError::NotElf)
}

fn u16_at(program: &[u8], at: usize) -> Result<u16, ElfError> {
    bytes_at(program, at).map(u16::from_le_bytes)
}

fn u32_at(program: &[u8], at: usize) -> Result<u32, ElfError> {
    bytes_at(program, at).map(u32::from_le_bytes)
}

fn u64_at(program: &[u8], at: usize) -> Result<u64, ElfError> {
    bytes_at(program, at).map(u64::from_le_bytes)
}
