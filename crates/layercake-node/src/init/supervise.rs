//! When the agent is started, and when it is not. Pure: the clock comes in, actions go out.

use std::time::Duration;

/// The first pause after the agent died; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: a node that cannot run its agent is looked at by a person, not by a loop.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An agent that ran for so long was well; its end is not counted with the ends before.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How long the agent may take to leave in order.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The agent runs.
    Started,
    /// The agent ended, or could not be started.
    Ended,
    /// Time passed.
    Tick,
    /// The machine is to halt.
    Halt,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start the agent.
    Start,
    /// Ask the agent to leave.
    AskToLeave,
    /// Kill the agent.
    Kill,
    /// The agent is gone: halt.
    Halt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be started at this time.
    Down { start_at: Duration },
    /// Start was asked for.
    Starting,
    /// Runs since.
    Up { since: Duration },
    /// Was asked to leave, and is killed at this time.
    Leaving { kill_at: Duration },
    /// Nothing more to do.
    Gone,
}

/// Keeps one agent running. Times are since any fixed moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    state: State,
    ends_in_a_row: u32,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { state: State::Down { start_at: Duration::ZERO }, ends_in_a_row: 0 }
    }
}

impl Supervisor {
    /// Takes in what happened at `now` and says what to do.
    pub fn step(&mut self, now: Duration, event: Event) -> Option<Action> {
        let (state, action) = match (self.state, event) {
            (State::Down { start_at }, Event::Tick) if now >= start_at => {
                (State::Starting, Some(Action::Start))
            }
            (State::Starting | State::Down { .. }, Event::Started) => {
                (State::Up { since: now }, None)
            }
            (State::Up { since }, Event::Ended) => {
                if now.saturating_sub(since) >= WELL_AFTER {
                    self.ends_in_a_row = 0;
                }
                (self.down(now), None)
            }
            (State::Starting, Event::Ended) => (self.down(now), None),
            (State::Up { .. } | State::Starting, Event::Halt) => {
                (State::Leaving { kill_at: now + LEAVE_LIMIT }, Some(Action::AskToLeave))
            }
            (State::Down { .. }, Event::Halt) => (State::Gone, Some(Action::Halt)),
            (State::Leaving { .. }, Event::Ended) => (State::Gone, Some(Action::Halt)),
            (State::Leaving { kill_at }, Event::Tick) if now >= kill_at => {
                (State::Leaving { kill_at: now + LEAVE_LIMIT }, Some(Action::Kill))
            }
            (state, _) => (state, None),
        };
        self.state = state;
        action
    }

    fn down(&mut self, now: Duration) -> State {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.ends_in_a_row));
        self.ends_in_a_row = self.ends_in_a_row.saturating_add(1);
        State::Down { start_at: now + pause.min(LONGEST_PAUSE) }
    }

    /// When [`Event::Tick`] will have something to do.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        match self.state {
            State::Down { start_at } => Some(start_at),
            State::Leaving { kill_at } => Some(kill_at),
            State::Starting | State::Up { .. } | State::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Starts at the time it is due, runs for `run`, ends; returns the time of the end.
    fn cycle(supervisor: &mut Supervisor, run: Duration) -> (Duration, Duration) {
        let due = supervisor.next_tick().unwrap_or_default();
        assert_eq!(supervisor.step(due.saturating_sub(Duration::from_nanos(1)), Event::Tick), None);
        assert_eq!(supervisor.step(due, Event::Tick), Some(Action::Start));
        assert_eq!(supervisor.step(due, Event::Started), None);
        assert_eq!(supervisor.step(due + run, Event::Ended), None);
        (due, due + run)
    }

    #[test]
    fn an_agent_that_keeps_dying_is_started_less_and_less_often() {
        let mut supervisor = Supervisor::default();
        assert_eq!(supervisor.step(Duration::ZERO, Event::Tick), Some(Action::Start));
        supervisor.step(Duration::ZERO, Event::Ended);
        let mut ended = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let (due, end) = cycle(&mut supervisor, SECOND);
            pauses.push(due - ended);
            ended = end;
        }
        assert_eq!(pauses[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(pauses[11], LONGEST_PAUSE);
        let (_, end) = cycle(&mut supervisor, WELL_AFTER);
        assert_eq!(supervisor.next_tick(), Some(end + FIRST_PAUSE));
    }

    #[test]
    fn a_halt_waits_for_the_agent_to_leave_but_not_for_ever() {
        let mut supervisor = Supervisor::default();
        supervisor.step(SECOND, Event::Tick);
        supervisor.step(SECOND, Event::Started);
        assert_eq!(supervisor.step(SECOND, Event::Halt), Some(Action::AskToLeave));
        assert_eq!(supervisor.step(SECOND, Event::Halt), None);
        let late = SECOND + LEAVE_LIMIT;
        assert_eq!(supervisor.next_tick(), Some(late));
        assert_eq!(supervisor.step(late, Event::Tick), Some(Action::Kill));
        assert_eq!(supervisor.step(late, Event::Ended), Some(Action::Halt));
        assert_eq!((supervisor.step(late, Event::Tick), supervisor.next_tick()), (None, None));
    }

    #[test]
    fn a_halt_without_an_agent_is_immediate() {
        let mut supervisor = Supervisor::default();
        assert_eq!(supervisor.step(SECOND, Event::Halt), Some(Action::Halt));
    }
}
