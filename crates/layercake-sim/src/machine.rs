//! The machine, and how Layercake is put around it.

use crate::images::{Running, wanted_images};
use crate::services::ImageService;
use kraken_engine::{Limit, Role, Scope, Settings, Share, Silence};
use kraken_model::{Change, Document, Path, Registry};
use kraken_plan::service::{SERVICE as SERVICE_MODULE, STOPPED};
use kraken_plan::{Effect, Foresight, ModuleSet, Mutation};
use kraken_sim::{Alarm, Application, Blow, Cadence, Deeds, NODES_PER_RACK, Side, Task, Wish};
use layercake_schema::{
    ARCHITECTURES, Timing, boot_state, claim, image_state, module, phys_state, run_state,
};
use layercake_schema::{LIKELY_UNSEEN, MOST_RECOVERIES, RECOVERIES, SILENCE};
use std::sync::Arc;
use std::time::Duration;

/// Where it stands whether the image service runs.
const SERVICE: &str = "services.image.state";

/// How many machines of a rack may be switched on at a time.
const POWER_ON_AT_ONCE: u32 = 4;

/// How many disruptive steps may be under way in one rack, those that nodes take by themselves among them.
const DISRUPTED_AT_ONCE: u32 = 3;

/// How many of all nodes may be unavailable before a disruptive step makes one more so.
///
/// Broken nodes occupy this share, and whoever is available waits for them. Every day converges all the
/// same: a node that is unavailable does not wait for the share, so it is mended as if there were none;
/// what was given up is tried again when an operator comes by; and what waited then takes a few rounds
/// of some seconds, where the bound of a day is more than an hour.
const UNAVAILABLE: Share = Share::Percent(30);

/// How much time lies between the starts of two machines of a rack.
const POWER_ON_EVERY: Duration = Duration::from_millis(200);

/// How long a token may wait for its machine.
const TOKEN_VALID: Duration = Duration::from_secs(3600);

/// How much slower a slow machine is.
const SLOW: u32 = 4;

/// One node in so many speaks of what is not its own to know.
const BOASTERS: usize = 5;

/// How often firmware that finds no boot server asks again.
const FIRMWARE_RETRY: Duration = Duration::from_secs(10);

/// What a node is told to be, from what it is given to be and what its parent knows of it.
pub type ToldCfg = Arc<dyn Fn(Document, &Document, bool) -> Document + Send + Sync>;

/// A Layercake cluster.
#[derive(Clone)]
pub struct Layercake {
    pub(crate) timing: Timing,
    registry: Arc<Registry>,
    modules: Arc<ModuleSet>,
    names: Names,
    limits: bool,
    /// What a node is told of what it is given, where a server says so.
    told: Option<ToldCfg>,
    /// One machine in so many has a node that speaks of what is not its own to know.
    boasters: Option<usize>,
    /// How often a controller is asked for power.
    pub(crate) poll: Duration,
}

/// By whom things are found out, as named in the journal.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) power: Arc<str>,
    pub(crate) boot: Arc<str>,
    pub(crate) image: Arc<str>,
}

/// One machine, as it really is.
#[derive(Debug)]
pub struct Machine {
    /// Whether there is power at its inlet.
    pub(crate) is_fed: bool,
    pub(crate) is_on: bool,
    /// How far it has come since it was switched on.
    pub(crate) stage: Stage,
    /// Counts every loss of what ran, so that alarms of before mean nothing.
    pub(crate) run: u64,
    pub(crate) controller: Controller,
    pub(crate) is_slow: bool,
    /// The images that run.
    pub(crate) images: Running,
    /// What the node said last of the images that run.
    pub(crate) said: Document,
    /// How the service is that looks after them.
    pub(crate) service: ImageService,
    /// The images that were started and have ended by themselves.
    pub(crate) failed: Running,
    /// Whether its node speaks of what is not its own to know.
    pub(crate) boasts: bool,
    /// The cfg that the node has.
    pub(crate) cfg: Document,
    /// The boot that the boot module expects: name and token, durable.
    armed: Option<(String, kraken_sim::Secret)>,
    /// What the boot served last.
    served: Option<(String, kraken_sim::Secret)>,
    /// What the power module saw last; it forgets with every start.
    pub(crate) seen: Option<bool>,
    /// How many times the power module began to look at it: what it planned before counts no more.
    pub(crate) watches: u64,
    /// Whether the engine takes it to hang.
    pub(crate) is_thought_to_hang: bool,
    /// Whether it counts as found running, so that its firmware would say something new.
    may_boot_if_found: bool,
}

/// How far a machine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Off,
    Firmware,
    Kernel,
    Up,
    Wedged,
}

/// How a machine's controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    Fine,
    Hangs,
    Errs,
    Lies,
}

impl Layercake {
    /// A cluster whose nodes say hello so often.
    ///
    /// # Panics
    /// Never: the mutations of Layercake fit its schemas, which a test of theirs holds.
    #[must_use]
    pub fn new(hello: Duration) -> Self {
        let timing = Timing { hello, ..Timing::default() };
        let mutations = layercake_schema::mutations(&timing);
        Self::of(timing, mutations)
    }

    /// The machines of a cluster whose engine runs in a server, which says what nodes are told.
    ///
    /// # Panics
    /// Never, as with [`Layercake::new`].
    #[must_use]
    pub fn served(timing: &Timing, told: ToldCfg) -> Self {
        // As the program on a node plans.
        let mutations = layercake_schema::node_mutations(timing);
        let served = Self::of(timing.clone(), mutations);
        Self { told: Some(told), boasters: None, ..served }
    }

    fn of(timing: Timing, mutations: Vec<Mutation>) -> Self {
        #[allow(clippy::expect_used)]
        let registry = Registry::new(layercake_schema::schemas()).expect("schemas that fit");
        #[allow(clippy::expect_used)]
        let modules = ModuleSet::new(&registry, mutations).expect("mutations that fit");
        let names = Names {
            power: module::POWER.into(),
            boot: module::BOOT.into(),
            image: module::IMAGE.into(),
        };
        Self {
            timing,
            registry: Arc::new(registry),
            modules: Arc::new(modules),
            names,
            limits: true,
            told: None,
            boasters: Some(BOASTERS),
            poll: Duration::from_secs(5),
        }
    }

    /// The same without limits: for figures.
    #[must_use]
    pub fn without_limits(mut self) -> Self {
        self.limits = false;
        self
    }

    /// The same, where power is asked for so often.
    #[must_use]
    pub fn polled_every(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The machine begins anew from its firmware, or stays off.
    pub(crate) fn restart(&self, machine: &mut Machine, deeds: &mut Deeds<'_>) {
        machine.run += 1;
        machine.images.clear();
        machine.failed.clear();
        machine.served = None;
        deeds.die();
        machine.stage = if machine.is_on { Stage::Firmware } else { Stage::Off };
        if machine.is_on {
            let firmware = Duration::from_millis(deeds.random.within(8_000, 25_000));
            deeds.alarm(machine.takes(firmware), Alarm::Machine(machine.run));
        }
    }

    /// The firmware asks the network for something to boot.
    fn asks_to_boot(&self, machine: &mut Machine, deeds: &mut Deeds<'_>) {
        let is_heard = deeds.reaches(module::BOOT);
        let armed = machine.armed.clone().filter(|_| is_heard);
        let Some(armed) = armed else {
            if machine.may_boot_if_found && is_heard {
                // Whatever ran on it has ended.
                let on = vec![set(phys_state::PATH, phys_state::POWER_ON)];
                deeds.find(Side::Parent, on, &self.names.boot);
            }
            deeds.alarm(FIRMWARE_RETRY, Alarm::Machine(machine.run));
            return;
        };
        machine.served = Some(armed);
        machine.stage = Stage::Kernel;
        let served =
            vec![set(boot_state::PATH, boot_state::INIT), set(run_state::PATH, run_state::INIT)];
        deeds.find(Side::Parent, served, &self.names.boot);
        let kernel = Duration::from_millis(deeds.random.within(3_000, 15_000));
        deeds.alarm(machine.takes(kernel), Alarm::Machine(machine.run));
    }

    /// Whether people look at it through a server, who like to see more than what is planned with.
    pub(crate) fn is_served(&self) -> bool {
        self.told.is_some()
    }

    /// Says what a node's agent says when it starts.
    fn report_layer0(&self, machine: &Machine, deeds: &mut Deeds<'_>) {
        if machine.stage != Stage::Up || !self.is_served() {
            return;
        }
        // It is what it is said to be.
        let arch = machine.cfg.text("arch").unwrap_or(ARCHITECTURES[0]);
        let found = [
            ("layer0.kernel", "simulated"),
            ("layer0.version", env!("CARGO_PKG_VERSION")),
            ("arch", arch),
        ];
        let found = found.map(|(path, value)| set(path, value)).into();
        deeds.find(Side::Node, found, &self.names.image);
    }

    fn arm(&self, machine: &mut Machine, task: Task<'_>, deeds: &mut Deeds<'_>) {
        if task.mutation != "boot.arm" {
            // The machine comes by itself.
            deeds.answer(task.order, Ok(()));
            return;
        }
        // A boot that is under way goes on as it is: the machine may have its seed already.
        if machine.armed.is_none() {
            machine.armed = deeds.mint(TOKEN_VALID);
        }
        let wait = vec![set(boot_state::PATH, boot_state::WAIT)];
        deeds.find(Side::Parent, wait, &self.names.boot);
        deeds.answer(task.order, Ok(()));
    }
}

impl Machine {
    /// How long something takes on this machine.
    pub(crate) fn takes(&self, duration: Duration) -> Duration {
        if self.is_slow { duration * SLOW } else { duration }
    }
}

/// What is done about nodes that fall silent, as the server has it.
fn silence() -> Silence {
    Silence {
        variable: Path::known(run_state::PATH),
        lost: run_state::ERROR.into(),
        seen: [run_state::INIT, run_state::SYNC].map(Into::into).into(),
        stuck: (Path::known(phys_state::PATH), phys_state::PHYS_HANG.into()),
        policy: Path::known(SILENCE),
        tried: Path::known(RECOVERIES),
        recoveries: MOST_RECOVERIES,
        likely: LIKELY_UNSEEN.into(),
    }
}

pub(crate) fn set(path: &str, value: &str) -> Change {
    Change::set(Path::known(path), value)
}

impl Application for Layercake {
    type Machine = Machine;

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    fn modules(&self) -> Arc<ModuleSet> {
        Arc::clone(&self.modules)
    }

    fn settings(&self, epoch: u64) -> Settings {
        let mut settings = Settings::new(epoch, Role::Parent);
        // As the server has it.
        settings.storm.settle = settings.storm.settle.max(self.timing.hello * 3);
        settings.storm.per = vec![Path::known("location.rack")];
        settings.storm.powered = Some((Path::known(phys_state::PATH), phys_state::POWER_ON.into()));
        settings.silence = Some(silence());
        settings.fresh.push(Path::known(image_state::PATH));
        let to_be_changed = (Path::known(image_state::PATH), image_state::UPDATE.into());
        settings.availability.as_good.push(to_be_changed);
        settings.restart = Some(layercake_schema::restart());
        if self.limits {
            let on = || Scope::Mutation("power.on".into());
            let rack = || Path::known("location.rack");
            settings.limits = vec![
                Limit::at_most(POWER_ON_AT_ONCE, on()).per(rack()),
                Limit::spaced(POWER_ON_EVERY, on()).per(rack()),
                Limit::at_most(DISRUPTED_AT_ONCE, Scope::Disruptive).per(rack()),
                Limit::unavailable(UNAVAILABLE, Scope::Disruptive),
            ];
        }
        settings
    }

    fn cadence(&self) -> Cadence {
        Cadence { hello: self.timing.hello, silent: self.timing.silent }
    }

    fn node_owns(&self, path: &Path) -> bool {
        layercake_schema::node_owns(path)
    }

    fn permitted_under(&self) -> Path {
        Path::known(layercake_schema::PERMITTED)
    }

    fn writers(path: &Path) -> &'static [&'static str] {
        match path.as_str() {
            phys_state::PATH => &["power", "sync", "boot"],
            // That its time is over, or that it is ours after all, the engine finds out itself.
            claim::PATH => &["operator", "engine"],
            boot_state::PATH => &["boot"],
            run_state::PATH => &["boot", "sync"],
            // The end of a use that was said for a time is found by the engine itself.
            "busy" => &["operator", "engine"],
            RECOVERIES => &["engine"],
            text if text.starts_with("power.") => &["power"],
            // What a node says of itself comes through sync.
            _ if layercake_schema::node_owns(path) => &["sync"],
            _ => &[],
        }
    }

    fn disproved(&self) -> Vec<Effect> {
        let disproved = |from: &str| Effect {
            variable: Path::known(phys_state::PATH),
            from: from.into(),
            to: phys_state::POWER_ON.into(),
            or: Vec::new(),
        };
        [phys_state::PHYS_HANG, phys_state::PHYS_FOUND].map(disproved).into()
    }

    fn joined(&self) -> Vec<Change> {
        vec![set(phys_state::PATH, phys_state::POWER_ON), set(run_state::PATH, run_state::SYNC)]
    }

    fn services(&self, machine: &Machine) -> Vec<Change> {
        machine.service_changes()
    }

    fn revives(&self, machine: &mut Machine) {
        machine.service = ImageService::Stopped;
    }

    fn left(&self) -> Vec<Change> {
        vec![set(phys_state::PATH, phys_state::POWER_ON), set(run_state::PATH, run_state::INIT)]
    }

    fn cfg(&self, node: usize, wish: Wish) -> Document {
        let mut cfg = Document::new();
        let mut put = |path: &str, value: &str| {
            cfg.set(Path::known(path), value);
        };
        put("power.driver", "exec");
        put("location.rack", &format!("r{}", node / NODES_PER_RACK));
        put(
            "net.boot.mac",
            &format!("52:54:00:{:02x}:{:02x}:{:02x}", node >> 16, node >> 8 & 255, node & 255),
        );
        // Of every dozen nodes one is left alone when it falls silent, and about one a person is asked.
        match node % 12 {
            5 => put(SILENCE, "wait"),
            9 => put(SILENCE, "ask"),
            _ => {}
        }
        match wish {
            Wish::Unattended => {
                put(phys_state::PATH, phys_state::POWER_ON);
                put(run_state::PATH, run_state::SYNC);
                put(SERVICE, STOPPED);
            }
            Wish::Off => put(phys_state::PATH, phys_state::POWER_OFF),
            Wish::Runs(variant) => {
                put(phys_state::PATH, phys_state::POWER_ON);
                put(run_state::PATH, run_state::SYNC);
                put(image_state::PATH, image_state::ACTIVE);
                put("images.web.digest", &format!("sha256:{variant:064x}"));
                put("images.web.kind", "plain");
            }
        }
        cfg
    }

    fn machine(&self, node: usize) -> Machine {
        Machine {
            is_fed: true,
            is_on: false,
            stage: Stage::Off,
            run: 0,
            controller: Controller::Fine,
            is_slow: false,
            images: Running::new(),
            said: Document::new(),
            service: ImageService::Stopped,
            failed: Running::new(),
            boasts: self.boasters.is_some_and(|every| node.is_multiple_of(every)),
            cfg: Document::new(),
            armed: None,
            served: None,
            seen: None,
            watches: 0,
            is_thought_to_hang: false,
            may_boot_if_found: false,
        }
    }

    fn begin(&self, machine: &mut Machine, name: &str, deeds: &mut Deeds<'_>) {
        match name {
            module::POWER => self.watch_power(machine, deeds),
            module::IMAGE => {
                self.report_layer0(machine, deeds);
                self.report_images(machine, deeds);
            }
            _ => {}
        }
    }

    fn work(&self, machine: &mut Machine, task: Task<'_>, deeds: &mut Deeds<'_>) {
        match task.mutation.split('.').next() {
            Some(module::POWER) => self.switch(machine, task, deeds),
            Some(module::BOOT) => self.arm(machine, task, deeds),
            Some(SERVICE_MODULE) => self.serve(machine, task, deeds),
            _ => self.change_images(machine, task, deeds),
        }
    }

    fn alarm(&self, machine: &mut Machine, alarm: Alarm, deeds: &mut Deeds<'_>) {
        let run = match alarm {
            Alarm::Module(_, watch) if watch != machine.watches => return,
            Alarm::Module(..) => return self.poll(machine, deeds),
            Alarm::Machine(run) => run,
        };
        if run != machine.run {
            return;
        }
        match machine.stage {
            Stage::Firmware => self.asks_to_boot(machine, deeds),
            Stage::Kernel => {
                machine.stage = Stage::Up;
                if let Some((boot_id, token)) = machine.served.clone() {
                    deeds.boot(boot_id, token);
                }
            }
            Stage::Off | Stage::Up | Stage::Wedged => {}
        }
    }

    fn changed(&self, machine: &mut Machine, dsc: &Document, deeds: &mut Deeds<'_>) {
        let is = |path, value| dsc.text(path) == Some(value);
        machine.is_thought_to_hang = is(phys_state::PATH, phys_state::PHYS_HANG);
        machine.may_boot_if_found = is(phys_state::PATH, phys_state::PHYS_FOUND);
        // The boot is over, or has lost its machine.
        if machine.armed.is_some() {
            if is(run_state::PATH, run_state::SYNC) {
                machine.armed = None;
            } else if is(phys_state::PATH, phys_state::POWER_OFF) {
                machine.armed = None;
                deeds.withdraw();
            }
        }
    }

    fn configured(&self, machine: &mut Machine, cfg: &Document, deeds: &mut Deeds<'_>) {
        machine.cfg = cfg.clone();
        self.report_images(machine, deeds);
    }

    fn strike(&self, machine: &mut Machine, blow: Blow, begins: bool, deeds: &mut Deeds<'_>) {
        let controller = |kind| if begins { kind } else { Controller::Fine };
        match blow {
            Blow::Power => {
                machine.is_fed = !begins;
                if begins {
                    machine.is_on = false;
                    self.restart(machine, deeds);
                }
            }
            Blow::Reset if begins && machine.is_on => self.restart(machine, deeds),
            Blow::Wedge if begins && machine.is_on => {
                machine.run += 1;
                machine.images.clear();
                machine.stage = Stage::Wedged;
                deeds.die();
            }
            Blow::ControllerHangs => machine.controller = controller(Controller::Hangs),
            Blow::ControllerErrs => machine.controller = controller(Controller::Errs),
            Blow::ControllerLies => machine.controller = controller(Controller::Lies),
            Blow::Slow => machine.is_slow = begins,
            Blow::Work if begins && !machine.images.is_empty() => {
                machine.failed = std::mem::take(&mut machine.images);
                self.report_images(machine, deeds);
            }
            Blow::Service if begins => self.break_service(machine, deeds),
            Blow::Reset | Blow::Wedge | Blow::Work | Blow::Service => {}
        }
    }

    fn told(&self, cfg: Document, dsc: &Document, is_held: bool) -> Document {
        match &self.told {
            Some(told) => told(cfg, dsc, is_held),
            None => cfg,
        }
    }

    fn foreseen(
        &self,
        before: &Document,
        after: &Document,
        dsc: &Document,
        under_way: Option<&str>,
    ) -> Foresight {
        layercake_schema::foreseen(before, after, dsc, under_way)
    }

    fn is_as(&self, machine: &Machine, cfg: &Document) -> bool {
        match cfg.text(phys_state::PATH) {
            Some(phys_state::POWER_ON) if cfg.text(SERVICE) == Some(STOPPED) => {
                machine.stage == Stage::Up && machine.service == ImageService::Stopped
            }
            Some(phys_state::POWER_ON) => {
                machine.stage == Stage::Up && machine.images == wanted_images(cfg)
            }
            _ => !machine.is_on,
        }
    }
}
