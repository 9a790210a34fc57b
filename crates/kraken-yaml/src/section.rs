//! Reading a section of a file: a map of known names.

use crate::{Data, Node, Report};
use std::str::FromStr;

impl Report {
    /// Adds what of a section is no map, and which of its names are not known.
    pub fn known(&mut self, node: &Node, path: &str, keys: &[&str]) {
        if !matches!(node.data, Data::Map(_)) && !node.is_null() {
            self.add(
                node.at,
                path,
                format!("{path} is not a map"),
                "names and values belong here",
                "",
            );
        }
        for (key, at, _) in node.entries() {
            if !keys.contains(&key.as_str()) {
                self.unknown(*at, &format!("{path}.{key}"), key, keys.iter().copied());
            }
        }
    }

    /// A value of a section in its type; says what is wrong with one that does not fit.
    pub fn value<T: FromStr>(
        &mut self,
        section: &Node,
        path: &str,
        key: &str,
        what: &str,
    ) -> Option<T> {
        let node = section.get(key)?;
        let parsed = node.text().and_then(|text| text.parse().ok());
        if parsed.is_none() {
            let path = format!("{path}.{key}");
            let shown = node.text().unwrap_or("this");
            self.add(
                node.at,
                &path,
                format!("{shown:?} cannot be {path}"),
                format!("it must be {what}"),
                "",
            );
        }
        parsed
    }
}
