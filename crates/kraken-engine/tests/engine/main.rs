//! The engine from outside: what goes in, what comes out.
#![allow(clippy::unwrap_used)]

mod adoption;
mod failures;
mod limits;
mod marks;
mod originals;
mod properties;
mod storms;
mod words;
mod world;
