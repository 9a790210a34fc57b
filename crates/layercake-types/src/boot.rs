//! What the boot service is told of a node.

use crate::interface::read;
use crate::{Interface, Refusal, interface};
use kraken_model::{Document, Path};
use std::fmt;
use std::str::FromStr;

/// Linux takes at most 2048 bytes on x86 (`COMMAND_LINE_SIZE`), including the end.
pub const MAX_COMMAND_LINE_BYTES: usize = 2047;

/// The command line of a node whose cfg says none.
pub const DEFAULT_COMMAND_LINE: &str = "console=ttyS0";

/// The longest prefix of a network from which machines boot: two of them, and the two ends.
const MAX_BOOT_PREFIX: u8 = 30;

/// A kernel command line that iPXE passes on as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(String);

/// Text that would not reach the kernel as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommandLine {
    /// Longer than the kernel reads.
    #[error("it has {0} bytes, and the kernel reads {MAX_COMMAND_LINE_BYTES}")]
    Long(usize),
    /// A line break would begin a command of iPXE's script.
    #[error("it has a control character, such as a line break")]
    Control,
    /// iPXE would act on it.
    #[error("it has {0}, which iPXE would act upon instead of passing it to the kernel")]
    Ipxe(&'static str),
}

impl CommandLine {
    /// The command line as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommandLine {
    type Err = InvalidCommandLine;

    fn from_str(text: &str) -> Result<Self, InvalidCommandLine> {
        let word = |bad: &str| text.split_whitespace().any(|word| word == bad);
        if text.len() > MAX_COMMAND_LINE_BYTES {
            Err(InvalidCommandLine::Long(text.len()))
        } else if text.chars().any(char::is_control) {
            Err(InvalidCommandLine::Control)
        } else if text.contains("${") {
            Err(InvalidCommandLine::Ipxe("`${`, a variable of iPXE"))
        } else if text.contains("||") {
            Err(InvalidCommandLine::Ipxe("`||`"))
        } else if text.contains("&&") {
            Err(InvalidCommandLine::Ipxe("`&&`"))
        } else if word(";") {
            Err(InvalidCommandLine::Ipxe("`;` as a word, the end of a command"))
        } else if text.split_whitespace().any(|word| word.starts_with('#')) {
            Err(InvalidCommandLine::Ipxe("a word that begins with `#`, a comment"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A machine that boots from the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootMachine {
    /// The interface that it boots from.
    pub interface: Interface,
    /// The kernel's command line.
    pub command_line: CommandLine,
}

/// The name of the interface that a node boots from.
#[must_use]
pub fn boot_interface(cfg: &Document) -> &str {
    cfg.text("boot.interface").unwrap_or("boot")
}

/// A node as the boot service knows it; nothing for one whose cfg has no hardware address and address of
/// the interface that it boots from.
///
/// # Errors
/// With everything that cannot be used.
pub fn boot_machine(cfg: &Document) -> Result<Option<BootMachine>, Vec<Refusal>> {
    let mut found = Vec::new();
    let name = boot_interface(cfg);
    check_choice(cfg, name, &mut found);
    let interface = interface(cfg, name).unwrap_or_else(|wrong| {
        found.extend(wrong);
        None
    });
    if let Some(interface) = &interface
        && interface.address.prefix() > MAX_BOOT_PREFIX
    {
        let why = format!(
            "a machine boots in a network of {MAX_BOOT_PREFIX} bits at most, and this is /{}",
            interface.address.prefix()
        );
        found.push(Refusal::new(format!("net.{name}.address"), why));
    }
    let command_line = match read(cfg, "boot.cmdline", &mut found) {
        Some(command_line) => command_line,
        None => CommandLine(DEFAULT_COMMAND_LINE.to_owned()),
    };
    if !found.is_empty() {
        return Err(found);
    }
    Ok(interface.map(|interface| BootMachine { interface, command_line }))
}

/// Checks that the interface that a node is said to boot from is one of those that it has.
fn check_choice(cfg: &Document, name: &str, found: &mut Vec<Refusal>) {
    let address = "boot.interface";
    if cfg.get(address).is_none() {
        return;
    }
    if name.contains('.') || Path::new(&format!("net.{name}.mac")).is_err() {
        let why = "it is not the name of an interface under net: letters, digits, '_' and '-'";
        found.push(Refusal::new(address, why));
        return;
    }
    let there = cfg.names("net");
    if !there.is_empty() && !there.contains(&name) {
        let why = format!("there is no net.{name}; there is net.{}", there.join(", net."));
        found.push(Refusal::new(address, why));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_ipxe_would_act_upon_is_no_command_line() {
        for (bad, why) in [
            ("BOOTIF=${net0/mac:hexhyp}", "`${`"),
            ("a || shell", "`||`"),
            ("a&&b", "`&&`"),
            ("console=ttyS0 ; shell", "`;`"),
            ("quiet #comment", "`#`"),
            ("a\nshell", "control character"),
            (&"x".repeat(2048), "2048 bytes"),
        ] {
            let said = bad.parse::<CommandLine>().unwrap_err().to_string();
            assert!(said.contains(why), "{bad}: {said}");
        }
        for good in ["", "console=ttyS0,115200n8 a;b c#d $x", &"x".repeat(2047)] {
            assert_eq!(good.parse::<CommandLine>().unwrap().as_str(), good);
        }
    }

    fn machine(cfg: serde_json::Value) -> Result<Option<BootMachine>, String> {
        let found = boot_machine(&Document::from_json(&cfg).unwrap());
        found.map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn a_machine_boots_from_the_interface_that_is_named() {
        let data = json!({"mac": "52:54:00:00:00:01", "address": "10.0.0.2/24"});
        let booted = machine(json!({"net": {"data": data}, "boot": {"interface": "data"}}));
        let booted = booted.unwrap().unwrap();
        assert_eq!(booted.interface.name, "data");
        assert_eq!(booted.command_line.as_str(), DEFAULT_COMMAND_LINE);
        assert_eq!(machine(json!({"net": {"data": data}})), Ok(None), "it does not boot here");
        let no = machine(json!({"net": {"data": data}, "boot": {"interface": "dta"}}));
        assert_eq!(no.unwrap_err(), "boot.interface: there is no net.dta; there is net.data");
        let no = machine(json!({"boot": {"interface": "a b"}}));
        assert!(no.unwrap_err().contains("not the name of an interface"));
        assert_eq!(machine(json!({"boot": {"interface": "data"}})), Ok(None));
    }

    #[test]
    fn a_network_without_room_for_a_server_is_none_to_boot_in() {
        for (address, good) in
            [("10.0.0.2/30", true), ("10.0.0.2/31", false), ("10.0.0.2/32", false)]
        {
            let boot = json!({"mac": "52:54:00:00:00:01", "address": address});
            assert_eq!(machine(json!({"net": {"boot": boot}})).is_ok(), good, "{address}");
        }
    }
}
