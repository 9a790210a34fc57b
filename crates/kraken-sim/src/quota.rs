//! Limits, counted again from outside.

use kraken_engine::{Availability, Limit, Scope, Share};
use kraken_model::{Document, Millis, NodeId, Value};
use kraken_plan::Mutation;
use std::collections::BTreeMap;

/// What a step counts towards: a limit, and the value of the fact it is counted apart for.
pub(crate) type Count = (usize, Option<Value>);

/// A node, as far as limits ask.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) id: &'a NodeId,
    pub(crate) cfg: &'a Document,
    /// Whether it is as its cfg wants it to be available ([`is_available`]).
    pub(crate) is_available: bool,
    /// What the step counts towards that is under way on it.
    pub(crate) counted: &'a [Count],
}

/// How many steps are under way, and when the last one began.
#[derive(Debug)]
pub(crate) struct Quotas {
    limits: Vec<Limit>,
    under_way: BTreeMap<Count, u32>,
    last_began: BTreeMap<Count, Millis>,
}

impl Quotas {
    pub(crate) fn new(limits: Vec<Limit>) -> Self {
        Self { limits, under_way: BTreeMap::new(), last_began: BTreeMap::new() }
    }

    /// A step begins for a node, one of all: what it counts towards, or which limit it breaks.
    pub(crate) fn enter<'a>(
        &mut self,
        now: Millis,
        mutation: &Mutation,
        who: Member<'_>,
        all: impl Iterator<Item = Member<'a>> + Clone,
    ) -> Result<Vec<Count>, String> {
        let mut counts = Vec::new();
        let mut broken = None;
        for (index, limit) in self.limits.iter().enumerate() {
            if !is_about(&limit.of, mutation) {
                continue;
            }
            let Some(count) = count_of(index, limit, who) else { continue };
            broken = broken.or_else(|| share_broken(limit, &count, who, all.clone()));
            let under_way = self.under_way.entry(count.clone()).or_default();
            *under_way += 1;
            if limit.in_flight.is_some_and(|most| *under_way > most) {
                broken = Some(format!("{under_way} are under way, above a limit"));
            }
            let last = self.last_began.insert(count.clone(), now);
            if last.is_some_and(|last| now.since(last) < limit.spacing) {
                broken = Some(format!("the last one began less than {:?} ago", limit.spacing));
            }
            counts.push(count);
        }
        broken.map_or(Ok(counts), Err)
    }

    /// A step has ended.
    pub(crate) fn leave(&mut self, counts: &[Count]) {
        for count in counts {
            if let Some(under_way) = self.under_way.get_mut(count) {
                *under_way = under_way.saturating_sub(1);
            }
        }
    }
}

fn is_about(scope: &Scope, mutation: &Mutation) -> bool {
    match scope {
        Scope::All => true,
        Scope::Disruptive => mutation.disruptive,
        Scope::Module(module) => *module == mutation.module,
        Scope::Mutation(name) => *name == mutation.name,
        Scope::AnyOf(names) => names.contains(&mutation.name),
    }
}

/// Where a node counts for a limit, if the limit is about it.
fn count_of(index: usize, limit: &Limit, who: Member<'_>) -> Option<Count> {
    let is_among = limit.nodes.as_ref().is_none_or(|group| group.nodes.contains(who.id));
    let value = match &limit.per {
        None => None,
        Some(fact) => Some(who.cfg.get(fact.as_str())?.clone()),
    };
    is_among.then_some((index, value))
}

/// What is wrong when a step begins that makes one more node unavailable than may be. A step for a
/// node that is unavailable anyway takes nothing away, however many others are.
fn share_broken<'a>(
    limit: &Limit,
    count: &Count,
    who: Member<'_>,
    all: impl Iterator<Item = Member<'a>>,
) -> Option<String> {
    let share = limit.unavailable?;
    let is_away = |node: &Member<'_>| !node.is_available || node.counted.contains(count);
    if is_away(&who) {
        return None;
    }
    let (mut nodes, mut away) = (0, 0);
    for node in all.filter(|node| count_of(count.0, limit, *node).as_ref() == Some(count)) {
        nodes += 1;
        away += usize::from(is_away(&node));
    }
    // Rounded down, but one at least.
    let most = match share {
        Share::Count(most) => most as usize,
        Share::Percent(percent) => nodes * percent as usize / 100,
    };
    let is_broken = away >= most.max(1);
    is_broken.then(|| format!("{away} of {nodes} nodes are unavailable already"))
}

/// Whether a node of which this is known is as its cfg wants it, or as good, in what makes it available.
pub(crate) fn is_available(availability: &Availability, cfg: &Document, dsc: &Document) -> bool {
    availability.wanted.iter().all(|path| {
        let Some(wanted) = cfg.text(path.as_str()) else { return true };
        let is = dsc.text(path.as_str());
        let as_good = |value: &str| {
            availability.as_good.iter().any(|(of, good)| of == path && **good == *value)
        };
        is.is_some_and(|is| is == wanted || as_good(is))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_engine::Group;
    use kraken_model::{NodeSet, Path};
    use kraken_plan::Context;
    use std::sync::Arc;
    use std::time::Duration;

    fn document(values: &[(&str, &str)]) -> Document {
        let mut document = Document::new();
        for (path, value) in values {
            document.set(Path::known(path), *value);
        }
        document
    }

    fn member<'a>(id: &'a NodeId, cfg: &'a Document, is_available: bool) -> Member<'a> {
        Member { id, cfg, is_available, counted: &[] }
    }

    #[test]
    fn one_above_a_limit_and_one_too_early_are_seen() {
        let on = Mutation::new("power", "on", Context::Child);
        let (id, cfg) = (NodeId::new("n0").unwrap(), Document::new());
        let n0 = member(&id, &cfg, true);
        let enter = |quotas: &mut Quotas, at| quotas.enter(Millis(at), &on, n0, [n0].into_iter());
        let scope = || Scope::Module("power".into());
        let mut quotas = Quotas::new(vec![Limit::at_most(1, scope())]);
        let counts = enter(&mut quotas, 0).unwrap();
        quotas.leave(&counts);
        enter(&mut quotas, 0).unwrap();
        assert!(enter(&mut quotas, 0).is_err());

        let mut quotas = Quotas::new(vec![Limit::spaced(Duration::from_millis(9), scope())]);
        enter(&mut quotas, 0).unwrap();
        enter(&mut quotas, 9).unwrap();
        assert!(enter(&mut quotas, 17).is_err());
    }

    /// Whether a disruptive step may begin on the first of these nodes: in which rack each is, and
    /// whether it is available.
    fn may_begin(limit: Limit, nodes: &[(&str, bool)]) -> bool {
        let ids: Vec<NodeId> =
            (0..nodes.len()).map(|n| NodeId::new(&format!("n{n}")).unwrap()).collect();
        let cfgs: Vec<Document> =
            nodes.iter().map(|(rack, _)| document(&[("rack", rack)])).collect();
        let member = |n: usize| member(&ids[n], &cfgs[n], nodes[n].1);
        let off = Mutation::new("power", "off", Context::Child).disruptive();
        let all = (0..nodes.len()).map(member);
        Quotas::new(vec![limit]).enter(Millis(0), &off, member(0), all).is_ok()
    }

    #[test]
    fn one_too_many_unavailable_is_seen_where_the_limit_counts() {
        let share = |share| Limit::unavailable(share, Scope::Disruptive);
        let nodes = |away: usize| {
            let mut nodes = vec![("a", true); 10];
            nodes[1..=away].fill(("a", false));
            nodes
        };
        let third = || share(Share::Percent(39));
        assert!(may_begin(third(), &nodes(2)));
        assert!(!may_begin(third(), &nodes(3)), "39 % of ten are three");
        assert!(may_begin(share(Share::Count(4)), &nodes(3)));
        assert!(may_begin(share(Share::Percent(1)), &nodes(0)), "one always may");
        assert!(!may_begin(share(Share::Percent(1)), &nodes(1)));
        let mut broken = nodes(9);
        broken[0].1 = false;
        assert!(may_begin(third(), &broken), "what is broken is mended");
        let mut elsewhere = nodes(3);
        elsewhere[1..=3].fill(("b", false));
        assert!(may_begin(third().per(Path::known("rack")), &elsewhere));
        assert!(!may_begin(third(), &elsewhere));
        let group = |names: &[&str]| {
            let nodes: NodeSet = names.iter().map(|name| NodeId::new(name).unwrap()).collect();
            Arc::new(Group { name: "some".into(), nodes })
        };
        let one = || share(Share::Count(1));
        assert!(!may_begin(one().within(group(&["n0", "n1"])), &nodes(1)));
        assert!(may_begin(one().within(group(&["n0", "n2"])), &nodes(1)));
        assert!(may_begin(one().within(group(&["n1", "n2"])), &nodes(1)), "it is not about n0");
    }

    #[test]
    fn a_step_that_is_under_way_makes_its_node_unavailable() {
        let off = Mutation::new("power", "off", Context::Child).disruptive();
        let ids = ["n0", "n1"].map(|name| NodeId::new(name).unwrap());
        let cfg = Document::new();
        let limit = Limit::unavailable(Share::Count(1), Scope::Disruptive);
        let mut quotas = Quotas::new(vec![limit]);
        let idle = ids.each_ref().map(|id| member(id, &cfg, true));
        let counted = quotas.enter(Millis(0), &off, idle[0], idle.into_iter()).unwrap();
        let n0 = Member { counted: &counted, ..idle[0] };
        assert!(quotas.enter(Millis(1), &off, idle[1], [n0, idle[1]].into_iter()).is_err());
    }

    #[test]
    fn a_node_is_available_when_it_is_as_wanted_or_as_good() {
        let availability = Availability {
            wanted: vec![Path::known("run"), Path::known("image")],
            as_good: vec![(Path::known("image"), "UPDATE".into())],
        };
        let cfg = document(&[("run", "SYNC"), ("image", "ACTIVE")]);
        let is =
            |cfg: &Document, dsc: &[(&str, &str)]| is_available(&availability, cfg, &document(dsc));
        assert!(is(&cfg, &[("run", "SYNC"), ("image", "ACTIVE")]));
        assert!(is(&cfg, &[("run", "SYNC"), ("image", "UPDATE")]));
        assert!(!is(&cfg, &[("run", "UPDATE"), ("image", "ACTIVE")]));
        assert!(!is(&cfg, &[("run", "SYNC")]), "unknown is not as wanted");
        assert!(is(&document(&[("phys", "OFF")]), &[]), "nobody wants it");
    }
}
