//! QEMU machines on this host.
//!
//! A machine is a directory `<run_dir>/<name>/` (mode 0700) and, while it is on, one QEMU process that made
//! itself a daemon. The directory holds everything needed to find the machine again:
//!
//! | file | made by | what |
//! |---|---|---|
//! | `pid` | QEMU | its process id |
//! | `qmp.sock` | QEMU | control socket for commands; QEMU serves one client at a time |
//! | `events.sock` | QEMU | a second one, for the watcher, which stays connected |
//! | `console.sock`, `console.log` | QEMU | the serial console |
//! | `qemu.log` | QEMU | its own complaints |
//! | `lock` | driver | held while the machine is being switched |
//!
//! A process id alone proves nothing, for ids are used again. The process is ours when its arguments name
//! our pid file and our UUID, looked at through a pidfd, which no other process can take over; and it is
//! through the same pidfd that it is waited for and, at the end of patience, killed.

pub mod accel;
mod command_line;
mod host;
mod machine;
mod process;
mod run_dir;

pub use host::QemuHost;
pub use machine::QemuMachine;
