//! The section that names images of the store, and how they are started.

use kraken_model::{Document, Path, Registry, Value};
use kraken_yaml::{Data, Node, Pos, Report};
use std::collections::BTreeMap;

/// What is known of an image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// `sha256:` and its digits.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// `plain` or `systemd`.
    pub kind: String,
    /// What it starts, unless the file says otherwise.
    pub command: Vec<String>,
    /// Its environment, to which the file adds.
    pub env: BTreeMap<String, String>,
    /// What its programs are built for, as far as the store knows.
    pub arch: Option<String>,
}

/// Where images are looked up.
pub trait ImageLookup {
    /// The image of a name such as `web:1`, or of a digest.
    ///
    /// # Errors
    /// With the reason, for a person, when it cannot be used.
    fn find(&self, reference: &str) -> Result<ImageFacts, String>;
}

/// The values that the nodes which run an image are told: addresses below `images.<name>`, each with the
/// place that says it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageValues {
    values: Vec<(String, Value, Pos)>,
    at: Pos,
}

impl ImageValues {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(String, Value, Pos)> {
        self.values.iter()
    }

    /// The place of a value, or of what it belongs to.
    pub(crate) fn at(&self, address: &str) -> Pos {
        let said = self.values.iter().find(|(other, _, _)| other == address);
        said.map_or(self.at, |(_, _, at)| *at)
    }
}

pub(crate) fn images(
    root: &Node,
    lookup: &dyn ImageLookup,
    registry: &Registry,
    report: &mut Report,
) -> BTreeMap<String, ImageValues> {
    let mut images = BTreeMap::new();
    let section = root.get("images").map(|node| report.map(node, "images")).unwrap_or_default();
    for (name, at, node) in section {
        let path = format!("images.{name}");
        if kraken_model::NodeId::new(name).is_err() {
            let why = "it must be lower-case letters, digits and hyphens";
            report.add(*at, &path, format!("{name:?} cannot name an image"), why, "");
            continue;
        }
        report.known(node, &path, &["image", "command", "env", "systemd"]);
        // An image that is not there is still a name: its users are not wrong as well.
        let mut values = ImageValues { values: Vec::new(), at: *at };
        let Some((reference, facts)) = find(node, *at, &path, lookup, report) else {
            images.insert(name.clone(), values);
            continue;
        };
        let Some(facts) = facts else {
            // What else is wrong with the section is said too.
            let command = vec!["unknown".to_owned()];
            let (digest, kind, env) = (String::new(), "plain".to_owned(), BTreeMap::new());
            let unknown = ImageFacts { digest, size: 0, kind, command, env, arch: None };
            image(&path, node, reference, unknown, &mut ImageValues::default(), report);
            images.insert(name.clone(), values);
            continue;
        };
        if image(&path, node, reference, facts, &mut values, report) {
            check(name, &values, registry, report);
        }
        images.insert(name.clone(), values);
    }
    images
}

/// The image of the store that is meant, with the place that says so; no image when it cannot be used.
fn find<'n>(
    node: &'n Node,
    at: Pos,
    path: &str,
    lookup: &dyn ImageLookup,
    report: &mut Report,
) -> Option<(&'n Node, Option<ImageFacts>)> {
    let path = format!("{path}.image");
    let Some(reference) = node.get("image") else {
        if matches!(node.data, Data::Map(_)) || node.is_null() {
            let why = "it says which image of the store is meant";
            report.add(at, &path, format!("{path} is missing"), why, "");
        }
        return None;
    };
    let text = report.text(reference, &path, "a name or digest of the store")?;
    match lookup.find(text) {
        Ok(facts) => Some((reference, Some(facts))),
        Err(why) => {
            let hint = "`layercake image list` shows what there is";
            report.add(reference.at, &path, format!("image {text:?} cannot be used"), why, hint);
            Some((reference, None))
        }
    }
}

/// Adds the values of an image; says whether there is something to start.
fn image(
    path: &str,
    node: &Node,
    reference: &Node,
    facts: ImageFacts,
    values: &mut ImageValues,
    report: &mut Report,
) -> bool {
    let at = reference.at;
    let systemd: Option<bool> = report.value(node, path, "systemd", "true or false");
    let kind = systemd.map_or(facts.kind, |yes| if yes { "systemd" } else { "plain" }.to_owned());
    let is_systemd = kind == "systemd";
    let (command, command_at) = match node.get("command") {
        Some(given) => (words(given, &format!("{path}.command"), report), given.at),
        None => (Some(facts.command), at),
    };
    let is_startable = command.as_ref().is_some_and(|words| is_systemd || !words.is_empty());
    let command = command.unwrap_or_else(|| vec!["unknown".to_owned()]);
    if !is_systemd && command.is_empty() {
        let what = "command is missing";
        let why = "a plain image has nothing to start without one";
        report.add(node.at, &format!("{path}.command"), what, why, "add command: [/bin/…]");
    }
    let mut env: BTreeMap<String, (String, Pos)> =
        facts.env.into_iter().map(|(key, value)| (key, (value, at))).collect();
    let said = node.get("env").map(|env| report.map(env, &format!("{path}.env")));
    for (key, key_at, value) in said.unwrap_or_default() {
        let place = format!("{path}.env.{key}");
        if Path::new(&place).is_err() || key.contains('.') {
            let why = "its name must be letters, digits and underscores";
            report.add(*key_at, &place, format!("{key:?} cannot be a variable"), why, "");
        } else if let Some(text) = report.text(value, &place, "text, \"\" for none") {
            env.insert(key.clone(), (text.to_owned(), value.at));
        }
    }
    let mut put = |key: &str, value: Value, at: Pos| {
        values.values.push((format!("{path}.{key}"), value, at));
    };
    put("reference", reference.text().unwrap_or_default().into(), at);
    put("digest", facts.digest.into(), at);
    put("size", i64::try_from(facts.size).unwrap_or(i64::MAX).into(), at);
    put("kind", kind.into(), node.get("systemd").map_or(at, |node| node.at));
    if let Some(arch) = facts.arch {
        put("arch", arch.into(), at);
    }
    if !is_systemd {
        put("command", command.into_iter().map(Into::into).collect::<Vec<_>>().into(), command_at);
    }
    for (key, (value, at)) in env {
        put(&format!("env.{key}"), value.into(), at);
    }
    is_startable
}

/// Program and arguments; nothing when they cannot be read.
fn words(node: &Node, path: &str, report: &mut Report) -> Option<Vec<String>> {
    if node.is_null() {
        let why = "program and arguments are one member each";
        report.add(node.at, path, format!("{path} has no value"), why, "write [/bin/httpd, -f]");
    }
    let list = report.list(node, path, "write [/bin/httpd, -f]");
    let words: Vec<String> = list
        .iter()
        .filter_map(|word| report.text(word, path, "a word").map(str::to_owned))
        .collect();
    let is_read = matches!(node.data, Data::List(_)) && words.len() == list.len();
    is_read.then_some(words)
}

/// Checks what nodes would be told, whether any node runs the image or not.
fn check(name: &str, values: &ImageValues, registry: &Registry, report: &mut Report) {
    let mut document = Document::new();
    for (address, value, at) in values.iter() {
        crate::machine::put(&mut document, address, value.clone(), *at, registry, report);
    }
    for refusal in layercake_types::image(&document, name).err().into_iter().flatten() {
        let at = values.at(&refusal.address);
        crate::place::refuse(&refusal, &document, at, report);
    }
}
