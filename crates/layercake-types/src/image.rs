//! The images of a node: what runs, and how it is started.

use crate::Refusal;
use crate::interface::read;
use kraken_model::{Document, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The most words of a command.
pub const MAX_COMMAND_WORDS: usize = 256;

/// The most environment variables.
pub const MAX_ENVIRONMENT: usize = 256;

/// The most bytes of a command and its environment together, so that a container's whole specification
/// fits into what its monitor reads.
pub const MAX_PROGRAM_BYTES: usize = 64 << 10;

/// The name under which an image runs on a node, such as `compute`.
///
/// It is part of paths and of cgroup names, therefore: 1 to 63 letters, digits, `-`, `_` or `.`,
/// the first of them a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// Text that cannot be part of a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an image's name is 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first")]
pub struct InvalidImageName;

impl ImageName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = InvalidImageName;

    fn from_str(text: &str) -> Result<Self, InvalidImageName> {
        let good = (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidImageName) }
    }
}

impl TryFrom<String> for ImageName {
    type Error = InvalidImageName;

    fn try_from(text: String) -> Result<Self, InvalidImageName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image that a node is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name on the node.
    pub name: ImageName,
    /// The image: `sha256:` and 64 digits.
    pub digest: String,
    /// Its size in bytes, more than 0.
    pub size: u64,
    /// Whether systemd runs as its init; otherwise one command does.
    pub systemd: bool,
    /// Program and arguments; an image with systemd may have none.
    pub command: Vec<String>,
    /// The environment of the program.
    pub env: BTreeMap<String, String>,
}

/// A command or an environment with which nothing can be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct InvalidProgram {
    /// `command` or `env`.
    pub field: &'static str,
    /// The problem with it, for a person.
    pub problem: &'static str,
}

/// Checks a command and its environment as execve(2) takes them.
///
/// # Errors
/// With the first that cannot be started.
pub fn check_program(
    systemd: bool,
    command: &[String],
    env: &BTreeMap<String, String>,
) -> Result<(), InvalidProgram> {
    let bad = |field, problem| Err(InvalidProgram { field, problem });
    let holds_nul = |text: &String| text.contains('\0');
    if !systemd && command.is_empty() {
        return bad("command", "is missing: a plain image needs a program to run");
    }
    if command.len() > MAX_COMMAND_WORDS || command.iter().any(holds_nul) {
        return bad("command", "must have at most 256 words without NUL");
    }
    if command.first().is_some_and(String::is_empty) {
        return bad("command", "must begin with the name of a program");
    }
    if env.len() > MAX_ENVIRONMENT {
        return bad("env", "must have at most 256 variables");
    }
    let name_is_bad = |name: &String| name.is_empty() || name.contains(['=', '\0']);
    if env.iter().any(|(name, value)| name_is_bad(name) || holds_nul(value)) {
        return bad("env", "must have names without `=`, and no NUL");
    }
    let words: usize = command.iter().map(String::len).sum();
    let variables: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if words > MAX_PROGRAM_BYTES {
        return bad("command", "has more than 64 KiB");
    }
    if words + variables > MAX_PROGRAM_BYTES {
        return bad("env", "has with the command more than 64 KiB");
    }
    Ok(())
}

/// An image of a node, as its cfg says.
///
/// # Errors
/// With everything of it that cannot be used.
pub fn image(cfg: &Document, name: &str) -> Result<Image, Vec<Refusal>> {
    let at = |key: &str| format!("images.{name}.{key}");
    let mut found = Vec::new();
    let refuse = |key: &str, why: &str| Refusal::new(at(key), why);
    let label = name.parse::<ImageName>();
    if let Err(why) = &label {
        found.push(Refusal::new(format!("images.{name}"), why));
    }
    let digest = read::<String>(cfg, &at("digest"), &mut found);
    let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    let digits = digest.as_deref().and_then(|text| text.strip_prefix("sha256:"));
    if digits.is_none_or(|digits| digits.len() != 64 || !digits.bytes().all(is_hex)) {
        found.push(refuse("digest", "it is missing, or not sha256: and 64 digits"));
    }
    let size = cfg.get(&at("size")).and_then(Value::as_int);
    let size = size.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
    if size.is_none() {
        found.push(refuse("size", "it is missing, or not more than 0"));
    }
    let systemd = cfg.text(&at("kind")) == Some("systemd");
    let words = cfg.get(&at("command")).map(Value::as_list);
    let words = words.map(|list| list.and_then(|list| list.iter().map(Value::as_text).collect()));
    let command: Option<Vec<&str>> = words.unwrap_or_else(|| Some(Vec::new()));
    if command.is_none() {
        found.push(refuse("command", "it must be a list of words"));
    }
    let command: Vec<String> = command.unwrap_or_default().into_iter().map(str::to_owned).collect();
    let below = at("env");
    let names = cfg.names(&below).into_iter();
    let variable =
        |key: &str| Some((key.to_owned(), cfg.text(&format!("{below}.{key}"))?.to_owned()));
    let env: BTreeMap<String, String> = names.filter_map(variable).collect();
    if let Err(InvalidProgram { field, problem }) = check_program(systemd, &command, &env) {
        // What is wrong with it as a whole is said of its first variable, which has a place.
        let address = match (field, env.keys().next()) {
            ("env", Some(first)) => format!("{below}.{first}"),
            _ => at(field),
        };
        found.push(Refusal::new(address, format!("it {problem}")));
    }
    match (label, digest, size) {
        (Ok(name), Some(digest), Some(size)) if found.is_empty() => {
            Ok(Image { name, digest, size, systemd, command, env })
        }
        _ => Err(found),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value as Json, json};

    fn of(change: impl FnOnce(&mut Json)) -> Result<Image, Vec<String>> {
        let mut web = json!({"digest": format!("sha256:{}", "ab".repeat(32)), "size": 4096,
                             "kind": "plain", "command": ["/bin/httpd", "-f"], "env": {"HOME": "/"}});
        change(&mut web);
        let cfg = Document::from_json(&json!({"images": {"web": web}})).unwrap();
        image(&cfg, "web").map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_image_is_read_with_all_that_cfg_says_of_it() {
        let web = of(|_| {}).unwrap();
        assert_eq!((web.command.len(), web.systemd, web.size), (2, false, 4096));
        assert_eq!(web.env["HOME"], "/");
        let systemd =
            of(|web| *web = json!({"digest": web["digest"], "size": 1, "kind": "systemd"}));
        assert!(systemd.unwrap().systemd);
    }

    #[test]
    fn each_value_with_which_nothing_starts_is_refused_by_its_address() {
        let many = |count: usize| vec!["x"; count];
        let variables: BTreeMap<String, &str> = (0..257).map(|n| (format!("V{n}"), "")).collect();
        for (key, value, place, why) in [
            ("digest", json!("sha256:0A"), "digest", "64 digits"),
            ("size", json!(0), "size", "more than 0"),
            ("command", json!([]), "command", "a program to run"),
            ("command", json!([""]), "command", "begin with the name"),
            ("command", json!(many(257)), "command", "256 words"),
            ("command", json!(["x".repeat(70_000)]), "command", "64 KiB"),
            ("env", json!(variables), "env.V0", "256 variables"),
            ("env", json!({"A": "x".repeat(66_000)}), "env.A", "64 KiB"),
        ] {
            let said = of(|web| web[key] = value).unwrap_err();
            assert_eq!(said.len(), 1, "{key}: {said:?}");
            let place = format!("images.web.{place}: ");
            assert!(said[0].starts_with(&place) && said[0].contains(why), "{said:?}");
        }
    }
}
