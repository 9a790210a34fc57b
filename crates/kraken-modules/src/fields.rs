//! The variables and facts that a file declares.

use kraken_model::{Field, Format, Kind, Pattern, Side, nearest, suggest};
use kraken_yaml::{Data, Node, Pos, Report};

/// What a fact may be.
const TYPES: &[&str] = &["text", "number", "bool", "list", "choice", "ipv4", "mac"];

/// Where a fact may stand.
const SIDES: &[(&str, &[Side])] =
    &[("dsc", &[Side::Dsc]), ("cfg", &[Side::Cfg]), ("both", &[Side::Cfg, Side::Dsc])];

/// The variables of a file, with their places.
pub(crate) fn variables(root: &Node, report: &mut Report) -> Vec<(Field, Pos)> {
    let mut fields = Vec::new();
    for (name, at, body) in section(root, "variables", report) {
        let path = format!("variables.{name}");
        report.known(body, &path, &["values", "unavailable", "about"]);
        let values = body.get("values").and_then(words);
        let mut distinct = values.clone().unwrap_or_default();
        distinct.sort_unstable();
        distinct.dedup();
        let all = values.as_ref().map_or(0, Vec::len);
        if all < 2 || distinct.len() != all {
            let why = "a variable has two values at least, each once; the first means unknown";
            let hint = "write values: [UNKNOWN, ONE, OTHER]";
            report.add(*at, &path, format!("{path} has no values"), why, hint);
            continue;
        }
        let values: Vec<&str> = values.iter().flatten().map(String::as_str).collect();
        let unavailable = unavailable(body, &path, &values, report);
        match Field::variable(name, &values, about(body, &path, report)) {
            Ok(field) => {
                let unavailable: Vec<&str> = unavailable.iter().map(String::as_str).collect();
                fields.push((field.unavailable_with(&unavailable), *at));
            }
            Err(error) => {
                report.add(*at, &path, "this is no address", error.to_string(), "");
            }
        }
    }
    fields
}

/// The values of a variable with which a node is out of use.
fn unavailable(body: &Node, path: &str, values: &[&str], report: &mut Report) -> Vec<String> {
    let Some(node) = body.get("unavailable") else { return Vec::new() };
    let named = words(node).unwrap_or_default();
    let is_value = |word: &String| values.iter().skip(1).any(|value| value == word);
    if named.is_empty() || !named.iter().all(is_value) {
        let what = format!("{path}.unavailable names what is no value");
        let why = "with these values a node is out of use; that nothing is known is none of them";
        let known = values.get(1..).unwrap_or_default();
        let strange = named.iter().find(|word| !is_value(word));
        let near = strange.and_then(|word| nearest(word, known.iter().copied()));
        let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        let hint = format!("write some of [{}]{near}", known.join(", "));
        report.add(node.at, path, what, why, hint);
        return Vec::new();
    }
    named
}

/// The facts of a file, with their places.
pub(crate) fn facts(root: &Node, report: &mut Report) -> Vec<(Field, Pos)> {
    let mut fields = Vec::new();
    for (name, at, body) in section(root, "facts", report) {
        let path = format!("facts.{name}");
        report.known(body, &path, &["type", "side", "min", "max", "values", "about"]);
        let kind = kind(body, &path, report);
        let side = body.get("side").map_or(Some("dsc"), Node::text);
        let sides = SIDES.iter().find(|(name, _)| Some(*name) == side);
        if sides.is_none() {
            let place = body.get("side").map_or(*at, |node| node.at);
            let why = "a fact is discovered, configured, or both";
            let near = nearest(side.unwrap_or_default(), SIDES.iter().map(|(name, _)| *name));
            let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            let hint = format!("write dsc, cfg or both{near}");
            report.add(place, &path, format!("{path}.side is no side"), why, hint);
        }
        let (Some(kind), Some((_, sides))) = (kind, sides) else { continue };
        match Pattern::new(name) {
            Ok(pattern) => {
                let (about, unavailable) = (about(body, &path, report).to_owned(), Vec::new());
                fields.push((Field { pattern, kind, sides, about, unavailable }, *at));
            }
            Err(error) => report.add(*at, &path, "this is no address", error.to_string(), ""),
        }
    }
    fields
}

fn kind(body: &Node, path: &str, report: &mut Report) -> Option<Kind> {
    let text = body.get("type").map_or(Some("text"), Node::text).unwrap_or_default();
    Some(match text {
        "text" => Kind::Text(Format::Any),
        "ipv4" => Kind::Text(Format::Ipv4),
        "mac" => Kind::Text(Format::Mac),
        "bool" => Kind::Bool,
        "list" => Kind::List(Box::new(Kind::Text(Format::Any))),
        "number" => Kind::Int {
            min: report.value(body, path, "min", "a whole number").unwrap_or(i64::MIN),
            max: report.value(body, path, "max", "a whole number").unwrap_or(i64::MAX),
        },
        "choice" => {
            let Some(words) = body.get("values").and_then(words).filter(|w| !w.is_empty()) else {
                let what = format!("{path}.values is missing");
                report.add(body.at, path, what, "it is chosen from them", "add values: [a, b]");
                return None;
            };
            // Schemas live as long as the program, and are read once.
            let words: Vec<&'static str> =
                words.into_iter().map(|word| &*Box::leak(word.into_boxed_str())).collect();
            Kind::Text(Format::Choice(Box::leak(words.into_boxed_slice())))
        }
        _ => {
            let at = body.get("type").map_or(body.at, |node| node.at);
            let what = format!("{path}.type is no type");
            report.add(at, path, what, "a fact has one", suggest(text, TYPES.iter().copied()));
            return None;
        }
    })
}

/// The entries of a section of the file, which may be left out.
pub(crate) fn section<'a>(
    root: &'a Node,
    key: &str,
    report: &mut Report,
) -> &'a [(String, Pos, Node)] {
    root.get(key).map(|node| report.map(node, key)).unwrap_or_default()
}

fn about<'a>(body: &'a Node, path: &str, report: &mut Report) -> &'a str {
    let about = body.get("about").filter(|about| !about.is_null());
    let path = format!("{path}.about");
    about.and_then(|about| report.text(about, &path, "a sentence")).unwrap_or_default()
}

/// A list of words; nothing when it is none.
pub(crate) fn words(node: &Node) -> Option<Vec<String>> {
    let Data::List(list) = &node.data else { return None };
    let words = list.iter().map(|word| word.text().filter(|_| !word.is_null()).map(str::to_owned));
    words.collect()
}
