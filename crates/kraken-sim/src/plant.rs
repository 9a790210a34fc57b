//! Known bugs, to be planted one at a time: a checker that never finds anything proves nothing.
//!
//! Nothing in engine, planner or sync knows of them. Each spoils what goes into these or comes out
//! of them, or how they are set up, at the place where the fleet drives them.

use kraken_engine::{Command, Output, Settings, Terms, What};
use kraken_model::Millis;

/// How much too early something ends.
const EARLY_MS: u64 = 60_000;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// What was known before a restart counts as if it had been found out since.
    AdoptionGuardOff,
    /// Nothing has to be fresh for a disruptive step.
    FreshnessOff,
    /// One more is let in than a limit says.
    LimitOffByOne,
    /// Steps follow each other without the pause that a limit says.
    SpacingIgnored,
    /// However many nodes are unavailable, others are disrupted.
    ShareIgnored,
    /// A hold is acknowledged and never reaches the engine.
    HoldIgnored,
    /// A hold is forgotten when the parent is started again.
    HoldForgotten,
    /// A hold ends a minute before its end.
    HoldEndsEarly,
    /// What operators said until a time counts for good when the parent is started again.
    EndForgotten,
    /// A freeze is acknowledged and never reaches the engine.
    FreezeIgnored,
    /// A node in use does not count as such.
    BusyIgnored,
    /// However many nodes are lost at once, each is rebooted.
    StormGuardOff,
    /// However many nodes of a rack are lost at once, each is rebooted.
    DomainsIgnored,
    /// A node that nobody hears is power-cycled again and again.
    RecoveriesUncounted,
    /// A node that falls silent is power-cycled, whatever is said of it.
    PolicyIgnored,
    /// Answers to an earlier run of the parent count.
    StaleEpochAccepted,
    /// What a node said is applied again, behind what it said since.
    DeltaTwice,
    /// A datagram that comes again is taken again.
    ReplayTaken,
    /// A write is acknowledged before it is durable.
    AcknowledgedTooEarly,
    /// Some entries never reach the journal.
    JournalGap,
    /// A module that is told to stop goes on.
    InterruptIgnored,
    /// A parent takes a node's word for what is not the node's to say.
    NodeSpeaksForOthers,
    /// A second order follows before the first has ended.
    OrderedTwice,
    /// That a node is silent is not said.
    SilenceUnheard,
    /// Nodes disrupt without having been permitted to.
    PermissionAssumed,
    /// What a node was permitted counts although its parent is out of reach.
    PermissionOutlives,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::AdoptionGuardOff,
        Self::FreshnessOff,
        Self::LimitOffByOne,
        Self::SpacingIgnored,
        Self::ShareIgnored,
        Self::HoldIgnored,
        Self::HoldForgotten,
        Self::HoldEndsEarly,
        Self::EndForgotten,
        Self::FreezeIgnored,
        Self::BusyIgnored,
        Self::StormGuardOff,
        Self::DomainsIgnored,
        Self::RecoveriesUncounted,
        Self::PolicyIgnored,
        Self::StaleEpochAccepted,
        Self::DeltaTwice,
        Self::ReplayTaken,
        Self::AcknowledgedTooEarly,
        Self::JournalGap,
        Self::InterruptIgnored,
        Self::NodeSpeaksForOthers,
        Self::OrderedTwice,
        Self::SilenceUnheard,
        Self::PermissionAssumed,
        Self::PermissionOutlives,
    ];

    pub(crate) fn spoil(self, settings: &mut Settings) {
        match self {
            Self::FreshnessOff => settings.fresh.clear(),
            Self::LimitOffByOne => {
                for limit in &mut settings.limits {
                    limit.in_flight = limit.in_flight.map(|n| n + 1);
                }
            }
            Self::SpacingIgnored => {
                for limit in &mut settings.limits {
                    limit.spacing = std::time::Duration::ZERO;
                }
            }
            Self::ShareIgnored => settings.limits.retain(|limit| limit.unavailable.is_none()),
            Self::StormGuardOff => {
                settings.storm.min = usize::MAX;
                settings.storm.per.clear();
            }
            Self::DomainsIgnored => settings.storm.per.clear(),
            Self::RecoveriesUncounted => {
                if let Some(silence) = &mut settings.silence {
                    silence.recoveries = u32::MAX;
                }
            }
            Self::PolicyIgnored => {
                if let Some(silence) = &mut settings.silence {
                    silence.policy = silence.tried.clone();
                }
            }
            _ => {}
        }
    }

    pub(crate) fn spoil_outputs(self, outputs: &mut Vec<Output>) {
        match self {
            Self::JournalGap => outputs.retain(|output| {
                let Output::Journal(entry) = output else { return true };
                !matches!(entry.what, What::Discovered { .. }) || !entry.at.0.is_multiple_of(50)
            }),
            Self::OrderedTwice => {
                let is_order = |output: &Output| match output {
                    Output::Dispatch(order) => order.id.attempt.is_multiple_of(5),
                    _ => false,
                };
                let again = outputs.iter().find(|output| is_order(output)).cloned();
                outputs.extend(again);
            }
            _ => {}
        }
    }

    /// What reaches the engine of a command, if anything.
    pub(crate) fn spoil_command(self, command: Command) -> Option<Command> {
        match (self, command) {
            (Self::HoldIgnored, Command::Hold { .. })
            | (Self::FreezeIgnored, Command::Freeze { .. })
            | (Self::BusyIgnored, Command::Busy { .. }) => None,
            (Self::HoldEndsEarly, Command::Hold { node, terms }) => {
                let until = terms.until.map(|until| Millis(until.0.saturating_sub(EARLY_MS)));
                Some(Command::Hold { node, terms: Terms { until, ..terms } })
            }
            (_, command) => Some(command),
        }
    }
}
