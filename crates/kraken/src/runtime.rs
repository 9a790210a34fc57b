//! The runtime: one engine, the store behind it, and the modules around it.

use crate::clock::Clock;
use crate::equipment::{Equipment, Present};
use crate::health::ModuleStatus;
use crate::host::Hosted;
use crate::journal::{self, Event, Events, Journal, WRITTEN_WITHIN};
use crate::keeper::Keeper;
use crate::module::{Context, Discovery, Module};
use crate::past::{self, PastError, Then};
use crate::service::Services;
use crate::turn::{CfgChange, Configured, Engineer, Request};
use crate::views::Views;
use kraken_engine::{
    Command, Engine, Explanation, InUse, Input, Limit, Outlook, Settings, Summary,
};
use kraken_model::{Change, Document, Invalid, Millis, NodeId, Patch, Registry, Side};
use kraken_plan::{ModuleSet, Service};
use kraken_store::{Store, StoreError};
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How many requests and discoveries wait for the engine before those who bring them wait too.
const QUEUE: usize = 4096;

/// What an application is made of.
pub struct Options {
    /// What may stand in a document.
    pub registry: Arc<Registry>,
    /// What the modules can do.
    pub modules: Arc<ModuleSet>,
    /// The modules that run here. A mutation of a module that is not among them fails.
    pub hosted: Vec<Arc<dyn Module>>,
    /// Where everything durable goes.
    pub keeper: Keeper,
    /// How the engine behaves. The epoch is set from the store.
    pub settings: Settings,
}

/// A running application. Clones are handles on the same one.
#[derive(Clone)]
pub struct Kraken {
    requests: mpsc::Sender<Request>,
    views: Arc<Views>,
    keeper: Keeper,
    events: Events,
    equipment: Present,
    services: Arc<Services>,
    stop: CancellationToken,
    clock: Clock,
    in_use: InUse,
}

/// The tasks of an application, which end after [`Kraken::stop`].
pub struct Tasks {
    tasks: JoinSet<()>,
    modules: Present,
    journal: tokio::task::JoinHandle<()>,
}

/// An application cannot start, or does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum KrakenError {
    /// What is kept could not be read at the start.
    #[error("cannot read what was kept")]
    Load(#[source] StoreError),
    /// Something could not be made durable, so nothing was changed.
    #[error("cannot be kept, so nothing was changed")]
    Keep(#[source] StoreError),
    /// Something is known now, and could not be made durable.
    #[error("is known, but cannot be kept: it may be forgotten when the application starts again")]
    Unkept(#[source] StoreError),
    /// The journal could not be read.
    #[error("cannot read the journal")]
    Journal(#[source] StoreError),
    /// What nodes were cannot be said.
    #[error(transparent)]
    Past(PastError),
    /// Documents do not fit the schemas; nothing was changed.
    #[error("{}", invalid_text(.0))]
    Invalid(Vec<(NodeId, Invalid)>),
    /// What nodes should be was changed meanwhile; nothing was changed by this.
    #[error(
        "what nodes should be has changed since: revision {now}, and {planned} was meant; plan again"
    )]
    Moved {
        /// The revision that was meant.
        planned: u64,
        /// The present one.
        now: u64,
    },
    /// A service is hosted, and its module set does not know it.
    #[error("{0} is a service, and no mutation moves services.{0}.state")]
    NoService(String),
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(NodeId),
    /// The application has ended.
    #[error("the application has ended")]
    Ended,
}

fn invalid_text(invalid: &[(NodeId, Invalid)]) -> String {
    let lines: Vec<String> = invalid.iter().map(|(node, i)| format!("{node}: {i}")).collect();
    lines.join("\n")
}

impl Kraken {
    /// Starts an application: what was kept is read, nodes that were known are adopted, and the
    /// modules begin to look.
    ///
    /// # Errors
    /// When what was kept cannot be read.
    pub async fn start(options: Options) -> Result<(Self, Tasks), KrakenError> {
        let Options { registry, modules, hosted, keeper, mut settings } = options;
        if let Some(name) = undeclared(&hosted, &modules) {
            return Err(KrakenError::NoService(name));
        }
        let load = |store: &mut dyn Store| Ok((store.open_epoch()?, past::last_known(store)?));
        let (epoch, loaded) = keeper.with(load).await.map_err(KrakenError::Load)?;
        settings.epoch = epoch;
        let in_use = settings.in_use.clone();
        let clock = Clock::start();
        let began = clock.now();
        let views = Arc::new(Views::default());
        let stop = CancellationToken::new();
        let (journal, events, journal_task) = Journal::start(keeper.clone(), clock);
        let (requests, requests_in) = mpsc::channel(QUEUE);
        let (discoveries, discoveries_in) = mpsc::channel(QUEUE);
        let (news, news_in) = mpsc::channel(QUEUE);
        let context = Context {
            stop: stop.clone(),
            by: "kraken".into(),
            views: Arc::clone(&views),
            discoveries: discoveries.clone(),
            news,
            clock,
            desk: None,
        };
        let host = |module| Hosted::new(module, &modules, &context);
        let mut hosted: Vec<Hosted> = hosted.into_iter().map(host).collect();
        let (services, hosts) = Services::of(&hosted, clock);
        let services = Arc::new(services);
        if !hosts.is_empty() {
            hosted.push(Hosted::new(Arc::clone(&services) as Arc<dyn Module>, &modules, &context));
        }
        let hosted: Arc<[Hosted]> = hosted.into();

        let engine = Engine::new(settings, Arc::clone(&modules), Arc::clone(&registry));
        let mut engineer = Engineer::new(
            engine,
            clock,
            keeper.clone(),
            journal,
            &hosted,
            context.clone(),
            Arc::clone(&modules),
        );
        engineer.revision = loaded.revision;
        let start: Arc<str> = "start".into();
        for (node, cfg) in loaded.cfg {
            engineer.step(Input::Configure { node, cfg: Some(cfg), by: start.clone() }).await;
        }
        for (node, dsc) in loaded.checkpoint {
            engineer.step(Input::Restore { node, dsc }).await;
        }

        engineer.remember().await.map_err(KrakenError::Load)?;
        engineer.recall().await.map_err(KrakenError::Load)?;
        engineer.mark_again().await.map_err(KrakenError::Load)?;
        engineer.begin(began, epoch).await;

        let mut tasks = JoinSet::new();
        tasks.spawn(engineer.run(requests_in, discoveries_in, news_in));
        let equipment = Equipment { registry, modules, hosted };
        let present = Present::new(equipment.clone(), context);
        for module in equipment.hosted.iter().filter(|one| one.module.service().is_none()) {
            present.run(module);
        }
        for host in hosts {
            tasks.spawn(host.keep());
        }
        let kraken = Self {
            requests,
            views,
            keeper,
            events,
            equipment: present.clone(),
            services,
            stop,
            clock,
            in_use,
        };
        Ok((kraken, Tasks { tasks, modules: present, journal: journal_task }))
    }

    /// Changes what nodes should be, and what belongs to it. Durable when this returns, with who wanted it; all of
    /// it or, on an error, nothing.
    ///
    /// # Errors
    /// When a value does not fit, the revision is another than the one that is meant, or it cannot be kept.
    pub async fn change(&self, change: CfgChange, by: &str) -> Result<Configured, KrakenError> {
        let (mut invalid, registry) = (Vec::new(), self.registry());
        for (node, patch) in &change.nodes {
            let found = patch.validate(&registry, Side::Cfg).into_iter();
            invalid.extend(found.map(|i| (node.clone(), i)));
        }
        if !invalid.is_empty() {
            return Err(KrakenError::Invalid(invalid));
        }
        self.ask(|reply| Request::Configure { change, by: by.into(), reply }).await?
    }

    /// Replaces what nodes should be, whatever that was, and gives the revision; `None` takes a node away. For whoever
    /// owns all that a node should be: nothing that was read may be written back like this, because others may
    /// have written meanwhile ([`Kraken::change`]).
    ///
    /// # Errors
    /// As [`Kraken::change`].
    pub async fn configure(
        &self,
        writes: Vec<(NodeId, Option<Document>)>,
        by: &str,
    ) -> Result<u64, KrakenError> {
        let patch = |cfg: Option<Document>| cfg.map_or(Patch::Remove, Patch::Replace);
        let nodes = writes.into_iter().map(|(node, cfg)| (node, patch(cfg))).collect();
        Ok(self.change(CfgChange::of(nodes), by).await?.revision)
    }

    /// Tells the engine what a person, or something outside, found out. Kept when this returns.
    ///
    /// # Errors
    /// When there is no such node, a value does not fit, it cannot be kept, or the application has
    /// ended.
    pub async fn discover(
        &self,
        node: &NodeId,
        changes: Vec<Change>,
        by: &str,
    ) -> Result<(), KrakenError> {
        if self.views.get(node).is_none() {
            return Err(KrakenError::NoNode(node.clone()));
        }
        let registry = self.registry();
        let check = |change: &Change| {
            let value = change.value.as_ref()?;
            registry.check(Side::Dsc, &change.path, value).err()
        };
        let invalid: Vec<_> = changes.iter().filter_map(check).map(|i| (node.clone(), i)).collect();
        if !invalid.is_empty() {
            return Err(KrakenError::Invalid(invalid));
        }
        let discovery = Discovery { node: node.clone(), changes, by: by.into() };
        // Unlike what modules find out, which they find again.
        let written = self.ask(|reply| Request::Discover { discovery, reply });
        self.durable(written).await
    }

    /// Gives the engine a command of an operator.
    ///
    /// # Errors
    /// When it cannot be kept, or the application has ended.
    pub async fn command(&self, command: Command, by: &str) -> Result<(), KrakenError> {
        self.commands(vec![command], by).await
    }

    /// Gives the engine several commands of an operator, kept all at once.
    ///
    /// # Errors
    /// When a value that a command means is not among the schemas, they cannot be kept, or the
    /// application has ended.
    pub async fn commands(&self, commands: Vec<Command>, by: &str) -> Result<(), KrakenError> {
        let InUse { variable, busy, free } = &self.in_use;
        let said = |command: &Command| match command {
            Command::Busy { node, .. } => Some((node.clone(), busy)),
            Command::Free { node } => Some((node.clone(), free)),
            _ => None,
        };
        let registry = self.registry();
        let check = |(node, value): (NodeId, &Arc<str>)| {
            let value = Arc::clone(value).into();
            Some((node, registry.check(Side::Dsc, variable, &value).err()?))
        };
        let invalid: Vec<_> = commands.iter().filter_map(said).filter_map(check).collect();
        if !invalid.is_empty() {
            return Err(KrakenError::Invalid(invalid));
        }
        self.ask(|reply| Request::Command { commands, by: by.into(), reply }).await??;
        self.settled().await
    }

    /// What the engine does about a node, and why.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn explain(&self, node: &NodeId) -> Result<Explanation, KrakenError> {
        let explanation = self.ask(|reply| Request::Explain { node: node.clone(), reply }).await?;
        explanation.ok_or_else(|| KrakenError::NoNode(node.clone()))
    }

    /// Other limits hold from now on, for steps that begin from now on. They are not kept: whoever
    /// starts the application again gives them anew.
    ///
    /// # Errors
    /// When the application has ended.
    pub async fn limit(&self, limits: Vec<Limit>, by: &str) -> Result<(), KrakenError> {
        self.ask(|reply| Request::Limits { limits, by: by.into(), reply }).await?;
        self.settled().await
    }

    /// The fleet in numbers: how many nodes stand how, and what holds them all.
    ///
    /// # Errors
    /// When the application has ended.
    pub async fn summary(&self) -> Result<Summary, KrakenError> {
        self.ask(|reply| Request::Summary { reply }).await
    }

    /// What the engine knows of all nodes now, to be asked what it would do if cfg were another, and
    /// the revision of cfg. Ask it where computing for long is allowed.
    ///
    /// # Errors
    /// When the application has ended.
    pub async fn outlook(&self) -> Result<(Outlook, u64), KrakenError> {
        self.ask(|reply| Request::Outlook { reply }).await
    }

    /// The documents of all nodes, as they are now.
    #[must_use]
    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// Other modules and schemas from now on, in place of all but services. Of those that run here, the ones
    /// that are given again go on; the others are stopped, and new ones started. Steps of modules that are
    /// there no more are interrupted, and what only they knew is forgotten.
    ///
    /// # Errors
    /// When what a node should be does not fit the new schemas, and then nothing has changed, or the
    /// application has ended.
    pub async fn equip(
        &self,
        registry: Arc<Registry>,
        modules: Arc<ModuleSet>,
        hosted: Vec<Arc<dyn Module>>,
        by: &str,
    ) -> Result<(), KrakenError> {
        // Done to its end, whoever stops waiting for it.
        let (this, by) = (self.clone(), by.into());
        let done = tokio::spawn(async move { this.go_over(registry, modules, hosted, by).await });
        done.await.unwrap_or_else(|failed| match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(KrakenError::Ended),
        })
    }

    async fn go_over(
        &self,
        registry: Arc<Registry>,
        modules: Arc<ModuleSet>,
        hosted: Vec<Arc<dyn Module>>,
        by: Arc<str>,
    ) -> Result<(), KrakenError> {
        let _turn = self.equipment.turn.lock().await;
        let mut invalid = Vec::new();
        for (node, view) in self.views.all() {
            let found = registry.validate(Side::Cfg, &view.cfg);
            invalid.extend(found.into_iter().map(|i| (node.clone(), i)));
        }
        if !invalid.is_empty() {
            return Err(KrakenError::Invalid(invalid));
        }
        let before = self.equipment.get();
        let after = before.with(registry, modules, hosted, self.equipment.context());
        for module in before.missing_in(&after) {
            module.stop().await;
        }
        let equipment = after.clone();
        self.ask(|reply| Request::Equip { equipment, by, reply }).await?;
        after.missing_in(&before).for_each(|module| self.equipment.run(module));
        self.equipment.set(after);
        self.settled().await
    }

    /// What may stand in a document.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.equipment.get().registry
    }

    /// What the modules can do.
    #[must_use]
    pub fn modules(&self) -> Arc<ModuleSet> {
        self.equipment.get().modules
    }

    /// How the modules are that run here, in the order in which they were given.
    #[must_use]
    pub fn hosted(&self) -> Vec<ModuleStatus> {
        self.equipment.get().hosted.iter().filter_map(Hosted::status).collect()
    }

    /// What the services of a node are that run here: to be told together with whatever makes that known.
    #[must_use]
    pub fn services(&self, node: &NodeId) -> Vec<Change> {
        self.services.on(node)
    }

    /// The store, for what an application keeps besides documents.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The clock that the engine goes by.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Events from number `from` on, oldest first, `limit` at most; of one node, or of all.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn events(
        &self,
        from: u64,
        limit: usize,
        node: Option<NodeId>,
    ) -> Result<Vec<Event>, KrakenError> {
        self.written().await;
        journal::read(&self.keeper, from, limit, node).await.map_err(KrakenError::Journal)
    }

    /// The latest events before number `before`, oldest first, `limit` at most; of one node, or of
    /// all.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn events_before(
        &self,
        before: u64,
        limit: usize,
        node: Option<NodeId>,
    ) -> Result<Vec<Event>, KrakenError> {
        self.written().await;
        let events = journal::read_before(&self.keeper, before, limit, node).await;
        events.map_err(KrakenError::Journal)
    }

    /// The number of the first event of `at` or later: that of the next one when there is none.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn first_event(&self, at: Millis) -> Result<u64, KrakenError> {
        self.written().await;
        let found = self.keeper.with(move |store| store.journal_from(at)).await;
        found.map_err(KrakenError::Journal)
    }

    /// What nodes were at a time that has passed: all, or those of a set that there were.
    ///
    /// # Errors
    /// When it is not kept any more, or the journal cannot be read.
    pub async fn past(
        &self,
        at: Millis,
        nodes: Option<BTreeSet<NodeId>>,
    ) -> Result<Then, KrakenError> {
        self.written().await;
        past::at(&self.keeper, at, nodes).await.map_err(KrakenError::Past)
    }

    /// The latest events, oldest first, `limit` at most.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn latest_events(&self, limit: usize) -> Result<Vec<Event>, KrakenError> {
        self.events_before(u64::MAX, limit, None).await
    }

    /// Every event from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Cancelled when the application ends.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Ends the application: no more steps are taken. What runs on the nodes goes on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until what happened so far is in the journal: whoever was told that something was done finds it
    /// there. A store that takes nothing, or an application that has ended, keeps nobody from reading.
    async fn written(&self) {
        let written = self.ask(|reply| Request::Written { reply });
        // Either is no reason not to read.
        let _ = tokio::time::timeout(WRITTEN_WITHIN, written).await;
    }

    /// Waits until what happened so far is durable: whoever is told that it was done finds it, and who did it, also
    /// after a crash.
    async fn settled(&self) -> Result<(), KrakenError> {
        self.durable(self.ask(|reply| Request::Written { reply })).await
    }

    /// Waits until something is written, and durable.
    async fn durable(
        &self,
        written: impl Future<Output = Result<(), KrakenError>>,
    ) -> Result<(), KrakenError> {
        let flush =
            async || self.keeper.with(|store| store.flush()).await.map_err(KrakenError::Unkept);
        let mut written = pin!(written);
        loop {
            if let Ok(written) = tokio::time::timeout(WRITTEN_WITHIN, &mut written).await {
                written?;
                return flush().await;
            }
            // A store that takes nothing more says why: whoever asked is told, rather than kept waiting.
            flush().await?;
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, KrakenError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| KrakenError::Ended)?;
        answer.await.map_err(|_| KrakenError::Ended)
    }
}

impl Tasks {
    /// Waits until everything has ended, and what was still to be written is written.
    pub async fn ended(mut self) {
        while let Some(result) = self.tasks.join_next().await {
            if let Err(error) = result
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        self.modules.ended().await;
        if let Err(error) = self.journal.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// A service that the planner could never start, if there is one.
fn undeclared(hosted: &[Arc<dyn Module>], modules: &ModuleSet) -> Option<String> {
    let moves = |name: &str| {
        let state = Service::path(name, "state");
        let mut effects = modules.mutations().flat_map(|(_, mutation)| &mutation.effects);
        effects.any(|effect| effect.variable == state)
    };
    let mut services = hosted.iter().filter(|module| module.service().is_some());
    services.find(|module| !moves(module.name())).map(|module| module.name().to_owned())
}
