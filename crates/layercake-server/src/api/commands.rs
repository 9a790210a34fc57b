//! What people tell nodes to do, besides the cluster file.

use super::{Problem, select};
use crate::server::App;
use axum::Json;
use axum::extract::State;
use kraken::Command;
use kraken_model::{Change, NodeId, NodeSet, Path};
use layercake_schema::{busy, image_state, phys_state, run_state};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who is named in the journal: whoever may use the socket is root, until there is sign-in.
const BY: &str = "operator";

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
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commanding {
    command: Verb,
    nodes: Option<String>,
}

fn done(nodes: &NodeSet, text: &str) -> Json<Commanded> {
    let text = format!("{nodes}: {text}");
    Json(Commanded { nodes: nodes.iter().cloned().collect(), text })
}

/// Power is a matter of cfg like everything else: a node that is to be off is given that as its
/// goal, and gets there by the way that the modules know, which spares a node in use.
pub(super) async fn power(
    State(app): State<Arc<App>>,
    Json(power): Json<Power>,
) -> Result<Json<Commanded>, Problem> {
    let nodes = select::nodes(&app, &power.nodes)?;
    match power.action {
        Action::Cycle => {
            // Whoever asks for a power cycle says that the machine hangs; the way out of that is
            // known. It is a discovery, since nothing else is wanted than before.
            for node in nodes.iter() {
                let hang = Change::set(Path::known(phys_state::PATH), phys_state::PHYS_HANG);
                app.kraken()?.discover(node, vec![hang], BY).await?;
            }
            Ok(done(&nodes, "will be power-cycled, as if they hung; `layercake explain` tells"))
        }
        Action::On | Action::Off => {
            let kraken = app.kraken()?;
            let writes = nodes.iter().filter_map(|node| {
                let mut cfg = kraken.views().get(node)?.cfg;
                if let Action::On = power.action {
                    cfg.set(Path::known(phys_state::PATH), phys_state::POWER_ON);
                    cfg.set(Path::known(run_state::PATH), run_state::SYNC);
                    let images = !cfg.names("images").is_empty();
                    let state = if images { image_state::ACTIVE } else { image_state::IDLE };
                    cfg.set(Path::known(image_state::PATH), state);
                } else {
                    cfg.set(Path::known(phys_state::PATH), phys_state::POWER_OFF);
                    cfg.remove(run_state::PATH);
                    cfg.remove(image_state::PATH);
                }
                Some((node.clone(), Some(cfg)))
            });
            kraken.configure(writes.collect(), BY).await?;
            let text = match power.action {
                Action::On => "are to be on, until the cluster file is applied again",
                _ => "are to be off, until the cluster file is applied again",
            };
            Ok(done(&nodes, text))
        }
    }
}

pub(super) async fn command(
    State(app): State<Arc<App>>,
    Json(asked): Json<Commanding>,
) -> Result<Json<Commanded>, Problem> {
    let everywhere = match asked.command {
        Verb::Freeze => Some((Command::Freeze, "frozen: no disruptive step is taken anywhere")),
        Verb::Thaw => Some((Command::Thaw, "thawed")),
        _ => None,
    };
    if let Some((command, text)) = everywhere {
        app.kraken()?.command(command, BY).await?;
        return Ok(Json(Commanded { nodes: Vec::new(), text: text.to_owned() }));
    }
    let missing = || Problem::bad_request("which nodes?", "this command needs a node set");
    let nodes = select::nodes(&app, asked.nodes.as_deref().ok_or_else(missing)?)?;
    let mut text = "";
    for node in nodes.iter().cloned() {
        text = match asked.command {
            Verb::Busy | Verb::Free => {
                let in_use = asked.command == Verb::Busy;
                let value = if in_use { busy::BUSY } else { busy::FREE };
                let change = Change::set(Path::known(busy::PATH), value);
                app.kraken()?.discover(&node, vec![change], BY).await?;
                if in_use { "in use: nothing disturbs them" } else { "no longer in use" }
            }
            verb => {
                let (command, text) = match verb {
                    Verb::Hold => (Command::Hold { node }, "held: no step is taken"),
                    Verb::Release => (Command::Release { node }, "released"),
                    _ => (Command::Retry { node }, "failures forgotten, tried again now"),
                };
                app.kraken()?.command(command, BY).await?;
                text
            }
        };
    }
    Ok(done(&nodes, text))
}
