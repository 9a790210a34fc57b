//! Values of a node's cfg that several crates use, each with its one rule.
//!
//! In: the cfg of a node, a [`Document`](kraken_model::Document). Out: what a module needs of it, checked
//! ([`interfaces`], [`boot_machine`], [`power`], [`image`]), or every [`Refusal`] with the address of the
//! value that cannot be used.
//!
//! The cluster file is checked with [`refusals`], which asks all of these, and with [`Claims`], which finds
//! what two nodes cannot both have. The modules read cfg with the same functions. So nothing that a
//! module would refuse is accepted, and a rule is written once.
//!
//! Pure: no clock, no socket, no file.

mod address;
mod architecture;
mod boot;
mod claims;
mod image;
mod interface;
mod mac;
mod name;
mod power;
mod refusal;

pub use address::{InterfaceAddress, InvalidAddress, InvalidGateway, Network, check_name_server};
pub use architecture::{Foreign, foreign_images};
pub use boot::{
    BootMachine, CommandLine, DEFAULT_COMMAND_LINE, InvalidCommandLine, MAX_COMMAND_LINE_BYTES,
    boot_interface, boot_machine,
};
pub use claims::{Claims, Duplicate};
pub use image::{
    Image, ImageName, InvalidImageName, InvalidProgram, MAX_COMMAND_WORDS, MAX_ENVIRONMENT,
    MAX_PROGRAM_BYTES, check_program, image,
};
pub use interface::{Interface, MAX_DNS, MAX_INTERFACES, interface, interfaces};
pub use mac::{InvalidMac, MacAddress};
pub use name::{
    DomainName, InvalidDomain, InvalidInterfaceName, InvalidName, MAX_INTERFACE_LEN, MAX_NAME_LEN,
    MachineName, check_interface_name, is_host_name,
};
pub use power::{
    AccelChoice, ConfigError, ExecConfig, Machine, Nic, Power, QemuConfig, RelativeCommand, power,
    uuid_of,
};
pub use refusal::{MAX_CFG_BYTES, MAX_CFG_VALUES, Refusal, refusals};

/// The port on which nodes join (TCP) and are heard (UDP).
pub const SYNC_PORT: u16 = 8475;
