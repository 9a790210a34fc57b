//! What can be reached at all, looked at generously: a value that was reached once stays.
//!
//! Whatever is out of reach here is so in truth, and finding that out takes microseconds where
//! listing all states that *can* be reached may take forever.

use crate::group::Move;
use crate::set::{Among, Bits, Compiled, Condition, ModuleSet, State, Variable};

/// The moves that may become possible on the way from a state to a goal; nothing when the goal is
/// out of reach.
pub(crate) fn possible(
    set: &ModuleSet,
    moves: &[Move],
    start: State,
    goal: Bits,
) -> Option<Vec<Move>> {
    let mut reached = Reached::from(set, start);
    let mut possible = vec![false; moves.len()];
    loop {
        let before = reached.count;
        for (candidate, possible) in moves.iter().zip(&mut possible) {
            let step = set.step(candidate.id);
            if !*possible
                && reached.all(step.from)
                && step.conditions.iter().all(|condition| reached.fulfil(condition))
            {
                *possible = true;
                reached.add(candidate.to);
            }
        }
        if reached.count == before {
            break;
        }
    }
    let possible = moves.iter().zip(possible).filter(|(_, possible)| *possible);
    reached.all(goal).then(|| possible.map(|(candidate, _)| *candidate).collect())
}

/// The values that were reached, variable by variable.
struct Reached<'a> {
    variables: &'a [Variable],
    values: Vec<Vec<bool>>,
    count: usize,
}

impl<'a> Reached<'a> {
    fn from(set: &'a ModuleSet, start: State) -> Self {
        let variables = &set.variables[..];
        let values = variables.iter().map(|v| vec![false; v.values.len()]).collect();
        let mut reached = Self { variables, values, count: 0 };
        for variable in variables {
            reached.add(Bits { mask: variable.mask, value: start.0 & variable.mask });
            if variable.is_forgettable() {
                reached.add(Bits { mask: variable.mask, value: 0 });
            }
        }
        reached
    }

    /// The values that bits speak of: position of the variable, index of the value.
    fn spoken(&self, bits: Bits) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        let variables = self.variables.iter().enumerate();
        let spoken = variables.filter(move |(_, variable)| variable.mask & bits.mask != 0);
        spoken.map(move |(at, variable)| (at, variable.index(State(bits.value))))
    }

    fn add(&mut self, bits: Bits) {
        for (at, value) in self.spoken(bits) {
            self.count += usize::from(!std::mem::replace(&mut self.values[at][value], true));
        }
    }

    fn all(&self, bits: Bits) -> bool {
        self.spoken(bits).all(|(at, value)| self.values[at][value])
    }

    fn other(&self, bits: Bits) -> bool {
        let other = |at: usize, value| (0..).zip(&self.values[at]).any(|(v, is)| *is && v != value);
        self.spoken(bits).any(|(at, value)| other(at, value))
    }

    /// Whether a value of some, or one that is not among them, was reached.
    fn some(&self, among: Among, excluded: bool) -> bool {
        let at = self.variables.iter().position(|variable| variable.mask == among.mask);
        let mut values = at.into_iter().flat_map(|at| (0..).zip(&self.values[at]));
        values.any(|(index, reached)| *reached && among.has(index) != excluded)
    }

    /// Whether a guard can be fulfilled. Guards on facts do not change on the way; moves that they
    /// rule out are not looked at here.
    fn fulfil(&self, condition: &Condition) -> bool {
        match (condition.test, condition.excluded) {
            (Compiled::Fact(_), _) => true,
            (Compiled::Bits(bits), false) | (Compiled::NotBits(bits), true) => self.all(bits),
            (Compiled::Bits(bits), true) | (Compiled::NotBits(bits), false) => self.other(bits),
            (Compiled::OneOf(among), excluded) => self.some(among, excluded),
        }
    }
}
