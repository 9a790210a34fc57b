//! The image service: makes the wanted system images run on this node, and keeps score.
//!
//! *In:* a list of [`ImageSpec`]s, by [`ImageService::reconcile`]. *Out:* running containers, a
//! [`Report`] of what was done and how long nothing ran, [`Observation`]s, and log lines.
//!
//! *Promises:*
//! - Level-triggered and idempotent: the same want twice does nothing the second time.
//! - An image is fetched, verified and prepared before the one that it replaces is stopped. If that fails,
//!   what ran goes on running, and so does what is not wanted any more: it may be what a failed one replaces.
//! - Images are independent: one that cannot run keeps no other from it.
//! - Attachments, mounts and containers are counted; taking one away takes what only it needed, and
//!   a failure half-way leaves nothing behind.
//! - Containers survive this process. A new service finds and adopts them.
//!
//! The parts: `spec` says what is wanted, `fetch` and `store` bring it here, `ledger` counts who
//! needs what, `kernel` is the boundary, `launch` starts the monitor beside a container, `record`
//! is what is written down, `ending` says how a container ended, `service` puts it together, `tail` follows the logs, `assess` judges.

mod assess;
mod digest;
mod ending;
mod fetch;
mod kernel;
mod launch;
mod ledger;
mod machine_id;
mod objects;
mod record;
mod replacements;
mod service;
mod spec;
mod store;
mod tail;
mod watch;

pub use assess::{Failure, ImageState, Observation, assess};
pub use digest::{Digest, DigestError};
pub use ending::{Circumstances, Ending};
pub use fetch::{Fetch, FetchError, MAX_FRUITLESS_ATTEMPTS, Progress, TransferError};
pub use kernel::{Attachment, Kernel, Linux, mounts_below};
pub use launch::{LaunchError, Launched};
pub use ledger::{Ledger, Object};
pub use machine_id::machine_id;
pub use objects::BuildError;
pub use record::{
    ContainerState, Exit, InstanceDir, InstanceId, InstanceRecord, ProcessId, Status, monotonic_ns,
    read_record, unix_ms, write_record,
};
pub use service::{
    Failures, ImageService, MAX_IMAGES, Report, ServiceConfig, ServiceError, Started,
};
pub use spec::{
    DEFAULT_STOP_TIMEOUT_MS, DEFAULT_SYSTEMD_STOP_TIMEOUT_MS, ImageName, ImageSpec, Kind,
    MAX_COMMAND_WORDS, MAX_ENVIRONMENT, MAX_SPEC_BYTES, MAX_STOP_TIMEOUT_MS, RestartPolicy,
    SpecError, fuzz_image_spec,
};
pub use store::{MEMORY_RESERVE_BYTES, Store};
pub use tail::ImageLine;
