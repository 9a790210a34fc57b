//! Mutations: the steps that modules can take.

use kraken_model::{Document, Path, Registry, Side, Value};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A step that a module declares: which variables it moves from where to where, when it may be
/// taken, who takes it, and what it costs.
///
/// A mutation promises nothing: it is done when its effects are *discovered*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Its name, unique in a module set: `power.on`.
    pub name: Arc<str>,
    /// The module that carries it out.
    pub module: Arc<str>,
    /// The variables it moves; one at least, each once.
    pub effects: Vec<Effect>,
    /// What must hold for it to be taken, besides the `from` of its effects.
    pub requires: Vec<Guard>,
    /// What must not hold.
    pub excludes: Vec<Guard>,
    /// Who takes it.
    pub context: Context,
    /// How long after its dispatch its effects must have been discovered.
    pub timeout: Duration,
    /// What the state falls to when they were not; nothing: the attempt just failed.
    pub on_timeout: Option<Fallback>,
    /// How long it is expected to take: what the planner adds up.
    pub cost: Duration,
    /// Whether it may end what runs on the node, or takes the node out of use. Needs fresh knowledge and can be held back.
    pub disruptive: bool,
    /// Whether its module looks at what it moves again when an attempt has ended, however it ended, and
    /// says what it finds although nothing has changed. What such an attempt may have moved unseen
    /// is in doubt until then.
    pub looks_after: bool,
    /// How failures are met.
    pub retry: Retry,
}

/// A variable moves from one value to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The address of the variable.
    pub variable: Path,
    /// The value it must have before.
    pub from: Arc<str>,
    /// The value it is expected to have after.
    pub to: Arc<str>,
    /// Other values that may be found instead: power may be found on or off. The step is done with
    /// any of them. The planner counts on one of these only where nothing else leads to the goal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or: Vec<Arc<str>>,
}

/// A condition on one value of one of a node's documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guard {
    /// The document that is looked at. For variables this is [`Side::Dsc`], nearly always.
    pub side: Side,
    /// The address that is looked at.
    pub path: Path,
    /// What is asked of it.
    pub test: Test,
}

/// What a guard asks of a value. A variable that is absent has its first value: unknown. A fact that is
/// absent is no value at all, so of all these only [`Test::IsNot`] holds for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// It is this one.
    Is(Value),
    /// It is not this one.
    IsNot(Value),
    /// It is one of these.
    OneOf(Vec<Value>),
    /// It is a number, and not less than this one. Only for facts.
    AtLeast(i64),
    /// It is a number, and not more than this one. Only for facts.
    AtMost(i64),
    /// There is one (for a fact), or it is known (for a variable).
    Present,
}

/// Who takes a mutation for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// The node itself.
    #[serde(rename = "self")]
    Node,
    /// Its parent.
    Child,
    /// Whichever engine sees it first: both may, so it must be harmless twice.
    Any,
    /// Nobody: it comes by itself, sooner or later, and is waited for. Nothing can hold it back.
    Itself,
}

/// What the state falls to when a mutation does not come to its end in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// The address of the variable.
    pub variable: Path,
    /// The value it is given.
    pub value: Arc<str>,
}

/// How the failures of a mutation on one node are met: the n-th in a row is followed by a pause of
/// `base * 2^(n-1)`, `cap` at most, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The pause after the first failure.
    pub base: Duration,
    /// The longest pause.
    pub cap: Duration,
    /// After how many failures in a row the mutation is given up on that node; `None`: never.
    pub limit: Option<u32>,
}

impl Retry {
    /// What a mutation has unless it says otherwise.
    pub const DEFAULT: Self =
        Self { base: Duration::from_secs(5), cap: Duration::from_secs(300), limit: Some(8) };
}

impl Mutation {
    /// A mutation of a module, so far without effects, guards and with default times: a minute of
    /// timeout, a second of cost.
    #[must_use]
    pub fn new(module: &str, name: &str, context: Context) -> Self {
        Self {
            name: format!("{module}.{name}").into(),
            module: module.into(),
            effects: Vec::new(),
            requires: Vec::new(),
            excludes: Vec::new(),
            context,
            timeout: Duration::from_secs(60),
            on_timeout: None,
            cost: Duration::from_secs(1),
            disruptive: false,
            looks_after: false,
            retry: Retry::DEFAULT,
        }
    }

    /// Moves a variable.
    #[must_use]
    pub fn moves(mut self, variable: &str, from: &str, to: &str) -> Self {
        let variable = Path::known(variable);
        let (from, to, or) = (from.into(), to.into(), Vec::new());
        self.effects.push(Effect { variable, from, to, or });
        self
    }

    /// The variable that was named last may be found to have this value instead.
    #[must_use]
    pub fn or_finds(mut self, value: &str) -> Self {
        if let Some(effect) = self.effects.last_mut() {
            effect.or.push(value.into());
        }
        self
    }

    /// Must hold.
    #[must_use]
    pub fn requires(mut self, guard: Guard) -> Self {
        self.requires.push(guard);
        self
    }

    /// Must not hold.
    #[must_use]
    pub fn excludes(mut self, guard: Guard) -> Self {
        self.excludes.push(guard);
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What the state falls to when it takes longer.
    #[must_use]
    pub fn on_timeout(mut self, variable: &str, value: &str) -> Self {
        self.on_timeout = Some(Fallback { variable: Path::known(variable), value: value.into() });
        self
    }

    /// Whether it moves the variable at an address.
    #[must_use]
    pub fn does_move(&self, path: &Path) -> bool {
        self.effects.iter().any(|effect| effect.variable == *path)
    }

    /// How long it is expected to take.
    #[must_use]
    pub fn cost(mut self, cost: Duration) -> Self {
        self.cost = cost;
        self
    }

    /// May end what runs on the node.
    #[must_use]
    pub fn disruptive(mut self) -> Self {
        self.disruptive = true;
        self
    }

    /// Its module looks again when an attempt has ended, however it ended.
    #[must_use]
    pub fn looks_after(mut self) -> Self {
        self.looks_after = true;
        self
    }

    /// How failures are met.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl Guard {
    /// Asks something of what was discovered.
    #[must_use]
    pub fn found(path: &str, test: Test) -> Self {
        Self { side: Side::Dsc, path: Path::known(path), test }
    }

    /// Asks something of what is configured.
    #[must_use]
    pub fn asked(path: &str, test: Test) -> Self {
        Self { side: Side::Cfg, path: Path::known(path), test }
    }

    /// A discovered variable or fact has this value.
    #[must_use]
    pub fn is(path: &str, value: impl Into<Value>) -> Self {
        Self::found(path, Test::Is(value.into()))
    }

    /// A configured fact has this value.
    #[must_use]
    pub fn wanted(path: &str, value: impl Into<Value>) -> Self {
        Self::asked(path, Test::Is(value.into()))
    }

    /// A fact is configured.
    #[must_use]
    pub fn configured(path: &str) -> Self {
        Self::asked(path, Test::Present)
    }

    /// Whether a node fulfils it. A variable that is absent has its first value: unknown.
    #[must_use]
    pub fn holds_in(&self, registry: &Registry, cfg: &Document, dsc: &Document) -> bool {
        let variable = (self.side == Side::Dsc).then(|| registry.variable(self.path.as_str()));
        let Some(unknown) = variable.flatten().and_then(|values| values.first()) else {
            return self.holds(cfg, dsc);
        };
        let unknown = Value::from(Arc::clone(unknown));
        let found = dsc.get(self.path.as_str()).unwrap_or(&unknown);
        match self.test {
            Test::Present => *found != unknown,
            _ => self.is_met(Some(found)),
        }
    }

    /// Whether a fact of a node fulfils it. Guards on variables are the planner's business.
    #[must_use]
    pub fn holds(&self, cfg: &Document, dsc: &Document) -> bool {
        let document = if self.side == Side::Cfg { cfg } else { dsc };
        self.is_met(document.get(self.path.as_str()))
    }

    fn is_met(&self, found: Option<&Value>) -> bool {
        let number = found.and_then(Value::as_int);
        match &self.test {
            Test::Present => found.is_some(),
            Test::Is(value) => found == Some(value),
            Test::IsNot(value) => found != Some(value),
            Test::OneOf(values) => found.is_some_and(|found| values.contains(found)),
            Test::AtLeast(least) => number.is_some_and(|number| number >= *least),
            Test::AtMost(most) => number.is_some_and(|number| number <= *most),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Cfg { "cfg " } else { "" };
        write!(f, "{side}{} ", self.path)?;
        match &self.test {
            Test::Is(value) => write!(f, "= {value}"),
            Test::IsNot(value) => write!(f, "!= {value}"),
            Test::OneOf(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "is one of {}", values.join(", "))
            }
            Test::AtLeast(least) => write!(f, ">= {least}"),
            Test::AtMost(most) => write!(f, "<= {most}"),
            Test::Present => f.write_str("is set"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.variable, self.from, self.to)?;
        self.or.iter().try_for_each(|value| write!(f, " or {value}"))
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Node => "self",
            Self::Child => "child",
            Self::Any => "any",
            Self::Itself => "itself",
        })
    }
}
