//! Nodes by a value: `run_state=ERROR`, `location.rack=r2`, `cfg:images.web.reference=web:2`.
//!
//! A value is what was discovered, wherever the address is one that is discovered; what is wanted is
//! asked for with `cfg:`. What only people can say of a node (`location.*`, `labels.*`, the settings
//! of its power) is what they said. What is said of an image counts where that image runs.

use super::Member;
use kraken_model::{Document, Field, Format, Kind, NodeSet, Path, Registry, Side, nearest};
use layercake_schema::{describes_machine, is_last_known};
use std::collections::BTreeSet;

/// The digest of an image of the store, by its reference.
pub(super) type Digests<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// One condition on nodes.
pub(super) struct Predicate<'a> {
    pub(super) registry: &'a Registry,
    /// The document that is asked; the one that tells what is, when none is named.
    pub(super) side: Option<Side>,
    pub(super) path: &'a str,
    pub(super) value: &'a str,
}

impl Predicate<'_> {
    /// The nodes of which it is true.
    ///
    /// # Errors
    /// When the address or the value does not exist, so that it can be true of none; the reason ends
    /// with the nearest one.
    pub(super) fn nodes(
        &self,
        members: &[Member],
        digests: &Digests<'_>,
    ) -> Result<NodeSet, String> {
        let field = self.field(members)?;
        let reference = self.image_reference();
        let mut wanted = BTreeSet::new();
        if let Some(name) = reference {
            wanted.extend(digests(self.value));
            let digest = format!("images.{name}.digest");
            let of = |(_, cfg, _): &Member| {
                let is_meant = cfg.text(self.path) == Some(self.value);
                is_meant.then(|| cfg.text(&digest).map(str::to_owned)).flatten()
            };
            wanted.extend(members.iter().filter_map(of));
        }
        let holds = |(_, cfg, dsc): &&Member| match reference {
            Some(name) => {
                let runs = now(dsc, &format!("images.{name}.digest"));
                runs.is_some_and(|runs| wanted.contains(&runs))
            }
            None => self.held(field, cfg, dsc).as_deref() == Some(self.value),
        };
        let found: NodeSet = members.iter().filter(holds).map(|(node, ..)| node.clone()).collect();
        if found.is_empty() && wanted.is_empty() {
            self.value_exists(field, members)?;
        }
        Ok(found)
    }

    /// The name of the image, when it is asked under which reference it runs.
    fn image_reference(&self) -> Option<&str> {
        let name = self.path.strip_prefix("images.")?.strip_suffix(".reference")?;
        (self.side.is_none() && !name.contains('.')).then_some(name)
    }

    /// The value of a node at the address, in words.
    fn held(&self, field: &Field, cfg: &Document, dsc: &Document) -> Option<String> {
        let is_discovered = field.sides.contains(&Side::Dsc);
        let configured = || cfg.get(self.path).map(ToString::to_string);
        match self.side {
            Some(Side::Cfg) => configured(),
            Some(Side::Dsc) => now(dsc, self.path),
            None if is_discovered && describes_machine(self.path) => {
                now(dsc, self.path).or_else(configured)
            }
            None if is_discovered => now(dsc, self.path),
            None => configured().filter(|_| self.runs_as_configured(cfg, dsc)),
        }
    }

    /// Whether the image of which the address tells, if any, is the one that runs.
    fn runs_as_configured(&self, cfg: &Document, dsc: &Document) -> bool {
        let mut segments = self.path.split('.');
        let (Some("images"), Some(name)) = (segments.next(), segments.next()) else { return true };
        let digest = format!("images.{name}.digest");
        let runs = now(dsc, &digest);
        runs.is_some() && runs.as_deref() == cfg.text(&digest)
    }

    /// The field that the address belongs to. For a field of many addresses, such as `labels.*`, some
    /// node must have one under this name.
    fn field(&self, members: &[Member]) -> Result<&Field, String> {
        let shown = self.path;
        let Some(field) = self.registry.field(shown) else {
            return Err(format!("unknown field {shown:?}{}", self.nearest_address(members)));
        };
        match self.side {
            Some(Side::Cfg) if !field.sides.contains(&Side::Cfg) => {
                return Err(format!("{shown} is never configured: leave cfg: out"));
            }
            Some(Side::Dsc) if !field.sides.contains(&Side::Dsc) => {
                return Err(format!("{shown} is never discovered: leave dsc: out"));
            }
            _ => {}
        }
        let prefix = named_by_people(field, shown);
        let has = |doc: &Document| doc.under(prefix).next().is_some();
        if prefix.is_empty() || members.iter().any(|(_, cfg, dsc)| has(cfg) || has(dsc)) {
            return Ok(field);
        }
        Err(format!("no node has {prefix}{}", self.nearest_address(members)))
    }

    /// The end of a reason: the address that was probably meant.
    fn nearest_address(&self, members: &[Member]) -> String {
        let exact = self.registry.fields().filter_map(|(_, field)| field.pattern.exact());
        let documents = members.iter().flat_map(|(_, cfg, dsc)| cfg.iter().chain(dsc.iter()));
        let mut known: BTreeSet<&str> = documents.map(|(path, _)| path.as_str()).collect();
        known.extend(exact);
        match nearest(self.path, known) {
            Some(near) => format!(", did you mean {near}?"),
            None => {
                let variables: Vec<&str> =
                    self.registry.variables().map(|(path, _)| path).collect();
                let variables = variables.join(", ");
                format!("; there is {variables}, and what `layercake describe` shows")
            }
        }
    }

    /// Checks that some node has, could have, or had the value.
    fn value_exists(&self, field: &Field, members: &[Member]) -> Result<(), String> {
        let (path, value) = (self.path, self.value);
        let known: BTreeSet<String> = match &field.kind {
            Kind::Variable(values) => values.iter().map(ToString::to_string).collect(),
            Kind::Text(Format::Choice(words)) => words.iter().map(ToString::to_string).collect(),
            Kind::Bool => ["true", "false"].map(str::to_owned).into(),
            Kind::Int { min, max } => {
                return match value.parse::<i64>() {
                    Ok(number) if (min..=max).contains(&&number) => Ok(()),
                    _ => Err(format!("{path} is never {value:?}: it is {}", field.kind)),
                };
            }
            Kind::Text(_) | Kind::List(_) => {
                let documents = members.iter().flat_map(|(_, cfg, dsc)| [cfg, dsc]);
                documents.filter_map(|doc| doc.get(path)).map(ToString::to_string).collect()
            }
        };
        if known.contains(value) {
            return Ok(());
        }
        let near = nearest(value, known.iter().map(String::as_str));
        let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        Err(match &field.kind {
            Kind::Text(Format::Choice(_)) | Kind::Variable(_) | Kind::Bool => {
                format!("{path} is never {value:?}{near}: it is {}", field.kind)
            }
            _ => format!("no node has {path} = {value}{near}"),
        })
    }
}

/// What a node is known to have at an address now, in words.
fn now(dsc: &Document, path: &str) -> Option<String> {
    let held = dsc.get(path)?;
    let is_now = Path::new(path).is_ok_and(|path| !is_last_known(dsc, &path));
    is_now.then(|| held.to_string())
}

/// The part of an address up to the last name that people chose: `images.web` of `images.web.state`,
/// nothing of an address that the schema spells.
fn named_by_people<'a>(field: &Field, path: &'a str) -> &'a str {
    let stars = field.pattern.as_str().split('.').enumerate().filter(|(_, part)| *part == "*");
    let Some((last, _)) = stars.last() else { return "" };
    let end = path.match_indices('.').map(|(at, _)| at).nth(last).unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests;
