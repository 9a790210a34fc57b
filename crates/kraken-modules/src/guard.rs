//! Guards as text: `run_state = SYNC`, `cfg labels.scheduler = slurm`, `cfg images.web.digest is set`.
//!
//! It is the form in which guards are shown, so what is read in an explanation can be written in a
//! file.

use kraken_model::{Kind, Path, Registry, Side, Value, nearest};
use kraken_plan::{Guard, Test};
use kraken_yaml::{Data, Node, Report};

/// What a guard may look like.
const FORMS: &str = "write ADDRESS = VALUE, != VALUE, >= NUMBER, <= NUMBER, is one of VALUE, VALUE, \
                     or is set; with cfg before it, what is configured";

/// Reads a list of guards under `key`; what is wrong goes to the report.
pub(crate) fn list(
    section: &Node,
    path: &str,
    key: &str,
    registry: &Registry,
    report: &mut Report,
) -> Vec<Guard> {
    let path = format!("{path}.{key}");
    let Some(node) = section.get(key) else { return Vec::new() };
    let nodes = match &node.data {
        Data::List(list) => list.as_slice(),
        Data::Scalar(..) => std::slice::from_ref(node),
        Data::Map(_) => {
            report.add(node.at, &path, format!("{path} is a map"), "guards are a list", FORMS);
            return Vec::new();
        }
    };
    let mut guards = Vec::new();
    for node in nodes {
        match parse(node.text().unwrap_or_default(), registry) {
            Ok(guard) => guards.push(guard),
            Err((why, hint)) => {
                let shown = node.text().unwrap_or("this");
                report.add(node.at, &path, format!("{shown:?} is no guard"), why, hint);
            }
        }
    }
    guards
}

/// A guard from text; the error is why it is none, and what to do.
fn parse(text: &str, registry: &Registry) -> Result<Guard, (String, String)> {
    let form = |why: String| (why, FORMS.to_owned());
    let text = text.trim();
    let (side, rest) = match text.split_once(char::is_whitespace) {
        Some(("cfg", rest)) => (Side::Cfg, rest.trim_start()),
        Some(("dsc", rest)) => (Side::Dsc, rest.trim_start()),
        _ => (Side::Dsc, text),
    };
    let end = rest.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).unwrap_or(rest.len());
    let (address, asked) = rest.split_at(end);
    let path = Path::new(address).map_err(|error| form(error.to_string()))?;
    let Some(field) = registry.field(address) else {
        return Err((format!("nothing is called {address}"), near(address, registry)));
    };
    if !field.sides.contains(&side) {
        let side = if side == Side::Cfg { "configured" } else { "discovered" };
        return Err(form(format!("{address} is never {side}")));
    }
    let value = |text: &str| {
        let value = value_of(text.trim(), &field.kind).map_err(form)?;
        registry.check(side, &path, &value).map_err(|invalid| form(invalid.reason))?;
        Ok::<_, (String, String)>(value)
    };
    let number = |text: &str| {
        value(text)?.as_int().ok_or_else(|| form(format!("{address} is no number to compare")))
    };
    let asked = asked.trim();
    let test = if asked == "is set" {
        Test::Present
    } else if let Some(text) = asked.strip_prefix("!=") {
        Test::IsNot(value(text)?)
    } else if let Some(text) = asked.strip_prefix(">=") {
        Test::AtLeast(number(text)?)
    } else if let Some(text) = asked.strip_prefix("<=") {
        Test::AtMost(number(text)?)
    } else if let Some(texts) = asked.strip_prefix("is one of ") {
        Test::OneOf(texts.split(',').map(value).collect::<Result<_, _>>()?)
    } else if let Some(text) = asked.strip_prefix('=') {
        Test::Is(value(text)?)
    } else {
        return Err(form(format!("it is not said what is asked of {address}")));
    };
    Ok(Guard { side, path, test })
}

/// A value as a person writes it, in the kind that belongs there.
pub(crate) fn value_of(text: &str, kind: &Kind) -> Result<Value, String> {
    match kind {
        Kind::Int { .. } => {
            text.parse().map(Value::Int).map_err(|_| format!("{text:?} is not a number"))
        }
        Kind::Bool => {
            text.parse().map(Value::Bool).map_err(|_| format!("{text:?} is neither true nor false"))
        }
        Kind::List(kind) => {
            let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
            let members: Result<Vec<Value>, String> = members.map(|m| value_of(m, kind)).collect();
            Ok(members?.into())
        }
        Kind::Variable(_) | Kind::Text(_) => Ok(text.into()),
    }
}

/// The address that was probably meant, or where addresses come from.
fn near(address: &str, registry: &Registry) -> String {
    let patterns = registry.fields().map(|(_, field)| field.pattern.as_str());
    match nearest(address, patterns) {
        Some(near) => format!("did you mean {near:?}?"),
        None => {
            "variables and facts are declared in this file, in another one, or by the application"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::{Field, Format, Schema};

    fn registry() -> Registry {
        let both = &[Side::Cfg, Side::Dsc];
        let fields = vec![
            Field::variable("run_state", &["UNKNOWN", "SYNC"], "").unwrap(),
            Field::new("labels.*", Kind::Text(Format::Any), &[Side::Cfg], "").unwrap(),
            Field::new("jobs", Kind::Int { min: 0, max: 9 }, both, "").unwrap(),
            Field::new("lit", Kind::Bool, both, "").unwrap(),
        ];
        Registry::new(vec![Schema { name: "t".into(), fields }]).unwrap()
    }

    #[test]
    fn a_guard_is_read_as_it_is_shown() {
        for text in [
            "run_state = SYNC",
            "run_state != SYNC",
            "run_state is one of UNKNOWN, SYNC",
            "cfg labels.rack = r 1",
            "jobs = 0",
            "jobs >= 3",
            "cfg jobs <= 3",
            "cfg lit is set",
        ] {
            assert_eq!(parse(text, &registry()).unwrap().to_string(), text);
        }
        let spaced = parse("  cfg   jobs=3 ", &registry()).unwrap();
        assert_eq!(spaced, Guard::wanted("jobs", 3));
    }

    #[test]
    fn what_is_no_guard_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "is not an address"),
            ("run_state", "what is asked"),
            ("run_state is", "what is asked"),
            ("run_state = SINK", "not one of UNKNOWN, SYNC"),
            ("run_statt = SYNC", "nothing is called run_statt"),
            ("labels.rack = r1", "never discovered"),
            ("jobs = many", "not a number"),
            ("jobs >= many", "not a number"),
            ("jobs >= 10", "9"),
            ("cfg labels.rack >= 3", "no number to compare"),
            ("run_state is one of SYNC, SINK", "not one of UNKNOWN, SYNC"),
            ("jobs = 10", "not between 0 and 9"),
        ] {
            let (said, _) = parse(text, &registry()).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }
    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c=!<> ,.\u{e4}-]{0,20}") {
            let _ = parse(&text, &registry());
            for address in ["jobs", "run_state", "cfg lit"] {
                let _ = parse(&format!("{address}{text}"), &registry());
            }
        }
    }
}
