//! Runs seeds of the fleet simulator; `cargo xtask sim` builds and calls it.
#![allow(clippy::print_stdout)]

use clap::Parser;
use layercake_sim::{Size, told_day};
use std::process::ExitCode;

#[derive(Parser)]
struct Args {
    /// How many seeds are run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many nodes each fleet has
    #[arg(long, default_value_t = 20)]
    nodes: usize,
    /// Tell what happened, also when nothing was wrong
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Args { seeds, nodes, verbose, .. } = args;
    let (mut events, mut hours, mut failed) = (0, 0.0, 0);
    for seed in args.from..args.from.saturating_add(seeds) {
        let outcome = told_day(seed, Size(nodes), verbose, &mut |line| println!("{line}"));
        events += outcome.events;
        hours += outcome.at.0 as f64 / 3_600_000.0;
        failed += u64::from(outcome.violation.is_some());
    }
    println!(
        "{seeds} seeds of {nodes} nodes: {hours:.1} h of their time, {events} events, {failed} failed"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
