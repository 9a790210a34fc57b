//! What operators said of nodes, kept so that it counts after a restart too.

use kraken_engine::{Command, Entry, Mark, MarkKind, Marks, Terms, What};
use kraken_model::{Millis, NodeId};
use kraken_store::{Store, StoreError, ValueWrite};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where in the store the nodes are that are held.
const HELD: &str = "held";

/// Where the freeze of everything is.
const FROZEN: &str = "frozen";

/// The key of it there.
const ALL: &str = "all";

/// Where the nodes are that are frozen.
const FROZEN_NODES: &str = "frozen_nodes";

/// Where the nodes are that are in use.
const BUSY: &str = "busy";

/// Where the nodes are whose restart was asked for.
const RESTART: &str = "restart";

/// A place in the store: a namespace and a key.
type Place = (&'static str, String);

/// Which marks are in the store.
#[derive(Debug, Default)]
pub(crate) struct KeptMarks {
    places: BTreeSet<Place>,
}

fn place(kind: MarkKind, node: Option<&NodeId>) -> Place {
    let namespace = match (kind, node) {
        (MarkKind::Hold, _) => HELD,
        (MarkKind::Freeze, None) => FROZEN,
        (MarkKind::Freeze, Some(_)) => FROZEN_NODES,
        (MarkKind::Busy, _) => BUSY,
        (MarkKind::Restart, _) => RESTART,
    };
    (namespace, node.map_or(ALL, NodeId::as_str).to_owned())
}

/// How many of these commands, from the first on, speak of a place of their own each. What ends a mark and what
/// makes it anew must not be kept together: when the end has come about, the new one would go with it.
pub(crate) fn apart(commands: &[Command]) -> usize {
    let mut places = BTreeSet::new();
    let place = |command: &Command| Some(place(command.mark()?.0, command.node()));
    let is_new = |command: &&Command| place(command).is_none_or(|place| places.insert(place));
    commands.iter().take_while(is_new).count()
}

impl KeptMarks {
    /// What has to be written for these commands, before they are given to the engine.
    pub(crate) fn writes(
        &mut self,
        commands: &[Command],
        by: &Arc<str>,
        now: Millis,
    ) -> Vec<ValueWrite> {
        // A use goes when the journal says that its node is free; until then its time is over.
        let over = Terms { until: Some(now), ..Terms::default() };
        let mut writes = Vec::new();
        for command in commands {
            let Some((kind, terms)) = command.mark() else { continue };
            let (namespace, key) = place(kind, command.node());
            let is_kept_use = namespace == BUSY && self.places.contains(&(namespace, key.clone()));
            let terms = terms.or(is_kept_use.then_some(&over));
            let value = terms.map(|terms| {
                let mark = Mark { by: Arc::clone(by), terms: terms.clone() };
                serde_json::to_vec(&mark).unwrap_or_default()
            });
            let place = (namespace, key.clone());
            let is_news = match value {
                Some(_) => {
                    self.places.insert(place);
                    true
                }
                None => self.places.remove(&place),
            };
            if is_news {
                writes.push(ValueWrite { namespace: namespace.to_owned(), key, value });
            }
        }
        writes
    }

    /// What has to be removed because the engine has ended a mark by itself.
    pub(crate) fn ended(&mut self, entry: &Entry) -> Vec<ValueWrite> {
        let kinds: &[MarkKind] = match entry.what {
            What::Released => &[MarkKind::Hold],
            What::Thawed => &[MarkKind::Freeze],
            What::Free => &[MarkKind::Busy],
            What::Restarted | What::RestartWithdrawn => &[MarkKind::Restart],
            What::Removed => &Marks::KINDS,
            _ => return Vec::new(),
        };
        let places = kinds.iter().map(|kind| place(*kind, entry.node.as_ref()));
        let kept: Vec<Place> = places.filter(|place| self.places.remove(place)).collect();
        let write = |(namespace, key): Place| {
            let namespace = namespace.to_owned();
            ValueWrite { namespace, key, value: None }
        };
        kept.into_iter().map(write).collect()
    }

    /// The commands that make every mark again that is kept, each with who gave it.
    pub(crate) fn again(&mut self, kept: Vec<Kept>) -> Vec<(Command, Arc<str>)> {
        let mut commands = Vec::new();
        for (namespace, key, value) in kept {
            let mark = serde_json::from_slice(&value).unwrap_or_else(|_| {
                // As it was written before there were reasons: the name alone.
                let by = String::from_utf8_lossy(&value).into();
                Mark { by, terms: Terms::default() }
            });
            let Mark { by, terms } = mark;
            let node = match NodeId::new(&key) {
                Ok(node) => node,
                Err(error) => {
                    tracing::warn!(%error, namespace, "what an operator said cannot be read");
                    continue;
                }
            };
            let command = match namespace {
                HELD => Command::Hold { node, terms },
                FROZEN => Command::Freeze { node: None, terms },
                FROZEN_NODES => Command::Freeze { node: Some(node), terms },
                RESTART => Command::Restart { node, terms },
                _ => Command::Busy { node, terms },
            };
            self.places.insert((namespace, key));
            commands.push((command, by));
        }
        commands
    }
}

/// Whether a use is among what is removed.
pub(crate) fn ends_use(ended: &[ValueWrite]) -> bool {
    ended.iter().any(|write| write.namespace == BUSY)
}

/// A mark as it is kept: namespace, key, value.
pub(crate) type Kept = (&'static str, String, Vec<u8>);

/// Every mark that is kept.
pub(crate) fn kept(store: &mut dyn Store) -> Result<Vec<Kept>, StoreError> {
    let mut all = Vec::new();
    for namespace in [HELD, FROZEN, FROZEN_NODES, BUSY, RESTART] {
        let values = store.list(namespace)?.into_iter();
        all.extend(values.map(|(key, value)| (namespace, key, value)));
    }
    Ok(all)
}
