//! Suggestions for mistyped names, the one place where they are made.

use std::cmp::Reverse;

/// Names longer than this are not compared, in bytes: nobody mistypes a digest by a letter.
const MAX_COMPARED_BYTES: usize = 100;

/// The most names that are listed where none is near.
const MAX_LISTED: usize = 40;

/// The known name that a mistyped one is nearest to, if one is near enough: letter case does not
/// count, two letters in the wrong order count as one slip, and one slip is forgiven plus one in
/// every three letters. A name without dots is also compared with the last segment of an address:
/// `rack` is near `location.rack`. Of several with as few slips, the one that begins alike for longest.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.is_empty() || name.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let name = name.to_lowercase();
    let candidates = known.into_iter().filter(|known| known.len() <= MAX_COMPARED_BYTES);
    let judged = candidates.filter_map(|known| {
        let lower = known.to_lowercase();
        let alike = name.bytes().zip(lower.bytes()).take_while(|(a, b)| a == b).count();
        Some((slips(&name, &lower)?, Reverse(alike), known))
    });
    judged.min_by_key(|(slips, alike, _)| (*slips, *alike)).map(|(_, _, known)| known)
}

/// The number of slips between two names in lower case, if it is small enough for a suggestion.
fn slips(name: &str, known: &str) -> Option<usize> {
    let within = |known: &str| {
        let slips = strsim::osa_distance(name, known);
        // A name that has nothing in common with the other is no slip of it, however short.
        let is_near = slips <= 1 + known.len() / 3 && slips < known.len().max(name.len());
        is_near.then_some(slips)
    };
    let last = known.rsplit_once('.').filter(|_| !name.contains('.')).and_then(|(_, last)| {
        // Within an address a whole segment is missing already.
        within(last).filter(|slips| *slips <= last.len() / 3).map(|slips| slips + 1)
    });
    within(known).into_iter().chain(last).min()
}

/// A suggestion in words: `did you mean "x"?`, or the known names where none is near. Empty where
/// there is nothing to suggest.
#[must_use]
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => listed(&known),
    }
}

/// The known names, as many as a person reads.
fn listed(known: &[&str]) -> String {
    let shown = &known[..known.len().min(MAX_LISTED)];
    match known.len() - shown.len() {
        _ if known.is_empty() => String::new(),
        0 => format!("there is {}", shown.join(", ")),
        more => format!("there is {} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&str; 8] = [
        "phys_state",
        "location.rack",
        "labels.role",
        "disruptive",
        "POWER_OFF",
        "all",
        "on",
        "off",
    ];

    #[test]
    fn a_slip_is_told_from_another_word() {
        for (name, meant) in [
            ("phystate", Some("phys_state")),
            ("rack", Some("location.rack")),
            ("rakc", Some("location.rack")),
            ("location.rakc", Some("location.rack")),
            ("labels.roel", Some("labels.role")),
            ("disruptiv", Some("disruptive")),
            ("power_off", Some("POWER_OFF")),
            ("al", Some("all")),
            ("of", Some("off")),
            ("gremlins", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, KNOWN), meant, "{name}");
        }
    }

    #[test]
    fn what_is_near_nothing_gets_the_names_that_there_are() {
        assert_eq!(suggest("netwrk", ["network"]), "did you mean \"network\"?");
        assert_eq!(suggest("xyz", ["network", "nodes"]), "there is network, nodes");
        assert_eq!(suggest("xyz", []), "");
        let many: Vec<String> = (0..50).map(|n| format!("group-{n}")).collect();
        let said = suggest("xyz", many.iter().map(String::as_str));
        assert!(said.ends_with("group-39 and 10 more"), "{said}");
    }

    proptest! {
        #[test]
        fn a_name_of_five_letters_with_one_slip_is_always_recognised(
            name in "[a-z]{5,12}", at in 0_usize..5, letter in "[a-z]", others in
            proptest::collection::vec("[0-9]{20,24}", 0..5)
        ) {
            let mut wrong = name.clone();
            wrong.replace_range(at..=at, &letter);
            let known: Vec<&str> = others.iter().chain([&name]).map(String::as_str).collect();
            prop_assert_eq!(nearest(&wrong, known.iter().copied()), Some(name.as_str()));
            wrong.remove(at);
            prop_assert_eq!(nearest(&wrong, known), Some(name.as_str()));
        }
    }
}
