//! Guards of one file that take from others what they could do before.

use crate::draft::Declared;
use kraken_model::Registry;
use kraken_plan::{Finding, ModuleSet, Mutation, check};
use std::collections::BTreeSet;

/// Reports every guard of a file without which a mutation or a value of somebody else could be
/// reached. When only several guards together are to blame, each of them is.
pub(crate) fn find(declared: &mut [Declared], mutations: &[Mutation], registry: &Registry) {
    let with = |skipped: &dyn Fn(&Place) -> bool| lost(declared, mutations, registry, skipped);
    let bare = with(&|_| true);
    let new: BTreeSet<Lost> = with(&|_| false).difference(&bare).cloned().collect();
    if new.is_empty() {
        return;
    }
    let mut wrong: Vec<(Place, &Lost)> = Vec::new();
    let places = places(declared);
    for lost in &new {
        let spares = |place: &&Place| !with(&|other| other == *place).contains(lost);
        let mut to_blame: Vec<Place> = places.iter().filter(spares).copied().collect();
        if to_blame.is_empty() {
            let alone = |place: &&Place| with(&|other| other != *place).contains(lost);
            to_blame = places.iter().filter(alone).copied().collect();
        }
        if to_blame.is_empty() {
            to_blame.clone_from(&places);
        }
        let is_foreign = |place: &Place| declared[place.0].name != lost.owner;
        wrong.extend(to_blame.into_iter().filter(is_foreign).map(|place| (place, lost)));
    }
    let wrong: Vec<(Place, String)> =
        wrong.into_iter().map(|(place, lost)| (place, lost.words.clone())).collect();
    for ((file, guard), words) in wrong {
        let Declared { report, name, additions, .. } = &mut declared[file];
        let addition = &additions[guard];
        let path = format!("guards.{}", addition.mutation);
        let what = format!("the guards of {name} on {} cut others off", addition.mutation);
        let hint = "ask for what can be, or leave them out; nothing is cut off without them";
        report.add(addition.at, &path, what, words, hint);
    }
}

/// A file, and one of its additions.
type Place = (usize, usize);

fn places(declared: &[Declared]) -> Vec<Place> {
    let of = |(file, declared): (usize, &Declared)| {
        (0..declared.additions.len()).map(move |guard| (file, guard))
    };
    declared.iter().enumerate().flat_map(of).collect()
}

/// Something that can never be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lost {
    /// Whose it is.
    owner: String,
    words: String,
}

/// What can never be with all additions but some.
fn lost(
    declared: &[Declared],
    mutations: &[Mutation],
    registry: &Registry,
    is_skipped: &dyn Fn(&Place) -> bool,
) -> BTreeSet<Lost> {
    let mut all = mutations.to_vec();
    all.extend(declared.iter().flat_map(|d| d.steps.iter().map(|step| step.mutation.clone())));
    for place in places(declared).iter().filter(|place| !is_skipped(place)) {
        let addition = &declared[place.0].additions[place.1];
        if let Some(target) = all.iter_mut().find(|m| *m.name == *addition.mutation) {
            target.requires.extend(addition.requires.iter().cloned());
            target.excludes.extend(addition.excludes.iter().cloned());
        }
    }
    // A set that does not fit together is reported elsewhere.
    let Ok(set) = ModuleSet::new(registry, all) else { return BTreeSet::new() };
    check(&set).iter().filter_map(|finding| of(&set, finding)).collect()
}

fn of(set: &ModuleSet, finding: &Finding) -> Option<Lost> {
    let owner = match finding {
        Finding::NeverTaken { mutation } | Finding::Contradiction { mutation, .. } => {
            set.mutations().find(|(_, m)| m.name == *mutation)?.1.module.to_string()
        }
        Finding::Unreachable { variable, .. } => {
            let moves = |m: &Mutation| m.effects.iter().any(|e| e.variable == *variable);
            set.mutations().find(|(_, m)| moves(m))?.1.module.to_string()
        }
        _ => return None,
    };
    Some(Lost { owner, words: finding.to_string() })
}
