//! From names to the shortest text.

use super::MAX_DIGITS;
use crate::NodeId;
use std::collections::HashMap;
use std::fmt::Write;

/// Names that differ in their numbers only: every combination of one number from each list.
struct Block<'a> {
    numbers: Vec<Vec<&'a str>>,
}

/// The shortest text for nodes that are given in natural order, each once.
pub(super) fn fold(nodes: &[NodeId]) -> String {
    // Names of one skeleton are folded together; skeletons stay in the order of their first name.
    let mut places: HashMap<Vec<&str>, usize> = HashMap::new();
    let mut kinds: Vec<(Vec<&str>, Vec<Block<'_>>)> = Vec::new();
    for node in nodes {
        let (literals, numbers) = split(node.as_str());
        let place = *places.entry(literals.clone()).or_insert_with(|| {
            kinds.push((literals, Vec::new()));
            kinds.len() - 1
        });
        let numbers = numbers.into_iter().map(|n| vec![n]).collect();
        kinds[place].1.push(Block { numbers });
    }
    let mut text = String::new();
    for (literals, mut blocks) in kinds {
        for dimension in (0..literals.len() - 1).rev() {
            blocks = join(blocks, dimension);
        }
        for block in blocks {
            if !text.is_empty() {
                text.push(',');
            }
            write_block(&literals, &block, &mut text);
        }
    }
    text
}

/// The literals around the numbers of a name, one more than there are numbers, and the numbers.
fn split(name: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut literals, mut numbers) = (Vec::new(), Vec::new());
    let (mut from, mut at) = (0, 0);
    while let Some(start) = name[at..].find(|c: char| c.is_ascii_digit()).map(|p| at + p) {
        let rest = &name[start..];
        let end = start + rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        at = end;
        if end - start <= MAX_DIGITS {
            literals.push(&name[from..start]);
            numbers.push(&name[start..end]);
            from = end;
        }
    }
    literals.push(&name[from..]);
    (literals, numbers)
}

/// Joins the blocks that differ in one dimension only.
fn join(blocks: Vec<Block<'_>>, dimension: usize) -> Vec<Block<'_>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut joined: Vec<Block<'_>> = Vec::new();
    for mut block in blocks {
        let mut key = String::new();
        for (at, numbers) in block.numbers.iter().enumerate() {
            if at != dimension {
                write_numbers(numbers, &mut key);
                key.push(';');
            }
        }
        match places.get(&key) {
            Some(place) => {
                joined[*place].numbers[dimension].append(&mut block.numbers[dimension]);
            }
            None => {
                places.insert(key, joined.len());
                joined.push(block);
            }
        }
    }
    for block in &mut joined {
        block.numbers[dimension].sort_by_key(|n| (value(n), n.len()));
    }
    joined
}

fn value(number: &str) -> u64 {
    // At most MAX_DIGITS digits.
    number.parse().unwrap_or(u64::MAX)
}

fn write_block(literals: &[&str], block: &Block<'_>, text: &mut String) {
    for (literal, numbers) in literals.iter().zip(&block.numbers) {
        text.push_str(literal);
        if let [number] = numbers[..] {
            text.push_str(number);
        } else {
            text.push('[');
            write_numbers(numbers, text);
            text.push(']');
        }
    }
    text.push_str(literals.last().unwrap_or(&""));
}

/// Writes sorted numbers as ranges: `1-3,007-010`.
fn write_numbers(numbers: &[&str], text: &mut String) {
    let mut numbers = numbers.iter().peekable();
    let mut comma = "";
    while let Some(first) = numbers.next() {
        let width = if first.starts_with('0') { first.len() } else { 0 };
        let mut last = first;
        let mut at = value(first);
        // The next number belongs to the range when counting would spell it just so.
        while let Some(next) =
            numbers.next_if(|next| value(next) == at + 1 && **next == format!("{:0width$}", at + 1))
        {
            last = next;
            at += 1;
        }
        // Writing to a string cannot fail.
        let _ = if last == first {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first}-{last}")
        };
        comma = ",";
    }
}
