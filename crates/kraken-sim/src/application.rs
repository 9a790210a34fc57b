//! What an application puts into a simulated fleet: its machines, and what its modules do to them.

use crate::Random;
use kraken_engine::{DispatchId, Failure, Order, Settings};
use kraken_model::{Change, Document, Millis, NodeId, Path, Registry};
use kraken_plan::{Effect, Foresight, ModuleSet};
use kraken_sync::{Secret, TokenBook};
use std::sync::Arc;
use std::time::Duration;

/// An application: the words and mutations it plans with, its machines, and its modules.
///
/// Everything that it says has to follow from what it is given: no clock, no randomness of its own.
pub trait Application {
    /// What is really so on one machine, and what the parent's modules keep durably for it.
    type Machine;

    /// What may stand in a document.
    fn registry(&self) -> Arc<Registry>;

    /// The mutations, of parent and node alike.
    fn modules(&self) -> Arc<ModuleSet>;

    /// How the parent's engine behaves in a run of this epoch.
    fn settings(&self, epoch: u64) -> Settings;

    /// How sync behaves.
    fn cadence(&self) -> Cadence;

    /// Whether a node itself speaks of the value at an address.
    fn node_owns(&self, path: &Path) -> bool;

    /// Where in its cfg a node is told which disruptive step it may take.
    fn permitted_under(&self) -> Path;

    /// Who may write a value of dsc, as named in the journal.
    fn writers(path: &Path) -> &'static [&'static str];

    /// What was concluded from silence and is disproved when a node is heard again.
    fn disproved(&self) -> Vec<Effect>;

    /// What is known of a node that has joined.
    fn joined(&self) -> Vec<Change>;

    /// What a node tells of its services together with its having joined.
    fn services(&self, machine: &Self::Machine) -> Vec<Change>;

    /// What is known of a node that has left.
    fn left(&self) -> Vec<Change>;

    /// What a person may want of a node.
    fn cfg(&self, node: usize, wish: Wish) -> Document;

    /// A machine that nobody has touched yet.
    fn machine(&self, node: usize) -> Self::Machine;

    /// A node's agent begins a new life. Of what lived in the one before, nothing is left.
    fn revives(&self, machine: &mut Self::Machine);

    /// A module begins to look after a machine, on the parent or on the node itself: at the start,
    /// and again after a crash.
    fn begin(&self, machine: &mut Self::Machine, module: &str, deeds: &mut Deeds<'_>);

    /// A module carries out an order, in stages: from zero, on to whatever it asks for with
    /// [`Deeds::go_on`]. The order may be interrupted in between.
    fn work(&self, machine: &mut Self::Machine, task: Task<'_>, deeds: &mut Deeds<'_>);

    /// An alarm that the application set.
    fn alarm(&self, machine: &mut Self::Machine, alarm: Alarm, deeds: &mut Deeds<'_>);

    /// What is known of a node at the parent has changed.
    fn changed(&self, machine: &mut Self::Machine, dsc: &Document, deeds: &mut Deeds<'_>);

    /// The node has a new cfg.
    fn configured(&self, machine: &mut Self::Machine, cfg: &Document, deeds: &mut Deeds<'_>);

    /// Something breaks, or is whole again.
    fn strike(&self, machine: &mut Self::Machine, blow: Blow, begins: bool, deeds: &mut Deeds<'_>);

    /// What a node is told to be, from what people want of it, what the parent knows of it, and whether it is held.
    fn told(&self, cfg: Document, _dsc: &Document, _is_held: bool) -> Document {
        cfg
    }

    /// What a node will find out about itself once its cfg is another: from the cfg before, the cfg after, what is
    /// known of it, and the step of its own that is under way.
    fn foreseen(
        &self,
        _before: &Document,
        _after: &Document,
        _dsc: &Document,
        _under_way: Option<&str>,
    ) -> Foresight {
        Foresight::default()
    }

    /// Whether the machine really is as a cfg wants it.
    fn is_as(&self, machine: &Self::Machine, cfg: &Document) -> bool;
}

/// How often nodes say hello, and after which silence they are given up.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// The pause between two hellos.
    pub hello: Duration,
    /// The least silence after which a node counts as silent.
    pub silent: Duration,
}

/// On whose side something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Modules of the parent.
    Parent,
    /// Modules of the node.
    Node,
}

/// What a person wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That it does what it is there for, the n-th variant of it.
    Runs(u8),
    /// That what runs on it runs on, and its services are stopped.
    Unattended,
    /// That it is off.
    Off,
}

/// An order in one of its stages.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The name of the mutation.
    pub mutation: &'a str,
    /// The order.
    pub order: &'a Order,
    /// Which stage: zero when it arrives.
    pub stage: u32,
}

/// An alarm of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Of the machine itself; comes whatever happens to parent and modules.
    Machine(u64),
    /// Of a module of the parent; ends with it.
    Module(&'static str, u64),
}

/// What may break on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It has no power from outside; at the end it has again.
    Power,
    /// It starts anew by itself, at once.
    Reset,
    /// Its kernel hangs, until its power is cut.
    Wedge,
    /// Its controller does not answer.
    ControllerHangs,
    /// Its controller answers with errors.
    ControllerErrs,
    /// Its controller says that everything is done, and does nothing.
    ControllerLies,
    /// Everything takes several times as long.
    Slow,
    /// What it runs ends by itself.
    Work,
    /// A service of its agent breaks off.
    Service,
}

/// What an application wants done, in order.
#[derive(Debug)]
pub(crate) enum Deed {
    Find(Side, Vec<Change>, Arc<str>),
    Answer(DispatchId, Result<(), Failure>),
    GoOn(Duration, u32),
    Alarm(Duration, Alarm),
    Print(Arc<str>, String),
    Boot(String, Secret),
    Die,
}

/// Takes what an application wants done, and gives it what it may know.
pub struct Deeds<'a> {
    /// The node that it is about.
    pub node: &'a NodeId,
    /// What time it is.
    pub now: Millis,
    /// Where everything random comes from.
    pub random: &'a mut Random,
    pub(crate) book: Option<&'a mut TokenBook>,
    pub(crate) is_cut: bool,
    pub(crate) down: &'a [Arc<str>],
    pub(crate) wanted: &'a mut Vec<Deed>,
}

impl Deeds<'_> {
    /// Tells the engine of one side what was found out. Nobody hears it when that does not run.
    pub fn find(&mut self, side: Side, changes: Vec<Change>, by: &Arc<str>) {
        self.wanted.push(Deed::Find(side, changes, Arc::clone(by)));
    }

    /// Whether a module of the parent can be reached from the machine now.
    #[must_use]
    pub fn reaches(&self, module: &str) -> bool {
        self.book.is_some() && !self.is_cut && self.down.iter().all(|down| **down != *module)
    }

    /// Answers an order.
    pub fn answer(&mut self, order: &Order, result: Result<(), &str>) {
        let result = result.map_err(|reason| Failure { reason: reason.into(), permanent: false });
        self.wanted.push(Deed::Answer(order.id.clone(), result));
    }

    /// Goes on with an order later, unless it is interrupted.
    pub fn go_on(&mut self, after: Duration, stage: u32) {
        self.wanted.push(Deed::GoOn(after, stage));
    }

    /// Sets an alarm.
    pub fn alarm(&mut self, after: Duration, alarm: Alarm) {
        self.wanted.push(Deed::Alarm(after, alarm));
    }

    /// Something on the node prints a line, which goes to the parent as everything printed does.
    pub fn print(&mut self, stream: &Arc<str>, line: String) {
        self.wanted.push(Deed::Print(Arc::clone(stream), line));
    }

    /// The agent of a node starts, with the boot and the token that it was given.
    pub fn boot(&mut self, boot_id: String, token: Secret) {
        self.wanted.push(Deed::Boot(boot_id, token));
    }

    /// Whatever ran on the machine is gone, without a word.
    pub fn die(&mut self) {
        self.wanted.push(Deed::Die);
    }

    /// Mints the token for the next boot of the node and expects that boot: its name and its
    /// token. Nothing, when no parent runs.
    pub fn mint(&mut self, valid: Duration) -> Option<(String, Secret)> {
        let boot_id = format!("{:016x}", self.random.next());
        let bytes = self.random.bytes();
        let book = self.book.as_deref_mut()?;
        book.expect(self.node, &boot_id);
        let token = book.mint(self.now, self.node, &boot_id, bytes, valid);
        Some((boot_id, token))
    }

    /// Expects no boot of the node any more.
    pub fn withdraw(&mut self) {
        if let Some(book) = self.book.as_deref_mut() {
            book.unexpect(self.node);
        }
    }
}
