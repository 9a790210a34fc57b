//! What can be switched on: the kinds of faults.

use kraken_sim::{Blow, Noise};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No power at the inlets of machines.
    Power,
    /// The same for a rack.
    RackPower,
    /// Machines start anew by themselves.
    Reset,
    /// Their kernels hang.
    Hang,
    /// Everything takes several times as long.
    Slow,
    /// Their images end by themselves.
    ImageExits,
    /// Their agents are killed.
    AgentCrash,
    /// Their controllers do not answer.
    BmcHangs,
    /// Their controllers answer with errors.
    BmcErrs,
    /// Their controllers say what is not so.
    BmcLies,
    /// They cannot be reached.
    CutOff,
    /// The same for a rack.
    RackSwitch,
    /// The network loses, delays and repeats datagrams.
    Lossy,
}

/// What a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A set of nodes.
    Nodes,
    /// A rack.
    Rack,
    /// Everything.
    All,
}

/// What happens to the machine or the network when a fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Blow(Blow),
    Cut,
    Crash,
    Noise,
}

/// There is no fault of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault called {0:?}{near}; there are {all}", near = near(.0), all = names().join(", "))]
pub struct UnknownKind(String);

/// What a bad network does.
pub(crate) const LOSSY: Noise = Noise { loss: 25, twice: 10, replay: 5, delay_ms: 500 };

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Power,
        Self::RackPower,
        Self::Reset,
        Self::Hang,
        Self::Slow,
        Self::ImageExits,
        Self::AgentCrash,
        Self::BmcHangs,
        Self::BmcErrs,
        Self::BmcLies,
        Self::CutOff,
        Self::RackSwitch,
        Self::Lossy,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::RackPower => "rack-power",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::ImageExits => "image-exits",
            Self::AgentCrash => "agent-crash",
            Self::BmcHangs => "bmc-hangs",
            Self::BmcErrs => "bmc-errs",
            Self::BmcLies => "bmc-lies",
            Self::CutOff => "cut-off",
            Self::RackSwitch => "rack-switch",
            Self::Lossy => "lossy",
        }
    }

    /// What it does, for a person.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Power => "there is no power at the inlets of these machines",
            Self::RackPower => "there is no power in this rack",
            Self::Reset => "these machines start anew by themselves, once",
            Self::Hang => "the kernels of these machines hang until their power is cut",
            Self::Slow => "everything takes four times as long on these machines",
            Self::ImageExits => "the images of these nodes end by themselves, once",
            Self::AgentCrash => "the agents of these nodes are killed, once",
            Self::BmcHangs => "the power controllers of these machines do not answer",
            Self::BmcErrs => "the power controllers of these machines answer with errors",
            Self::BmcLies => {
                "the power controllers of these machines do nothing and say the opposite of what is"
            }
            Self::CutOff => "these nodes cannot be reached over the network",
            Self::RackSwitch => "the nodes of this rack cannot be reached over the network",
            Self::Lossy => {
                "the network loses a quarter of all datagrams, and delays and repeats others"
            }
        }
    }

    /// What it is about.
    #[must_use]
    pub fn target(self) -> Target {
        match self {
            Self::RackPower | Self::RackSwitch => Target::Rack,
            Self::Lossy => Target::All,
            _ => Target::Nodes,
        }
    }

    /// Whether it goes on until it is cleared, rather than happen once.
    #[must_use]
    pub fn lasts(self) -> bool {
        !matches!(self, Self::Reset | Self::Hang | Self::ImageExits | Self::AgentCrash)
    }

    pub(crate) fn effect(self) -> Effect {
        match self {
            Self::Power | Self::RackPower => Effect::Blow(Blow::Power),
            Self::Reset => Effect::Blow(Blow::Reset),
            Self::Hang => Effect::Blow(Blow::Wedge),
            Self::Slow => Effect::Blow(Blow::Slow),
            Self::ImageExits => Effect::Blow(Blow::Work),
            Self::AgentCrash => Effect::Crash,
            Self::BmcHangs => Effect::Blow(Blow::ControllerHangs),
            Self::BmcErrs => Effect::Blow(Blow::ControllerErrs),
            Self::BmcLies => Effect::Blow(Blow::ControllerLies),
            Self::CutOff | Self::RackSwitch => Effect::Cut,
            Self::Lossy => Effect::Noise,
        }
    }

    /// Whether both break the same part of a machine, so that the end of one must not mend what the
    /// other broke.
    pub(crate) fn breaks_the_same_as(self, other: Self) -> bool {
        let part = |kind: Self| match kind.effect() {
            Effect::Blow(Blow::ControllerErrs | Blow::ControllerLies) => {
                Effect::Blow(Blow::ControllerHangs)
            }
            effect => effect,
        };
        part(self) == part(other)
    }
}

/// The kind that was probably meant.
fn near(name: &str) -> String {
    let near = kraken_model::nearest(name, names());
    near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

fn names() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.name()).collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let kind = Self::ALL.iter().copied().find(|kind| kind.name() == text);
        kind.ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_has_one_name_for_people_and_programs() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        let unknown = "gremlins".parse::<Kind>().unwrap_err().to_string();
        assert!(unknown.contains("gremlins") && unknown.contains("rack-power"), "{unknown}");
        let slip = "rack-pwer".parse::<Kind>().unwrap_err().to_string();
        assert!(slip.contains("(did you mean rack-power?)"), "{slip}");
    }
}
