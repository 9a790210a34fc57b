//! Benches that live beside what they measure, as examples of a crate, and print a JSON object a line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::Samples;
use crate::error::Error;
use crate::interrupt;
use crate::run::{cargo, check, target};

/// One line of such a bench.
#[derive(Deserialize)]
struct Line {
    name: String,
    value: f64,
    /// Where a figure depends on how many there are.
    children: Option<u64>,
}

/// The figures of several runs, by name.
pub(super) type Figures = BTreeMap<String, Vec<f64>>;

/// An example, built as it would be shipped.
pub(crate) fn build(package: &str, example: &str) -> Result<PathBuf, Error> {
    check(cargo().args(["build", "--release", "--package", package, "--example", example]))?;
    Ok(target().join("release/examples").join(example))
}

/// Runs programs in turn, `runs` times each, so that a machine that gets slower does so for all of them.
pub(super) fn run_in_turn(programs: &[PathBuf], runs: usize) -> Result<Figures, Error> {
    let mut figures = Figures::new();
    for _ in 0..runs {
        for program in programs {
            interrupt::check()?;
            let said = check(&mut Command::new(program))?;
            for line in said.lines() {
                let (name, value) = read(line)?;
                figures.entry(name).or_default().push(value);
            }
        }
    }
    Ok(figures)
}

fn read(line: &str) -> Result<(String, f64), Error> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| Error::Refused(format!("a bench says {line:?}: {error}")))?;
    let name = match line.children {
        Some(children) => format!("{}.{children}", line.name),
        None => line.name,
    };
    Ok((name, line.value))
}

/// The runs of one figure, in another unit: divided by `by`.
pub(super) fn samples(figures: &Figures, name: &str, by: f64) -> Result<Samples, Error> {
    let values = figures.get(name).ok_or_else(|| {
        let known: Vec<_> = figures.keys().map(String::as_str).collect();
        Error::Refused(format!("no bench says {name}; there are: {}", known.join(", ")))
    })?;
    let mut values = values.iter();
    Samples::take(values.len(), || Ok(values.next().map_or(0.0, |value| value / by)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_figure_is_named_with_how_many_it_is_about() {
        let line = r#"{"name":"sync_hellos","children":10000,"value":7,"unit":"1/s"}"#;
        assert_eq!(read(line).unwrap(), ("sync_hellos.10000".to_owned(), 7.0));
        assert_eq!(read(r#"{"name":"a","value":1.5,"unit":"B"}"#).unwrap().0, "a");
        assert!(read("hello").is_err());
    }

    #[test]
    fn a_figure_that_nobody_says_is_an_error_with_those_that_are_said() {
        let figures = Figures::from([("a".to_owned(), vec![2000.0, 4000.0, 3000.0])]);
        assert!((samples(&figures, "a", 1000.0).unwrap().median() - 3.0).abs() < 1e-9);
        assert!(samples(&figures, "b", 1.0).unwrap_err().to_string().ends_with("there are: a"));
    }
}
