//! What operators said, and what the journal tells of it all, across restarts.
#![allow(clippy::unwrap_used)]

mod lessons;
mod marks;
mod past;
mod rig;
