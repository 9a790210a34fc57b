//! The cluster file: written by an administrator, but also posted to the server by whoever may.
#![no_main]

use kraken_model::{Registry, Side};
use layercake_config::{Context, ImageFacts, ImageLookup, parse};
use std::sync::LazyLock;

struct Images;

impl ImageLookup for Images {
    fn find(&self, reference: &str) -> Result<ImageFacts, String> {
        let kind = if reference.starts_with("login") { "systemd" } else { "plain" };
        let digest = format!("sha256:{}", "0".repeat(64));
        match reference.split_once(':') {
            Some((_, "1")) => Ok(ImageFacts {
                digest,
                size: 4096,
                kind: kind.to_owned(),
                command: vec!["/bin/true".to_owned()],
                env: [].into(),
                arch: None,
            }),
            _ => Err("it is not in the store".to_owned()),
        }
    }
}

static REGISTRY: LazyLock<Registry> =
    LazyLock::new(|| Registry::new(layercake_schema::schemas()).expect("the schemas are sound"));

// What is read fits the schemas and can be used by every module; what is not, is refused for a reason that can be shown.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let steps = &["power.on", "power.off"];
    let context = Context { registry: &REGISTRY, images: &Images, steps };
    match parse("cluster.yaml", text, &context) {
        Ok(cluster) => {
            for (node, document) in &cluster.nodes {
                assert_eq!(REGISTRY.validate(Side::Cfg, document), [], "{node}");
                assert_eq!(layercake_types::refusals(node, document), [], "{node}");
            }
        }
        Err(found) => {
            assert!(!found.is_empty(), "refused for no reason");
            assert!(found.iter().all(|diagnostic| !diagnostic.to_string().is_empty()));
        }
    }
});
