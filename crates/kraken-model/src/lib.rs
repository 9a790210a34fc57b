//! What a node is, as data: values, their addresses, the schemas they obey, and the documents
//! that hold them.
//!
//! A node has two [`Document`]s: *cfg*, what people want it to be, and *dsc*, what was discovered
//! of it. Both are flat, sorted maps from [`Path`] to [`Value`]; neither is ever inferred from the
//! other. A [`Registry`] of [`Schema`]s says which addresses exist, what they hold and what they
//! mean; everything a person or a machine says is checked against it. Whoever changes a document says so with a
//! [`Patch`], which is evaluated where it is written.
//!
//! In: text, JSON, other documents. Out: documents, the [`Change`]s between two of them, and
//! [`Invalid`] with path and reason for whatever does not fit. Promises: documents are cheap to
//! clone (copied on write), [`diff`] and [`Document::apply`] are inverse, and merging documents
//! that do not contradict each other gives the same result in any order.

mod document;
mod duration;
mod moment;
mod node;
mod nodeset;
mod patch;
mod path;
mod plural;
mod schema;
mod suggest;
mod time;
mod value;

pub use document::{Change, Document, DocumentError, Shape, diff, merge};
pub use duration::{DurationError, format_duration, parse_duration};
pub use moment::{Moment, MomentError};
pub use node::{NodeId, NodeIdError, Side};
pub use nodeset::{NodeLookup, NodeSet, NodeSetError, NodeSetErrorKind};
pub use patch::{Edit, Patch};
pub use path::{Path, PathError, Pattern};
pub use plural::counted;
pub use schema::{Field, Format, Invalid, Kind, Registry, RegistryError, Schema};
pub use suggest::{nearest, suggest};
pub use time::Millis;
pub use value::Value;
