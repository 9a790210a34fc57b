//! Modules out of process: what an administrator declares in a YAML file, and commands carry out, or
//! a process that is spoken to over gRPC (`proto/kraken/module/v1/module.proto`).
//!
//! In: the files of a directory, and the schemas and mutations that an application has already. Out:
//! [`Modules`], which adds to both, and the [`Module`](kraken::Module)s to host; or every
//! [`Diagnostic`] at once, with file, line and column. `docs/modules.md` describes the form.
//!
//! Promises: a module discovers only what its file declares; a command runs without a shell unless
//! one is asked for, with a stated environment, bounded in time and output, and is killed with
//! everything it started; whatever a module's commands do, other modules do not notice.

mod answer;
mod command;
mod cut_off;
mod draft;
mod endings;
mod environment;
mod exec;
mod fields;
#[cfg(feature = "grpc")]
mod grpc;
mod guard;
mod modules;
mod polling;
mod step;
mod tail;

#[cfg(feature = "grpc")]
pub use grpc::proto;
pub use kraken_yaml::Diagnostic;
pub use modules::{Modules, Running};
