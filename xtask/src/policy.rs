//! Licences and origins of what is shipped, held against `deny.toml`. What only tests use stays here.
//!
//! `cargo deny` does this and more (advisories) where it is installed; this needs nothing but cargo, so it
//! is part of every run on every machine.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::metadata::{Metadata, Package};

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// Holds every dependency against `deny.toml`.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<String, Error> {
    let path = root.join("deny.toml");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let deny: Deny =
        toml::from_str(&text).map_err(|error| Error::Refused(format!("deny.toml: {error}")))?;
    let shipped = metadata.shipped();
    let wrong: Vec<_> = shipped.iter().filter_map(|package| objection(package, &deny)).collect();
    if wrong.is_empty() {
        return Ok(format!("{} crates, licences and origins allowed", shipped.len()));
    }
    Err(Error::Refused(wrong.join("\n")))
}

fn objection(package: &Package, deny: &Deny) -> Option<String> {
    let Package { name, version, license, source, .. } = package;
    if let Some(ban) = deny.bans.deny.iter().find(|ban| ban.name == *name) {
        return Some(format!("{name} {version} is banned: {}", ban.reason));
    }
    if let Some(source) = source.as_ref().filter(|source| source.starts_with("git+")) {
        return Some(format!("{name} {version} comes from {source}; only a registry is allowed"));
    }
    let exceptions = deny.licenses.exceptions.iter().filter(|ex| ex.name == *name);
    let allowed: Vec<&str> = exceptions
        .flat_map(|exception| &exception.allow)
        .chain(&deny.licenses.allow)
        .map(String::as_str)
        .collect();
    let Some(license) = license else {
        return Some(format!("{name} {version} names no licence"));
    };
    match is_allowed(license, &allowed) {
        Some(true) => None,
        Some(false) => {
            Some(format!("{name} {version} is under {license}, which deny.toml does not allow"))
        }
        None => Some(format!("{name} {version} has a licence that cannot be read: {license:?}")),
    }
}

/// Whether an SPDX licence expression (SPDX 2.3, annex D) can be satisfied with the allowed licences;
/// nothing when it is not such an expression. `WITH` only ever adds permissions, so the licence before it
/// decides. A `/` is what was written before there were expressions, and means `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_ascii_whitespace().peekable();
    let value = alternatives(&mut tokens, allowed)?;
    tokens.next().is_none().then_some(value)
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitAsciiWhitespace<'a>>;

fn alternatives(tokens: &mut Tokens<'_>, allowed: &[&str]) -> Option<bool> {
    let mut value = conjunction(tokens, allowed)?;
    while tokens.next_if_eq(&"OR").is_some() {
        value |= conjunction(tokens, allowed)?;
    }
    Some(value)
}

fn conjunction(tokens: &mut Tokens<'_>, allowed: &[&str]) -> Option<bool> {
    let mut value = term(tokens, allowed)?;
    while tokens.next_if_eq(&"AND").is_some() {
        value &= term(tokens, allowed)?;
    }
    Some(value)
}

fn term(tokens: &mut Tokens<'_>, allowed: &[&str]) -> Option<bool> {
    match tokens.next()? {
        "(" => {
            let value = alternatives(tokens, allowed)?;
            tokens.next_if_eq(&")")?;
            Some(value)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence => {
            if tokens.next_if_eq(&"WITH").is_some() {
                tokens.next()?;
            }
            Some(allowed.contains(&licence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_read_as_spdx_means_them() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
        let cases = [
            ("MIT", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("MIT OR GPL-3.0-only", Some(true)),
            ("MIT AND GPL-3.0-only", Some(false)),
            ("GPL-3.0-only AND Zlib OR MIT", Some(true)),
            ("(MIT OR GPL-3.0-only) AND Unicode-3.0", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("GPL-2.0-only WITH Classpath-exception-2.0", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT Apache-2.0", None),
        ];
        for (expression, expected) in cases {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
        }
    }
}
