//! What operators say of nodes, kept as the runtime keeps it (crate `kraken`: its marks): the
//! commands themselves, until somebody takes one back or the engine says that its time is over.

use crate::application::Application;
use crate::fleet::{Fleet, number};
use crate::happening::Word;
use crate::plant::Bug;
use kraken_engine::{Command, Entry, MarkKind, Terms, What};
use kraken_model::{Millis, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Of what a mark is: its kind, and the node; no node: all of them.
type Place = (MarkKind, Option<usize>);

/// The marks that are durable.
#[derive(Debug, Default)]
pub(crate) struct KeptMarks {
    terms: BTreeMap<Place, Terms>,
}

impl KeptMarks {
    /// Keeps what a command says, before it is given to the engine.
    fn keep(&mut self, command: &Command) {
        let Some((kind, terms)) = command.mark() else { return };
        let place = (kind, command.node().map(number));
        match terms {
            Some(terms) => drop(self.terms.insert(place, terms.clone())),
            None => drop(self.terms.remove(&place)),
        }
    }

    /// Removes what has ended.
    fn ended(&mut self, entry: &Entry) {
        let kind = match entry.what {
            What::Released => MarkKind::Hold,
            What::Thawed => MarkKind::Freeze,
            What::Free => MarkKind::Busy,
            What::Restarted | What::RestartWithdrawn => MarkKind::Restart,
            _ => return,
        };
        self.terms.remove(&(kind, entry.node.as_ref().map(number)));
    }

    /// The commands that make every mark again.
    fn again(&self, name: impl Fn(usize) -> NodeId, bug: Option<Bug>) -> Vec<Command> {
        let command = |((kind, n), terms): (&Place, &Terms)| {
            let (node, mut terms) = (n.map(&name), terms.clone());
            match bug {
                Some(Bug::HoldForgotten) if *kind == MarkKind::Hold => return None,
                Some(Bug::EndForgotten) => terms.until = None,
                _ => {}
            }
            Some(match (kind, node) {
                (MarkKind::Hold, Some(node)) => Command::Hold { node, terms },
                (MarkKind::Busy, Some(node)) => Command::Busy { node, terms },
                (MarkKind::Restart, Some(node)) => Command::Restart { node, terms },
                (MarkKind::Freeze, node) => Command::Freeze { node, terms },
                (_, None) => return None,
            })
        };
        self.terms.iter().filter_map(command).collect()
    }

    /// What an operator has to say for every mark to end that does not end by itself.
    pub(crate) fn taken_back(&self) -> Vec<Word> {
        let is_open = |terms: &Terms| terms.until.is_none();
        let word = |((kind, n), terms): (&Place, &Terms)| match (kind, *n) {
            (MarkKind::Hold, Some(n)) if is_open(terms) => Some(Word::Release(n)),
            (MarkKind::Busy, Some(n)) if is_open(terms) => Some(Word::Free(n)),
            (MarkKind::Freeze, Some(n)) if is_open(terms) => Some(Word::Thaw(Some(n))),
            _ => None,
        };
        // A thaw ends a storm too, but must not end a freeze that ends by itself.
        let freeze = self.terms.get(&(MarkKind::Freeze, None));
        let thaw = freeze.is_none_or(is_open).then_some(Word::Thaw(None));
        thaw.into_iter().chain(self.terms.iter().filter_map(word)).collect()
    }
}

/// What an operator says for so long, or until somebody takes it back.
pub(crate) fn terms(now: Millis, lasts: Option<Duration>) -> Terms {
    Terms { until: lasts.map(|lasts| now.plus(lasts)), ..Terms::default() }
}

impl<A: Application> Fleet<A> {
    /// A command of an operator: durable first, then acted upon.
    pub(crate) fn command(&mut self, command: Command) {
        self.disk.marks.keep(&command);
        self.command_kept(command);
    }

    /// Says again what operators said before the start.
    pub(crate) fn mark_again(&mut self) {
        let name = |n: usize| self.nodes[n].id.clone();
        for command in self.disk.marks.again(name, self.plan.bug) {
            self.command_kept(command);
        }
    }

    /// A mark was made or has ended, by a word or because its time is over: what has ended is not
    /// kept any longer, and whoever watches these nodes is told.
    pub(crate) fn marked(&mut self, entry: &Entry, changed: &mut Vec<usize>) {
        if !entry.what.is_of_marks() {
            return;
        }
        if let (What::Free, Some(node)) = (&entry.what, &entry.node) {
            // The other place where its use stands: what was discovered. That it is free is durable first.
            self.keep_discovered(number(node));
        }
        self.disk.marks.ended(entry);
        changed.extend(entry.node.as_ref().map(number));
    }
}
