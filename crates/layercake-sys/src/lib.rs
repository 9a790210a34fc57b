//! The one crate with `unsafe` code: kernel interfaces that have no safe wrapper elsewhere.
//!
//! *In:* files, paths and flags. *Out:* owned descriptors and `rustix` errors.
//! *Promise:* every function here is safe to call with any argument; each `unsafe` block says
//! why it is sound. Modules, mounts, pidfds, capabilities and reboot come from rustix; what
//! is left is small: loop devices, the namespaces of the calling process, real-time signals,
//! and the registration of a descriptor with tokio, whose safe form upstream withdrew.

mod loop_device;
mod namespaces;
mod reactor;
mod signal;

pub use loop_device::{LoopDevice, attach_loop_device};
pub use namespaces::{Namespaces, unshare};
pub use reactor::until_readable;
pub use signal::{SignalNumber, signal_process};
