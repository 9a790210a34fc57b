//! What cfg wants to run: one image as one container.

use std::collections::BTreeMap;

use layercake_sys::SignalNumber;
use layercake_types::check_program;
use serde::{Deserialize, Serialize};

use super::Digest;

pub use layercake_types::{ImageName, MAX_COMMAND_WORDS, MAX_ENVIRONMENT};

/// The largest specification that is read.
pub const MAX_SPEC_BYTES: usize = 64 * 1024;
/// The longest time that an image may take to stop before it is killed.
pub const MAX_STOP_TIMEOUT_MS: u64 = 10 * 60 * 1000;
/// What an image gets when it does not say how long its stop takes.
pub const DEFAULT_STOP_TIMEOUT_MS: u64 = 10_000;
/// systemd gives its own services 90 s; it needs that long and a little more.
pub const DEFAULT_SYSTEMD_STOP_TIMEOUT_MS: u64 = 100_000;

/// How the image is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One program, with few capabilities.
    Plain,
    /// A whole system under its own systemd. It is trusted: its root can become the node's.
    Systemd,
}

/// Which ends of the main process are faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// A service: any end is a fault.
    #[default]
    Always,
    /// A job that may succeed: an end with status 0 is what was wanted.
    OnFailure,
    /// A job that runs once: any end is what was wanted.
    Never,
}

/// One image that cfg wants on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// Its name on this node.
    pub name: ImageName,
    /// Which bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// How it is run.
    pub kind: Kind,
    /// Program and arguments. A systemd image may leave it out: `/sbin/init`.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment of the program.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Directory in which the program starts; the root by default.
    #[serde(default)]
    pub workdir: Option<String>,
    /// Its host name; the node's by default.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Which ends are faults.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// The signal that stops it; SIGTERM, or SIGRTMIN+3 for systemd, by default.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// How long it may take to stop before it is killed.
    #[serde(default)]
    pub stop_timeout_ms: Option<u64>,
    /// Why this node cannot run it, for a person. Then nothing of it is fetched, and what runs under its name
    /// runs on.
    #[serde(default)]
    pub refusal: Option<String>,
    /// The name of what cfg says of it (`layercake_schema::specification`), told of what runs.
    #[serde(default)]
    pub specification: String,
}

/// Why a specification was refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Too many bytes.
    #[error("the specification has {0} bytes, more than {MAX_SPEC_BYTES}")]
    TooLarge(usize),
    /// No JSON, or not these fields.
    #[error("the specification cannot be read")]
    Json(#[source] serde_json::Error),
    /// A field cannot be right.
    #[error("image {name}: `{field}` {problem}")]
    Field {
        /// Of which image.
        name: ImageName,
        /// Which field.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl ImageSpec {
    /// A plain program with everything else by default.
    #[must_use]
    pub fn plain(name: ImageName, digest: Digest, size: u64, command: Vec<String>) -> Self {
        Self {
            name,
            digest,
            size,
            kind: Kind::Plain,
            command,
            env: BTreeMap::new(),
            workdir: None,
            hostname: None,
            restart: RestartPolicy::default(),
            stop_signal: None,
            stop_timeout_ms: None,
            refusal: None,
            specification: String::new(),
        }
    }

    /// Reads and checks a specification.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecError> {
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(SpecError::TooLarge(bytes.len()));
        }
        let spec: Self = serde_json::from_slice(bytes).map_err(SpecError::Json)?;
        spec.check()?;
        Ok(spec)
    }

    /// Checks what the types do not say.
    pub fn check(&self) -> Result<(), SpecError> {
        let bad =
            |field, problem| Err(SpecError::Field { name: self.name.clone(), field, problem });
        let holds_nul = |text: &String| text.contains('\0');
        if self.size == 0 {
            return bad("size", "must be more than 0");
        }
        let systemd = self.kind == Kind::Systemd;
        if let Err(wrong) = check_program(systemd, &self.command, &self.env) {
            return bad(wrong.field, wrong.problem);
        }
        if self.workdir.as_ref().is_some_and(|dir| !dir.starts_with('/') || holds_nul(dir)) {
            return bad("workdir", "must be an absolute path");
        }
        if self.hostname.as_ref().is_some_and(|name| !layercake_seed::is_host_name(name)) {
            return bad("hostname", "is not a host name (RFC 1123)");
        }
        if self.stop_signal.is_some_and(|number| SignalNumber::new(number).is_none()) {
            return bad("stop_signal", "is not the number of a signal");
        }
        if self.stop_timeout_ms.is_some_and(|timeout| timeout > MAX_STOP_TIMEOUT_MS) {
            return bad("stop_timeout_ms", "must be at most 600000 (ten minutes)");
        }
        Ok(())
    }

    /// Program and arguments, with the default of the kind.
    #[must_use]
    pub fn command_line(&self) -> Vec<String> {
        if self.command.is_empty() { vec!["/sbin/init".to_owned()] } else { self.command.clone() }
    }

    /// The signal that asks the image to stop.
    #[must_use]
    pub fn stop_signal(&self) -> SignalNumber {
        let default = match self.kind {
            Kind::Plain => SignalNumber::TERM,
            Kind::Systemd => SignalNumber::SYSTEMD_HALT,
        };
        self.stop_signal.and_then(SignalNumber::new).unwrap_or(default)
    }

    /// How long it may take to stop.
    #[must_use]
    pub fn stop_timeout(&self) -> std::time::Duration {
        let default = match self.kind {
            Kind::Plain => DEFAULT_STOP_TIMEOUT_MS,
            Kind::Systemd => DEFAULT_SYSTEMD_STOP_TIMEOUT_MS,
        };
        std::time::Duration::from_millis(self.stop_timeout_ms.unwrap_or(default))
    }
}

/// Entry for fuzzing: any bytes are either refused or give a specification that can be written
/// and read again.
pub fn fuzz_image_spec(data: &[u8]) {
    if let Ok(spec) = ImageSpec::parse(data) {
        let again =
            serde_json::to_vec(&spec).map(|json| serde_json::from_slice::<ImageSpec>(&json));
        assert!(matches!(again, Ok(Ok(again)) if again == spec), "a specification changed");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"name":"web","digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":4096,"kind":"plain","command":["/bin/true"],"env":{"A":"b"}}"#;

    #[test]
    fn each_bad_value_is_named() {
        for (from, to, expected) in [
            ("\"web\"", "\"../web\"", "cannot be read"),
            ("4096", "0", "`size`"),
            ("[\"/bin/true\"]", "[]", "`command`"),
            ("[\"/bin/true\"]", "[\"\"]", "`command`"),
            ("\"A\"", "\"A=\"", "`env`"),
            ("\"size\"", "\"workdir\":\"a/b\",\"size\"", "`workdir`"),
            ("\"size\"", "\"hostname\":\"a b\",\"size\"", "`hostname`"),
            ("\"size\"", "\"stop_signal\":33,\"size\"", "`stop_signal`"),
            ("\"size\"", "\"sise\":33,\"size\"", "cannot be read"),
        ] {
            assert!(GOOD.contains(from));
            let error = ImageSpec::parse(GOOD.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn systemd_is_halted_by_its_own_signal() {
        let mut spec = ImageSpec::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(spec.stop_signal(), SignalNumber::TERM);
        spec.kind = Kind::Systemd;
        assert_eq!(spec.stop_signal().get(), 37);
        spec.command.clear();
        assert_eq!(spec.command_line(), ["/sbin/init"]);
    }

    proptest! {
        #[test]
        fn no_damage_makes_the_parser_panic(at in 0..GOOD.len(), byte: u8) {
            let mut data = GOOD.as_bytes().to_vec();
            data[at] = byte;
            fuzz_image_spec(&data);
        }
    }
}
