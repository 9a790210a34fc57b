//! How a main process ended, in words that name the cause as far as it can be seen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Exit;

/// The most characters of a printed line that are told again.
const MAX_QUOTED: usize = 200;

/// SIGKILL: the only signal that the kernel sends when memory has run out.
const SIGKILL: i32 = 9;

/// A shell ends with this and the number of the signal when a signal ended its command.
const BY_SIGNAL: i32 = 128;

/// What was seen around the end of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Circumstances {
    /// Processes of the container that the kernel killed because memory had run out.
    #[serde(default)]
    pub killed_for_memory: u64,
    /// Who has the port that the program could not get, in words.
    #[serde(default)]
    pub port: Option<String>,
    /// The lines that it printed last.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

/// An end with what was seen around it, for a person.
pub struct Ending<'a>(pub Exit, pub &'a Circumstances);

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(exit, Circumstances { killed_for_memory, port, last_lines }) = self;
        match (*exit, *killed_for_memory) {
            (Exit::Signal(SIGKILL), 1..) => f.write_str(
                "out of memory: the kernel killed the main process because the node's memory had run out",
            )?,
            (exit, 0) => exit.fmt(f)?,
            (exit, 1) => write!(f, "out of memory: the kernel killed one of its processes; {exit}")?,
            (exit, killed) => {
                write!(f, "out of memory: the kernel killed {killed} of its processes; {exit}")?;
            }
        }
        if let Some(port) = port {
            write!(f, "; {port}")?;
        }
        // A stack of nothing but the kernel's decision has no last words worth repeating.
        if !last_lines.is_empty() {
            let lines: Vec<String> = last_lines.iter().map(|line| quoted(line)).collect();
            write!(f, "; it last printed: {}", lines.join(" | "))?;
        }
        Ok(())
    }
}

fn quoted(line: &str) -> String {
    let mut text: String =
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTED).collect();
    if line.chars().nth(MAX_QUOTED).is_some() {
        text.push('…');
    }
    text
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => {
                write!(f, "the main process ended with status {code}")?;
                match code {
                    126 => f.write_str(" (of a shell: a command could not be run)"),
                    127 => f.write_str(" (of a shell: a command was not found)"),
                    _ => match signal_name(code - BY_SIGNAL) {
                        Some(name) => write!(f, " (of a shell: a command was killed by {name})"),
                        None => Ok(()),
                    },
                }
            }
            Self::Signal(signal) => {
                write!(f, "the main process was killed by signal {signal}")?;
                match signal_name(*signal) {
                    Some(name) => write!(f, " ({name})"),
                    None => Ok(()),
                }
            }
            Self::Unknown => f.write_str("the main process was lost together with its monitor"),
        }
    }
}

/// The signals by which processes commonly end, signal(7).
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL, an instruction that this processor does not have",
        6 => "SIGABRT, by itself",
        7 => "SIGBUS, memory that could not be had",
        8 => "SIGFPE, an impossible calculation",
        9 => "SIGKILL",
        11 => "SIGSEGV, memory that is not its own",
        13 => "SIGPIPE, nobody reads what it writes",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS, a forbidden system call",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(exit: Exit, killed_for_memory: u64, last_lines: &[&str]) -> String {
        let last_lines = last_lines.iter().map(|line| (*line).to_owned()).collect();
        let seen = Circumstances { killed_for_memory, port: None, last_lines };
        Ending(exit, &seen).to_string()
    }

    #[test]
    fn a_lack_of_memory_is_named_whichever_process_it_hit() {
        let main = words(Exit::Signal(9), 2, &[]);
        assert!(main.starts_with("out of memory: the kernel killed the main process"), "{main}");
        let child = words(Exit::Code(1), 1, &[]);
        assert_eq!(
            child,
            "out of memory: the kernel killed one of its processes; the main process ended with status 1"
        );
        let shell = words(Exit::Code(137), 3, &[]);
        assert!(shell.contains("killed 3 of its processes"), "{shell}");
        let by_hand = words(Exit::Signal(9), 0, &[]);
        assert_eq!(by_hand, "the main process was killed by signal 9 (SIGKILL)");
    }

    #[test]
    fn an_end_is_told_with_what_statuses_and_signals_mean() {
        for (exit, expected) in [
            (Exit::Code(0), "ended with status 0"),
            (Exit::Code(1), "ended with status 1"),
            (Exit::Code(127), "status 127 (of a shell: a command was not found)"),
            (Exit::Code(139), "status 139 (of a shell: a command was killed by SIGSEGV"),
            (Exit::Code(255), "ended with status 255"),
            (Exit::Signal(11), "signal 11 (SIGSEGV, memory that is not its own)"),
            (Exit::Signal(64), "killed by signal 64"),
        ] {
            let text = words(exit, 0, &[]);
            assert!(text.contains(expected), "{text}");
        }
        assert_eq!(words(Exit::Code(255), 0, &[]), "the main process ended with status 255");
    }

    #[test]
    fn what_it_printed_last_is_told_and_cannot_be_too_long_or_control_a_terminal() {
        let text = words(Exit::Code(1), 0, &["starting", "bind: \u{1b}[31mAddress already in use"]);
        assert!(text.ends_with("; it last printed: starting | bind:  [31mAddress already in use"));
        let long = words(Exit::Code(1), 0, &[&"é".repeat(5000)]);
        assert!(long.ends_with('…') && long.chars().count() < 300, "{long}");
    }
}
