//! The one variable that the planner looks at, from everything that is known. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{ContainerState, Exit};
use super::spec::RestartPolicy;
use super::{Digest, ImageName, ImageSpec};

/// The node's variable `image_state`, as far as the image service can tell. `FATAL` is the
/// engine's word, after it has tried often enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ImageState {
    /// Nothing runs.
    Idle,
    /// Everything that cfg wants runs, and nothing else.
    Active,
    /// Something runs, but cfg wants something else.
    Update,
    /// What cfg wants failed, or came to an end.
    Error,
}

impl ImageState {
    /// As the schema spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "IDLE",
            Self::Active => "ACTIVE",
            Self::Update => "UPDATE",
            Self::Error => "ERROR",
        }
    }
}

/// One container as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// Under which name it runs.
    pub name: ImageName,
    /// Which image.
    pub digest: Digest,
    /// In which state it is.
    pub state: ContainerState,
    /// The main process, while there is one.
    pub pid: Option<i32>,
    /// When it was started.
    pub started_unix_ms: Option<u64>,
    /// Why it is not running.
    pub reason: Option<String>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// How often it was started again after it ended without being asked to.
    pub restarts: u32,
    /// How it ended before it was started again.
    pub last_exit: Option<String>,
    /// Everything it was started with.
    pub spec: ImageSpec,
}

/// What the last attempt to reach a want failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was wanted; a failure says nothing about another want.
    pub want: Vec<ImageSpec>,
    /// Which images failed, and why, for a person.
    pub images: BTreeMap<ImageName, String>,
    /// All of it in one line.
    pub reason: String,
}

impl Observation {
    /// Does it run?
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, ContainerState::Running)
    }

    /// Does it run, or was it asked to stop and is still to be taken away? Then a change is under way, and
    /// what comes out of it is not there yet.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.state, ContainerState::Running | ContainerState::Stopping)
    }

    /// Does it do, or has it done, what its restart policy asks for?
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        match (self.spec.restart, self.exit) {
            _ if self.is_up() => true,
            (RestartPolicy::Never, Some(_)) => true,
            (RestartPolicy::OnFailure, Some(exit)) => exit == Exit::Code(0),
            _ => false,
        }
    }
}

/// Compares what is wanted with what is there.
#[must_use]
pub fn assess(
    want: &[ImageSpec],
    actual: &[Observation],
    last_failure: Option<&Failure>,
) -> ImageState {
    if last_failure.is_some_and(|failure| failure.want == want) {
        return ImageState::Error;
    }
    let by_name: BTreeMap<_, _> = actual.iter().map(|seen| (&seen.name, seen)).collect();
    let matching =
        |spec: &&ImageSpec| by_name.get(&spec.name).filter(|seen| seen.spec == **spec).copied();
    // A wanted service that ended needs help even while others still have to be changed: the way
    // out of ERROR has the back-off that a crash loop needs.
    if want.iter().any(|spec| matching(&spec).is_some_and(|seen| !seen.is_satisfied())) {
        return ImageState::Error;
    }
    let all_there = want.iter().all(|spec| matching(&spec).is_some());
    let nothing_else = actual
        .iter()
        .all(|seen| !seen.is_there() || want.iter().any(|spec| spec.name == seen.name));
    match (want.is_empty(), actual.iter().any(Observation::is_there)) {
        (true, false) => ImageState::Idle,
        (true, true) => ImageState::Update,
        (false, _) if all_there && nothing_else => ImageState::Active,
        (false, true) => ImageState::Update,
        (false, false) => ImageState::Idle,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(name: &str, image: u8) -> ImageSpec {
        let command = vec!["/bin/true".to_owned()];
        ImageSpec::plain(name.parse().unwrap(), Digest::new([image; 32]), 1, command)
    }

    fn seen(spec: ImageSpec, state: ContainerState, exit: Option<Exit>) -> Observation {
        Observation {
            name: spec.name.clone(),
            digest: spec.digest,
            state,
            pid: None,
            started_unix_ms: None,
            reason: None,
            exit,
            restarts: 0,
            last_exit: None,
            spec,
        }
    }

    #[test]
    fn the_state_follows_from_want_and_actual() {
        use ContainerState::{Dead, Exited, Running, Stopping};
        let (a, b) = (spec("a", 1), spec("b", 2));
        let newer = spec("a", 3);
        let run = |spec: &ImageSpec| seen(spec.clone(), Running, None);
        let killed = seen(a.clone(), Dead, Some(Exit::Signal(9)));
        let stopping = seen(a.clone(), Stopping, None);
        let ended = seen(a.clone(), Exited, Some(Exit::Code(0)));
        for (want, actual, expected) in [
            (vec![], vec![], ImageState::Idle),
            (vec![a.clone()], vec![], ImageState::Idle),
            (vec![a.clone()], vec![run(&a)], ImageState::Active),
            (vec![newer.clone()], vec![run(&a)], ImageState::Update),
            (vec![a.clone(), b.clone()], vec![run(&a)], ImageState::Update),
            (vec![a.clone()], vec![run(&a), run(&b)], ImageState::Update),
            (vec![], vec![run(&a)], ImageState::Update),
            (vec![a.clone()], vec![killed.clone()], ImageState::Error),
            (vec![a.clone()], vec![ended], ImageState::Error),
            (vec![a.clone()], vec![stopping.clone()], ImageState::Error),
            (vec![newer.clone()], vec![stopping.clone()], ImageState::Update),
            (vec![b.clone()], vec![run(&b), stopping.clone()], ImageState::Update),
            (vec![], vec![stopping], ImageState::Update),
            (vec![a.clone(), b.clone()], vec![killed.clone(), run(&b)], ImageState::Error),
            (vec![newer], vec![killed.clone()], ImageState::Idle),
            (vec![], vec![killed], ImageState::Idle),
        ] {
            assert_eq!(assess(&want, &actual, None), expected, "{want:?} {actual:?}");
        }
    }

    #[test]
    fn a_failure_counts_only_for_the_want_it_belongs_to() {
        let (old, new) = (spec("a", 1), spec("a", 2));
        let actual = [seen(old.clone(), ContainerState::Running, None)];
        let (want, images) = (vec![new.clone()], BTreeMap::new());
        let failure = Failure { want, images, reason: "the digest differs".into() };
        assert_eq!(assess(&[new], &actual, Some(&failure)), ImageState::Error);
        assert_eq!(assess(&[old], &actual, Some(&failure)), ImageState::Active);
    }

    #[test]
    fn a_job_that_is_done_is_not_an_error() {
        let mut job = spec("a", 1);
        job.restart = RestartPolicy::OnFailure;
        let done = seen(job.clone(), ContainerState::Exited, Some(Exit::Code(0)));
        assert_eq!(assess(&[job.clone()], &[done], None), ImageState::Active);
        let failed = seen(job.clone(), ContainerState::Exited, Some(Exit::Code(1)));
        assert_eq!(assess(&[job], &[failed], None), ImageState::Error);
    }
}
