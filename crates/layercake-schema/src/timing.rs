//! How long things take, and how long they may.

use kraken_model::{format_duration, parse_duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time that can be configured: a day.
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest: what is below would be lost in the noise.
const MIN: Duration = Duration::from_millis(10);

/// How many hellos have to be missing, at the least, before a node counts as silent: one may be lost,
/// and the next one late.
const SILENT_HELLOS: u32 = 3;

/// Two times that cannot hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The name of the time that is too short.
    pub short: &'static str,
    /// How long it has to be at the least.
    pub least: Duration,
    /// The name of the time for which it is too short.
    pub beside: &'static str,
    /// What would come of it, for a person.
    pub why: &'static str,
}

/// A time cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// There is no such time.
    #[error("there is no time called {0:?}")]
    Name(String),
    /// It is too short or too long.
    #[error(
        "{} is not between {} and {}",
        format_duration(*value), format_duration(MIN), format_duration(MAX)
    )]
    Range {
        /// What was asked for.
        value: Duration,
    },
}

macro_rules! timing {
    ($($name:ident = $millis:literal, $about:literal;)+) => {
        /// Every time that the mutations and the sync of a cluster know, each with a default, a
        /// name under which a cluster file sets it, and a meaning.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Timing {
            $(#[doc = $about] pub $name: Duration,)+
        }

        impl Default for Timing {
            fn default() -> Self {
                Self { $($name: Duration::from_millis($millis),)+ }
            }
        }

        impl Timing {
            /// The name of every time, and what it means.
            pub const NAMES: &[(&str, &str)] =
                &[$((stringify!($name), $about),)+];

            /// A time by its name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<Duration> {
                match name {
                    $(stringify!($name) => Some(self.$name),)+
                    _ => None,
                }
            }

            fn get_mut(&mut self, name: &str) -> Option<&mut Duration> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }
        }
    };
}

timing! {
    power_discover = 60_000, "How long the power controller may take to say what is";
    power_on = 60_000, "How long switching a machine on may take";
    power_off = 60_000, "How long switching a machine off may take";
    power_recover = 90_000, "How long switching a hanging machine off may take, with the seconds it stays cold";
    boot_arm = 10_000, "How long the boot service may take to expect a machine";
    boot = 600_000, "From being expected to having fetched kernel, initramfs and seed: firmware and network boot";
    join = 120_000, "From the start of the kernel to having joined";
    leave = 30_000, "How long a node may take to leave";
    image_discover = 60_000, "How long the image service may take to speak for the first time";
    image_start = 900_000, "How long starting, changing or restarting images may take, with fetching them";
    image_stop = 120_000, "How long images may take to stop";
    expected_boot = 30_000, "How long firmware and network boot are expected to take";
    expected_join = 20_000, "How long a kernel is expected to take until it has joined";
    expected_image_start = 20_000, "How long images are expected to take to run";
    expected_image_stop = 10_000, "How long images are expected to take to stop";
    hello = 2_000, "How long a node waits between two hellos";
    silent = 45_000, "How long a node may not be heard from, at the least, before it counts as silent and may be power-cycled";
    service = 120_000, "How long a service of a node may take to start or to stop, with the pause before one that broke off is started again";
    retry = 5_000, "The pause after the first failure of a step; it doubles with every further one";
    retry_cap = 300_000, "The longest pause after a failure";
}

impl Timing {
    /// Sets a time by its name.
    ///
    /// # Errors
    /// When there is none of that name, or the duration is not between 10 ms and 24 h.
    pub fn set(&mut self, name: &str, value: Duration) -> Result<(), TimingError> {
        let time = self.get_mut(name).ok_or_else(|| TimingError::Name(name.to_owned()))?;
        if !(MIN..=MAX).contains(&value) {
            return Err(TimingError::Range { value });
        }
        *time = value;
        Ok(())
    }

    /// Every two times that cannot hold together. Each may be good by itself, so this is asked when
    /// all are set.
    #[must_use]
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let silent = Contradiction {
            short: "silent",
            least: self.hello * SILENT_HELLOS,
            beside: "hello",
            why: "a healthy node would count as lost between two of its hellos",
        };
        let cap = Contradiction {
            short: "retry_cap",
            least: self.retry,
            beside: "retry",
            why: "the longest pause after a failure would be shorter than the first",
        };
        let is_short = |c: &Contradiction| self.get(c.short).is_some_and(|time| time < c.least);
        [silent, cap].into_iter().filter(is_short).collect()
    }
}

impl Serialize for Timing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let times = Self::NAMES.iter().filter_map(|(name, _)| Some((name, self.get(name)?)));
        serializer.collect_map(times.map(|(name, value)| (name, format_duration(value))))
    }
}

impl<'de> Deserialize<'de> for Timing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut timing = Self::default();
        for (name, text) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let value = parse_duration(&text).map_err(serde::de::Error::custom)?;
            timing.set(&name, value).map_err(serde::de::Error::custom)?;
        }
        Ok(timing)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_overridden_by_name_and_the_rest_stays() {
        let timing: Timing = serde_json::from_str(r#"{"boot": "5m", "hello": "500ms"}"#).unwrap();
        assert_eq!(timing.boot, Duration::from_secs(300));
        assert_eq!(timing.hello, Duration::from_millis(500));
        assert_eq!(timing.join, Timing::default().join);
        let text = serde_json::to_string(&timing).unwrap();
        assert_eq!(serde_json::from_str::<Timing>(&text).unwrap(), timing);
    }

    #[test]
    fn a_boot_may_take_as_long_as_real_firmware_with_several_cards_does() {
        // Measured with OVMF and two cards, of which only the second is plugged in: each one's PXE and
        // HTTP boot over IPv4 and IPv6 is tried until it times out. A server's self-test comes on top.
        let (firmware, self_test) = (Duration::from_secs(267), Duration::from_secs(240));
        assert!(Timing::default().boot >= firmware + self_test);
    }

    #[test]
    fn an_unknown_name_or_an_absurd_time_is_refused() {
        let mut timing = Timing::default();
        let second = Duration::from_secs(1);
        assert!(matches!(timing.set("bot", second), Err(TimingError::Name(_))));
        assert!(matches!(timing.set("boot", Duration::ZERO), Err(TimingError::Range { .. })));
        assert!(matches!(timing.set("boot", MAX + second), Err(TimingError::Range { .. })));
    }

    #[test]
    fn times_that_cannot_hold_together_are_found() {
        assert_eq!(Timing::default().contradictions(), []);
        let of = |hello, silent| Timing {
            hello: Duration::from_secs(hello),
            silent: Duration::from_secs(silent),
            ..Timing::default()
        };
        assert_eq!(of(5, 15).contradictions(), []);
        let found = of(5, 14).contradictions();
        assert_eq!((found[0].short, found[0].beside), ("silent", "hello"));
        assert_eq!(found[0].least, Duration::from_secs(15));
        let capped = Timing { retry_cap: Duration::from_secs(1), ..Timing::default() };
        assert_eq!(capped.contradictions()[0].short, "retry_cap");
    }
}
