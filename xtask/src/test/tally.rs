//! How many passed and failed, read from what test runners print.

/// A count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Tally {
    pub(crate) const ONE_PASSED: Self = Self { passed: 1, failed: 0 };
    pub(crate) const ONE_FAILED: Self = Self { passed: 0, failed: 1 };

    /// The count of a run that printed `output` and ended well or not. A run without a summary counts as
    /// one; a run that failed with nothing counted as failed (it did not compile) has one failure.
    pub(crate) fn of_run(output: &str, ok: bool) -> Self {
        // A summary of nextest has counted what the tests that failed print of themselves.
        let of = |read: fn(&str) -> Option<Self>| {
            let found = output.lines().filter_map(|line| read(line.trim()));
            found.reduce(|mut sum, tally| {
                sum += tally;
                sum
            })
        };
        let found = of(nextest).or_else(|| of(|line| cargo_test(line).or_else(|| own(line))));
        match (found, ok) {
            (Some(tally), false) if tally.failed == 0 => Self { failed: 1, ..tally },
            (Some(tally), _) => tally,
            (None, true) => Self::ONE_PASSED,
            (None, false) => Self::ONE_FAILED,
        }
    }
}

/// `Summary [   0.551s] 17/41 tests run: 16 passed (1 slow), 1 failed, 1 timed out, 0 skipped`
fn nextest(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("Summary [")?.split_once(" run: ")?;
    let mut tally = Tally::default();
    // In parentheses: what the number before them contains already.
    for part in counts.split(',').map(|part| part.split('(').next().unwrap_or(part)) {
        let Some((count, what)) = part.trim().split_once(' ') else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        match what.trim() {
            "passed" => tally.passed += count,
            "failed" | "timed out" | "exec failed" => tally.failed += count,
            _ => {}
        }
    }
    Some(tally)
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.16s`
fn cargo_test(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = counts.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some(Tally { passed, failed })
}

/// `6 passed, 0 failed`: what the demo and this program itself end with.
fn own(line: &str) -> Option<Tally> {
    let (passed, failed) = line.split_once(" passed, ")?;
    let failed = failed.strip_suffix(" failed")?;
    Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64) -> Tally {
        Tally { passed, failed }
    }

    #[test]
    fn summaries_of_every_runner_are_read_and_summed() {
        let nextest = "     Summary [   0.551s] 17/41 tests run: 16 passed (1 slow, 2 flaky), 1 failed, 2 timed out, 0 skipped";
        assert_eq!(Tally::of_run(nextest, false), tally(16, 3));
        let cargo = "running 3 tests\n\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.16s\n\
                     test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.16s";
        assert_eq!(Tally::of_run(cargo, false), tally(4, 2));
        assert_eq!(Tally::of_run("x\n6 passed, 0 failed\n", true), tally(6, 0));
        let failed = "test result: FAILED. 0 passed; 1 failed; 0 ignored\n";
        let twice = format!("{failed}{nextest}");
        assert_eq!(Tally::of_run(&twice, false), tally(16, 3), "told of twice, counted once");
    }

    #[test]
    fn a_run_that_failed_never_counts_as_passed() {
        assert_eq!(Tally::of_run("error: could not compile", false), tally(0, 1));
        assert_eq!(Tally::of_run("6 passed, 0 failed", false), tally(6, 1));
        assert_eq!(Tally::of_run("all is well", true), tally(1, 0));
    }
}
