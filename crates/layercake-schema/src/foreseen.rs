//! What will be found out about a node once its cfg is another.

use crate::image_state::{ACTIVE, PATH, UPDATE};
use kraken_model::{Change, Document, Path, Value};

/// What an image is called, which makes no difference to what runs.
const REFERENCE: &str = "reference";

/// What a node will find out about itself when its cfg changes: that the images that run are not those that
/// are wanted any more. Without this a plan would not see the swap that follows.
#[must_use]
pub fn foreseen(before: &Document, after: &Document, dsc: &Document) -> Vec<Change> {
    let runs = dsc.text(PATH) == Some(ACTIVE);
    if runs && !images(before).eq(images(after)) {
        return vec![Change::set(Path::known(PATH), UPDATE)];
    }
    Vec::new()
}

fn images(cfg: &Document) -> impl Iterator<Item = (&Path, &Value)> {
    cfg.under("images").filter(|(path, _)| path.segments().last() != Some(REFERENCE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    #[test]
    fn only_another_image_on_a_node_that_runs_one_is_foreseen_to_be_changed() {
        let one = document(&[("images.web.digest", "a"), ("images.web.reference", "web:1")]);
        let two = document(&[("images.web.digest", "b"), ("images.web.reference", "web:1")]);
        let renamed = document(&[("images.web.digest", "a"), ("images.web.reference", "web:2")]);
        let active = document(&[(PATH, ACTIVE)]);
        let update = vec![Change::set(Path::known(PATH), UPDATE)];
        assert_eq!(foreseen(&one, &two, &active), update);
        assert_eq!(foreseen(&one, &Document::new(), &active), update);
        assert_eq!(foreseen(&one, &renamed, &active), []);
        assert_eq!(foreseen(&one, &one, &active), []);
        assert_eq!(foreseen(&one, &two, &document(&[(PATH, "IDLE")])), []);
        assert_eq!(foreseen(&one, &two, &Document::new()), []);
    }
}
