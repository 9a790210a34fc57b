//! The id of the machine that images see.

/// The id of a node in machine-id(5)'s form: 32 hexadecimal digits, marked as a random UUID (RFC 4122 section 4.4),
/// which is what systemd expects. It follows from the cluster and the node's name, so that it is the same at
/// every boot and whichever image runs, and another one on every node.
#[must_use]
pub fn machine_id(cluster: &str, node: &str) -> String {
    let seed = format!("layercake machine-id\0{cluster}\0{node}");
    let hash = ring::digest::digest(&ring::digest::SHA256, seed.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_ref()[..16]);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    hex::encode(id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_id_of_a_node_never_changes() {
        // Written down: another algorithm would give every node of every cluster another id.
        assert_eq!(machine_id("lab", "n1"), "5bccde8e89404e77a42b88f3d968ce43");
    }

    proptest! {
        #[test]
        fn every_node_has_an_id_of_its_own_in_systemds_form(
            cluster in "[a-z]{1,8}", a in "[a-z0-9.-]{1,12}", b in "[a-z0-9.-]{1,12}",
        ) {
            let id = machine_id(&cluster, &a);
            prop_assert_eq!(id.len(), 32);
            prop_assert!(id.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
            prop_assert_eq!(&id[12..13], "4");
            prop_assert!("89ab".contains(&id[16..17]));
            prop_assert_eq!(a == b, id == machine_id(&cluster, &b));
            prop_assert_ne!(id, machine_id(&format!("{cluster}x"), &a));
        }
    }
}
