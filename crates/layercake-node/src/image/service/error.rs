//! Why what is wanted does not run.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::super::fetch::FetchError;
use super::super::objects::BuildError;
use super::super::{Digest, ImageName};
use super::Report;

/// Why what is wanted does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The want itself cannot be right.
    #[error("the wanted images cannot be run together: {0}")]
    Want(String),
    /// An image could not be brought here.
    #[error("image {name}: cannot fetch {digest}")]
    Fetch {
        /// Under which name it is wanted.
        name: ImageName,
        /// Which image.
        digest: Digest,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// A container could not be prepared. What ran before still runs.
    #[error("image {name}: cannot prepare the container")]
    Prepare {
        /// Which.
        name: ImageName,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// A prepared container did not start.
    #[error("image {name}: cannot start the container")]
    Start {
        /// Which.
        name: ImageName,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// A container could not be stopped or taken down.
    #[error("image {name}: cannot stop the container")]
    Stop {
        /// Which.
        name: ImageName,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// What an earlier run left could not be removed.
    #[error("cannot remove what an earlier run left")]
    Sweep(#[source] BuildError),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An image that this node cannot run, whatever is tried.
    #[error("image {name}: {reason}")]
    Refused {
        /// Which.
        name: ImageName,
        /// Why, for a person.
        reason: String,
    },
    /// Some of the wanted images do not run. What could be done for the others was done.
    #[error("{failures}")]
    Images {
        /// Which, and why.
        failures: Failures,
        /// What was done.
        done: Box<Report>,
    },
    /// The service was closed before the work was done.
    #[error("the image service was closed")]
    Closed,
    /// The work was given up because the process ends, or a defect stopped it.
    #[error("the image service was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl ServiceError {
    /// The images that it is about, each with the whole story in one line.
    #[must_use]
    pub fn images(&self) -> BTreeMap<ImageName, String> {
        match self {
            Self::Images { failures, .. } => {
                let reasons = failures.of.iter();
                reasons.map(|(name, error)| (name.clone(), error.reason())).collect()
            }
            _ => BTreeMap::new(),
        }
    }

    /// The whole story in one line, for a person.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// The images that failed, each for itself.
#[derive(Debug, Default)]
pub struct Failures {
    /// Why, by name.
    pub of: BTreeMap<ImageName, ServiceError>,
    /// Images that are not wanted any more and run on: what may replace them has failed.
    pub spared: Vec<ImageName>,
}

impl Failures {
    pub(super) fn add(&mut self, name: ImageName, error: ServiceError) {
        self.of.entry(name).or_insert(error);
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<String> = self.of.values().map(ServiceError::reason).collect();
        f.write_str(&reasons.join("; "))?;
        if !self.spared.is_empty() {
            let names: Vec<&str> = self.spared.iter().map(ImageName::as_str).collect();
            write!(f, "; until that is mended, what it may replace runs on: {}", names.join(", "))?;
        }
        Ok(())
    }
}
