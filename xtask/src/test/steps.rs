//! The steps, as a table.

use std::process::Command;

use crate::error::Error;
use crate::metadata::Metadata;
use crate::run::{self, cargo, root};
use crate::{arrows, demo, deps, fuzz, length, node_build, policy, sim};

/// Something that must pass.
pub(super) struct Step {
    pub(super) name: &'static str,
    /// What it shows, for people.
    pub(super) shows: &'static str,
    pub(super) work: Work,
}

pub(super) enum Work {
    /// Commands, all run; what they print is counted.
    Commands(Box<dyn Fn() -> Vec<Command> + Send>),
    /// Done in this process; gives a line that describes what was found right.
    Check(fn() -> Result<String, Error>),
}

fn commands(
    name: &'static str,
    shows: &'static str,
    list: impl Fn() -> Vec<Command> + Send + 'static,
) -> Step {
    Step { name, shows, work: Work::Commands(Box::new(list)) }
}

fn check(name: &'static str, shows: &'static str, check: fn() -> Result<String, Error>) -> Step {
    Step { name, shows, work: Work::Check(check) }
}

/// What uses the workspace's own build directory, and so waits for its lock anyway.
pub(super) fn workspace_lane() -> Vec<Step> {
    vec![
        commands("clippy", "no warning in any target", || {
            vec![cargo_with(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])]
        }),
        commands("tests", "unit, property and integration tests", || {
            if deps::has_cargo("nextest") {
                return vec![cargo_with(&["nextest", "run", "--workspace", "--no-fail-fast"])];
            }
            vec![cargo_with(&[
                "test",
                "--workspace",
                "--no-fail-fast",
                "--lib",
                "--bins",
                "--tests",
                "--examples",
            ])]
        }),
        commands("doctests", "examples in the documentation", || {
            vec![cargo_with(&["test", "--workspace", "--doc", "--no-fail-fast"])]
        }),
    ]
}

/// What builds elsewhere, or not at all.
pub(super) fn other_lane() -> Vec<Step> {
    vec![
        commands("fmt", "formatted as rustfmt.toml says", || {
            let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
            vec![cargo_with(&["fmt", "--all", "--check"]), cargo_with(&fuzz)]
        }),
        check("length", "no file too long to read", || length::check(&root())),
        check("arrows", "crates use only what is below them", || arrows::check(&Metadata::load()?)),
        check("policy", "licences and origins of dependencies", || {
            policy::check(&root(), &Metadata::load()?)
        }),
        check("deny", "cargo deny, where it is installed", cargo_deny),
        check("node", "the node binary builds and is static", node_build::build_and_describe),
        check(
            "sim",
            "no invariant is violated on hundreds of days of simulated fleets",
            sim::smoke,
        ),
        check("fuzz", "every parser survives a few seconds of fuzzing", fuzz::smoke),
    ]
}

/// What wants the machine for itself.
pub(super) fn alone() -> Vec<Step> {
    if !demo::IS_PART_OF_THIS_BUILD {
        return Vec::new();
    }
    let task = |words: &'static [&'static str]| {
        let run = ["run", "--quiet", "--package", "xtask", "--"];
        move || vec![cargo_with(&[&run, words].concat())]
    };
    vec![
        commands(
            "demo",
            "three machines from nothing to a running image",
            task(&["demo", "--check", "--yes"]),
        ),
        commands(
            "firmware",
            "real UEFI firmware, by PXE and by HTTP, to a running image",
            task(&["firmware", "--yes"]),
        ),
    ]
}

/// What it checks beyond our own policy step: versions twice, wildcards, licences in the sources' texts.
fn cargo_deny() -> Result<String, Error> {
    if !deps::has_cargo("deny") {
        return Ok("not installed; the policy step has checked what matters".to_owned());
    }
    // Advisories come from the network, and a test run must not depend on that.
    run::check(&mut cargo_with(&["deny", "check", "licenses", "bans", "sources"]))?;
    Ok("licences, bans, sources".to_owned())
}

fn cargo_with(args: &[&str]) -> Command {
    let mut command = cargo();
    command.args(args);
    command
}
