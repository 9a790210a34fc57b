//! Guards on facts that can never hold together.

use crate::mutation::{Guard, Test};
use crate::set::{Compiled, Condition};
use kraken_model::{Document, Path, Side, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first guards on one fact that no value of it fulfils, in words; `None`: there are no such.
///
/// What a guard asks changes only at the values that it names, so these, their neighbours, one that
/// nobody names and none at all stand for every value that there can be.
pub(super) fn contradiction(conditions: &[Condition]) -> Option<Vec<Arc<str>>> {
    let mut facts: BTreeMap<(Side, &Path), Vec<&Condition>> = BTreeMap::new();
    for condition in conditions.iter().filter(|c| matches!(c.test, Compiled::Fact(_))) {
        let Guard { side, path, .. } = &condition.guard;
        facts.entry((*side, path)).or_default().push(condition);
    }
    let (_, asked) = facts.iter().find(|((side, path), asked)| {
        let mut values = values(asked).into_iter();
        !values.any(|value| asked.iter().all(|condition| holds(condition, *side, path, &value)))
    })?;
    Some(asked.iter().map(|condition| words(condition)).collect())
}

fn holds(condition: &Condition, side: Side, path: &Path, value: &Option<Value>) -> bool {
    let mut document = Document::new();
    if let Some(value) = value {
        document.set(path.clone(), value.clone());
    }
    let (found, none) = (document, Document::new());
    let (cfg, dsc) = if side == Side::Cfg { (&found, &none) } else { (&none, &found) };
    condition.guard.holds(cfg, dsc) != condition.excluded
}

fn values(asked: &[&Condition]) -> Vec<Option<Value>> {
    // No address can be a value of anything, and no guard names it.
    let mut values = vec![None, Some(Value::from("\u{0}"))];
    for condition in asked {
        match &condition.guard.test {
            Test::Is(value) | Test::IsNot(value) => values.push(Some(value.clone())),
            Test::OneOf(among) => values.extend(among.iter().cloned().map(Some)),
            Test::AtLeast(bound) | Test::AtMost(bound) => {
                let near = [bound.saturating_sub(1), *bound, bound.saturating_add(1)];
                values.extend(near.map(|number| Some(Value::Int(number))));
            }
            Test::Present => {}
        }
    }
    let numbers: Vec<i64> = values.iter().flatten().filter_map(Value::as_int).collect();
    let near = numbers.iter().flat_map(|n| [n.saturating_sub(1), n.saturating_add(1)]);
    values.extend(near.map(|number| Some(Value::Int(number))));
    values
}

fn words(condition: &Condition) -> Arc<str> {
    let Condition { guard, excluded, .. } = condition;
    if *excluded { format!("not ({guard})").into() } else { guard.to_string().into() }
}
