//! The cluster file: what people say of a whole cluster, turned into what each node is to be.
//!
//! In: the text of a YAML file, the schemas, and the images that there are. Out: a [`Cluster`] with
//! one document for each node and the settings of the whole, or every [`Diagnostic`] at once, each
//! with line and column. Nothing partial comes out.
//!
//! A node is described by `defaults`, then by the `groups` it is in, in the order of the file, then
//! by its own entry under `nodes`; the later says over the earlier, value by value. Text may hold
//! templates (`{{ node }}`, `{{ index }}`, `{{ number }}`, `{{ groups }}`).
//!
//! The input is bounded in size and depth; anchors and aliases are refused, so nothing in it can
//! grow beyond what is written.

mod build;
mod groups;
mod images;
mod journal;
mod limits;
mod machine;
mod network;
mod place;
mod removed;
mod sections;
mod storm;
mod template;

pub use build::{Cluster, Context, cluster_name, parse, read};
pub use images::{ImageFacts, ImageLookup};
pub use journal::Journal;
pub use kraken_yaml::Diagnostic;
pub use limits::{Limits, Portion, StepLimit, Steps, UnavailableLimit, Where};
pub use network::{DEFAULT_HTTP_PORT, Network};
pub use removed::Removed;
pub use sections::Settings;
pub use storm::Storm;
