//! Rows, medians, noise, and how they are shown.

use serde_json::{Value, json};

/// Runs that scatter by more than this share of their median are too noisy to tell anything.
const MAX_SPREAD: f64 = 0.25;

/// The results of several runs of the same thing.
#[derive(Debug, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Runs `once` `count` times (at least once).
    pub(crate) fn take<E>(
        count: usize,
        mut once: impl FnMut() -> Result<f64, E>,
    ) -> Result<Self, E> {
        let mut values = (0..count.max(1)).map(|_| once()).collect::<Result<Vec<_>, E>>()?;
        values.sort_by(f64::total_cmp);
        Ok(Self(values))
    }

    /// A thing that is the same every time, like a size.
    pub(crate) fn exact(value: f64) -> Self {
        Self(vec![value])
    }

    /// The middle one; the mean of the two in the middle of an even number.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        }
    }

    /// How far the middle half of the runs scatters, as a share of the median: one run that was disturbed
    /// does not spoil the rest.
    fn spread(&self) -> f64 {
        let (quarter, last) = (self.0.len() / 4, self.0.len() - 1);
        let range = self.0[last - quarter] - self.0[quarter];
        if self.median() == 0.0 { 0.0 } else { (range / self.median()).abs() }
    }
}

/// What a value is held against.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    /// What was measured.
    pub(crate) what: String,
    /// Its runs, in the unit of the row.
    pub(crate) samples: Samples,
}

/// What a row is meant to reach.
#[allow(dead_code)] // The vocabulary of goals is whole, whichever of them the benches use today.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The value is at most this.
    ValueAtMost(f64),
    /// The value is at least this.
    ValueAtLeast(f64),
    /// The value is at most this many times its reference.
    RatioAtMost(f64),
    /// The value is at least this many times its reference.
    RatioAtLeast(f64),
}

/// One figure.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) samples: Samples,
    pub(crate) unit: &'static str,
    pub(crate) reference: Option<Reference>,
    pub(crate) goal: Option<Goal>,
}

impl Row {
    /// Value by reference.
    fn ratio(&self) -> Option<f64> {
        let reference = self.reference.as_ref()?.samples.median();
        (reference != 0.0).then(|| self.samples.median() / reference)
    }

    /// Whether the runs scatter too much to tell.
    pub(crate) fn is_noisy(&self) -> bool {
        let reference = self.reference.as_ref().map(|reference| &reference.samples);
        [Some(&self.samples), reference].into_iter().flatten().any(|s| s.spread() > MAX_SPREAD)
    }

    /// Whether the goal is met; nothing without a goal, or when it is too noisy to tell.
    pub(crate) fn met(&self) -> Option<bool> {
        if self.is_noisy() {
            return None;
        }
        let value = self.samples.median();
        match self.goal? {
            Goal::ValueAtMost(limit) => Some(value <= limit),
            Goal::ValueAtLeast(limit) => Some(value >= limit),
            Goal::RatioAtMost(limit) => Some(self.ratio()? <= limit),
            Goal::RatioAtLeast(limit) => Some(self.ratio()? >= limit),
        }
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> Value {
        let reference = self.reference.as_ref();
        json!({
            "name": self.name,
            "value": self.samples.median(),
            "unit": self.unit,
            "reference": reference.map(|r| json!({ "what": r.what, "value": r.samples.median() })),
            "ratio": self.ratio(),
            "goal": self.goal.map(|goal| goal.text(self.unit)),
            "met": self.met(),
            "noisy": self.is_noisy(),
        })
    }
}

impl Goal {
    fn text(self, unit: &str) -> String {
        match self {
            Self::ValueAtMost(limit) => format!("at most {} {unit}", number(limit)),
            Self::ValueAtLeast(limit) => format!("at least {} {unit}", number(limit)),
            Self::RatioAtMost(limit) => format!("at most {} times", number(limit)),
            Self::RatioAtLeast(limit) => format!("at least {} times", number(limit)),
        }
    }
}

/// All rows for people.
pub(crate) fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["name", "value", "reference", "ratio", "goal", "met"]);
    for row in rows {
        let verdict = match row.met() {
            _ if row.is_noisy() => "noisy",
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let reference = row.reference.as_ref();
        table.add_row([
            row.name.clone(),
            format!("{} {}", number(row.samples.median()), row.unit),
            reference.map_or(String::new(), |r| {
                format!("{} {} ({})", number(r.samples.median()), row.unit, r.what)
            }),
            row.ratio().map(number).unwrap_or_default(),
            row.goal.map(|goal| goal.text(row.unit)).unwrap_or_default(),
            verdict.to_owned(),
        ]);
    }
    table
}

/// Three digits that matter, with thin groups of thousands.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude < 10.0 {
        return format!("{value:.2}");
    }
    if magnitude < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    format!("{sign}{}", groups.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut values = values.iter().copied();
        Samples::take(values.len(), || values.next().ok_or(())).unwrap()
    }

    fn row(value: Samples, reference: Option<Samples>, goal: Goal) -> Row {
        let reference = reference.map(|samples| Reference { what: "plain".to_owned(), samples });
        Row { name: "x".to_owned(), samples: value, unit: "ms", reference, goal: Some(goal) }
    }

    #[test]
    fn the_median_ignores_one_disturbed_run_and_scatter_is_noise() {
        let calm = samples(&[10.0, 10.2, 900.0, 9.9, 10.1]);
        assert!((calm.median() - 10.1).abs() < 1e-9);
        assert!(calm.spread() < MAX_SPREAD);
        assert!((samples(&[1.0, 3.0]).median() - 2.0).abs() < 1e-9);
        assert!(samples(&[5.0, 10.0, 15.0, 20.0, 25.0]).spread() > MAX_SPREAD);
    }

    #[test]
    fn a_goal_is_met_missed_or_unknown() {
        let ten = || samples(&[10.0]);
        assert_eq!(row(ten(), None, Goal::ValueAtMost(10.0)).met(), Some(true));
        assert_eq!(row(ten(), None, Goal::ValueAtLeast(11.0)).met(), Some(false));
        assert_eq!(row(ten(), Some(samples(&[5.0])), Goal::RatioAtMost(1.5)).met(), Some(false));
        assert_eq!(row(ten(), Some(samples(&[5.0])), Goal::RatioAtLeast(1.5)).met(), Some(true));
        assert_eq!(row(ten(), None, Goal::RatioAtMost(1.5)).met(), None);
        let noisy = samples(&[1.0, 5.0, 10.0, 20.0, 40.0]);
        assert_eq!(row(ten(), Some(noisy), Goal::RatioAtMost(100.0)).met(), None);
    }

    #[test]
    fn a_row_is_one_json_object_with_every_field() {
        let json = row(samples(&[3.0]), Some(samples(&[2.0])), Goal::RatioAtMost(1.5)).json();
        let expected = json!({
            "name": "x", "value": 3.0, "unit": "ms", "reference": { "what": "plain", "value": 2.0 },
            "ratio": 1.5, "goal": "at most 1.50 times", "met": true, "noisy": false,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(number(1_234_567.8), "1 234 568");
        assert_eq!((number(-1234.0).as_str(), number(0.5).as_str()), ("-1 234", "0.50"));
    }
}
