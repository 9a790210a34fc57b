//! The image store as the cluster file sees it.

use layercake_config::{ImageFacts, ImageLookup};
use layercake_image::ImageStore;

/// Finds the images that a cluster file names.
pub(crate) struct Lookup<'a>(pub(crate) &'a ImageStore);

impl ImageLookup for Lookup<'_> {
    fn find(&self, reference: &str) -> Result<ImageFacts, String> {
        let facts = self.0.facts(reference).map_err(|error| crate::api::chain(&error))?;
        Ok(ImageFacts {
            digest: facts.digest.to_string(),
            size: facts.size_bytes,
            kind: format!("{:?}", facts.entry.kind).to_lowercase(),
            command: facts.entry.command,
            env: facts.entry.env,
        })
    }
}
