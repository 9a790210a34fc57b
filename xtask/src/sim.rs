//! Simulated fleets: days drawn from seeds, judged by named invariants.

use std::path::PathBuf;
use std::process::Command;

use crate::bench;
use crate::error::Error;
use crate::run;

/// What every test run tries: how many seeds, of how many nodes each.
const SMOKE: &[(u64, usize)] = &[(500, 20), (5, 5_000)];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many nodes each fleet has
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    nodes: u32,
    /// Tell everything that happens
    #[arg(long)]
    verbose: bool,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    are_seeds(args.from, args.seeds)?;
    let mut command = simulator(&build()?, args.seeds, args.from, args.nodes as usize);
    if args.verbose {
        command.arg("--verbose");
    }
    let program = command.get_program().to_string_lossy().into_owned();
    // What it says goes straight to the terminal: a long run is watched.
    let status = command.status().map_err(|source| Error::Start { program, source })?;
    if status.success() { Ok(()) } else { Err(Error::Status(1)) }
}

/// Refuses seeds beyond the last number: the days that they stand for would count as run, and as good.
fn are_seeds(from: u64, seeds: u64) -> Result<(), Error> {
    if from.checked_add(seeds).is_some() {
        return Ok(());
    }
    let last = u64::MAX - 1;
    Err(Error::Refused(format!(
        "there are no {seeds} seeds from {from} on, since the last is {last}: begin earlier, or run fewer"
    )))
}

/// The days of a test run. A failure says what is needed for it and how to see it again.
pub(crate) fn smoke() -> Result<String, Error> {
    let program = build()?;
    let mut said = Vec::new();
    for (seeds, nodes) in SMOKE {
        let output = run::check(&mut simulator(&program, *seeds, 0, *nodes))?;
        said.extend(output.lines().last().map(str::to_owned));
    }
    Ok(said.join("; "))
}

fn build() -> Result<PathBuf, Error> {
    bench::build_example("layercake-sim", "sim")
}

fn simulator(program: &PathBuf, seeds: u64, from: u64, nodes: usize) -> Command {
    let mut command = Command::new(program);
    command.arg("--seeds").arg(seeds.to_string()).arg("--from").arg(from.to_string());
    command.arg("--nodes").arg(nodes.to_string());
    command
}

#[cfg(test)]
mod tests {
    use super::are_seeds;

    #[test]
    fn seeds_beyond_the_last_number_are_refused() {
        assert!(are_seeds(0, u64::MAX).is_ok());
        assert!(are_seeds(u64::MAX - 3, 3).is_ok());
        let said = are_seeds(u64::MAX, 3).map_err(|error| error.to_string());
        assert!(said.is_err_and(|said| said.contains("begin earlier")));
        assert!(are_seeds(u64::MAX - 2, 3).is_err());
    }
}
