//! Reading a section of a file: values in their shapes, and maps of known names.
//!
//! Everything here says so when a value has another shape, so that nothing is overlooked. A section that is
//! there and says nothing (`limits:`) is empty; a value that says nothing (`rack:`) is a mistake.

use crate::{Data, Node, Pos, Report};
use std::str::FromStr;

impl Node {
    /// The shape, in words.
    #[must_use]
    pub fn shape(&self) -> &'static str {
        match &self.data {
            _ if self.is_null() => "nothing",
            Data::Scalar(..) => "a single value",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }
}

impl Report {
    /// The entries of a map. Of anything else says that it is none; nothing said is an empty map.
    pub fn map<'n>(&mut self, node: &'n Node, path: &str) -> &'n [(String, Pos, Node)] {
        if !matches!(node.data, Data::Map(_)) && !node.is_null() {
            let why = format!("it is {}; names and values belong here", node.shape());
            self.add(node.at, path, format!("{path} is not a map"), why, "");
        }
        node.entries()
    }

    /// The members of a list. Of anything else says that it is none; nothing said is an empty list.
    pub fn list<'n>(&mut self, node: &'n Node, path: &str, hint: &str) -> &'n [Node] {
        match &node.data {
            Data::List(list) => list,
            _ if node.is_null() => &[],
            _ => {
                let why = format!("it is {}", node.shape());
                self.add(node.at, path, format!("{path} is not a list"), why, hint);
                &[]
            }
        }
    }

    /// A single value as text. Says so of a list, a map, and of nothing.
    pub fn text<'n>(&mut self, node: &'n Node, path: &str, what: &str) -> Option<&'n str> {
        match &node.data {
            Data::Scalar(text, _) if !node.is_null() => Some(text),
            _ if node.is_null() => {
                let hint = "write a value, or leave the key out";
                self.add(
                    node.at,
                    path,
                    format!("{path} has no value"),
                    format!("it must be {what}"),
                    hint,
                );
                None
            }
            _ => {
                let shown = format!("{path} cannot be {}", node.shape());
                self.add(node.at, path, shown, format!("it must be {what}"), "");
                None
            }
        }
    }

    /// Adds what of a section is no map, and which of its names are not known.
    pub fn known(&mut self, node: &Node, path: &str, keys: &[&str]) {
        for (key, at, _) in self.map(node, path) {
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
        let path = format!("{path}.{key}");
        let text = self.text(node, &path, what)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let shown = format!("{text:?} cannot be {path}");
            self.add(node.at, &path, shown, format!("it must be {what}"), "");
        }
        parsed
    }
}
