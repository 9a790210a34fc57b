//! Fuzzing without cargo-fuzz: `fuzz/` is laid out as cargo-fuzz would, and built here with the coverage
//! instrumentation that libFuzzer needs, by the stable toolchain.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::error::Error;
use crate::run::{self, cargo, check, host_triple, human, root};
use crate::{deps, interrupt};

/// What cargo-fuzz passes to rustc for coverage, less the sanitizers, which need a nightly toolchain. Arithmetic
/// and debug assertions are on: a parser that overflows is wrong even if nothing happens.
const RUSTFLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    // Instrumented code must not be merged across units, or the tables are dropped by the linker.
    "-Ccodegen-units=1",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// Seconds for each target in the test run.
const SMOKE_SECONDS: u32 = 2;
/// One input may take this long; a parser of hostile bytes must not have slow ones. It is time on the
/// wall, with coverage, beside everything else that a test run does: far above what any needs.
const INPUT_LIMIT_SECONDS: u32 = 20;
/// Memory of one target.
const MEMORY_LIMIT_MIB: u32 = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to fuzz each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Name the targets and end
    #[arg(long)]
    list: bool,
    /// The targets; all when none is given
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let all = targets()?;
    if args.list {
        all.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    if let Some(unknown) = args.targets.iter().find(|target| !all.contains(target)) {
        let all = all.join(", ");
        return Err(Error::Refused(format!(
            "there is no fuzz target {unknown:?}; there are: {all}"
        )));
    }
    if !deps::is_here("g++") {
        let message = "libFuzzer is compiled with g++, which is missing; run: cargo xtask deps";
        return Err(Error::Refused(message.to_owned()));
    }
    let chosen = if args.targets.is_empty() { all } else { args.targets.clone() };
    println!("building {} targets with coverage", chosen.len());
    let started = Instant::now();
    build()?;
    println!("built in {}", human(started.elapsed()));
    let mut failures = 0;
    for target in &chosen {
        interrupt::check()?;
        println!("fuzzing {target} for {} s", args.seconds);
        match fuzz(target, args.seconds) {
            Ok(summary) => println!("  {summary}"),
            Err(error) => {
                failures += 1;
                println!("{}", error.with_causes());
            }
        }
    }
    println!("{} passed, {failures} failed", chosen.len() - failures);
    if failures == 0 { Ok(()) } else { Err(Error::Status(1)) }
}

/// For the test run: builds every target and fuzzes each for a few seconds.
pub(crate) fn smoke() -> Result<String, Error> {
    build()?;
    let all = targets()?;
    let mut failures = Vec::new();
    for target in &all {
        interrupt::check()?;
        if let Err(error) = fuzz(target, SMOKE_SECONDS) {
            failures.push(error.with_causes());
        }
    }
    if failures.is_empty() {
        return Ok(format!("{} targets, {SMOKE_SECONDS} s each", all.len()));
    }
    Err(Error::Refused(failures.join("\n")))
}

/// The names of the targets, from their files.
fn targets() -> Result<Vec<String>, Error> {
    let dir = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&dir).map_err(Error::file("list", &dir))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn build() -> Result<(), Error> {
    let mut command = cargo();
    command
        .args(["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target-dir", "target/fuzz", "--target", &host_triple()])
        .env("RUSTFLAGS", RUSTFLAGS.join(" "));
    check(&mut command).map(drop)
}

/// Runs one target. New inputs go below `target/`, so that a run does not change the checkout; an input
/// that crashes goes to `fuzz/artifacts/`, to be kept.
fn fuzz(target: &str, seconds: u32) -> Result<String, Error> {
    let root = root();
    let binary = root.join("target/fuzz").join(host_triple()).join("release").join(target);
    let found = root.join("target/fuzz/corpus").join(target);
    let artifacts = root.join("fuzz/artifacts").join(target);
    for dir in [&found, &artifacts] {
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    }
    let mut command = Command::new(binary);
    command
        .current_dir(&root)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_LIMIT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .arg(&found);
    let seeds = root.join("fuzz/corpus").join(target);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    let done = run::capture(&mut command)?;
    if done.ok {
        return Ok(format!("{} inputs, nothing broke", executed(&done.output)));
    }
    let input = crash_file(&done.output, &artifacts);
    let again = format!("target/fuzz/{}/release/{target} {input}", host_triple());
    Err(Error::Refused(format!(
        "fuzz target {target} broke on {input}\n{}\nto see it again: {again}",
        last_lines(&done.output, 40)
    )))
}

/// `stat::number_of_executed_units: 123456`
fn executed(output: &str) -> &str {
    let count = |line: &'_ str| line.starts_with("stat::number_of_executed_units:");
    let line = output.lines().rfind(|line| count(line));
    line.and_then(|line| line.rsplit_once(':')).map_or("some", |(_, count)| count.trim())
}

/// The file libFuzzer says that it wrote.
fn crash_file(output: &str, artifacts: &Path) -> String {
    let written = output.lines().find_map(|line| line.split_once("Test unit written to "));
    written.map_or_else(|| artifacts.display().to_string(), |(_, path)| path.trim().to_owned())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let output = "x\nstat::number_of_executed_units: 4711\n";
        assert_eq!(executed(output), "4711");
        let crash = "artifact_prefix='a/'; Test unit written to a/crash-1f\nBase64: eA==";
        assert_eq!(crash_file(crash, Path::new("a")), "a/crash-1f");
        assert_eq!(crash_file("", Path::new("a")), "a");
    }
}
