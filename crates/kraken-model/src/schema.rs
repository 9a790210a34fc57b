//! What may stand in a document, and what it means.

use crate::path::PathError;
use crate::{Document, Path, Pattern, Side, Value, nearest};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Longest text a value may hold unless its field says otherwise, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Longest list a value may hold, in members.
const MAX_LIST_MEMBERS: usize = 256;

/// The fields that one extension adds to the documents, under its name.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// What the extension is called, such as `power`.
    pub name: String,
    /// The fields it adds.
    pub fields: Vec<Field>,
}

/// One address, or a set of them, and what it holds.
#[derive(Clone, Debug)]
pub struct Field {
    /// Where it stands.
    pub pattern: Pattern,
    /// What it holds.
    pub kind: Kind,
    /// Which documents it may stand in: cfg, dsc or both.
    pub sides: &'static [Side],
    /// What it means, for a person; with its unit where it has one.
    pub about: String,
    /// Of a variable: the values with which a node is out of use, unless its cfg wants just that.
    pub unavailable: Vec<Arc<str>>,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of a finite set of states, of which the first means *unknown*.
    Variable(Arc<[Arc<str>]>),
    /// Yes or no.
    Bool,
    /// A whole number within bounds, both included.
    Int {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Text of a form.
    Text(Format),
    /// A list whose members are all of one kind.
    List(Box<Kind>),
}

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Any text without control characters, 4 KiB at most.
    Any,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A MAC address: six pairs of lower-case hexadecimal digits, joined by colons (EUI-48).
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// An IPv4 address with its prefix length (RFC 4632), such as `10.0.0.1/24`.
    Ipv4Cidr,
    /// A SHA-256 digest: `sha256:` and 64 lower-case hexadecimal digits.
    Sha256,
}

/// A value that does not fit, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Invalid {
    /// Where it stands.
    pub path: Path,
    /// Why it does not fit, for a person.
    pub reason: String,
}

/// Schemas that cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two schemas claim one address.
    #[error("{pattern} is claimed by both {first} and {second}")]
    Claimed {
        /// The address.
        pattern: Pattern,
        /// Who came first.
        first: String,
        /// Who came second.
        second: String,
    },
    /// A variable has no values, or the same value twice, or is not one address.
    #[error("{0}: a variable has one address and at least two values, each once")]
    Variable(Pattern),
    /// A node would be out of use with a value that the field never has, or whenever nothing is known.
    #[error("{pattern}: unavailable with {value}, which is no value of it other than the first")]
    Unavailable {
        /// The address.
        pattern: Pattern,
        /// The value.
        value: Arc<str>,
    },
}

impl Field {
    /// A variable: an address with a finite set of values, of which the first means *unknown*.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn variable(path: &str, values: &[&str], about: &str) -> Result<Self, PathError> {
        let values: Vec<Arc<str>> = values.iter().map(|v| Arc::from(*v)).collect();
        let sides = &[Side::Cfg, Side::Dsc];
        Self::new(path, Kind::Variable(values.into()), sides, about)
    }

    /// A field of any kind.
    ///
    /// # Errors
    /// When the pattern is not one.
    pub fn new(
        pattern: &str,
        kind: Kind,
        sides: &'static [Side],
        about: &str,
    ) -> Result<Self, PathError> {
        let (pattern, about) = (Pattern::new(pattern)?, about.to_owned());
        Ok(Self { pattern, kind, sides, about, unavailable: Vec::new() })
    }

    /// The same variable, with these values of which a node is out of use: limits on how many may be
    /// unavailable count it, and steps that lead there are held back as disruptive ones are.
    #[must_use]
    pub fn unavailable_with(mut self, values: &[&str]) -> Self {
        self.unavailable = values.iter().map(|value| Arc::from(*value)).collect();
        self
    }
}

impl Kind {
    /// Checks one value; the error is the reason why it does not fit.
    fn check(&self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::Variable(values), Value::Text(text)) => {
                if values.iter().any(|value| **value == **text) {
                    return Ok(());
                }
                let near = meant(text, values.iter().map(|value| &**value));
                Err(format!("{text:?} is not one of {}{near}", values.join(", ")))
            }
            (Self::Bool, Value::Bool(_)) => Ok(()),
            (Self::Int { min, max }, Value::Int(int)) => {
                if (min..=max).contains(&int) {
                    return Ok(());
                }
                Err(format!("{int} is not between {min} and {max}"))
            }
            (Self::Text(format), Value::Text(text)) => format.check(text),
            (Self::List(kind), Value::List(list)) => {
                if list.len() > MAX_LIST_MEMBERS {
                    return Err(format!("more than {MAX_LIST_MEMBERS} members"));
                }
                list.iter().try_for_each(|member| kind.check(member))
            }
            (_, value) => Err(format!("{} where {self} belongs", value.kind_name())),
        }
    }

    fn json_schema(&self) -> serde_json::Value {
        match self {
            Self::Variable(values) => serde_json::json!({"type": "string", "enum": &values[..]}),
            Self::Bool => serde_json::json!({"type": "boolean"}),
            Self::Int { min, max } => {
                serde_json::json!({"type": "integer", "minimum": min, "maximum": max})
            }
            Self::Text(Format::Choice(words)) => {
                serde_json::json!({"type": "string", "enum": words})
            }
            Self::Text(_) => serde_json::json!({"type": "string", "maxLength": MAX_TEXT_BYTES}),
            Self::List(kind) => serde_json::json!({
                "type": "array", "items": kind.json_schema(), "maxItems": MAX_LIST_MEMBERS
            }),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(values) => write!(f, "one of {}", values.join(", ")),
            Self::Bool => f.write_str("true or false"),
            Self::Int { min, max } => write!(f, "a number between {min} and {max}"),
            Self::Text(format) => write!(f, "{format}"),
            Self::List(kind) => write!(f, "a list of {kind}"),
        }
    }
}

impl Format {
    fn check(self, text: &str) -> Result<(), String> {
        let fits = match self {
            Self::Any => text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control),
            Self::Choice(words) => words.contains(&text),
            Self::Mac => is_mac(text),
            Self::Ipv4 => text.parse::<std::net::Ipv4Addr>().is_ok(),
            Self::Ipv4Cidr => is_ipv4_cidr(text),
            Self::Sha256 => text.strip_prefix("sha256:").is_some_and(|hex| {
                hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
            }),
        };
        if fits {
            return Ok(());
        }
        let shown: String = text.chars().take(80).collect();
        let near = match self {
            Self::Choice(words) => meant(text, words.iter().copied()),
            _ => String::new(),
        };
        Err(format!("{shown:?} is not {self}{near}"))
    }
}

/// The word that was probably meant, as the end of a reason that lists them all.
fn meant<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> String {
    nearest(text, words).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

fn is_mac(text: &str) -> bool {
    let mut pairs = text.split(':');
    let is_pair =
        |p: &str| p.len() == 2 && p.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    pairs.clone().count() == 6 && pairs.all(is_pair)
}

fn is_ipv4_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<std::net::Ipv4Addr>().is_ok()
            && !prefix.starts_with('+')
            && prefix.parse::<u8>().is_ok_and(|bits| bits <= 32)
    })
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => write!(f, "text without control characters, 4 KiB at most"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Mac => f.write_str("a MAC address such as 52:54:00:00:00:01, in lower case"),
            Self::Ipv4 => f.write_str("an IPv4 address"),
            Self::Ipv4Cidr => f.write_str("an IPv4 address with its prefix, such as 10.0.0.1/24"),
            Self::Sha256 => f.write_str("a digest such as sha256:<64 hexadecimal digits>"),
        }
    }
}

/// All schemas that are in use: what may stand in a document.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    schemas: Vec<Schema>,
    /// Field of every exact address, as positions (schema, field).
    exact: BTreeMap<Arc<str>, (usize, usize)>,
    /// Fields with a star in their pattern.
    starred: Vec<(usize, usize)>,
}

impl Registry {
    /// All the given schemas together.
    ///
    /// # Errors
    /// When two claim one address, or a variable makes no sense.
    pub fn new(schemas: Vec<Schema>) -> Result<Self, RegistryError> {
        let mut registry = Self::default();
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for (s, schema) in schemas.iter().enumerate() {
            for (f, field) in schema.fields.iter().enumerate() {
                if let Some(first) = owners.insert(field.pattern.to_string(), s) {
                    return Err(RegistryError::Claimed {
                        pattern: field.pattern.clone(),
                        first: schemas[first].name.clone(),
                        second: schema.name.clone(),
                    });
                }
                check_variable(field)?;
                match field.pattern.exact() {
                    Some(path) => {
                        registry.exact.insert(path.into(), (s, f));
                    }
                    None => registry.starred.push((s, f)),
                }
            }
        }
        registry.schemas = schemas;
        Ok(registry)
    }

    /// The field that an address belongs to.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<&Field> {
        let at = |(s, f): (usize, usize)| &self.schemas[s].fields[f];
        match self.exact.get(path) {
            Some(found) => Some(at(*found)),
            None => self.starred.iter().map(|found| at(*found)).find(|f| f.pattern.matches(path)),
        }
    }

    /// The values of a variable, of which the first means *unknown*.
    #[must_use]
    pub fn variable(&self, path: &str) -> Option<&Arc<[Arc<str>]>> {
        match &self.field(path)?.kind {
            Kind::Variable(values) => Some(values),
            _ => None,
        }
    }

    /// The values of a variable with which a node is out of use.
    #[must_use]
    pub fn unavailable(&self, path: &str) -> &[Arc<str>] {
        self.field(path).map_or(&[], |field| &field.unavailable)
    }

    /// Every variable with its values, in the order of the addresses.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &Arc<[Arc<str>]>)> {
        self.exact.keys().filter_map(|path| Some((path.as_ref(), self.variable(path)?)))
    }

    /// Every field with the name of its schema, as registered.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.schemas.iter().flat_map(|s| s.fields.iter().map(move |f| (s.name.as_str(), f)))
    }

    /// Checks one value of one side.
    ///
    /// # Errors
    /// With the reason, when no field stands at that address, the field is not of that side, or
    /// the value does not fit.
    pub fn check(&self, side: Side, path: &Path, value: &Value) -> Result<(), Invalid> {
        let invalid = |reason| Invalid { path: path.clone(), reason };
        let Some(field) = self.field(path.as_str()) else {
            return Err(invalid("nothing of this name is known".to_owned()));
        };
        if !field.sides.contains(&side) {
            return Err(invalid(match side {
                Side::Cfg => "is discovered and cannot be configured".to_owned(),
                Side::Dsc => "is configured and cannot be discovered".to_owned(),
            }));
        }
        field.kind.check(value).map_err(invalid)
    }

    /// Everything in a document that does not fit, in the order of the addresses.
    #[must_use]
    pub fn validate(&self, side: Side, document: &Document) -> Vec<Invalid> {
        document.iter().filter_map(|(path, value)| self.check(side, path, value).err()).collect()
    }

    /// A JSON Schema (draft 2020-12) of one side, over the flat form of a document.
    #[must_use]
    pub fn json_schema(&self, side: Side) -> serde_json::Value {
        let mut exact = serde_json::Map::new();
        let mut starred = serde_json::Map::new();
        for (_, field) in self.fields().filter(|(_, f)| f.sides.contains(&side)) {
            let mut schema = field.kind.json_schema();
            schema["description"] = field.about.as_str().into();
            match field.pattern.exact() {
                Some(path) => exact.insert(path.to_owned(), schema),
                None => {
                    let regex = field.pattern.as_str().replace('.', "\\.");
                    starred.insert(format!("^{}$", regex.replace('*', "[A-Za-z0-9_-]+")), schema)
                }
            };
        }
        serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": exact,
            "patternProperties": starred,
            "additionalProperties": false,
        })
    }
}

fn check_variable(field: &Field) -> Result<(), RegistryError> {
    let values = match &field.kind {
        Kind::Variable(values) => &values[..],
        _ => &[],
    };
    let known = values.get(1..).unwrap_or_default();
    if let Some(value) = field.unavailable.iter().find(|value| !known.contains(value)) {
        let (pattern, value) = (field.pattern.clone(), Arc::clone(value));
        return Err(RegistryError::Unavailable { pattern, value });
    }
    if !matches!(field.kind, Kind::Variable(_)) {
        return Ok(());
    }
    let distinct: std::collections::BTreeSet<_> = values.iter().collect();
    if field.pattern.exact().is_none() || values.len() < 2 || distinct.len() != values.len() {
        return Err(RegistryError::Variable(field.pattern.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BOTH: &[Side] = &[Side::Cfg, Side::Dsc];

    fn registry() -> Registry {
        let power = Schema {
            name: "power".into(),
            fields: vec![
                Field::variable("phys_state", &["PHYS_UNKNOWN", "POWER_OFF", "POWER_ON"], "power")
                    .unwrap(),
                Field::new("cpus", Kind::Int { min: 1, max: 4 }, &[Side::Cfg], "count").unwrap(),
                Field::new("net.*.mac", Kind::Text(Format::Mac), BOTH, "MAC").unwrap(),
            ],
        };
        Registry::new(vec![power]).unwrap()
    }

    fn reason(side: Side, path: &str, value: impl Into<Value>) -> String {
        registry().check(side, &Path::known(path), &value.into()).unwrap_err().to_string()
    }

    #[test]
    fn values_that_fit_are_accepted() {
        let registry = registry();
        let check = |path, value: Value| registry.check(Side::Cfg, &Path::known(path), &value);
        assert_eq!(check("phys_state", "POWER_ON".into()), Ok(()));
        assert_eq!(check("cpus", 4.into()), Ok(()));
        assert_eq!(check("net.boot.mac", "52:54:00:00:00:01".into()), Ok(()));
    }

    #[test]
    fn values_that_do_not_fit_are_refused_with_path_and_reason() {
        assert_eq!(
            reason(Side::Cfg, "phys_state", "ON"),
            "phys_state: \"ON\" is not one of PHYS_UNKNOWN, POWER_OFF, POWER_ON"
        );
        assert_eq!(reason(Side::Cfg, "cpus", 5), "cpus: 5 is not between 1 and 4");
        assert!(reason(Side::Cfg, "cpus", "four").contains("text where a number between"));
        assert!(reason(Side::Cfg, "net.boot.mac", "52:54:00:00:00:0G").contains("a MAC address"));
        assert!(reason(Side::Cfg, "nett.boot.mac", "x").contains("nothing of this name"));
        assert!(reason(Side::Dsc, "cpus", 1).contains("cannot be discovered"));
    }

    #[test]
    fn formats_tell_good_from_bad() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (format, good) in [
            (Format::Ipv4Cidr, "10.0.0.1/24"),
            (Format::Ipv4, "10.0.0.1"),
            (Format::Sha256, digest.as_str()),
            (Format::Choice(&["a", "b"]), "b"),
        ] {
            assert_eq!(format.check(good), Ok(()), "{good}");
            for bad in ["", "10.0.0.256", "10.0.0.1/33", "10.0.0.1/+3", "sha256:0A", "c", "\n"] {
                assert!(format.check(bad).is_err(), "{format:?} {bad:?}");
            }
        }
    }

    #[test]
    fn two_schemas_cannot_claim_one_address() {
        let schema = |name: &str| Schema {
            name: name.into(),
            fields: vec![Field::new("a.*", Kind::Bool, BOTH, "").unwrap()],
        };
        let error = Registry::new(vec![schema("one"), schema("two")]).unwrap_err();
        assert_eq!(error.to_string(), "a.* is claimed by both one and two");
    }

    #[test]
    fn a_variable_needs_two_values_and_one_address() {
        for (path, values) in [("v", &["A"][..]), ("v", &["A", "A"]), ("v.*", &["A", "B"])] {
            let field = Field::variable(path, values, "").unwrap();
            let schema = Schema { name: "s".into(), fields: vec![field] };
            assert!(Registry::new(vec![schema]).is_err());
        }
    }

    #[test]
    fn the_json_schema_lists_what_may_be_configured() {
        let schema = registry().json_schema(Side::Dsc);
        assert!(schema["properties"]["phys_state"]["enum"].is_array());
        assert!(schema["properties"]["cpus"].is_null(), "cpus is not discovered");
        assert!(schema["patternProperties"]["^net\\.[A-Za-z0-9_-]+\\.mac$"].is_object());
    }
}
