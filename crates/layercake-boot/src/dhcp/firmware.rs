//! Which boot program a firmware gets. Data: one row per kind of firmware.

/// How a firmware fetches its boot program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A file name and a server's address.
    Tftp,
    /// A URL (UEFI 2.5 section 23.7, "HTTP boot").
    Http,
}

/// One kind of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    /// Its number in option 93, from IANA's "Processor Architecture Types" (RFC 5970).
    pub arch: u16,
    /// What a person calls it.
    pub name: &'static str,
    /// How it fetches.
    pub transport: Transport,
    /// The boot programs that run there, best first. `snponly` before `ipxe`: it drives the network
    /// card through the firmware that has just proven that it can.
    pub programs: &'static [&'static str],
}

const X86_64_EFI: &[&str] = &["snponly.efi", "ipxe.efi"];
const ARM64_EFI: &[&str] = &["snponly-arm64.efi", "ipxe-arm64.efi"];

/// All kinds of firmware that are answered. 7 is "EFI byte code" in the register and x86-64 in what
/// firmware really sends.
pub const FIRMWARE: &[Firmware] = &[
    row(0, "x86 BIOS", Transport::Tftp, &["undionly.kpxe"]),
    row(7, "x86-64 UEFI", Transport::Tftp, X86_64_EFI),
    row(9, "x86-64 UEFI", Transport::Tftp, X86_64_EFI),
    row(11, "arm64 UEFI", Transport::Tftp, ARM64_EFI),
    row(16, "x86-64 UEFI HTTP", Transport::Http, X86_64_EFI),
    row(19, "arm64 UEFI HTTP", Transport::Http, ARM64_EFI),
];

const fn row(
    arch: u16,
    name: &'static str,
    transport: Transport,
    programs: &'static [&'static str],
) -> Firmware {
    Firmware { arch, name, transport, programs }
}

/// The row for an architecture number.
pub fn firmware(arch: u16) -> Option<&'static Firmware> {
    FIRMWARE.iter().find(|row| row.arch == arch)
}
