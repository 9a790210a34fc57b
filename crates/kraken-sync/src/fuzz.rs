//! Any bytes against both ends of a session.

use crate::keys::{HEADER_BYTES, TAG_BYTES};
use crate::{
    Child, ChildInput, ChildOutput, KeyRole, MAX_DATAGRAM_BYTES, Parent, ParentInput, ParentOutput,
    ParentSettings, Secret, SessionId, SessionKeys,
};
use kraken_model::{Document, Millis, NodeId};
use std::net::SocketAddr;

/// For fuzzing: any bytes, as a datagram that came from the network, and as what an authentic but
/// hostile peer sealed; at a parent and at a child.
pub fn fuzz_datagram(data: &[u8]) {
    let (Ok(node), exported) = (NodeId::new("n"), [7; 32]) else { return };
    let now = Millis(1_000_000);
    let mut parent = Parent::new(ParentSettings::default());
    let keys = SessionKeys::derive(&exported, KeyRole::Parent);
    let welcome = parent.admit(now, &node, keys, Document::new(), Secret::new([0; 32]));
    let mut child = Child::new(1);
    let keys = SessionKeys::derive(&exported, KeyRole::Child);
    child.joined(now, keys, &welcome, &mut Vec::new());
    for mut bytes in
        [Some(data.to_vec()), sealed(welcome.session, KeyRole::Child, data)].into_iter().flatten()
    {
        let (mut out, from) = (Vec::new(), SocketAddr::from(([127, 0, 0, 1], 1)));
        parent.step(now, ParentInput::Datagram { from, bytes: &mut bytes }, &mut out);
        for output in out {
            if let ParentOutput::Send { bytes, .. } = output {
                assert!(bytes.len() <= MAX_DATAGRAM_BYTES);
            }
        }
    }
    for mut bytes in
        [Some(data.to_vec()), sealed(welcome.session, KeyRole::Parent, data)].into_iter().flatten()
    {
        let mut out = Vec::new();
        child.step(now, ChildInput::Datagram { bytes: &mut bytes }, &mut out);
        for output in out {
            if let ChildOutput::Send { bytes } = output {
                assert!(bytes.len() <= MAX_DATAGRAM_BYTES);
            }
        }
    }
}

fn sealed(session: SessionId, role: KeyRole, frames: &[u8]) -> Option<Vec<u8>> {
    let frames = &frames[..frames.len().min(MAX_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES)];
    let mut buffer = vec![0; HEADER_BYTES];
    buffer.extend_from_slice(frames);
    SessionKeys::derive(&[7; 32], role).seal(session, &mut buffer).ok()?;
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hostile_peer_with_valid_keys_makes_neither_end_panic(
            bytes in proptest::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..80)
        ) {
            fuzz_datagram(&bytes);
        }
    }
}
