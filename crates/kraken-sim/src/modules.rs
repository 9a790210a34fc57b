//! The parent's modules: orders go to them, come to their end or not, and they crash.

use crate::application::{Application, Side, Task};
use crate::fleet::{Event, Fleet, Work, number};
use crate::parent::{Running, SYNC};
use crate::plant::Bug;
use kraken_engine::{DispatchId, Failure, Input, Order};
use kraken_model::Millis;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

impl<A: Application> Fleet<A> {
    pub(crate) fn module_life(&self, module: usize) -> Option<(u32, u32)> {
        let process = self.process.as_ref()?;
        Some((self.lives, *process.module_lives.get(module)?))
    }

    /// A module is killed: what it was carrying out fails, and nothing is looked at meanwhile.
    pub(crate) fn crash_module(&mut self, module: usize, down: Duration) {
        let Some(process) = &mut self.process else { return };
        let Some(name) = self.modules.get(module).cloned() else { return };
        // The sync module is the parent itself.
        if *name == *SYNC || process.down.contains(&name) {
            return;
        }
        process.module_lives[module] += 1;
        process.down.push(Arc::clone(&name));
        let lost = process.running.values().filter(|running| running.module == name);
        let mut lost: Vec<DispatchId> = lost.map(|running| running.id.clone()).collect();
        lost.sort();
        for id in lost {
            let failure = Failure { reason: format!("module {name} ended"), permanent: false };
            let answer = Box::new((id, Err(failure)));
            self.queue.push(self.now, Event::Answer { side: Side::Parent, answer, life: None });
        }
        let life = self.lives;
        self.queue.push(self.now.plus(down), Event::ModuleStart { module, life });
        self.tell(|_| format!("module {name} is dead"));
    }

    pub(crate) fn start_module(&mut self, module: usize, life: u32) {
        let Some(process) = &mut self.process else { return };
        if life != self.lives {
            return;
        }
        let name = Arc::clone(&self.modules[module]);
        process.down.retain(|down| *down != name);
        for n in 0..self.nodes.len() {
            self.ask(n, None, |app, machine, deeds| app.begin(machine, &name, deeds));
        }
    }

    pub(crate) fn dispatch(&mut self, order: Order) {
        let n = number(&order.node);
        if self.set.mutation(order.mutation).disruptive {
            self.judge_disruption(n, order.mutation);
        }
        let Some(process) = &mut self.process else { return };
        let name = &self.set.mutation(order.mutation).module;
        let running = Running { id: order.id.clone(), module: Arc::clone(name) };
        process.running.insert(n, running);
        let module = self.modules.iter().position(|known| known == name).unwrap_or(0);
        if process.down.contains(name) {
            let failure =
                Failure { reason: format!("module {name} does not run"), permanent: false };
            let answer = Box::new((order.id, Err(failure)));
            let at = Millis(self.now.0 + 50);
            self.queue.push(at, Event::Answer { side: Side::Parent, answer, life: None });
            return;
        }
        let life = (self.lives, process.module_lives[module]);
        let work = Work { side: Side::Parent, order: Rc::new(order), stage: 0, life };
        let at = Millis(self.now.0 + 1 + self.random.below(20));
        self.queue.push(at, Event::Work { node: n, work });
    }

    pub(crate) fn interrupt(&mut self, id: &DispatchId) {
        if self.plan.bug == Some(Bug::InterruptIgnored) {
            return;
        }
        if let Some(process) = &mut self.process {
            let n = number(&id.node);
            if process.running.get(n).is_some_and(|running| running.id == *id) {
                process.running.remove(n);
            }
        }
    }

    /// A stage of an order, at whoever carries it out.
    pub(crate) fn work(&mut self, n: usize, work: Work) {
        let is_current = match (work.side, &self.process) {
            (Side::Node, _) => self.agent_works_on(n, &work),
            // A machine that was asked does it, whatever became of who asked.
            (Side::Parent, process) if work.life.0 != self.lives || process.is_none() => {
                self.orphans.contains(&work.order.id)
            }
            (Side::Parent, Some(process)) => {
                let name = &self.set.mutation(work.order.mutation).module;
                let module = self.modules.iter().position(|known| known == name);
                process.running.get(n).is_some_and(|running| {
                    let ours = running.id == work.order.id;
                    ours || self.plan.bug == Some(Bug::InterruptIgnored)
                }) && module.is_none_or(|module| process.module_lives[module] == work.life.1)
            }
            (Side::Parent, None) => false,
        };
        if !is_current {
            return;
        }
        if let Some(checker) = self.checker.as_mut().filter(|_| work.side == Side::Parent) {
            checker.works(self.now, &work.order.id);
        }
        let set = Arc::clone(&self.set);
        let mutation = set.mutation(work.order.mutation);
        if *mutation.module == *SYNC {
            self.sync_works(n, &work);
            return;
        }
        let task = Task { mutation: &mutation.name, order: &work.order, stage: work.stage };
        self.ask(n, Some(&work), |app, machine, deeds| app.work(machine, task, deeds));
    }

    fn sync_works(&mut self, n: usize, work: &Work) {
        let life = match work.side {
            Side::Parent => None,
            Side::Node => {
                self.leave(n);
                Some(work.life.0)
            }
        };
        // The node comes by itself, or goes when it has said so: that is discovered.
        let (side, answer) = (work.side, Box::new((work.order.id.clone(), Ok(()))));
        self.queue.push(self.now, Event::Answer { side, answer, life });
    }

    pub(crate) fn answer(
        &mut self,
        side: Side,
        (id, result): (DispatchId, Result<(), Failure>),
        life: Option<u32>,
    ) {
        let n = number(&id.node);
        if side == Side::Node {
            self.agent_answered(n, id, result, life);
            return;
        }
        let Some(process) = &mut self.process else { return };
        if process.running.get(n).is_some_and(|running| running.id == id) {
            process.running.remove(n);
        }
        let given = id.clone();
        let mut id = id;
        if self.plan.bug == Some(Bug::StaleEpochAccepted) && id.epoch != self.disk.epoch {
            // For an answer to whatever is under way now.
            id = process.running.get(n).map_or(id, |running| running.id.clone());
        }
        self.step_as(Input::Finished { id, result }, Some(&given));
    }
}
