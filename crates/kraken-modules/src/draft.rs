//! One file, read in two turns: first what it declares, then, once everything that is declared
//! anywhere is known, what it says of it.

use crate::command::{Program, Stamp};
use crate::step::{Place, Step, duration};
use crate::{fields, guard};
use kraken_model::{Field, Path as Address, Registry, Schema, Side, nearest};
use kraken_plan::{Context, Effect, Guard, Mutation, Retry};
use kraken_yaml::{Data, Diagnostic, Node, Pos, Report};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often is looked unless said otherwise.
const EVERY: Duration = Duration::from_secs(30);

/// How long a look may take unless said otherwise.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

const KEYS: &[&str] =
    &["module", "about", "variables", "facts", "serve", "discover", "mutations", "guards"];

/// A file after the first turn.
pub(crate) struct Draft {
    pub(crate) report: Report,
    pub(crate) name: String,
    pub(crate) at: Pos,
    /// Its variables and facts, with their places.
    pub(crate) fields: Vec<(Field, Pos)>,
    /// Its variables, also those that turn out to be another's: a mistake is said once.
    variables: Vec<String>,
    root: Node,
    dir: PathBuf,
    text: String,
}

/// A file after the second turn.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) report: Report,
    pub(crate) name: String,
    pub(crate) schema: Schema,
    pub(crate) steps: Vec<Step>,
    /// What serves it over gRPC; nothing: its steps are commands.
    #[cfg_attr(not(feature = "grpc"), allow(dead_code))]
    pub(crate) serve: Option<Program>,
    pub(crate) discover: Option<Discover>,
    pub(crate) additions: Vec<Addition>,
    /// The file itself.
    text: String,
    /// The program that serves it, as it was when the file was read. Commands are started anew each time, so theirs
    /// do not matter.
    served_by: Vec<Stamp>,
}

/// How a module looks.
#[derive(Clone, Debug)]
pub(crate) struct Discover {
    pub(crate) program: Program,
    pub(crate) every: Duration,
    pub(crate) timeout: Duration,
    /// Whether one run answers for all nodes.
    pub(crate) of_all: bool,
    /// Which nodes it looks at.
    pub(crate) requires: Vec<Guard>,
}

/// Guards that a file adds to a mutation that is not its own.
#[derive(Debug)]
pub(crate) struct Addition {
    pub(crate) mutation: String,
    pub(crate) at: Pos,
    pub(crate) requires: Vec<Guard>,
    pub(crate) excludes: Vec<Guard>,
}

impl Declared {
    /// Whether it runs as another one does: it is the same file, the program that serves it is the same, and what
    /// it asks of nodes before it looks means the same.
    pub(crate) fn runs_as(&self, other: &Self, now: &Registry, then: &Registry) -> bool {
        let is_same = |guard: &Guard| {
            let field =
                |registry: &Registry| Some(registry.field(guard.path.as_str())?.kind.clone());
            field(now) == field(then)
        };
        let mut asked = self.discover.iter().flat_map(|discover| &discover.requires);
        let Self { name, text, served_by, .. } = other;
        (&self.name, &self.text, &self.served_by) == (name, text, served_by) && asked.all(is_same)
    }

    /// Whether the file declares that the value at an address is discovered.
    pub(crate) fn discovers(&self, path: &Address) -> bool {
        self.schema
            .fields
            .iter()
            .any(|field| field.pattern.matches(path.as_str()) && field.sides.contains(&Side::Dsc))
    }
}

impl Draft {
    /// The first turn: name, variables and facts.
    pub(crate) fn read(file: &Path, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut report = Report::new(&file.display().to_string());
        let Some(root) = kraken_yaml::read(text, &mut report) else {
            return Err(report.finish());
        };
        report.known(&root, "the file", KEYS);
        let at = root.get("module").map_or(root.at, |node| node.at);
        let name = root.get("module").and_then(Node::text).unwrap_or_default().to_owned();
        if Address::new(&name).is_err() || name.contains('.') {
            let why = "a module has a name of letters, digits, hyphens and underscores";
            report.add(at, "module", "module is missing or no name", why, "add module: NAME");
        }
        let mut fields = fields::variables(&root, &mut report);
        let variables = fields.iter().map(|(field, _)| field.pattern.to_string()).collect();
        fields.extend(fields::facts(&root, &mut report));
        let dir = file.parent().unwrap_or(Path::new("/")).to_owned();
        let text = text.to_owned();
        Ok(Self { report, name, at, fields, variables, root, dir, text })
    }

    pub(crate) fn schema(&self) -> Schema {
        let fields = self.fields.iter().map(|(field, _)| field.clone()).collect();
        Schema { name: self.name.clone(), fields }
    }

    /// The second turn: mutations, guards, and how it looks.
    pub(crate) fn finish(mut self, registry: &Registry) -> Declared {
        let schema = self.schema();
        let own: Vec<&str> = self.variables.iter().map(String::as_str).collect();
        let report = &mut self.report;
        let serve = serve(&self.root, &self.dir, report);
        let is_served = self.root.get("serve").is_some();
        let discover = self.root.get("discover");
        let declares = ["variables", "facts"].iter().any(|key| self.root.get(key).is_some());
        if discover.is_none() && declares && !is_served {
            let why = "what it declares has to be found out by somebody";
            let hint = "add discover: {command: [program]}";
            report.add(self.at, "discover", "discover is missing", why, hint);
        }
        if let Some(node) = discover.filter(|_| is_served) {
            let why = "the module is a process of its own, which tells by itself what it finds";
            report.add(node.at, "discover", "discover beside serve", why, "leave one of both out");
        }
        let discover = discover.and_then(|node| look(node, &self.dir, registry, report));
        let place = Place {
            module: &self.name,
            dir: &self.dir,
            registry,
            own: &own,
            needs_command: !is_served,
        };
        let mut steps: Vec<Step> = Vec::new();
        for (name, at, body) in fields::section(&self.root, "mutations", report) {
            steps.extend(Step::read(name, *at, body, &place, report));
        }
        let looks = looks(&self.name, &own, registry, discover.as_ref(), &steps);
        steps.extend(looks);
        steps.iter_mut().for_each(|step| step.mutation.looks_after = discover.is_some());
        let additions = additions(&self.root, registry, report);
        let (report, name, text) = (self.report, self.name, self.text);
        let served_by = serve.as_ref().map(Program::stamps).unwrap_or_default();
        Declared { report, name, schema, steps, serve, discover, additions, text, served_by }
    }
}

/// What serves the module, when it is a process of its own.
fn serve(root: &Node, dir: &Path, report: &mut Report) -> Option<Program> {
    let node = root.get("serve")?;
    report.known(node, "serve", &["command", "shell"]);
    if cfg!(not(feature = "grpc")) {
        let why = "this program was built without gRPC";
        report.add(node.at, "serve", "nothing can be served", why, "use commands");
    }
    let program = Program::read(node, "serve", dir, report);
    if program.is_none() && node.get("command").is_none() && node.get("shell").is_none() {
        let why = "something has to be run";
        report.add(node.at, "serve", "serve.command is missing", why, "add command: [program]");
    }
    program
}

fn look(node: &Node, dir: &Path, registry: &Registry, report: &mut Report) -> Option<Discover> {
    let path = "discover";
    report.known(node, path, &["command", "shell", "every", "timeout", "of", "requires"]);
    let program = Program::read(node, path, dir, report);
    if program.is_none() && node.get("command").is_none() && node.get("shell").is_none() {
        let why = "something has to be run to look";
        report.add(node.at, path, "discover.command is missing", why, "add command: [program]");
    }
    let of_all = match node.get("of").map_or(Some("node"), Node::text) {
        Some("node") => false,
        Some("all") => true,
        _ => {
            let of = node.get("of");
            let near = nearest(of.and_then(Node::text).unwrap_or_default(), ["node", "all"]);
            let hint = near.map(|near| format!("did you mean {near:?}?")).unwrap_or_default();
            let at = of.map_or(node.at, |node| node.at);
            let why = "one run answers for one node, or for all";
            report.add(at, "discover.of", "discover.of is neither node nor all", why, hint);
            false
        }
    };
    Some(Discover {
        every: duration(node, path, "every", report).unwrap_or(EVERY),
        timeout: duration(node, path, "timeout", report).unwrap_or(LOOK_WITHIN),
        of_all,
        requires: guard::list(node, path, "requires", registry, report),
        program: program?,
    })
}

/// A step from unknown for every variable that no mutation of the file discovers: looking.
fn looks(
    module: &str,
    own: &[&str],
    registry: &Registry,
    discover: Option<&Discover>,
    steps: &[Step],
) -> Vec<Step> {
    let mut looks = Vec::new();
    for variable in own {
        let Some([unknown, likely, others @ ..]) = registry.variable(variable).map(AsRef::as_ref)
        else {
            continue;
        };
        let finds = |step: &Step| {
            let mut effects = step.mutation.effects.iter();
            effects.any(|e| e.variable.as_str() == *variable && e.from == *unknown)
        };
        let moved =
            |step: &Step| step.mutation.effects.iter().any(|e| e.variable.as_str() == *variable);
        if steps.iter().any(finds) || !steps.iter().any(moved) {
            continue;
        }
        let name = format!("discover_{}", variable.replace('.', "_"));
        let mut mutation = Mutation::new(module, &name, Context::Child);
        let (from, to, or) = (unknown.clone(), likely.clone(), others.to_vec());
        mutation.effects.push(Effect { variable: Address::known(variable), from, to, or });
        if let Some(discover) = discover {
            mutation.requires.clone_from(&discover.requires);
            mutation.timeout = discover.timeout + discover.every;
        }
        // Asking harms nobody, and giving up helps nobody.
        mutation.retry = Retry { limit: None, ..Retry::DEFAULT };
        looks.push(Step { mutation, program: None, is_look: true });
    }
    looks
}

fn additions(root: &Node, registry: &Registry, report: &mut Report) -> Vec<Addition> {
    let mut additions = Vec::new();
    for (mutation, at, body) in fields::section(root, "guards", report) {
        let path = format!("guards.{mutation}");
        report.known(body, &path, &["requires", "excludes"]);
        let requires = guard::list(body, &path, "requires", registry, report);
        let excludes = guard::list(body, &path, "excludes", registry, report);
        let says = |key| match body.get(key).map(|node| &node.data) {
            Some(Data::List(guards)) => !guards.is_empty(),
            said => said.is_some(),
        };
        // A guard that is none is wrong already.
        if requires.is_empty() && excludes.is_empty() && !says("requires") && !says("excludes") {
            let hint = "add requires: [ADDRESS = VALUE]";
            // A path of its own: that there is no such mutation is another mistake at this place.
            let what = format!("{path} adds nothing");
            report.add(*at, &format!("{path}.requires"), what, "it has no guard", hint);
        }
        additions.push(Addition { mutation: mutation.clone(), at: *at, requires, excludes });
    }
    additions
}
