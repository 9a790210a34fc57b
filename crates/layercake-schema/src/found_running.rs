//! What is done about a machine that is found running, and whose node is not heard.

/// The address at which the cluster file says so.
pub const FOUND_RUNNING: &str = "found_running";

/// What is done about a machine that runs when it is first looked at, and whose node is not heard: what
/// runs there may be somebody's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FoundRunning {
    /// A person is asked, and nothing is done before.
    #[default]
    Ask,
    /// Its power is cut, and it boots as a node.
    Reboot,
    /// It is left as it is, and nobody is asked.
    Leave,
}

impl FoundRunning {
    /// The words of the cluster file.
    pub const WORDS: &[&str] = &["ask", "reboot", "leave"];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_its_word() {
        let all = [FoundRunning::Ask, FoundRunning::Reboot, FoundRunning::Leave];
        assert_eq!(all.map(FoundRunning::word), FoundRunning::WORDS);
        assert_eq!(FoundRunning::default().word(), "ask");
    }
}
