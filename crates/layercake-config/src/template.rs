//! Text that differs from node to node, and text that stands for many.

use minijinja::{Environment, UndefinedBehavior, Value};
use std::sync::LazyLock;

/// The longest list a pattern may stand for.
const MAX: u64 = 1_000_000;

/// How much work one template may be.
const FUEL: u64 = 10_000;

/// What every template may use. Making it costs more than most templates do, and a fleet has several
/// templates a node.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("hex", |number: u64, width: usize| {
        format!("{number:0width$x}", width = width.min(16))
    });
    environment
});

pub(crate) struct Variables<'a> {
    pub(crate) node: &'a str,
    pub(crate) index: usize,
    pub(crate) number: u64,
    pub(crate) groups: Vec<&'a str>,
}

impl Variables<'_> {
    fn values(&self) -> Value {
        let groups: Vec<Value> = self.groups.iter().map(|g| Value::from(*g)).collect();
        Value::from_pairs([
            ("node", Value::from(self.node)),
            ("index", Value::from(self.index)),
            ("number", Value::from(self.number)),
            ("groups", Value::from(groups)),
        ])
    }
}

pub(crate) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// The text with everything in it that the node says; the error is for a person.
pub(crate) fn render(text: &str, variables: &Variables<'_>) -> Result<String, String> {
    ENVIRONMENT.render_str(text, variables.values()).map_err(|error| {
        let named = error.range().and_then(|range| text.get(range));
        match named {
            Some(what) => format!("{error}: {what:?}, for node {}", variables.node),
            None => format!("{error}, for node {}", variables.node),
        }
    })
}

/// What a text with one range in it stands for: `10.0.0.[1-9,20]`. Hexadecimal numbers keep their
/// length.
pub(crate) fn spread(text: &str, radix: u32) -> Result<Vec<String>, String> {
    let Some((before, rest)) = text.split_once('[') else { return Ok(vec![text.to_owned()]) };
    let (inside, after) = rest.split_once(']').ok_or("the '[' is never closed")?;
    if after.contains('[') {
        return Err("only one range can stand here".to_owned());
    }
    let number = |text: &str| {
        let fits = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
        let number = u64::from_str_radix(text, radix).ok().filter(|_| fits);
        number.ok_or_else(|| format!("{text:?} is not a number"))
    };
    let mut all = Vec::new();
    for part in inside.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(from)?, number(to)?);
        if last < first {
            return Err(format!("{part} runs backwards"));
        }
        if last - first >= MAX - all.len() as u64 {
            return Err(format!("it stands for more than {MAX} values"));
        }
        all.extend((first..=last).map(|n| match radix {
            16 => format!("{before}{n:0width$x}{after}", width = from.len()),
            _ => format!("{before}{n}{after}"),
        }));
    }
    Ok(all)
}
