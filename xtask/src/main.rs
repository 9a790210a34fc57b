//! Tasks of this repository, run as `cargo xtask <task>`.
//!
//! It depends on no other crate of the workspace, so that it is there within seconds on a fresh machine, and
//! drives everything else as a person would: through cargo, the binaries and the kernel's tools.
//!
//! What it prints is for people: what is done, how long it took, and what to do next. Exit status 0 means
//! that everything asked for was done and is right.

// Talking to people on a terminal is what this program is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arrows;
mod bench;
mod demo;
mod deps;
mod error;
mod fuzz;
mod interrupt;
mod lab;
mod length;
mod metadata;
mod node_build;
mod policy;
mod process;
mod run;
mod sim;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

/// Tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring up three virtual machines from nothing, in a network of their own
    Demo(demo::Args),
    /// Boot real UEFI firmware, by PXE and by HTTP, to a running image, in a network of its own
    Firmware(demo::firmware::Args),
    /// Run everything that must pass, from formatting to the virtual machines
    Test(test::Args),
    /// Measure, beside references measured in the same run
    Bench(bench::Args),
    /// Say which Debian packages are missing, and install them
    #[command(visible_alias = "check-machine")]
    Deps(deps::Args),
    /// Make, list and remove lab networks
    Lab(lab::Args),
    /// Run days of simulated fleets, with every fault there is
    Sim(sim::Args),
    /// Feed every parser of outside bytes with mutated input
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = interrupt::install().and_then(|()| match cli.task {
        Task::Demo(args) => demo::main(&args),
        Task::Firmware(args) => demo::firmware::main(&args),
        Task::Test(args) => test::main(&args),
        Task::Bench(args) => bench::main(&args),
        Task::Deps(args) => deps::main(&args),
        Task::Lab(args) => lab::main(args),
        Task::Sim(args) => sim::main(&args),
        Task::Fuzz(args) => fuzz::main(&args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Status(code)) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {}", error.with_causes());
            ExitCode::FAILURE
        }
    }
}
