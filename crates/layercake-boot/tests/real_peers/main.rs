//! The boot service against clients that nobody here wrote, in network namespaces of each test's own.
//! Needs root, and the Debian packages that `cargo xtask demo` installs.
#![allow(clippy::unwrap_used)]

mod bios;
mod dhcp;
mod http;
mod ipxe;
mod lab;
mod tftp;
