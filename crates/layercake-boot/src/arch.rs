//! Architectures of processors, told from programs and kernels.
//!
//! A firmware, a boot program, the kernel of Layer 0 and the machine itself have to be of one
//! architecture; a machine that is given another's program stops with an error on a console that
//! nobody reads.

use std::fmt;

/// An architecture that Layercake boots. The words are those of the field `arch` of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// Every architecture there is a word for.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The word in documents.
    pub const fn word(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The architecture with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.word() == word)
    }

    /// The architecture that a Linux kernel image is for; nothing for what is not recognised.
    /// (Linux, Documentation/arch/x86/boot.rst and Documentation/arch/arm64/booting.rst.)
    pub fn of_kernel(image: &[u8]) -> Option<Self> {
        if image.get(0x202..0x206) == Some(b"HdrS") {
            return Some(Self::X86_64);
        }
        if image.get(0x38..0x3c) == Some(b"ARM\x64") {
            return Some(Self::Aarch64);
        }
        match Machine::of_pe(image) {
            Some(Machine::Known(arch)) => Some(arch),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The machine that an EFI program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// One that Layercake boots.
    Known(Arch),
    /// Another one, with its number in the PE header.
    Other(u16),
}

impl Machine {
    /// Reads the header of an EFI program (PE format, "COFF File Header"); nothing for other files.
    pub(crate) fn of_pe(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..2) != Some(b"MZ") {
            return None;
        }
        let at = bytes.get(0x3c..0x40)?;
        let at = usize::try_from(u32::from_le_bytes([at[0], at[1], at[2], at[3]])).ok()?;
        match *bytes.get(at..at.checked_add(6)?)? {
            [b'P', b'E', 0, 0, low, high] => Some(match u16::from_le_bytes([low, high]) {
                0x8664 => Self::Known(Arch::X86_64),
                0xaa64 => Self::Known(Arch::Aarch64),
                other => Self::Other(other),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The headers of an EFI program for this machine, with nothing behind them.
    pub(crate) fn pe(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 0x86];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn kernels_and_efi_programs_are_told_apart_by_their_headers() {
        assert_eq!(Machine::of_pe(&pe(0x8664)), Some(Machine::Known(Arch::X86_64)));
        assert_eq!(Machine::of_pe(&pe(0x014c)), Some(Machine::Other(0x014c)));
        assert_eq!(Machine::of_pe(b"MZ, and no more"), None);
        let mut x86 = vec![0; 0x210];
        x86[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(Arch::of_kernel(&x86), Some(Arch::X86_64));
        let mut arm = vec![0; 0x40];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert_eq!(Arch::of_kernel(&arm), Some(Arch::Aarch64));
        assert_eq!(Arch::of_kernel(&pe(0xaa64)), Some(Arch::Aarch64));
        assert_eq!(Arch::of_kernel(b"kernel"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_architecture_or_none(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300), is_pe: bool,
        ) {
            if is_pe && bytes.len() > 2 {
                bytes[..2].copy_from_slice(b"MZ");
            }
            let _ = Arch::of_kernel(&bytes);
        }
    }
}
