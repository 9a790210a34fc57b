//! The mutations of a file, and how they are carried out.

use crate::command::Program;
use crate::guard;
use kraken_model::{Path as Address, Registry, nearest, parse_duration, suggest};
use kraken_plan::{Context, Effect, Fallback, Mutation, Retry};
use kraken_yaml::{Data, Node, Pos, Report};
use std::path::Path;
use std::time::Duration;

/// The shortest and the longest time that can be set.
const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(24 * 60 * 60));

/// A mutation, and the command that carries it out; none: it only looks.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) mutation: Mutation,
    pub(crate) program: Option<Program>,
    /// Whether it only looks, and no file declares it.
    #[cfg_attr(not(feature = "grpc"), allow(dead_code))]
    pub(crate) is_look: bool,
}

/// Where a step is read.
pub(crate) struct Place<'a> {
    pub(crate) module: &'a str,
    pub(crate) dir: &'a Path,
    pub(crate) registry: &'a Registry,
    /// The variables of this file: a value has one writer.
    pub(crate) own: &'a [&'a str],
    /// Whether every step needs a command of its own.
    pub(crate) needs_command: bool,
}

const KEYS: &[&str] = &[
    "about",
    "moves",
    "requires",
    "excludes",
    "context",
    "timeout",
    "on_timeout",
    "cost",
    "disruptive",
    "retry",
    "command",
    "shell",
];

impl Step {
    /// Reads one mutation; nothing when it moves nothing that can be moved.
    pub(crate) fn read(
        name: &str,
        at: Pos,
        body: &Node,
        place: &Place<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let path = format!("mutations.{name}");
        report.known(body, &path, KEYS);
        if Address::new(name).is_err() || name.contains('.') {
            let why = "a name has letters, digits, hyphens and underscores";
            report.add(at, &path, format!("{name:?} is no name of a mutation"), why, "");
        }
        let mut mutation = Mutation::new(place.module, name, Context::Child);
        mutation.effects = moves(body, &path, at, place, report);
        mutation.requires = guard::list(body, &path, "requires", place.registry, report);
        mutation.excludes = guard::list(body, &path, "excludes", place.registry, report);
        mutation.timeout = duration(body, &path, "timeout", report).unwrap_or(mutation.timeout);
        mutation.cost = duration(body, &path, "cost", report).unwrap_or(mutation.cost);
        mutation.on_timeout = fallback(body, &path, place, report);
        mutation.retry = retry(body, &path, report);
        mutation.disruptive =
            report.value(body, &path, "disruptive", "true or false").unwrap_or(false);
        let comes_by_itself = body.get("context").and_then(Node::text) == Some("itself");
        let program = match comes_by_itself {
            true => {
                mutation.context = Context::Itself;
                nothing_to_do(body, &path, report);
                None
            }
            false => Self::program(body, &path, at, place, report),
        };
        (!mutation.effects.is_empty()).then_some(Self { mutation, program, is_look: false })
    }

    /// What carries a step out.
    fn program(
        body: &Node,
        path: &str,
        at: Pos,
        place: &Place<'_>,
        report: &mut Report,
    ) -> Option<Program> {
        if let Some(context) = body.get("context").filter(|node| node.text() != Some("child")) {
            let what = format!("{path}.context cannot be this");
            let why = "the commands of a file run on the parent, for its children";
            let near = nearest(context.text().unwrap_or_default(), ["child", "itself"]);
            let hint = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => "leave it out, or write child or itself".to_owned(),
            };
            report.add(context.at, path, what, why, hint);
        }
        let program = Program::read(body, path, place.dir, report);
        if let Some(_program) = program.as_ref().filter(|_| !place.needs_command) {
            let what = format!("{path} has a command");
            let why = "the module is a process of its own, which takes its steps";
            report.add(at, path, what, why, "leave it out, or leave out serve");
        }
        if program.is_none()
            && place.needs_command
            && body.get("command").is_none()
            && body.get("shell").is_none()
        {
            let why = "something has to be run for it";
            report.add(
                at,
                path,
                format!("{path}.command is missing"),
                why,
                "add command: [program]",
            );
        }
        program
    }
}

/// What comes by itself is not carried out, tried again, or given up.
fn nothing_to_do(body: &Node, path: &str, report: &mut Report) {
    for key in ["command", "shell", "timeout", "on_timeout", "retry", "disruptive"] {
        if let Some(node) = body.get(key) {
            let what = format!("{path}.{key} cannot be said of what comes by itself");
            let why = "nobody carries it out, so nobody can fail or be held back";
            report.add(node.at, path, what, why, format!("leave out {key}, or context"));
        }
    }
}

fn moves(body: &Node, path: &str, at: Pos, place: &Place<'_>, report: &mut Report) -> Vec<Effect> {
    let mut effects = Vec::new();
    let moves = body.get("moves");
    let entries =
        moves.map(|moves| report.map(moves, &format!("{path}.moves"))).unwrap_or_default();
    // One of another shape is told of already.
    if moves
        .is_none_or(|moves| moves.is_null() || matches!(&moves.data, Data::Map(m) if m.is_empty()))
    {
        let hint = "add moves: {variable: [FROM, TO]}";
        report.add(at, path, format!("{path}.moves is missing"), "a step moves a variable", hint);
    }
    for (variable, at, body) in entries {
        let path = format!("{path}.moves.{variable}");
        let values =
            place.registry.variable(variable).filter(|_| place.own.contains(&variable.as_str()));
        let Some(values) = values else {
            let why = "a value has one writer, so a file moves its own variables only";
            let hint = suggest(variable, place.own.iter().copied());
            report.add(*at, &path, format!("{variable} is no variable of this file"), why, hint);
            continue;
        };
        let words = crate::fields::words(body).filter(|words| is_step(words));
        let Some(words) = words else {
            let why = "a step leads from one value to another, or finds one of several";
            report.add(body.at, &path, format!("{path} is no step"), why, "write [FROM, TO]");
            continue;
        };
        let is_strange = |word: &&String| values.iter().all(|v| v.as_ref() != word.as_str());
        let strange: Vec<&String> = words.iter().filter(is_strange).collect();
        if let [first, others @ ..] = &strange[..] {
            let why = format!("{variable} has {}", values.join(", "));
            let what = match others {
                [] => format!("{first} is no value of {variable}"),
                _ => format!("{variable} has none of the values {}", joined(&strange)),
            };
            let meant =
                strange.iter().filter_map(|word| nearest(word, values.iter().map(|v| &**v)));
            let hint = meant.map(|near| format!("did you mean {near:?}?")).collect::<Vec<_>>();
            report.add(body.at, &path, what, why, hint.join(" "));
            continue;
        }
        if let Ok(variable) = Address::new(variable) {
            let mut words = words.iter().map(|word| word.as_str().into());
            if let (Some(from), Some(to)) = (words.next(), words.next()) {
                effects.push(Effect { variable, from, to, or: words.collect() });
            }
        }
    }
    effects
}

fn joined(words: &[&String]) -> String {
    words.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether these are a value, another one that is expected after it, and others that may be found.
fn is_step(words: &[String]) -> bool {
    let mut distinct = words.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    words.len() >= 2 && distinct.len() == words.len()
}

fn fallback(body: &Node, path: &str, place: &Place<'_>, report: &mut Report) -> Option<Fallback> {
    let node = body.get("on_timeout")?;
    let path = format!("{path}.on_timeout");
    let [(variable, _, value)] = node.entries() else {
        let why = "the state falls to one value of one variable";
        report.add(node.at, &path, format!("{path} is no value"), why, "write {variable: VALUE}");
        return None;
    };
    let text = value.text().unwrap_or_default();
    let values =
        place.registry.variable(variable).filter(|_| place.own.contains(&variable.as_str()));
    match values.filter(|values| values.iter().any(|v| v.as_ref() == text)) {
        Some(_) => {
            let variable = Address::new(variable).ok()?;
            Some(Fallback { variable, value: text.into() })
        }
        None => {
            let what = format!("{variable} = {text} is no value of this file");
            let hint = match values {
                Some(values) => suggest(text, values.iter().map(|value| &**value)),
                None => suggest(variable, place.own.iter().copied()),
            };
            report.add(node.at, &path, what, "a value has one writer", hint);
            None
        }
    }
}

fn retry(body: &Node, path: &str, report: &mut Report) -> Retry {
    let mut retry = Retry::DEFAULT;
    let Some(node) = body.get("retry") else { return retry };
    let path = format!("{path}.retry");
    report.known(node, &path, &["pause", "longest", "attempts"]);
    retry.base = duration(node, &path, "pause", report).unwrap_or(retry.base);
    retry.cap = duration(node, &path, "longest", report).unwrap_or(retry.cap).max(retry.base);
    match node.get("attempts").map(Node::text) {
        Some(Some("forever")) => retry.limit = None,
        Some(_) => {
            let what = "a number, or forever";
            retry.limit = report.value(node, &path, "attempts", what).or(retry.limit);
        }
        None => {}
    }
    retry
}

/// A duration of a section; says what is wrong with one that does not fit.
pub(crate) fn duration(
    section: &Node,
    path: &str,
    key: &str,
    report: &mut Report,
) -> Option<Duration> {
    let node = section.get(key)?;
    let path = format!("{path}.{key}");
    let refused = match &node.data {
        Data::Scalar(text, _) => match parse_duration(text) {
            Ok(time) if (TIMES.0..=TIMES.1).contains(&time) => return Some(time),
            Ok(_) => "it is not between 100ms and 24h".to_owned(),
            Err(error) => error.to_string(),
        },
        _ => "a time is written as text".to_owned(),
    };
    report.add(node.at, &path, format!("{path} cannot be this"), refused, "write 30s, 5m or 1h");
    None
}
