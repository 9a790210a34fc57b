//! Images and the processors that they are for.

use crate::Refusal;
use kraken_model::Document;
use layercake_schema::runs_on;

/// An image of a node that its processors cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign<'a> {
    /// Its name on the node.
    pub image: &'a str,
    /// The name under which the store has it, or its digest.
    pub reference: &'a str,
    /// The architecture that it is built for.
    pub built_for: &'a str,
}

/// The images of a cfg that a machine of this architecture cannot run, as far as it is known what they are built for.
#[must_use]
pub fn foreign_images<'a>(cfg: &'a Document, machine: &str) -> Vec<Foreign<'a>> {
    let foreign = |image| {
        let fact = |key: &str| cfg.text(&format!("images.{image}.{key}"));
        let built_for = fact("arch").filter(|built_for| !runs_on(built_for, machine))?;
        let reference = fact("reference").or_else(|| fact("digest")).unwrap_or_default();
        Some(Foreign { image, reference, built_for })
    };
    cfg.names("images").into_iter().filter_map(foreign).collect()
}

/// The images that do not fit what cfg itself says of the node.
pub(crate) fn refusals(cfg: &Document) -> Vec<Refusal> {
    let Some(machine) = cfg.text("arch") else { return Vec::new() };
    let refuse = |foreign: Foreign<'_>| {
        let Foreign { image, reference, built_for } = foreign;
        let why = format!("{reference} is built for {built_for}, and the node is {machine}");
        Refusal::new(format!("images.{image}.arch"), why)
            .hint("give the node another image, or correct its `arch`")
    };
    foreign_images(cfg, machine).into_iter().map(refuse).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_image_is_refused_for_a_node_only_when_both_are_known_and_do_not_fit() {
        let cfg = |arch: Option<&str>| {
            let mut cfg = serde_json::json!({"images": {
                "web": {"arch": "x86_64", "reference": "web:1"},
                "old": {"arch": "i386", "reference": "old:1"},
                "any": {"reference": "any:1"},
                "arm": {"arch": "arm64", "digest": "sha256:ab"},
            }});
            if let Some(arch) = arch {
                cfg["arch"] = arch.into();
            }
            Document::from_json(&cfg).unwrap()
        };
        let said = |arch| {
            let found = refusals(&cfg(arch));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said(None), [""; 0]);
        assert_eq!(
            said(Some("x86_64")),
            ["images.arm.arch: sha256:ab is built for arm64, and the node is x86_64; \
              give the node another image, or correct its `arch`"]
        );
        let on_arm = said(Some("aarch64"));
        assert_eq!(on_arm.len(), 2, "{on_arm:?}");
        assert!(on_arm[1].starts_with("images.web.arch: web:1 is built for x86_64"), "{on_arm:?}");
    }
}
