//! Services: modules that run on a node only while something needs them, as state of that node.
//!
//! Whether a service runs is a variable of the node, `services.<name>.state`, and what starts and
//! stops it are mutations like any others. So it is started *on demand*: the mutations of its module
//! require it to run ([`Service::runs`]), and the planner starts it when a goal needs one of them. It
//! is stopped when cfg says so, and only then, and restarted when it is found to have broken off.

use crate::mutation::{Context, Guard, Mutation, Retry};
use kraken_model::{Field, Format, Kind, Path, Pattern, Side, Value};
use std::sync::Arc;
use std::time::Duration;

/// The module under which the mutations of all services are declared.
pub const SERVICE: &str = "service";

/// Whether a service runs is not known.
pub const UNKNOWN: &str = "UNKNOWN";

/// It does not run, and need not.
pub const STOPPED: &str = "STOPPED";

/// It runs.
pub const RUNNING: &str = "RUNNING";

/// It broke off, or could not be started.
pub const ERROR: &str = "ERROR";

/// What a service is expected to take to say how it is, to start or to stop.
const QUICK: Duration = Duration::from_millis(100);

const BOTH: &[Side] = &[Side::Cfg, Side::Dsc];
const DSC: &[Side] = &[Side::Dsc];

/// A service of a node: the module of its name, which runs while the node's state says so.
#[derive(Clone, Debug)]
pub struct Service {
    name: Arc<str>,
    about: String,
    requires: Vec<Guard>,
    timeout: Duration,
    retry: Retry,
}

/// What a service is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To say whether it runs.
    Discover,
    /// To run.
    Start,
    /// To run again after it broke off.
    Restart,
    /// To stop.
    Stop,
    /// Not to be started again after it broke off.
    Clear,
}

impl Ask {
    const ALL: [Self; 5] = [Self::Discover, Self::Start, Self::Restart, Self::Stop, Self::Clear];

    fn verb(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Clear => "clear",
        }
    }

    /// What a mutation asks, and of which service: `service.start-image`.
    #[must_use]
    pub fn of(mutation: &str) -> Option<(Self, &str)> {
        let (verb, name) = mutation.strip_prefix(SERVICE)?.strip_prefix('.')?.split_once('-')?;
        let ask = Self::ALL.into_iter().find(|ask| ask.verb() == verb)?;
        Some((ask, name))
    }
}

impl Service {
    /// The service of a name, which is that of its module.
    #[must_use]
    pub fn new(name: &str, about: &str) -> Self {
        Self {
            name: name.into(),
            about: about.to_owned(),
            requires: Vec::new(),
            timeout: Duration::from_secs(120),
            retry: Retry { limit: None, ..Retry::DEFAULT },
        }
    }

    /// Must hold for anything to be known of it.
    #[must_use]
    pub fn requires(mut self, guard: Guard) -> Self {
        self.requires.push(guard);
        self
    }

    /// How long starting and stopping may take, with the pause before it is started again.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How failures to start or stop it are met.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of something that is said of the service of a name: `state`, a variable; `reason`
    /// and `restarts`, facts.
    #[must_use]
    pub fn path(name: &str, of: &str) -> Path {
        Path::known(&format!("services.{name}.{of}"))
    }

    /// That it runs: what every mutation of its module requires.
    #[must_use]
    pub fn runs(&self) -> Guard {
        Guard::is(Self::path(&self.name, "state").as_str(), RUNNING)
    }

    /// What may stand in a node's documents about it.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let values: Vec<Arc<str>> = [UNKNOWN, STOPPED, RUNNING, ERROR].map(Arc::from).into();
        let count = Kind::Int { min: 0, max: i64::MAX };
        vec![
            self.field("state", Kind::Variable(values.into()), BOTH, self.about.clone()),
            self.field("reason", Kind::Text(Format::Any), DSC, "Why it does not run".to_owned()),
            self.field(
                "restarts",
                count,
                DSC,
                "How often it broke off since whatever hosts it was started".to_owned(),
            ),
        ]
    }

    /// A field at an address which is one, as the name of a module is spelt in the program.
    #[allow(clippy::expect_used)]
    fn field(&self, of: &str, kind: Kind, sides: &'static [Side], about: String) -> Field {
        let pattern = Pattern::new(Self::path(&self.name, of).as_str()).expect("an address");
        Field { pattern, kind, sides, about, unavailable: Vec::new() }
    }

    /// What starts, restarts and stops it.
    ///
    /// It is stopped only where cfg says that it should be: that what its module knows is forgotten
    /// with it must never look like a way out to the planner.
    #[must_use]
    pub fn mutations(&self) -> Vec<Mutation> {
        let path = Self::path(&self.name, "state");
        let step = |ask: Ask, from, to| {
            let name = format!("{}-{}", ask.verb(), self.name);
            let mut step = Mutation::new(SERVICE, &name, Context::Node)
                .moves(path.as_str(), from, to)
                .timeout(self.timeout)
                .cost(QUICK)
                .retry(self.retry);
            step.requires = self.requires.clone();
            step
        };
        let stop = |ask, from| {
            let wanted = Guard::wanted(path.as_str(), Value::from(STOPPED));
            step(ask, from, STOPPED).requires(wanted)
        };
        vec![
            step(Ask::Discover, UNKNOWN, STOPPED).or_finds(RUNNING).or_finds(ERROR),
            step(Ask::Start, STOPPED, RUNNING),
            step(Ask::Restart, ERROR, RUNNING),
            stop(Ask::Stop, RUNNING),
            stop(Ask::Clear, ERROR),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Costs, ModuleSet, Policy, check};
    use kraken_model::{Document, Registry, Schema};

    /// A module that heats a room while its service runs.
    fn heating() -> Arc<ModuleSet> {
        let service = Service::new("heating", "Whether the heating is looked after");
        let mut fields = service.fields();
        fields.push(Field::variable("room", &["UNKNOWN", "COLD", "WARM"], "how it is").unwrap());
        let registry = Registry::new(vec![Schema { name: "house".into(), fields }]).unwrap();
        let step = |name, from, to| {
            let step = Mutation::new("heating", name, Context::Node).moves("room", from, to);
            step.requires(service.runs())
        };
        let mut mutations = service.mutations();
        mutations.push(step("discover", "UNKNOWN", "COLD").or_finds("WARM"));
        mutations.push(step("heat", "COLD", "WARM"));
        mutations.push(step("cool", "WARM", "COLD"));
        Arc::new(ModuleSet::new(&registry, mutations).unwrap())
    }

    fn document(values: &[(&str, &str)]) -> Document {
        let mut document = Document::new();
        for (path, value) in values {
            document.set(Path::known(path), *value);
        }
        document
    }

    const STATE: &str = "services.heating.state";

    /// The steps to what cfg wants from what is known, as they are expected to come.
    fn way(cfg: &[(&str, &str)], dsc: &[(&str, &str)]) -> Vec<String> {
        let set = heating();
        let (cfg, dsc) = (document(cfg), document(dsc));
        let (goal, facts) = (set.goal(&cfg), set.facts(&cfg, &dsc));
        let mut policy = Policy::new(&set, goal, facts, &Costs::default());
        let (way, end) = policy.walk(set.state(&dsc));
        let names = way.into_iter().map(|id| set.mutation(id).name.to_string()).collect();
        assert!(set.fulfils(end, goal), "{names:?}");
        names
    }

    #[test]
    fn a_service_is_started_only_where_a_goal_needs_its_module() {
        let first = ["service.discover-heating", "service.start-heating", "heating.discover"];
        assert_eq!(way(&[("room", "COLD")], &[]), first);
        assert_eq!(way(&[], &[]), [""; 0]);
        assert_eq!(way(&[], &[(STATE, STOPPED)]), [""; 0]);
    }

    #[test]
    fn one_that_broke_off_is_restarted_for_what_needs_it() {
        let again = ["service.restart-heating", "heating.discover", "heating.heat"];
        assert_eq!(way(&[("room", "WARM")], &[(STATE, ERROR)]), again);
        assert_eq!(way(&[], &[(STATE, ERROR)]), [""; 0]);
    }

    #[test]
    fn one_is_stopped_only_where_cfg_says_so() {
        let running = [(STATE, RUNNING), ("room", "WARM")];
        assert_eq!(way(&[(STATE, STOPPED)], &running), ["service.stop-heating"]);
        assert_eq!(way(&[(STATE, STOPPED)], &[(STATE, ERROR)]), ["service.clear-heating"]);
        assert_eq!(way(&[], &running), [""; 0]);
        // Not even to have forgotten what it knows.
        let set = heating();
        let stop = set.mutation_named("service.stop-heating").unwrap();
        let (cfg, dsc) = (document(&[("room", "COLD")]), document(&running));
        assert!(!set.applies(stop, set.state(&dsc), set.facts(&cfg, &dsc)));
    }

    #[test]
    fn what_a_module_knows_is_forgotten_with_its_service() {
        let set = heating();
        let dsc = document(&[(STATE, STOPPED), ("room", "WARM")]);
        let state = set.forget(set.state(&dsc), set.facts(&Document::new(), &dsc));
        assert_eq!(set.variable("room").unwrap().value(state).as_ref(), "UNKNOWN");
    }

    #[test]
    fn a_check_finds_nothing_and_every_mutation_says_what_is_asked_of_whom() {
        let set = heating();
        assert_eq!(check(&set), []);
        let service = Service::new("a-b", "");
        let asked: Vec<_> = service
            .mutations()
            .iter()
            .map(|m| Ask::of(&m.name).map(|(ask, n)| (ask, n.to_owned())))
            .collect();
        assert_eq!(asked, Ask::ALL.map(|ask| Some((ask, "a-b".to_owned()))));
        assert_eq!(Ask::of("image.start"), None);
        assert_eq!(Ask::of("service.paint-image"), None);
    }
}
