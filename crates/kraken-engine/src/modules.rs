//! Other modules in place of these, while everything goes on.

use crate::common::Sharing;
use crate::node::Node;
use crate::{Engine, Output, What};
use kraken_model::{Path, Registry, Side};
use kraken_plan::{ModuleSet, MutationId, PolicyId};
use std::sync::Arc;

/// What numbers of one set are in another.
struct Numbers<'a> {
    old: &'a ModuleSet,
    new: &'a ModuleSet,
}

impl Numbers<'_> {
    fn of(&self, id: MutationId) -> Option<MutationId> {
        self.new.mutation_named(&self.old.mutation(id).name)
    }

    /// Bits of variables, those that there still are.
    fn bits(&self, bits: u128) -> u128 {
        let old = self.old.variables().iter().filter(|variable| variable.mask() & bits != 0);
        let new = old.filter_map(|variable| self.new.variable(variable.path.as_str()));
        new.fold(0, |bits, variable| bits | variable.mask())
    }

    /// Renumbers all that is remembered of steps on a node, and forgets what there is no longer.
    fn take_over(&self, node: &mut Node) {
        if let Some(troubles) = &mut node.troubles {
            troubles.list.retain_mut(|trouble| {
                let number = self.of(trouble.mutation);
                trouble.mutation = number.unwrap_or(trouble.mutation);
                number.is_some()
            });
        }
        node.troubles.take_if(|troubles| troubles.list.is_empty());
        node.last = node.last.and_then(|mut last| {
            last.mutation = self.of(last.mutation)?;
            Some(last)
        });
        if let Some(running) = &mut node.running {
            // What is no longer declared was interrupted.
            running.mutation = self.of(running.mutation).unwrap_or(running.mutation);
        }
        node.doubt = self.bits(node.doubt);
        node.shaken = self.bits(node.shaken);
        node.policy = PolicyId::NONE;
        // Counted anew, at other gates.
        node.membership = None;
    }
}

impl Engine {
    /// Other modules and schemas from now on. What is under way goes on, unless it is no longer declared;
    /// values that no schema knows any more are forgotten, and everything else that is known, failed or
    /// was learned stays.
    pub(crate) fn go_over(
        &mut self,
        set: Arc<ModuleSet>,
        registry: Arc<Registry>,
        by: Arc<str>,
        out: &mut Vec<Output>,
    ) {
        for at in self.nodes.places() {
            let running = self.nodes.get(at).and_then(|node| node.running.as_ref());
            let name = running.map(|running| &self.set.mutation(running.mutation).name);
            if name.is_some_and(|name| set.mutation_named(name).is_none()) {
                self.interrupt(at, "it is no longer declared", out);
            }
        }
        let old = std::mem::replace(&mut self.set, set);
        self.registry = registry;
        match &mut self.policies {
            Sharing::Own(policies) => policies.go_over(&old, &self.set),
            // The others still have the old modules.
            common @ Sharing::Common(_) => *common = Sharing::default(),
        }
        let new = Arc::clone(&self.set);
        let numbers = Numbers { old: &old, new: &new };
        self.learned.renumber(&new, |id| numbers.of(id));
        for at in self.nodes.places() {
            self.take_over(at, &numbers, out);
        }
        // Those who waited have their turns first, and then all are looked at.
        let queue = self.regate();
        self.is_sweep_due = true;
        let missing = |of: &ModuleSet, there: &ModuleSet| {
            let names = of.mutations().map(|(_, mutation)| Arc::clone(&mutation.name));
            names.filter(|name| there.mutation_named(name).is_none()).collect()
        };
        let what = What::Modules { added: missing(&new, &old), removed: missing(&old, &new) };
        if self.is_started {
            self.note_by(None, what, by, None, out);
        }
        for at in queue {
            self.reconsider(at, out);
        }
    }

    fn take_over(&mut self, at: u32, numbers: &Numbers<'_>, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        let standing = node.standing;
        node.standing = standing.renumbered(|id| numbers.of(id));
        self.by_standing[standing.kind()] -= 1;
        self.by_standing[node.standing.kind()] += 1;
        numbers.take_over(node);
        node.goal = self.set.goal(&node.cfg);
        let id = node.id.clone();
        let mut strange: Vec<Path> = Vec::new();
        for (path, value) in node.dsc.iter() {
            if self.registry.check(Side::Dsc, path, value).is_err() {
                strange.push(path.clone());
            }
        }
        for path in &strange {
            node.dsc.remove(path.as_str());
        }
        let said = self.set.state(&node.dsc);
        let mut forgotten = self.refresh(at, said, true);
        forgotten.extend(strange);
        self.say_forgotten(&id, &forgotten, out);
    }
}
