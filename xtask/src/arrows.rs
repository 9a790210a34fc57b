//! Which crate of the workspace may use which: the arrows of `ARCHITECTURE.md`, enforced.

use crate::error::Error;
use crate::metadata::Metadata;

/// A crate and what it may use of the workspace, in the order of the house: below it, never above. What
/// tests use counts too, for a test that needs the roof to try the cellar is in the wrong place.
const ARROWS: &[(&str, &[&[&str]])] = &[
    ("kraken-model", &[]),
    ("kraken-plan", &[MODEL]),
    ("kraken-engine", &[MODEL, &["kraken-plan"]]),
    ("kraken-sync", &[MODEL]),
    ("kraken-store", &[MODEL]),
    // Without the runtime: it drives the same engine and sync in another time.
    ("kraken-sim", &[MODEL, CORE]),
    ("kraken", &[MODEL, CORE]),
    // Suggestions for mistyped names are made in one place.
    ("kraken-yaml", &[MODEL]),
    ("kraken-process", &[]),
    ("kraken-modules", &[KRAKEN, &["kraken-yaml", "kraken-process"]]),
    ("layercake-sys", &[]),
    ("layercake-cpio", &[]),
    ("layercake-schema", &[MODEL, &["kraken-plan"]]),
    ("layercake-types", &[MODEL, &["layercake-schema"]]),
    ("layercake-seed", &[&["layercake-types"]]),
    ("layercake-config", &[MODEL, &["kraken-yaml", "layercake-schema", "layercake-types"]]),
    ("layercake-sim", &[MODEL, CORE, &["kraken-sim", "layercake-schema"]]),
    ("layercake-minos", &[&["layercake-cpio"]]),
    // Modules do not know each other.
    ("layercake-boot", &[KRAKEN, BESIDE]),
    ("layercake-power", &[KRAKEN, BESIDE, &["kraken-process"]]),
    ("layercake-image", &[KRAKEN, BESIDE]),
    ("layercake-node", &[KRAKEN, BESIDE, &["layercake-image"]]),
    ("layercake-server", &[KRAKEN, BESIDE, MODULES, &["kraken-modules"]]),
    ("layercake-sim-world", &[KRAKEN, BESIDE, SIM, &["layercake-config", "layercake-server"]]),
    (
        "layercake",
        &[
            KRAKEN,
            BESIDE,
            MODULES,
            SIM,
            &["layercake-minos", "layercake-server", "layercake-sim-world"],
        ],
    ),
    ("procs", &[KRAKEN]),
    ("xtask", &[]),
];

const MODEL: &[&str] = &["kraken-model"];
const CORE: &[&str] = &["kraken-plan", "kraken-engine", "kraken-sync", "kraken-store"];
const KRAKEN: &[&str] =
    &["kraken-model", "kraken-plan", "kraken-engine", "kraken-sync", "kraken-store", "kraken"];
/// The vocabulary and the small crates beside Kraken.
const BESIDE: &[&str] =
    &["layercake-schema", "layercake-types", "layercake-seed", "layercake-cpio", "layercake-sys"];
/// The fleet simulator.
const SIM: &[&str] = &["kraken-sim", "layercake-sim"];
const MODULES: &[&str] =
    &["layercake-config", "layercake-boot", "layercake-power", "layercake-image"];

/// Holds the workspace against the table.
pub(crate) fn check(metadata: &Metadata) -> Result<String, Error> {
    let members: Vec<_> = metadata.members().collect();
    let uses = members.iter().map(|package| {
        let used = package.dependencies.iter().filter(|dep| dep.path.is_some());
        (package.name.as_str(), used.map(|dep| dep.name.as_str()).collect())
    });
    let wrong = violations(uses);
    if wrong.is_empty() {
        return Ok(format!("{} crates, every arrow points down", members.len()));
    }
    Err(Error::Refused(wrong.join("\n")))
}

fn violations<'a>(uses: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, used) in uses {
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| *crate_name == name) else {
            wrong.push(format!(
                "crate {name} has no place in the house: add it to ARCHITECTURE.md and to ARROWS in xtask/src/arrows.rs"
            ));
            continue;
        };
        for used in used {
            if used != name && !allowed.iter().any(|group| group.contains(&used)) {
                wrong.push(format!(
                    "crate {name} may not use {used}: move what it needs down, or what needs it up"
                ));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_itself_only_points_down() {
        for (index, (name, allowed)) in ARROWS.iter().enumerate() {
            for used in allowed.iter().copied().flatten() {
                let place = ARROWS.iter().position(|(other, _)| other == used);
                assert!(place.is_some_and(|place| place < index), "{name} -> {used} points up");
            }
        }
    }

    #[test]
    fn an_arrow_that_points_up_and_a_crate_without_a_place_are_named() {
        let uses = [
            ("kraken-model", vec!["kraken"]),
            ("kraken-plan", vec!["kraken-model"]),
            ("shed", vec![]),
        ];
        let wrong = violations(uses.into_iter());
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("kraken-model may not use kraken"));
        assert!(wrong[1].contains("shed has no place"));
    }
}
