//! The join: two messages on a TLS 1.3 stream.
//!
//! The node says who it is and proves it; the parent lets it in with all it needs, or says
//! "refused" and nothing else. Each message is JSON behind its length (32 bits, big-endian, at
//! most [`MAX_JOIN_BYTES`]). JSON, because a join is rare, and both ends may differ in age.

use crate::{Revision, Secret, SessionId, Silence};
use kraken_model::{Document, Millis, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the messages and of the datagrams that follow.
pub const JOIN_VERSION: u32 = 1;

/// Largest join message, in bytes.
pub const MAX_JOIN_BYTES: usize = 1 << 20;

/// Longest name of a boot, in bytes.
pub const MAX_BOOT_ID_BYTES: usize = 64;

/// How a node proves that it is the one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The token that the parent made for this boot; valid once.
    Token(Secret),
    /// The secret that an earlier join of the same boot was given.
    Resume(Secret),
}

/// How far a node was in the session that ended; zeros before the first. For the journal: a new
/// session numbers anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revisions {
    /// The revision of cfg that was applied.
    pub cfg: Revision,
    /// The revision of dsc that the parent had acknowledged.
    pub dsc: Revision,
}

/// A node asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`JOIN_VERSION`] of the node.
    pub version: u32,
    /// Who it says it is.
    pub node: NodeId,
    /// Which boot of that node.
    pub boot_id: String,
    /// The proof.
    pub proof: Proof,
    /// How far it was.
    #[serde(default)]
    pub held: Revisions,
}

/// A node is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session that its datagrams belong to.
    pub session: SessionId,
    /// The interval of its hellos, in milliseconds.
    pub hello_ms: u64,
    /// How it judges the parent's silence.
    pub silence: Silence,
    /// What it should be.
    pub cfg: Document,
    /// The revision of that.
    pub cfg_revision: Revision,
    /// With this the same boot joins again.
    pub resume: Secret,
    /// The parent's time, for a node whose clock is wrong.
    pub now_ms: Millis,
}

/// The parent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinReply {
    /// Let in.
    Welcome(Box<Welcome>),
    /// Not let in.
    Refused {
        /// What the peer is told: [`REFUSED`], [`AWAY`], or that the versions differ.
        reason: String,
    },
}

/// What a node is told that has a valid proof and is not in the cluster now: it may be taken back, so it asks again.
pub const AWAY: &str = "this node is not in the cluster at present; it may come back, so ask again";

/// All that a refused peer is told: a better reason would help whoever tries tokens.
pub const REFUSED: &str = "refused";

impl JoinReply {
    /// The answer to a node that is not in the cluster at present.
    #[must_use]
    pub fn away() -> Self {
        Self::Refused { reason: AWAY.to_owned() }
    }

    /// The answer to whoever has no valid proof.
    #[must_use]
    pub fn refused() -> Self {
        Self::Refused { reason: REFUSED.to_owned() }
    }
}

/// A join message cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It is larger than [`MAX_JOIN_BYTES`].
    #[error("a join message of {0} bytes is above the limit of {MAX_JOIN_BYTES}")]
    TooLarge(usize),
    /// It is not the expected JSON.
    #[error("not a join message")]
    Json(#[source] serde_json::Error),
    /// The peer speaks another version.
    #[error("version {0} of the join is not spoken here, only {JOIN_VERSION}")]
    Version(u32),
    /// The name of the boot is empty, too long or not printable.
    #[error("the name of the boot is not 1 to {MAX_BOOT_ID_BYTES} printable characters")]
    BootId,
}

/// Whether a text can name a boot: 1 to [`MAX_BOOT_ID_BYTES`] printable ASCII characters.
#[must_use]
pub fn is_boot_id(text: &str) -> bool {
    (1..=MAX_BOOT_ID_BYTES).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
}

/// How many bytes the message behind this length has.
///
/// # Errors
/// When that is more than [`MAX_JOIN_BYTES`].
pub fn message_len(prefix: [u8; 4]) -> Result<usize, JoinError> {
    let len = u32::from_be_bytes(prefix) as usize;
    if len > MAX_JOIN_BYTES { Err(JoinError::TooLarge(len)) } else { Ok(len) }
}

fn encode(message: &impl Serialize) -> Result<Vec<u8>, JoinError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(JoinError::Json)?;
    let len = bytes.len() - 4;
    if len > MAX_JOIN_BYTES {
        return Err(JoinError::TooLarge(len));
    }
    bytes[..4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, JoinError> {
    if body.len() > MAX_JOIN_BYTES {
        return Err(JoinError::TooLarge(body.len()));
    }
    serde_json::from_slice(body).map_err(JoinError::Json)
}

impl JoinRequest {
    /// The message with its length before it, as it goes on the stream.
    ///
    /// # Errors
    /// When it is too large.
    pub fn encode(&self) -> Result<Vec<u8>, JoinError> {
        encode(self)
    }

    /// The message from what came behind the length.
    ///
    /// # Errors
    /// When it is too large, not a request, of another version, or names no boot.
    pub fn decode(body: &[u8]) -> Result<Self, JoinError> {
        /// Looked at first, so that a newer peer is told about versions, not about JSON.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = decode(body)?;
        if version != JOIN_VERSION {
            return Err(JoinError::Version(version));
        }
        let request: Self = decode(body)?;
        if is_boot_id(&request.boot_id) { Ok(request) } else { Err(JoinError::BootId) }
    }
}

impl JoinReply {
    /// The message with its length before it, as it goes on the stream.
    ///
    /// # Errors
    /// When it is too large: then the cfg is.
    pub fn encode(&self) -> Result<Vec<u8>, JoinError> {
        encode(self)
    }

    /// The message from what came behind the length.
    ///
    /// # Errors
    /// When it is too large or not a reply.
    pub fn decode(body: &[u8]) -> Result<Self, JoinError> {
        decode(body)
    }
}

/// For fuzzing: any bytes, as both messages.
pub fn fuzz_join(data: &[u8]) {
    if let Ok(request) = JoinRequest::decode(data) {
        assert!(is_boot_id(&request.boot_id));
    }
    let _ = JoinReply::decode(data);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request() -> JoinRequest {
        JoinRequest {
            version: JOIN_VERSION,
            node: NodeId::new("n1").unwrap(),
            boot_id: "b-1".to_owned(),
            proof: Proof::Token(Secret::new([7; 32])),
            held: Revisions::default(),
        }
    }

    #[test]
    fn messages_survive_the_stream() {
        let bytes = request().encode().unwrap();
        assert_eq!(message_len(bytes[..4].try_into().unwrap()).unwrap(), bytes.len() - 4);
        assert_eq!(JoinRequest::decode(&bytes[4..]).unwrap(), request());
        let bytes = JoinReply::refused().encode().unwrap();
        assert_eq!(JoinReply::decode(&bytes[4..]).unwrap(), JoinReply::refused());
    }

    #[test]
    fn what_is_too_large_too_new_or_nameless_is_refused() {
        assert!(matches!(message_len([0, 16, 0, 1]), Err(JoinError::TooLarge(_))));
        let newer = JoinRequest { version: 2, ..request() }.encode().unwrap();
        assert!(matches!(JoinRequest::decode(&newer[4..]), Err(JoinError::Version(2))));
        for boot in ["", "a b", &"x".repeat(65)] {
            let bad = JoinRequest { boot_id: boot.to_owned(), ..request() }.encode().unwrap();
            assert!(matches!(JoinRequest::decode(&bad[4..]), Err(JoinError::BootId)));
        }
        let future = br#"{"version":9,"shape":"other"}"#;
        assert!(matches!(JoinRequest::decode(future), Err(JoinError::Version(9))));
    }
}
