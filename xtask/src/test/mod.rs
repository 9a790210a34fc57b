//! Everything that must pass.
//!
//! Steps run in two lanes side by side, because most of them keep one core busy: the lane of the workspace's
//! own build (lints, tests), and the lane of everything that builds elsewhere or hardly builds at all. What
//! measures time or starts virtual machines by the dozen comes last, alone.

mod steps;
mod tally;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::run::human;
use crate::{deps, interrupt, run};
use steps::{Step, Work};
pub(crate) use tally::Tally;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install missing Debian packages without asking
    #[arg(long, short)]
    yes: bool,
    /// Run only these steps
    #[arg(value_name = "STEP")]
    only: Vec<String>,
    /// Name the steps and end
    #[arg(long)]
    list: bool,
}

/// How a step went.
struct Done {
    name: &'static str,
    tally: Tally,
    elapsed: Duration,
    /// One line for the closing table.
    summary: String,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let lanes = [steps::workspace_lane(), steps::other_lane(), steps::alone()];
    if args.list {
        for step in lanes.iter().flatten() {
            println!("{:<10} {}", step.name, step.shows);
        }
        return Ok(());
    }
    check_names(&args.only, lanes.iter().flatten())?;
    run::require_root("test", "making network namespaces and virtual machines")?;
    deps::ensure(args.yes)?;
    deps::check_toolchain()?;

    let started = Instant::now();
    let wanted = |lane: Vec<Step>| -> Vec<Step> {
        let is_wanted =
            |step: &Step| args.only.is_empty() || args.only.iter().any(|n| n == step.name);
        lane.into_iter().filter(is_wanted).collect()
    };
    let [first, second, last] = lanes.map(wanted);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| run_lane(first, &done));
        run_lane(second, &done);
    });
    run_lane(last, &done);
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    close(&done, started.elapsed())
}

fn check_names<'a>(only: &[String], steps: impl Iterator<Item = &'a Step>) -> Result<(), Error> {
    let names: Vec<_> = steps.map(|step| step.name).collect();
    match only.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::Refused(format!(
            "there is no step {name:?}; there are: {}",
            names.join(", ")
        ))),
    }
}

fn run_lane(steps: Vec<Step>, done: &Mutex<Vec<Done>>) {
    for step in steps {
        if interrupt::requested() {
            return;
        }
        println!("  ....  {:<10} {}", step.name, step.shows);
        let finished = run_step(&step);
        // Held while printing, so that a failure's output stays in one piece.
        let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Outcome { output, .. } = &finished.outcome;
        let word = if finished.done.tally.failed == 0 { "ok" } else { "FAIL" };
        let Done { name, elapsed, summary, .. } = &finished.done;
        println!("  {word:<4}  {name:<10} {:>12}  {summary}", human(*elapsed));
        if finished.done.tally.failed > 0 {
            println!(
                "----- {name}: everything it said -----\n{}\n----- end of {name} -----",
                output.trim_end()
            );
        }
        done.push(finished.done);
    }
}

struct Finished {
    done: Done,
    outcome: Outcome,
}

/// What a step's work came to.
struct Outcome {
    tally: Tally,
    summary: String,
    output: String,
}

fn run_step(step: &Step) -> Finished {
    let started = Instant::now();
    let outcome = match &step.work {
        Work::Check(check) => match check() {
            Ok(summary) => Outcome { tally: Tally::ONE_PASSED, summary, output: String::new() },
            Err(error) => failure(&error),
        },
        Work::Commands(commands) => run_commands(commands),
    };
    let (tally, summary) = (outcome.tally, outcome.summary.clone());
    Finished { done: Done { name: step.name, tally, elapsed: started.elapsed(), summary }, outcome }
}

fn failure(error: &Error) -> Outcome {
    Outcome {
        tally: Tally::ONE_FAILED,
        summary: "see below".to_owned(),
        output: error.with_causes(),
    }
}

/// Runs all of a step's commands, also after one that failed.
fn run_commands(commands: &dyn Fn() -> Vec<std::process::Command>) -> Outcome {
    let mut tally = Tally::default();
    let mut output = String::new();
    for mut command in commands() {
        match run::capture(&mut command) {
            Err(error) => {
                tally += Tally::ONE_FAILED;
                output.push_str(&error.with_causes());
            }
            Ok(done) => {
                tally += Tally::of_run(&done.output, done.ok);
                if !done.ok {
                    let line = run::line(&command);
                    output.push_str(&format!("$ {line}\n{}({})\n", done.output, done.outcome));
                }
            }
        }
    }
    let summary = match tally {
        Tally { passed: 1, failed: 0 } => String::new(),
        Tally { failed: 0, passed } => format!("{passed} passed"),
        Tally { failed, passed } => format!("{passed} passed, {failed} failed"),
    };
    Outcome { tally, summary, output }
}

/// The closing table, and as the last line the sum.
fn close(done: &[Done], elapsed: Duration) -> Result<(), Error> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["step", "result", "time", "passed", "failed"]);
    let mut sum = Tally::default();
    for Done { name, tally, elapsed, .. } in done {
        let result = if tally.failed == 0 { "ok" } else { "FAIL" };
        let (passed, failed) = (tally.passed.to_string(), tally.failed.to_string());
        table.add_row([(*name).to_owned(), result.to_owned(), human(*elapsed), passed, failed]);
        sum += *tally;
    }
    println!("\n{table}\n\nin {}", human(elapsed));
    let interrupted = interrupt::requested();
    if interrupted {
        println!("interrupted: not every step was run");
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    match (interrupted, sum.failed) {
        (true, _) => Err(Error::Status(130)),
        (false, 0) => Ok(()),
        (false, _) => Err(Error::Status(1)),
    }
}
