//! The tables of the cluster file's reference are made from the schemas, and kept true by this.
//!
//! `UPDATE_DOCS=1 cargo test -p layercake-schema --test reference` writes them anew.
#![allow(clippy::unwrap_used)]

use kraken_model::{Format, Kind, Side};
use layercake_schema::{Timing, format_duration, schemas};
use std::path::PathBuf;

fn reference() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/cluster-file.md")
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Variable(values) => words(values.iter().map(AsRef::as_ref)),
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Int { min: 0, max: i64::MAX } => "a whole number".to_owned(),
        Kind::Int { min, max } => format!("a whole number, {min} to {max}"),
        Kind::Text(Format::Any) => "text".to_owned(),
        Kind::Text(Format::Choice(choice)) => words(choice.iter().copied()),
        Kind::Text(Format::Mac) => "a MAC address".to_owned(),
        Kind::Text(Format::Ipv4) => "an IPv4 address".to_owned(),
        Kind::Text(Format::Ipv4Cidr) => "an IPv4 address and prefix, `10.0.0.1/24`".to_owned(),
        Kind::Text(Format::Sha256) => "`sha256:` and 64 digits".to_owned(),
        Kind::List(member) => format!("a list; each member: {}", value(member)),
    }
}

fn addresses() -> String {
    let mut table = "| address | value | side | meaning |\n|---|---|---|---|\n".to_owned();
    for field in schemas().iter().flat_map(|schema| &schema.fields) {
        let sides: Vec<_> = field
            .sides
            .iter()
            .map(|side| match side {
                Side::Cfg => "cfg",
                Side::Dsc => "dsc",
            })
            .collect();
        let (value, sides) = (value(&field.kind), sides.join(", "));
        table +=
            &format!("| `{}` | {value} | {sides} | {} |\n", field.pattern.as_str(), field.about);
    }
    table
}

fn times() -> String {
    let timing = Timing::default();
    let mut table = "| name | default | meaning |\n|---|---|---|\n".to_owned();
    for (name, about) in Timing::NAMES {
        let default = format_duration(timing.get(name).unwrap());
        table += &format!("| `{name}` | {default} | {about} |\n");
    }
    table
}

/// The text with what stands between two markers replaced.
fn replaced(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end: {name} -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no marker {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no marker {end}"));
    format!("{before}{begin}\n{table}\n{end}{after}")
}

#[test]
fn the_tables_of_the_cluster_file_reference_are_what_the_schemas_say() {
    let text = std::fs::read_to_string(reference()).unwrap();
    let current = replaced(&text, "addresses", &addresses());
    let current = replaced(&current, "timing", &times());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(reference(), current).unwrap();
        return;
    }
    assert!(
        text == current,
        "docs/cluster-file.md is not what the schemas say; write its tables anew with\n\
         UPDATE_DOCS=1 cargo test -p layercake-schema --test reference"
    );
}
