//! The `layercake` command: the server, and the command line that talks to it.

mod args;
mod client;
mod commands;
mod show;

use args::{Cli, Verb};
use clap::Parser;
use show::Unwritten;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// A step of one node is a few dozen small allocations, freed by other threads than made them: what glibc's
/// allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code when what was asked for could not be done. Wrong usage is 2, as clap has it.
const FAILED: u8 = 1;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) => return usage(&asked),
    };
    start_logging(match &cli.verb {
        Verb::Serve(_) => "info",
        // What people should see of it is said on standard output.
        Verb::Sim(sim) if sim.serve => "warn",
        _ => "error",
    });
    match commands::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.downcast_ref().is_some_and(Unwritten::is_reader_gone) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            show::error(error.as_ref());
            ExitCode::from(FAILED)
        }
    }
}

/// Prints help, the version, or what is wrong with what was typed.
fn usage(asked: &clap::Error) -> ExitCode {
    let printed = asked.print().and_then(|()| std::io::stdout().flush());
    match printed {
        Err(error) if !asked.use_stderr() && error.kind() != ErrorKind::BrokenPipe => {
            show::note(&format!("layercake: cannot write to standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => u8::try_from(asked.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// The server logs what it does; everything else only what goes wrong. `LAYERCAKE_LOG` says
/// otherwise, in the form of tracing's `EnvFilter`.
fn start_logging(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAYERCAKE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        // Where nobody can be told nothing can be done.
        .log_internal_errors(false)
        .init();
}
