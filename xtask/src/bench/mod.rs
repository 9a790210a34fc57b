//! Figures, each beside a reference that was measured in the same run.
//!
//! A bench gives rows. A row is a value, and where it makes sense what it is held against: the same machine
//! doing the same thing in the plainest way. Ratios travel between machines, absolute numbers do not. Every
//! value and reference is a median of several runs, and a row whose runs scatter too much says so instead
//! of passing or failing.

mod engine;
mod examples;
mod fleet;
mod initramfs;
mod lab;
mod machine;
mod node;
mod parent;
mod plan;
mod row;
mod sim;
mod sync;

use crate::error::Error;
use crate::interrupt;
pub(crate) use examples::build as build_example;
#[allow(unused_imports)]
// What a bench needs, in one place, whether or not one uses all of it yet.
pub(crate) use row::{Goal, Reference, Row, Samples};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Name the benches and end
    #[arg(long)]
    list: bool,
    /// The benches; all when none is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// A bench: a name, what it measures, and how.
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn() -> Result<Vec<Row>, Error>,
}

/// Every bench. A new one is a module beside this one and a line here.
const BENCHES: &[Bench] = &[
    machine::BENCH,
    node::BENCH,
    initramfs::BENCH,
    plan::BENCH,
    engine::BENCH,
    sync::BENCH,
    parent::BENCH,
    sim::BENCH,
    fleet::BENCH,
    lab::BENCH,
];

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    if args.list {
        for Bench { name, about, .. } in BENCHES {
            println!("{name:<16} {about}");
        }
        return Ok(());
    }
    let chosen = choose(&args.names)?;
    let mut rows = Vec::new();
    for bench in chosen {
        interrupt::check()?;
        // Progress goes to standard error: standard output is the result.
        eprintln!("measuring {}: {}", bench.name, bench.about);
        for row in (bench.run)()? {
            if args.json {
                println!("{}", row.json());
            }
            rows.push(row);
        }
    }
    if !args.json {
        println!("{}", row::table(&rows));
        if rows.iter().any(Row::is_noisy) {
            println!(
                "Rows marked noisy scattered too much to tell; run again when the machine is quiet."
            );
        }
    }
    let missed = rows.iter().filter(|row| row.met() == Some(false)).count();
    if missed == 0 { Ok(()) } else { Err(Error::Status(1)) }
}

fn choose(names: &[String]) -> Result<Vec<&'static Bench>, Error> {
    if let Some(unknown) =
        names.iter().find(|name| BENCHES.iter().all(|bench| bench.name != **name))
    {
        let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        let known = known.join(", ");
        return Err(Error::Refused(format!("there is no bench {unknown:?}; there are: {known}")));
    }
    let wanted = |bench: &&Bench| names.is_empty() || names.iter().any(|name| name == bench.name);
    Ok(BENCHES.iter().filter(wanted).collect())
}
