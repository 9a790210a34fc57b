//! Builds Layer 0: the initramfs that a machine boots and that stays beneath every system image.
//!
//! In: a [`Recipe`], which names a Debian kernel package ([`kernel_package`] fetches one), the static
//! node binary, and which kernel modules are wanted ([`Profile`], and more by name). Out: a directory
//! with `vmlinuz`, `initramfs.img` and `minos.json` ([`Metadata`]: what is inside, how large, which
//! digests).
//!
//! Promises: the same inputs give the same bytes, on whatever machine, in whatever directory, with
//! whatever umask and file times, as long as the compressor has the same version. Nothing is left
//! half-written: each file of the output appears whole. Kernel modules come with everything they depend
//! on, and `modules.dep`, `modules.alias` and `modules.softdep` speak of exactly the modules that are
//! there. The node binary has to be static and of the kernel's architecture; this is checked here,
//! because a mistake shows itself otherwise only as a kernel panic on a console that nobody reads.
//!
//! The archive holds `/init` (the node binary), `/lib/modules/<release>`, `/etc/layercake/modules` (the
//! modules to load always, one a line, in order), the mount points, `/dev/console`, and with a debug
//! shell `/bin/busybox` and its links.

mod build;
mod compress;
mod elf;
mod metadata;
mod modules;
mod package;
mod profile;
mod tool;

pub use build::{BuildError, Built, Progress, Recipe, build};
pub use compress::Compression;
pub use elf::{Architecture, ElfError};
pub use metadata::{FileFacts, Metadata, ModuleFacts};
pub use modules::{DepError, ModuleTable, module_name};
pub use package::{PackageError, kernel_package};
pub use profile::{ALWAYS_LOADED, Profile, Purpose, purpose};
pub use tool::ToolError;
