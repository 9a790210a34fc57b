//! What is said of nodes: layers of facts, and what they come to for one node.

use crate::images::ImageValues;
use crate::place::{canonical_mac, shown};
use crate::template::{Variables, is_template, render};
use kraken_model::{Document, Field, Format, Kind, Path, Registry, Side, Value, nearest, suggest};
use kraken_yaml::{Data, Node, Pos, Report};
use layercake_schema::service_state::{self, RUNNING, STOPPED};
use layercake_schema::{SERVICES, image_state, module, phys_state, run_state};
use std::collections::BTreeMap;

/// What one layer says, in the order of the file: address, place, value.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) facts: Vec<(String, Pos, Node)>,
    pub(crate) power: Option<bool>,
    pub(crate) images: Option<Vec<String>>,
    /// Which services are to run, or not to; of others only what needs them says so.
    pub(crate) services: BTreeMap<&'static str, bool>,
}

/// The parts of a node that a layer may speak of.
const PARTS: &[&str] = &[
    "arch",
    "platform",
    "location",
    "labels",
    "power",
    "boot",
    "net",
    "want",
    "images",
    "services",
    layercake_schema::FOUND_RUNNING,
    layercake_schema::SILENCE,
];

/// What may be said of a node because a module out of process declares it.
fn parts_of_others(registry: &Registry) -> impl Iterator<Item = &str> + Clone {
    let own: Vec<String> = layercake_schema::schemas().into_iter().map(|s| s.name).collect();
    let fields = registry.fields().filter(|(_, field)| field.sides.contains(&Side::Cfg));
    let others: Vec<&str> = fields
        .filter(|(schema, _)| own.iter().all(|own| own != schema))
        .filter_map(|(_, field)| field.pattern.as_str().split('.').next())
        .collect();
    others.into_iter()
}

impl Layer {
    pub(crate) fn read(
        body: &Node,
        path: &str,
        extra: &[&str],
        registry: &Registry,
        images: &BTreeMap<String, ImageValues>,
        report: &mut Report,
    ) -> Self {
        let mut layer = Self::default();
        let others = parts_of_others(registry);
        let known: Vec<&str> = PARTS.iter().chain(extra).copied().chain(others.clone()).collect();
        report.known(body, path, &known);
        for (key, at, node) in body.entries() {
            let place = format!("{path}.{key}");
            match key.as_str() {
                "want" => layer.want(node, &place, images, report),
                "images" => layer.runs(node, &place, images, report),
                "services" => layer.serves(node, &place, report),
                key if PARTS.contains(&key) || others.clone().any(|other| other == key) => {
                    layer.flatten(key, &place, *at, node, registry, report);
                }
                _ => {}
            }
        }
        layer
    }

    fn want(
        &mut self,
        node: &Node,
        path: &str,
        images: &BTreeMap<String, ImageValues>,
        report: &mut Report,
    ) {
        report.known(node, path, &["power", "image", "images"]);
        if let Some(power) = node.get("power") {
            let why = "a machine is one of both";
            self.power = switch(power, &format!("{path}.power"), "power", why, report);
        }
        for key in ["image", "images"] {
            if let Some(list) = node.get(key) {
                self.runs(list, &format!("{path}.{key}"), images, report);
            }
        }
    }

    fn serves(&mut self, node: &Node, path: &str, report: &mut Report) {
        report.known(node, path, SERVICES);
        for name in SERVICES {
            let Some(said) = node.get(name) else { continue };
            let why = "a service is stopped when it is off; when nothing is said it runs while it is needed";
            if let Some(on) = switch(said, &format!("{path}.{name}"), name, why, report) {
                self.services.insert(name, on);
            }
        }
    }

    fn runs(
        &mut self,
        node: &Node,
        path: &str,
        images: &BTreeMap<String, ImageValues>,
        report: &mut Report,
    ) {
        let one = std::slice::from_ref(node);
        let list = if let Data::List(list) = &node.data { list.as_slice() } else { one };
        let mut names = Vec::new();
        for item in list {
            let what = "the name of an image, a list of them, or [] for none";
            let Some(name) = report.text(item, path, what) else { continue };
            if images.contains_key(name) {
                names.push(name.to_owned());
            } else {
                let near = suggest(name, images.keys().map(String::as_str));
                let why = "it is not in the section images";
                report.add(item.at, path, format!("unknown image {name:?}"), why, near);
            }
        }
        self.images = Some(names);
    }

    fn flatten(
        &mut self,
        address: &str,
        path: &str,
        at: Pos,
        node: &Node,
        registry: &Registry,
        report: &mut Report,
    ) {
        match registry.field(address) {
            Some(field) if is_cfg(field) => {
                if fits(node, &field.kind, path, report) {
                    self.facts.push((address.to_owned(), at, node.clone()));
                }
            }
            _ if leads_on(registry, address) => {
                for (key, at, inner) in report.map(node, path) {
                    let (address, path) = (format!("{address}.{key}"), format!("{path}.{key}"));
                    self.flatten(&address, &path, *at, inner, registry, report);
                }
            }
            _ => {
                let (above, key) = address.rsplit_once('.').unwrap_or(("", address));
                let near =
                    registry.fields().filter(|(_, field)| is_cfg(field)).filter_map(|(_, f)| {
                        let (parent, last) =
                            f.pattern.as_str().rsplit_once('.').unwrap_or(("", f.pattern.as_str()));
                        (parent == above
                            || kraken_model::Pattern::new(parent).is_ok_and(|p| p.matches(above)))
                        .then_some(last)
                    });
                report.unknown(at, path, key, near);
            }
        }
    }
}

fn is_cfg(field: &Field) -> bool {
    field.sides.contains(&Side::Cfg)
}

/// Whether something can be configured below an address.
fn leads_on(registry: &Registry, address: &str) -> bool {
    let leads = |field: &Field| {
        let mut below = field.pattern.as_str().split('.');
        let mut begun = address
            .split('.')
            .all(|given| below.next().is_some_and(|wanted| wanted == "*" || wanted == given));
        begun &= below.next().is_some();
        begun
    };
    registry.fields().any(|(_, field)| is_cfg(field) && leads(field))
}

/// Whether a value has the shape of its field; says so of one that has not.
fn fits(node: &Node, kind: &Kind, path: &str, report: &mut Report) -> bool {
    let Kind::List(member) = kind else {
        return report.text(node, path, &kind.to_string()).is_some();
    };
    let Data::List(list) = &node.data else {
        let why = format!("it is {}", node.shape());
        report.add(node.at, path, format!("{path} is not a list"), why, "write [ONE, OTHER]");
        return false;
    };
    let what = member.to_string();
    // Each of them is told.
    list.iter().filter(|member| report.text(member, path, &what).is_none()).count() == 0
}

/// On or off.
fn switch(node: &Node, path: &str, what: &str, why: &str, report: &mut Report) -> Option<bool> {
    match node.text() {
        Some("on" | "true") => Some(true),
        Some("off" | "false") => Some(false),
        said => {
            let near = nearest(said.unwrap_or_default(), ["on", "off"]);
            let hint = near.map(|near| format!("did you mean {near:?}?")).unwrap_or_default();
            report.add(node.at, path, format!("{what} is neither on nor off"), why, hint);
            None
        }
    }
}

/// The document that the layers of one node come to, the last over the ones before it.
pub(crate) fn document(
    layers: &[&Layer],
    images: &BTreeMap<String, ImageValues>,
    registry: &Registry,
    variables: &Variables<'_>,
    report: &mut Report,
) -> Document {
    let mut facts: BTreeMap<&str, (Pos, &Node)> = BTreeMap::new();
    for (address, at, node) in layers.iter().flat_map(|l| &l.facts) {
        facts.insert(address, (*at, node));
    }
    let mut document = Document::new();
    for (address, (_, node)) in facts {
        let kind = registry.field(address).map(|f| &f.kind);
        match convert(node, kind, variables) {
            Ok(value) => put(&mut document, address, value, node.at, registry, report),
            Err(why) => report.add(
                node.at,
                address,
                format!("{address} cannot be made"),
                why,
                "mend the template",
            ),
        }
    }
    let power = layers.iter().rev().find_map(|l| l.power).unwrap_or(true);
    let runs = layers.iter().rev().find_map(|l| l.images.as_deref()).unwrap_or_default();
    let here = Pos::default();
    let state = |on, off| if power { on } else { off };
    put(
        &mut document,
        phys_state::PATH,
        state(phys_state::POWER_ON, phys_state::POWER_OFF).into(),
        here,
        registry,
        report,
    );
    if power {
        put(&mut document, run_state::PATH, run_state::SYNC.into(), here, registry, report);
        let services: BTreeMap<&str, bool> =
            layers.iter().flat_map(|l| &l.services).map(|(name, on)| (*name, *on)).collect();
        for (name, on) in &services {
            let (path, state) = (service_state::path(name), if *on { RUNNING } else { STOPPED });
            put(&mut document, path.as_str(), state.into(), here, registry, report);
        }
        // Without its service nothing is known of the images, so nothing can be wanted of them.
        if services.get(module::IMAGE) != Some(&false) {
            let state = if runs.is_empty() { image_state::IDLE } else { image_state::ACTIVE };
            put(&mut document, image_state::PATH, state.into(), here, registry, report);
        }
    }
    for values in runs.iter().filter_map(|name| images.get(name)) {
        for (address, value, at) in values.iter() {
            put(&mut document, address, value.clone(), *at, registry, report);
        }
    }
    document
}

/// Puts a value into a document, if it fits.
pub(crate) fn put(
    document: &mut Document,
    address: &str,
    value: Value,
    at: Pos,
    registry: &Registry,
    report: &mut Report,
) {
    let checked = match Path::new(address) {
        Ok(path) => registry.check(Side::Cfg, &path, &value).map(|()| path).map_err(|e| e.reason),
        Err(error) => Err(error.to_string()),
    };
    match checked {
        Ok(path) => {
            document.set(path, value);
        }
        Err(why) => {
            report.add(at, address, format!("{address} cannot be {}", shown(&value)), why, "");
        }
    }
}

fn convert(node: &Node, kind: Option<&Kind>, variables: &Variables<'_>) -> Result<Value, String> {
    let member = if let Some(Kind::List(kind)) = kind { Some(kind.as_ref()) } else { None };
    match &node.data {
        Data::List(list) => {
            let list: Result<Vec<Value>, String> =
                list.iter().map(|n| convert(n, member, variables)).collect();
            Ok(list?.into())
        }
        Data::Map(_) => Err("a map cannot be a value".to_owned()),
        Data::Scalar(text, _) => {
            let text = if is_template(text) { render(text, variables)? } else { text.clone() };
            Ok(match kind {
                Some(Kind::Int { .. }) => {
                    text.parse::<i64>().map_or_else(|_| text.into(), Value::Int)
                }
                Some(Kind::Text(Format::Mac)) => canonical_mac(&text).into(),
                Some(Kind::Bool) => text.parse::<bool>().map_or_else(|_| text.into(), Value::Bool),
                _ => text.into(),
            })
        }
    }
}
