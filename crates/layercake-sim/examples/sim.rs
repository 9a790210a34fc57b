//! Runs seeds of the fleet simulator; `cargo xtask sim` builds and calls it.
#![allow(clippy::print_stdout)]

use clap::Parser;
use kraken_sim::{Plan, run, shrink};
use layercake_sim::{Size, plan};
use std::process::ExitCode;

/// How many of the last events are shown of a run that failed.
const TRACE: usize = 60;

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
    let (mut events, mut hours, mut failed) = (0, 0.0, 0);
    for seed in args.from..args.from.saturating_add(args.seeds) {
        let (app, mut plan) = plan(seed, Size(args.nodes));
        if args.verbose {
            plan.trace = usize::MAX;
            plan.happenings.iter().for_each(|happening| println!("{happening}"));
        }
        let outcome = run(app.clone(), plan.clone());
        outcome.trace.iter().for_each(|line| println!("{line}"));
        events += outcome.events;
        hours += outcome.at.0 as f64 / 3_600_000.0;
        if let Some(violation) = outcome.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
            show_shortest(&plan, &app);
            println!(
                "to see it again: cargo xtask sim --from {seed} --seeds 1 --nodes {}",
                args.nodes
            );
        }
    }
    let Args { seeds, nodes, .. } = args;
    println!(
        "{seeds} seeds of {nodes} nodes: {hours:.1} h of their time, {events} events, {failed} failed"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is needed for the failure, and how it came to it.
fn show_shortest(plan: &Plan, app: &layercake_sim::Layercake) {
    let mut shortest = shrink(plan, || app.clone());
    println!("of {} happenings these are enough:", plan.happenings.len());
    shortest.happenings.iter().for_each(|happening| println!("  {happening}"));
    shortest.trace = TRACE;
    let outcome = run(app.clone(), shortest);
    println!("the last of what happened then:");
    outcome.trace.iter().for_each(|line| println!("  {line}"));
    if let Some(violation) = outcome.violation {
        println!("  {violation}");
    }
}
