//! What people tell nodes to do, besides the cluster file.

use super::who::Who;
use super::{Problem, blocked, select, times};
use crate::server::App;
use axum::Json;
use axum::extract::State;
use kraken::{CfgChange, Command, Kraken, MarkKind, Marks, Terms};
use kraken_model::{Document, Edit, Millis, NodeId, NodeSet, Patch, Path};
use layercake_schema::{SERVICES, busy, image_state, module, phys_state, run_state, service_state};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How long a reason may be, in characters.
const MAX_WHY: usize = 500;

/// What came of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commanded {
    /// Which nodes it was for.
    pub nodes: Vec<NodeId>,
    /// What happens now, for a person.
    pub text: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    On,
    Off,
    Cycle,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Power {
    action: Action,
    nodes: String,
    /// Of a cycle: without stopping first what runs.
    #[serde(default)]
    hard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Hold,
    Release,
    Retry,
    Busy,
    Free,
    Freeze,
    Thaw,
    #[serde(rename = "take-over")]
    TakeOver,
    Restart,
    #[serde(rename = "cancel-restart")]
    CancelRestart,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commanding {
    command: Verb,
    /// Which nodes; freeze and thaw mean everything without.
    nodes: Option<String>,
    /// Why, for a person.
    why: Option<String>,
    /// Until when, as a person writes it.
    until: Option<String>,
    /// Of a restart: without stopping first what runs.
    #[serde(default)]
    hard: bool,
}

fn done(nodes: &NodeSet, text: &str) -> Json<Commanded> {
    let text = format!("{nodes}: {text}");
    Json(Commanded { nodes: nodes.iter().cloned().collect(), text })
}

/// Power is a matter of cfg like everything else: a node that is to be off is given that as its
/// goal, and gets there by the way that the modules know, which spares a node in use.
pub(super) async fn power(
    State(app): State<Arc<App>>,
    Who(by): Who,
    Json(power): Json<Power>,
) -> Result<Json<Commanded>, Problem> {
    if power.hard && !matches!(power.action, Action::Cycle) {
        let detail = "only a cycle can be hard: leave hard out";
        return Err(Problem::bad_request("not a way of switching", detail));
    }
    // What the cluster file says of the nodes stays as it is while they are switched.
    let _turn = app.applying().await;
    let nodes = select::some(&app, &power.nodes)?;
    match power.action {
        Action::Cycle => {
            let terms = Terms { hard: power.hard, ..Terms::default() };
            give(&app, Verb::Restart, &nodes, terms, &by).await
        }
        Action::On | Action::Off => {
            let patch = |node: &NodeId| {
                let wanted = match power.action {
                    Action::On if app.is_unattended(node) => Wanted::OnUnattended,
                    Action::On => Wanted::On,
                    _ => Wanted::Off,
                };
                (node.clone(), want_power(wanted))
            };
            let change = CfgChange::of(nodes.iter().map(patch).collect());
            let kraken = app.kraken()?;
            kraken.change(change, &by).await?;
            let (verb, off) = match power.action {
                Action::On => ("on", false),
                _ => ("off", true),
            };
            let blocked = blocked::by_marks(kraken.views(), &nodes, off);
            let until = "temporary: until the cluster file is applied again";
            Ok(done(&nodes, &format!("powering {verb} ({until}){blocked}")))
        }
    }
}

/// How a machine is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Off,
    On,
    /// On, and nobody looks after its images.
    OnUnattended,
}

/// Makes a machine's power a goal, and with it what can be wanted only of one that has power. Of the rest of its cfg
/// nothing is touched, whatever it is by then.
fn want_power(wanted: Wanted) -> Patch {
    let set = |path, value| Edit::set(Path::known(path), value);
    let images = || Path::known("images");
    let image_state = |value| set(image_state::PATH, value);
    let mut edits = match wanted {
        Wanted::Off => {
            let services = SERVICES.iter().map(|name| service_state::path(name));
            let goals = [run_state::PATH, image_state::PATH].map(Path::known).into_iter();
            goals.chain(services).map(Edit::clear).collect()
        }
        Wanted::On => vec![
            image_state(image_state::ACTIVE).where_any(images()),
            image_state(image_state::IDLE).where_none(images()),
        ],
        Wanted::OnUnattended => {
            vec![Edit::set(service_state::path(module::IMAGE), service_state::STOPPED)]
        }
    };
    match wanted {
        Wanted::Off => edits.push(set(phys_state::PATH, phys_state::POWER_OFF)),
        Wanted::On | Wanted::OnUnattended => edits.extend([
            set(phys_state::PATH, phys_state::POWER_ON),
            set(run_state::PATH, run_state::SYNC),
        ]),
    }
    Patch::Edit(edits)
}

pub(super) async fn command(
    State(app): State<Arc<App>>,
    Who(by): Who,
    Json(asked): Json<Commanding>,
) -> Result<Json<Commanded>, Problem> {
    let verb = asked.command;
    let kraken = app.kraken()?;
    let terms = terms(&asked, kraken.clock().now())?;
    let Some(nodes) = &asked.nodes else {
        let (command, text) = match verb {
            Verb::Freeze => {
                let all = kraken.views().all().into_keys().collect();
                let waits = waits(&app, kraken, verb, &all, "");
                let end = ends(&terms);
                let text = format!("frozen: no disruptive step is taken anywhere{end}{waits}");
                (Command::Freeze { node: None, terms }, text)
            }
            Verb::Thaw => (Command::Thaw { node: None }, thawed(kraken).await?),
            _ => {
                let detail = "this command needs a node set, such as n1 or n[1-3]";
                return Err(Problem::bad_request("which nodes?", detail));
            }
        };
        kraken.command(command, &by).await?;
        return Ok(Json(Commanded { nodes: Vec::new(), text }));
    };
    let nodes = select::some(&app, nodes)?;
    give(&app, verb, &nodes, terms, &by).await
}

/// Gives a command about these nodes.
async fn give(
    app: &App,
    verb: Verb,
    nodes: &NodeSet,
    terms: Terms,
    by: &str,
) -> Result<Json<Commanded>, Problem> {
    let kraken = app.kraken()?;
    // A release or a thaw lets lost nodes through a storm hold, also those that nobody holds.
    let passes_storms = matches!(verb, Verb::Release | Verb::Thaw);
    let ends_more = passes_storms && kraken.summary().await?.storm;
    let text = told(kraken, (verb, ends_more), nodes, &terms);
    let text = text + &waits(app, kraken, verb, nodes, verb.ended_by());
    let commands = nodes.iter().cloned().map(|node| verb.command(node, terms.clone()));
    kraken.commands(commands.collect(), by).await?;
    Ok(Json(Commanded { nodes: nodes.iter().cloned().collect(), text }))
}

/// What comes of a command, for a person. Before it is given: what it ends must still be there.
fn told(
    kraken: &Kraken,
    (verb, ends_more): (Verb, bool),
    nodes: &NodeSet,
    terms: &Terms,
) -> String {
    let (words, has_end) = verb.words();
    if verb == Verb::Restart {
        return format!("{nodes}: {}{}", restart_words(terms.hard), ends(terms));
    }
    let Some(was) = verb.ends_what().filter(|_| !ends_more) else {
        let end = if has_end { ends(terms) } else { String::new() };
        return format!("{nodes}: {words}{end}");
    };
    let is_so = |node: &&NodeId| {
        let view = kraken.views().get(node);
        view.is_some_and(|view| verb.has_something_to_end(view.marks.as_deref(), &view.dsc))
    };
    let (so, not): (Vec<&NodeId>, Vec<&NodeId>) = nodes.iter().partition(is_so);
    let set = |nodes: Vec<&NodeId>| nodes.into_iter().cloned().collect();
    ended(words, was, &set(so), &set(not))
}

/// What a restart means now.
fn restart_words(is_hard: bool) -> &'static str {
    if is_hard {
        "hard restart requested: power is cut, images are not stopped; progress: `layercake explain`, \
         withdrawn by `layercake reboot --cancel`"
    } else {
        "restart requested: images are stopped, then power goes off and on; progress: `layercake explain`, \
         withdrawn by `layercake reboot --cancel`"
    }
}

/// What a command keeps from being done that is wanted, or what keeps it from being done, for a person.
fn waits(app: &App, kraken: &Kraken, verb: Verb, nodes: &NodeSet, end: &str) -> String {
    let kind = match verb {
        Verb::Restart => return blocked::by_marks(kraken.views(), nodes, true),
        Verb::Hold => MarkKind::Hold,
        Verb::Freeze => MarkKind::Freeze,
        Verb::Busy => MarkKind::Busy,
        _ => return String::new(),
    };
    blocked::by_wishes(kraken.views(), &app.registry(), nodes, kind, end)
}

/// For which nodes something has ended, and for which there was nothing to end.
fn ended(words: &str, was: &str, so: &NodeSet, not: &NodeSet) -> String {
    let verb = if not.len() == 1 { "was" } else { "were" };
    match (so.len(), not.len()) {
        (_, 0) => format!("{so}: {words}"),
        (0, _) => format!("{not} {verb} not {was}"),
        (count, others) => {
            format!("{so}: {words}, {count} of {}; {not} {verb} not {was}", count + others)
        }
    }
}

/// What the end of a freeze of everything means now. It ends a storm hold too, which nobody must do unawares.
async fn thawed(kraken: &Kraken) -> Result<String, Problem> {
    let summary = kraken.summary().await?;
    let lost = summary.lost;
    Ok(match (summary.freeze.is_some(), summary.storm) {
        (false, false) => {
            "nothing was frozen; a node that is frozen by itself is thawed by its name".into()
        }
        (true, false) => "thawed".into(),
        (is_frozen, true) => {
            let what = if is_frozen { "thawed, and the storm hold" } else { "the storm hold" };
            let nodes = if lost == 1 { "node that was" } else { "nodes that were" };
            let are = if lost == 1 { "is" } else { "are" };
            let all: Vec<String> = summary.storms.iter().map(ToString::to_string).collect();
            let all = all.join("; ");
            format!("{what} is ended ({all}): the {lost} {nodes} lost {are} brought back now")
        }
    })
}

impl Verb {
    /// What is done now, for a person, and whether it has an end.
    fn words(self) -> (&'static str, bool) {
        match self {
            Self::Hold => ("held: no step is taken", true),
            Self::Freeze => ("frozen: no disruptive step is taken", true),
            Self::Busy => ("in use: nothing disturbs them", true),
            Self::Release => ("released", false),
            Self::Thaw => ("thawed", false),
            Self::Free => ("no longer in use", false),
            Self::Retry => ("failures forgotten, tried again now", false),
            Self::TakeOver => {
                ("to be taken over: power is cut as limits and holds allow, then booted", false)
            }
            Self::Restart => ("restart requested", true),
            Self::CancelRestart => ("restart withdrawn", false),
        }
    }

    /// How nodes are of which this ends something.
    fn ends_what(self) -> Option<&'static str> {
        match self {
            Self::Release => Some("held"),
            // Everything may be frozen all the same, which only a thaw of everything ends.
            Self::Thaw => Some("frozen by name"),
            Self::Free => Some("in use"),
            Self::TakeOver => Some("found running"),
            Self::CancelRestart => Some("waiting for a restart"),
            Self::Hold | Self::Retry | Self::Busy | Self::Freeze | Self::Restart => None,
        }
    }

    /// Whether a node is so that this ends something.
    fn has_something_to_end(self, marks: Option<&Marks>, dsc: &Document) -> bool {
        let is_marked = |mark: fn(&Marks) -> bool| marks.is_some_and(mark);
        match self {
            Self::Release => is_marked(|marks| marks.hold.is_some()),
            Self::Thaw => is_marked(|marks| marks.freeze.is_some()),
            // Also when somebody else found that it is: then it is free all the same.
            Self::Free => {
                is_marked(|marks| marks.busy.is_some()) || dsc.text(busy::PATH) == Some(busy::BUSY)
            }
            Self::TakeOver => dsc.text(phys_state::PATH) == Some(phys_state::PHYS_FOUND),
            Self::CancelRestart => is_marked(|marks| marks.restart.is_some()),
            Self::Hold | Self::Retry | Self::Busy | Self::Freeze | Self::Restart => true,
        }
    }

    /// The command that ends what this begins; empty when there is none.
    fn ended_by(self) -> &'static str {
        match self {
            Self::Hold => "release",
            Self::Freeze => "thaw",
            Self::Busy => "free",
            Self::Release | Self::Retry | Self::Free | Self::Thaw | Self::TakeOver => "",
            Self::Restart | Self::CancelRestart => "",
        }
    }

    fn command(self, node: NodeId, terms: Terms) -> Command {
        match self {
            Self::Hold => Command::Hold { node, terms },
            Self::Release => Command::Release { node },
            Self::Retry => Command::Retry { node },
            Self::TakeOver => Command::TakeOver { node },
            Self::Restart => Command::Restart { node, terms },
            Self::CancelRestart => Command::WithdrawRestart { node },
            Self::Busy => Command::Busy { node, terms },
            Self::Free => Command::Free { node },
            Self::Freeze => Command::Freeze { node: Some(node), terms },
            Self::Thaw => Command::Thaw { node: Some(node) },
        }
    }
}

/// When it ends, for a person.
fn ends(terms: &Terms) -> String {
    match terms.until {
        Some(until) => format!(", until {}", until.rfc3339()),
        None => String::new(),
    }
}

/// Why, and until when, if that was said and makes sense.
fn terms(asked: &Commanding, now: Millis) -> Result<Terms, Problem> {
    let (_, has_end) = asked.command.words();
    if !has_end && (asked.why.is_some() || asked.until.is_some()) {
        let detail =
            "only hold, freeze, busy and restart have a reason and an end: leave why and until out";
        return Err(Problem::bad_request("no reason and no end belong here", detail));
    }
    if asked.hard && asked.command != Verb::Restart {
        return Err(Problem::bad_request(
            "not a restart",
            "only a restart can be hard: leave hard out",
        ));
    }
    let why = asked.why.as_deref().map(str::trim).filter(|why| !why.is_empty());
    if why.is_some_and(|why| why.chars().count() > MAX_WHY || why.chars().any(char::is_control)) {
        let detail = format!("it must be one line of at most {MAX_WHY} characters");
        return Err(Problem::bad_request("not a reason", detail));
    }
    let until = asked.until.as_deref().map(|text| times::to_come(text, now)).transpose()?;
    Ok(Terms { why: why.map(Into::into), until, hard: asked.hard })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cfg(values: &[(&str, &str)]) -> Document {
        let mut cfg = Document::new();
        for (path, value) in values {
            cfg.set(Path::known(path), *value);
        }
        cfg
    }

    #[test]
    fn what_ends_nothing_is_said_to_end_nothing() {
        let set = |names: &[&str]| names.iter().filter_map(|n| NodeId::new(n).ok()).collect();
        let text = |so: &[&str], not: &[&str]| ended("released", "held", &set(so), &set(not));
        assert_eq!(text(&["n1", "n2"], &[]), "n[1-2]: released");
        assert_eq!(text(&[], &["n2"]), "n2 was not held");
        assert_eq!(text(&[], &["n1", "n2"]), "n[1-2] were not held");
        assert_eq!(text(&["n1"], &["n2"]), "n1: released, 1 of 2; n2 was not held");
    }

    const ON: [(&str, &str); 2] = [("phys_state", "POWER_ON"), ("run_state", "SYNC")];

    #[test]
    fn nothing_is_wanted_of_the_images_of_a_node_whose_image_service_is_to_be_stopped() {
        let service = ("services.image.state", "STOPPED");
        let kept = ("images.web.kind", "plain");
        let switched = |cfg: &Document, wanted| want_power(wanted).apply(Some(cfg)).unwrap();
        let unattended = cfg(&[ON[0], ON[1], service, kept]);
        assert_eq!(switched(&unattended, Wanted::OnUnattended), unattended);
        let off = switched(&unattended, Wanted::Off);
        assert_eq!(off, cfg(&[("phys_state", "POWER_OFF"), kept]));
        let attended = cfg(&[ON[0], ON[1], ("image_state", "ACTIVE"), kept]);
        assert_eq!(switched(&off, Wanted::On), attended);
        let still = cfg(&[ON[0], ON[1], service, kept]);
        assert_eq!(switched(&off, Wanted::OnUnattended), still, "it is still to be stopped");
        let empty = cfg(&[("phys_state", "POWER_OFF")]);
        let idle = cfg(&[ON[0], ON[1], ("image_state", "IDLE")]);
        assert_eq!(switched(&empty, Wanted::On), idle);
    }

    #[test]
    fn a_node_that_was_taken_away_meanwhile_is_not_brought_back_by_its_switch() {
        for wanted in [Wanted::Off, Wanted::On, Wanted::OnUnattended] {
            assert_eq!(want_power(wanted).apply(None), None);
        }
    }
}
