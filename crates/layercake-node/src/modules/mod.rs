//! Kernel modules: which ones this machine's hardware asks for, and in which order they go in.
//!
//! *In:* depmod's text files (`modules.dep`, `modules.alias`, `modules.builtin`) and the modaliases
//! of devices. *Out:* paths of modules, every one after those it depends on. The resolver is pure;
//! `load` walks `/sys` and speaks to the kernel.

mod glob;
mod load;
mod resolver;

pub use glob::matches as glob_matches;
pub use load::{Loader, ModuleError};
pub use resolver::{Resolver, fuzz_modules};
