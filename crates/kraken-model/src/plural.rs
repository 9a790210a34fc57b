//! Numbers of things in words.

/// A number with its noun, in the plural unless there is just one: `1 error`, `3 errors`. For nouns
/// whose plural adds an `s`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_singular_and_none_is_plural() {
        let words = [0, 1, 2].map(|count| counted(count, "error"));
        assert_eq!(words, ["0 errors", "1 error", "2 errors"]);
    }
}
