//! The image store as the cluster file sees it.

use layercake_config::{ImageFacts, ImageLookup};
use layercake_image::{ImageStore, StoreError};

/// Finds the images that a cluster file names.
pub(crate) struct Lookup<'a> {
    pub(crate) store: &'a ImageStore,
    /// Whether one that is not there is made up.
    pub(crate) makes_up: bool,
}

impl ImageLookup for Lookup<'_> {
    fn find(&self, reference: &str) -> Result<ImageFacts, String> {
        let facts = match self.store.facts(reference) {
            Err(StoreError::Unknown { .. }) if self.makes_up => self.make_up(reference)?,
            facts => facts.map_err(|error| crate::api::chain(&error))?,
        };
        Ok(ImageFacts {
            digest: facts.digest.to_string(),
            size: facts.size_bytes,
            kind: format!("{:?}", facts.entry.kind).to_lowercase(),
            command: facts.entry.command,
            env: facts.entry.env,
            arch: facts.arch,
        })
    }
}

impl Lookup<'_> {
    fn make_up(&self, reference: &str) -> Result<layercake_image::ImageFacts, String> {
        let tag: layercake_image::Tag =
            reference.parse().map_err(|error: layercake_image::TagError| error.to_string())?;
        let made = self.store.make_up(&tag).and_then(|_| self.store.facts(reference));
        made.map_err(|error| crate::api::chain(&error))
    }
}
