//! Which boot program a firmware gets. Data: one row per kind of firmware.

use crate::arch::Arch;

/// How a firmware fetches its boot program. It says so by its vendor class (option 60), and takes an
/// offer only when that names the same class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A file name and a server's address: `PXEClient`.
    Tftp,
    /// A URL (UEFI 2.5 section 23.7, "HTTP boot"): `HTTPClient`.
    Http,
}

impl Transport {
    /// The vendor class of clients, and of answers to them.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Tftp => "PXEClient",
            Self::Http => "HTTPClient",
        }
    }
}

/// One kind of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    /// Its number in option 93, from IANA's "Processor Architecture Types" (RFC 4578, RFC 5970).
    pub arch: u16,
    /// What a person calls it.
    pub name: &'static str,
    /// The processor that a machine with it has, where Layercake boots such machines.
    pub processor: Option<Arch>,
    /// The boot programs that run there, best first. `snponly` before `ipxe`: it drives the network
    /// card through the firmware that has just proven that it can.
    pub programs: &'static [&'static str],
}

const BIOS: &[&str] = &["undionly.kpxe"];
const X86_64_EFI: &[&str] = &["snponly.efi", "ipxe.efi"];
const ARM64_EFI: &[&str] = &["snponly-arm64.efi", "ipxe-arm64.efi"];

const X86: Option<Arch> = Some(Arch::X86_64);
const ARM: Option<Arch> = Some(Arch::Aarch64);

/// Every kind of firmware in IANA's list. Those without a program
/// are here for their names: what is refused is told by what it is. 7 is "EFI byte code" in the first
/// register and x86-64 in what firmware really sends.
pub const FIRMWARE: &[Firmware] = &[
    row(0, "x86 BIOS", X86, BIOS),
    row(1, "NEC PC-98", None, &[]),
    row(2, "Itanium UEFI", None, &[]),
    row(3, "DEC Alpha", None, &[]),
    row(4, "Arc x86", None, &[]),
    row(5, "Intel Lean Client", None, &[]),
    row(6, "x86 32-bit UEFI", None, &[]),
    row(7, "x86-64 UEFI", X86, X86_64_EFI),
    row(8, "EFI Xscale", None, &[]),
    row(9, "x86-64 UEFI", X86, X86_64_EFI),
    row(10, "arm 32-bit UEFI", None, &[]),
    row(11, "arm64 UEFI", ARM, ARM64_EFI),
    row(12, "PowerPC Open Firmware", None, &[]),
    row(13, "PowerPC ePAPR", None, &[]),
    row(14, "POWER OPAL", None, &[]),
    row(15, "x86 32-bit UEFI HTTP", None, &[]),
    row(16, "x86-64 UEFI HTTP", X86, X86_64_EFI),
    row(17, "x86-64 UEFI HTTP", X86, X86_64_EFI),
    row(18, "arm 32-bit UEFI HTTP", None, &[]),
    row(19, "arm64 UEFI HTTP", ARM, ARM64_EFI),
    row(20, "x86 BIOS HTTP", X86, &[]),
    row(21, "arm 32-bit U-Boot", None, &[]),
    row(22, "arm64 U-Boot", ARM, ARM64_EFI),
    row(23, "arm 32-bit U-Boot HTTP", None, &[]),
    row(24, "arm64 U-Boot HTTP", ARM, ARM64_EFI),
    row(25, "RISC-V 32-bit UEFI", None, &[]),
    row(26, "RISC-V 32-bit UEFI HTTP", None, &[]),
    row(27, "RISC-V 64-bit UEFI", None, &[]),
    row(28, "RISC-V 64-bit UEFI HTTP", None, &[]),
    row(29, "RISC-V 128-bit UEFI", None, &[]),
    row(30, "RISC-V 128-bit UEFI HTTP", None, &[]),
    row(31, "s390 basic", None, &[]),
    row(32, "s390 extended", None, &[]),
    row(33, "MIPS 32-bit UEFI", None, &[]),
    row(34, "MIPS 64-bit UEFI", None, &[]),
    row(35, "Sunway 32-bit UEFI", None, &[]),
    row(36, "Sunway 64-bit UEFI", None, &[]),
    row(37, "LoongArch 32-bit UEFI", None, &[]),
    row(38, "LoongArch 32-bit UEFI HTTP", None, &[]),
    row(39, "LoongArch 64-bit UEFI", None, &[]),
    row(40, "LoongArch 64-bit UEFI HTTP", None, &[]),
    row(41, "Raspberry Pi", ARM, &[]),
];

const fn row(
    arch: u16,
    name: &'static str,
    processor: Option<Arch>,
    programs: &'static [&'static str],
) -> Firmware {
    Firmware { arch, name, processor, programs }
}

/// The row for an architecture number.
pub fn firmware(arch: u16) -> Option<&'static Firmware> {
    FIRMWARE.iter().find(|row| row.arch == arch)
}

/// The processor that a boot program is for, by its name; nothing for other files.
pub(crate) fn processor_of(program: &str) -> Option<Arch> {
    FIRMWARE.iter().find(|row| row.programs.contains(&program)).and_then(|row| row.processor)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_number_has_one_row_and_each_program_one_processor() {
        let numbers: BTreeSet<_> = FIRMWARE.iter().map(|row| row.arch).collect();
        assert_eq!(numbers.len(), FIRMWARE.len());
        for row in FIRMWARE {
            for program in row.programs {
                assert!(row.processor.is_some(), "{}", row.name);
                assert_eq!(processor_of(program), row.processor, "{program}");
            }
        }
    }
}
