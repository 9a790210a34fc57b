//! What a command is told: the node, the step, and every value of both documents.
//!
//! | variable | |
//! |---|---|
//! | `KRAKEN_MODULE` | the module |
//! | `KRAKEN_NODE` | the node |
//! | `KRAKEN_MUTATION`, `KRAKEN_ATTEMPT` | the step, and which attempt it is: epoch/node/number |
//! | `KRAKEN_CFG_<ADDRESS>`, `KRAKEN_DSC_<ADDRESS>` | one value, configured or discovered |
//! | `KRAKEN_CFG`, `KRAKEN_DSC` | all of them, as a JSON object |
//!
//! In a name, the address is in upper case, with `__` for a dot and `_` for a hyphen. Where two
//! addresses would have one name, neither has it: they differ in the JSON object. Text is given as it
//! is, everything else as JSON. Nothing is quoted: no shell reads it on the way.

use kraken_model::{Document, Value};
use kraken_process::Run;
use std::collections::BTreeMap;

/// The most that all values together may have, in bytes. The kernel allows an environment some more.
const MAX_BYTES: usize = 128 * 1024;

/// Adds both documents of a node to what a command is told.
///
/// # Errors
/// With the reason, when they are too large.
pub(crate) fn with_documents(mut run: Run, cfg: &Document, dsc: &Document) -> Result<Run, String> {
    let mut bytes = 0;
    for (prefix, document) in [("KRAKEN_CFG", cfg), ("KRAKEN_DSC", dsc)] {
        let mut names: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (path, value) in document.iter() {
            let name = format!("{prefix}_{}", name_of(path.as_str()));
            names.entry(name).and_modify(|taken| *taken = None).or_insert(Some(text_of(value)));
        }
        let all: BTreeMap<&str, &Value> = document.iter().map(|(p, v)| (p.as_str(), v)).collect();
        names.insert(prefix.to_owned(), serde_json::to_string(&all).ok());
        for (name, value) in names {
            let Some(value) = value else { continue };
            bytes += name.len() + value.len();
            run = run.env(name, value);
        }
    }
    if bytes > MAX_BYTES {
        return Err(format!(
            "the values of the node have {bytes} bytes, and an environment takes {MAX_BYTES}"
        ));
    }
    Ok(run)
}

fn name_of(address: &str) -> String {
    address.to_ascii_uppercase().replace('.', "__").replace('-', "_")
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::Path;
    use std::time::Duration;

    fn document(values: &[(&str, Value)]) -> Document {
        let mut document = Document::new();
        for (path, value) in values {
            document.set(Path::known(path), value.clone());
        }
        document
    }

    #[tokio::test]
    async fn every_value_is_told_under_its_name_and_never_under_a_doubtful_one() {
        let cfg = document(&[
            ("images.web-1.kind", "plain; $(rm)".into()),
            ("jobs", 3.into()),
            ("names", vec!["a".into(), "b c".into()].into()),
            ("twice_1", "x".into()),
            ("twice-1", "y".into()),
        ]);
        let run = Run::new("/usr/bin/env", ["-0"], Duration::from_secs(20)).output_bytes(1 << 20);
        let run = with_documents(run, &cfg, &document(&[("lit", true.into())])).unwrap();
        let out = run.output().await.unwrap();
        let said: BTreeMap<&str, &str> =
            out.split('\0').filter_map(|v| v.split_once('=')).collect();
        assert_eq!(said["KRAKEN_CFG_IMAGES__WEB_1__KIND"], "plain; $(rm)");
        assert_eq!(said["KRAKEN_CFG_JOBS"], "3");
        assert_eq!(said["KRAKEN_CFG_NAMES"], r#"["a","b c"]"#);
        assert_eq!(said["KRAKEN_DSC_LIT"], "true");
        assert!(!said.contains_key("KRAKEN_CFG_TWICE_1"));
        let all: serde_json::Value = serde_json::from_str(said["KRAKEN_CFG"]).unwrap();
        assert_eq!((all["twice-1"].as_str(), all["twice_1"].as_str()), (Some("y"), Some("x")));
    }

    #[test]
    fn what_no_environment_takes_is_refused_with_the_reason() {
        let large = document(&[("text", "x".repeat(MAX_BYTES).into())]);
        let run = Run::new("/bin/true", [""; 0], Duration::from_secs(1));
        let why = with_documents(run, &large, &Document::new()).unwrap_err();
        assert!(why.contains("an environment takes"), "{why}");
    }
}
