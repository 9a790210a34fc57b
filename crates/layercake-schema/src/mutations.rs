//! The steps from a machine without power to a running image, and back.

use crate::{FOUND_RUNNING, FoundRunning, Timing, boot_state, busy, claim};
use crate::{image_service, image_state, module, phys_state, run_state};
use kraken_plan::{Context, Guard, Mutation, Retry};
use std::time::Duration;

/// Where cfg says that power may be cut while something runs: of a node that is restarted hard.
pub const POWER_CUT: &str = "power.cut";

/// What merely asks or says something is expected to be done in a second.
const QUICK: Duration = Duration::from_secs(1);

/// Switching is expected to take this long.
const SWITCH: Duration = Duration::from_secs(3);

/// How long a hanging machine is expected to take until it is cold.
const COLD: Duration = Duration::from_secs(8);

/// Every mutation of Layercake. Of two ways that take equally long, the one declared first wins.
#[must_use]
pub fn mutations(timing: &Timing) -> Vec<Mutation> {
    let mut all = power(timing);
    all.extend(boot(timing));
    all.extend(sync(timing));
    all.extend(image(timing));
    all.extend(image_service(timing).mutations());
    all
}

fn phys(name: &str, from: &str, to: &str) -> Mutation {
    Mutation::new(module::POWER, name, Context::Child)
        .moves(phys_state::PATH, from, to)
        .requires(Guard::configured("power.driver"))
}

fn has_power() -> Guard {
    Guard::is(phys_state::PATH, phys_state::POWER_ON)
}

fn is_synced() -> Guard {
    Guard::is(run_state::PATH, run_state::SYNC)
}

fn in_use() -> Guard {
    Guard::is(busy::PATH, busy::BUSY)
}

/// A limited number of attempts, as long as another way or a person may do better.
fn some(timing: &Timing) -> Retry {
    Retry { base: timing.retry, cap: timing.retry_cap, ..Retry::DEFAULT }
}

/// Attempts without end, ever more seldom: there is no other way, and giving up helps nobody.
fn forever(timing: &Timing) -> Retry {
    Retry { limit: None, ..some(timing) }
}

fn power(timing: &Timing) -> Vec<Mutation> {
    use phys_state::{PHYS_ERROR, PHYS_FOUND, PHYS_HANG, PHYS_UNKNOWN};
    use phys_state::{POWER_CYCLE, POWER_OFF, POWER_ON};
    // What runs on a machine that was found running is nobody's here to end: without a word of a person,
    // or of the cluster file, no step leads on.
    let take = |name: &str| {
        phys(name, PHYS_FOUND, POWER_OFF)
            .excludes(in_use())
            .timeout(timing.power_recover)
            .cost(COLD)
            .disruptive()
            .retry(some(timing))
    };
    vec![
        // Asking is the discovery: most machines that nobody has seen yet are off, and whatever else
        // one turns out to be is simply another state to plan from.
        phys("discover", PHYS_UNKNOWN, POWER_OFF)
            .or_finds(POWER_ON)
            .or_finds(POWER_CYCLE)
            .or_finds(PHYS_ERROR)
            .or_finds(PHYS_FOUND)
            .timeout(timing.power_discover)
            .cost(QUICK)
            .retry(forever(timing)),
        phys("on", POWER_OFF, POWER_ON).timeout(timing.power_on).cost(SWITCH).retry(some(timing)),
        // A node that is heard is never switched off: it has to leave first, and that has guards of
        // its own.
        phys("off", POWER_ON, POWER_OFF)
            .excludes(is_synced())
            .excludes(in_use())
            .timeout(timing.power_off)
            .cost(SWITCH)
            .disruptive()
            .retry(some(timing)),
        // A hard restart: its power is cut whatever runs, and only when a person says so.
        phys("cut", POWER_ON, POWER_OFF)
            .requires(Guard::configured(POWER_CUT))
            .excludes(in_use())
            .timeout(timing.power_off)
            .cost(SWITCH)
            .disruptive()
            .retry(some(timing)),
        phys("recover", PHYS_HANG, POWER_OFF)
            .excludes(in_use())
            .timeout(timing.power_recover)
            .cost(COLD)
            .disruptive()
            .retry(some(timing)),
        take("take-over").requires(Guard::is(claim::PATH, claim::GRANTED)),
        // Not before its node had time to be heard.
        take("reclaim")
            .requires(Guard::wanted(FOUND_RUNNING, FoundRunning::Reboot.word()))
            .excludes(Guard::is(claim::PATH, claim::AWAITED)),
        // Both only ask again.
        phys("recheck", PHYS_ERROR, POWER_OFF)
            .or_finds(POWER_ON)
            .or_finds(POWER_CYCLE)
            .timeout(timing.power_discover)
            .cost(QUICK)
            .retry(forever(timing)),
        phys("settle", POWER_CYCLE, POWER_ON)
            .or_finds(POWER_OFF)
            .timeout(timing.power_discover)
            .cost(SWITCH)
            .retry(forever(timing)),
    ]
}

fn boot(timing: &Timing) -> Vec<Mutation> {
    let step = |name: &str| {
        let step = Mutation::new(module::BOOT, name, Context::Child);
        step.requires(has_power()).retry(some(timing))
    };
    vec![
        step("arm")
            .moves(boot_state::PATH, boot_state::UNKNOWN, boot_state::WAIT)
            .timeout(timing.boot_arm)
            .cost(QUICK),
        // The machine does this by itself; when it does not, only cutting its power helps.
        step("serve")
            .moves(boot_state::PATH, boot_state::WAIT, boot_state::INIT)
            .moves(run_state::PATH, run_state::UNKNOWN, run_state::INIT)
            .timeout(timing.boot)
            .on_timeout(phys_state::PATH, phys_state::PHYS_HANG)
            .cost(timing.expected_boot),
    ]
}

fn sync(timing: &Timing) -> Vec<Mutation> {
    use run_state::{INIT, SYNC};
    let leave = |name: &str, images: &str| {
        Mutation::new(module::SYNC, name, Context::Node)
            .moves(run_state::PATH, SYNC, INIT)
            .requires(has_power())
            .requires(Guard::is(image_state::PATH, images))
            .excludes(in_use())
            .timeout(timing.leave)
            .cost(QUICK)
            // A node that has left serves nobody: it must not leave for a power off that is frozen.
            .disruptive()
            .retry(some(timing))
    };
    vec![
        // The parent waits for the node, since a node that does not come cannot say so.
        Mutation::new(module::SYNC, "join", Context::Child)
            .moves(run_state::PATH, INIT, SYNC)
            .requires(has_power())
            .timeout(timing.join)
            .on_timeout(phys_state::PATH, phys_state::PHYS_HANG)
            .cost(timing.expected_join)
            .retry(some(timing)),
        // The barrier between a node in use and its power switch: nothing runs on it any more.
        leave("leave", image_state::IDLE),
        // The way out of FATAL is a reboot, and a reboot begins with leaving.
        leave("abandon", image_state::FATAL),
    ]
}

fn image(timing: &Timing) -> Vec<Mutation> {
    use image_state::{ACTIVE, ERROR, IDLE, UNKNOWN, UPDATE};
    let step = |name: &str, from: &str, to: &str| {
        Mutation::new(module::IMAGE, name, Context::Node)
            .moves(image_state::PATH, from, to)
            .requires(is_synced())
            .requires(image_service(timing).runs())
            .timeout(timing.image_start)
            .cost(timing.expected_image_start)
            .retry(forever(timing))
    };
    // Stopping is no way to a running image: an image that cannot be had must not cost the one that
    // runs in its place, however often the change to it fails.
    let wanted = || Guard::wanted(image_state::PATH, ACTIVE);
    let stop = |name: &str, from: &str| {
        step(name, from, IDLE)
            .excludes(in_use())
            .excludes(wanted())
            .timeout(timing.image_stop)
            .cost(timing.expected_image_stop)
            .disruptive()
    };
    vec![
        step("discover", UNKNOWN, IDLE)
            .or_finds(ACTIVE)
            .or_finds(UPDATE)
            .or_finds(ERROR)
            .timeout(timing.image_discover)
            .cost(QUICK),
        step("start", IDLE, ACTIVE),
        stop("stop", ACTIVE),
        step("swap", UPDATE, ACTIVE).excludes(in_use()).disruptive(),
        // What has failed is not in use, whatever the scheduler believes.
        step("restart", ERROR, ACTIVE),
        // Beside the image that failed others may run, which these end.
        stop("clear", ERROR),
        stop("drop", UPDATE),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kraken_model::Registry;
    use kraken_plan::Test;
    use std::collections::BTreeSet;

    fn registry() -> Registry {
        Registry::new(crate::schemas()).unwrap()
    }

    fn all() -> Vec<Mutation> {
        mutations(&Timing::default())
    }

    #[test]
    fn every_value_that_a_mutation_names_exists() {
        let registry = registry();
        let exists = |path: &str, value: &str| {
            let values = registry.variable(path).unwrap_or_else(|| panic!("{path}"));
            assert!(values.iter().any(|v| v.as_ref() == value), "{path} = {value}");
        };
        for mutation in all() {
            assert!(!mutation.effects.is_empty(), "{}", mutation.name);
            for effect in &mutation.effects {
                for value in [&effect.from, &effect.to].into_iter().chain(&effect.or) {
                    exists(effect.variable.as_str(), value);
                }
            }
            for guard in mutation.requires.iter().chain(&mutation.excludes) {
                let is_variable = registry.variable(guard.path.as_str()).is_some();
                match &guard.test {
                    Test::Is(value) if is_variable => {
                        exists(guard.path.as_str(), value.as_text().unwrap());
                    }
                    _ => {
                        let field = registry.field(guard.path.as_str()).unwrap();
                        assert!(field.sides.contains(&guard.side), "{guard}");
                    }
                }
            }
            if let Some(fallback) = &mutation.on_timeout {
                exists(fallback.variable.as_str(), &fallback.value);
            }
        }
    }

    #[test]
    fn names_are_unique_and_begin_with_their_module() {
        let mutations = all();
        let names: BTreeSet<_> = mutations.iter().map(|m| m.name.clone()).collect();
        assert_eq!(names.len(), mutations.len());
        for mutation in &mutations {
            assert!(mutation.name.starts_with(&format!("{}.", mutation.module)));
        }
    }

    #[test]
    fn whatever_may_end_a_users_work_spares_a_node_in_use() {
        for mutation in all().iter().filter(|m| m.disruptive) {
            assert!(mutation.excludes.contains(&in_use()), "{}", mutation.name);
        }
    }

    #[test]
    fn no_way_to_a_running_image_leads_through_stopping_one() {
        let wanted = Guard::wanted(image_state::PATH, image_state::ACTIVE);
        for mutation in all() {
            let mut effects = mutation.effects.iter();
            if effects.any(|e| e.variable.as_str() == image_state::PATH && *e.to == *"IDLE")
                && mutation.disruptive
            {
                assert!(mutation.excludes.contains(&wanted), "{}", mutation.name);
            }
        }
    }

    #[test]
    fn every_state_of_power_and_images_can_be_left() {
        let mutations = all();
        let left: BTreeSet<(&str, &str)> = mutations
            .iter()
            .flat_map(|m| &m.effects)
            .map(|e| (e.variable.as_str(), e.from.as_ref()))
            .collect();
        for value in phys_state::VALUES {
            assert!(left.contains(&(phys_state::PATH, value)), "{value}");
        }
        for value in image_state::VALUES.iter().filter(|v| **v != image_state::FATAL) {
            assert!(left.contains(&(image_state::PATH, value)), "{value}");
        }
        let abandon = mutations.iter().find(|m| m.name.as_ref() == "sync.abandon").unwrap();
        let fatal = Guard::is(image_state::PATH, image_state::FATAL);
        assert!(abandon.requires.contains(&fatal), "FATAL is left by a reboot");
    }

    #[test]
    fn nothing_is_expected_to_take_longer_than_it_may() {
        for mutation in all() {
            assert!(mutation.cost < mutation.timeout, "{}", mutation.name);
        }
    }

    #[test]
    fn a_check_of_all_of_them_finds_nothing() {
        let set = kraken_plan::ModuleSet::new(&registry(), all()).unwrap();
        let findings = kraken_plan::check(&set);
        let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(text, Vec::<String>::new());
    }
}
