//! The power module and the controller it talks to.

use crate::machine::{Controller, Layercake, Machine, set};
use kraken_model::{Change, Path};
use kraken_sim::{Alarm, Deeds, Side, Task};
use layercake_schema::{module, phys_state};
use std::time::Duration;

/// How long a machine that hung stays without power.
const COLD: Duration = Duration::from_secs(2);

/// The stage of an order that nobody answered.
const GIVEN_UP: u32 = 9;

/// Where it stands why power is not known.
pub(crate) const REASON: &str = "power.reason";

impl Layercake {
    /// Begins to ask a machine for its power, again and again.
    pub(crate) fn watch_power(&self, machine: &mut Machine, deeds: &mut Deeds<'_>) {
        machine.seen = None;
        machine.watches += 1;
        let first = Duration::from_millis(deeds.random.within(0, self.poll_ms()));
        deeds.alarm(first, Alarm::Module(module::POWER, machine.watches));
    }

    fn poll_ms(&self) -> u64 {
        u64::try_from(self.poll.as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks once, and says what is different from before.
    pub(crate) fn poll(&self, machine: &mut Machine, deeds: &mut Deeds<'_>) {
        deeds.alarm(self.poll, Alarm::Module(module::POWER, machine.watches));
        let is_on = match machine.controller {
            Controller::Hangs => return,
            Controller::Errs => {
                let reason =
                    vec![Change::set(Path::known(REASON), "the controller says: error 42")];
                deeds.find(Side::Parent, reason, &self.names().power);
                return;
            }
            Controller::Fine => machine.is_on,
            Controller::Lies => !machine.is_on,
        };
        if machine.seen == Some(is_on) {
            return;
        }
        machine.seen = Some(is_on);
        // What was declared to hang has power, of course: that alone ends no hang.
        let state = match is_on {
            true if machine.is_thought_to_hang => phys_state::PHYS_HANG,
            true => phys_state::POWER_ON,
            false => phys_state::POWER_OFF,
        };
        self.report(state, deeds);
    }

    fn report(&self, state: &str, deeds: &mut Deeds<'_>) {
        let found = vec![set(phys_state::PATH, state), Change::remove(Path::known(REASON))];
        deeds.find(Side::Parent, found, &self.names().power);
    }

    /// Carries out an order to switch, or to look.
    pub(crate) fn switch(&self, machine: &mut Machine, task: Task<'_>, deeds: &mut Deeds<'_>) {
        match machine.controller {
            Controller::Hangs if task.stage == 0 => {
                // Whoever waits for an answer gives up at last, or does not.
                if deeds.random.chance(50) {
                    let gives_up = Duration::from_millis(deeds.random.within(10_000, 50_000));
                    deeds.go_on(gives_up, GIVEN_UP);
                }
                return;
            }
            Controller::Hangs => {
                deeds.answer(task.order, Err("the controller does not answer"));
                return;
            }
            Controller::Errs => {
                deeds.answer(task.order, Err("the controller says: error 42"));
                return;
            }
            Controller::Fine | Controller::Lies => {}
        }
        if task.stage == 0 {
            let is_cold =
                ["power.recover", "power.take-over", "power.reclaim"].contains(&task.mutation);
            let least = if is_cold { COLD } else { Duration::ZERO };
            let takes = least + Duration::from_millis(deeds.random.within(300, 3_000));
            deeds.go_on(machine.takes(takes), 1);
            return;
        }
        if task.stage == GIVEN_UP {
            deeds.answer(task.order, Err("the controller did not answer"));
            return;
        }
        let is_wanted = match task.mutation {
            "power.on" => Some(true),
            "power.off" | "power.cut" | "power.recover" | "power.take-over" | "power.reclaim" => {
                Some(false)
            }
            _ => None,
        };
        if machine.controller == Controller::Lies {
            let state = is_wanted.unwrap_or(!machine.is_on);
            let state = if state { phys_state::POWER_ON } else { phys_state::POWER_OFF };
            self.report(state, deeds);
            deeds.answer(task.order, Ok(()));
            return;
        }
        if let Some(is_wanted) = is_wanted.filter(|wanted| *wanted != machine.is_on) {
            machine.is_on = is_wanted && machine.is_fed;
            self.restart(machine, deeds);
        }
        // Looked at, not assumed.
        let state = if machine.is_on { phys_state::POWER_ON } else { phys_state::POWER_OFF };
        self.report(state, deeds);
        let done = is_wanted.is_none_or(|wanted| wanted == machine.is_on);
        deeds.answer(task.order, done.then_some(()).ok_or("there is no power at its inlet"));
    }
}
