//! The firmware that each machine was last heard with.
//!
//! DHCP tells a machine what to boot, but what it fetches comes by TFTP and HTTP, which know nothing of
//! its firmware. This is where they look: a machine of another architecture than its node gets nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::hosts::Host;

/// Machines that are remembered. Only known machines are, so this is far more than there are.
const MAX_REMEMBERED: usize = 1 << 17;

/// Shared by the three services; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Firmwares(Arc<Mutex<HashMap<Arc<str>, u16>>>);

impl Firmwares {
    /// A node's firmware has asked, with this number (see [`crate::dhcp::FIRMWARE`]).
    pub fn note(&self, node: &Arc<str>, arch: u16) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_REMEMBERED && !seen.contains_key(node) {
            seen.clear();
        }
        seen.insert(node.clone(), arch);
    }

    /// Whether the machine's firmware can start what is built for its node.
    ///
    /// # Errors
    /// With what does not fit, for a person. A machine that was not heard yet is given the benefit of
    /// the doubt: its script looks once more.
    pub fn check(&self, host: &Host) -> Result<(), String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&host.node).map_or(Ok(()), |arch| host.fits(*arch))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        arch::Arch,
        hosts::tests::{armed, host},
    };

    #[test]
    fn a_machine_is_judged_by_the_firmware_that_asked_last() {
        let firmwares = Firmwares::default();
        let mut host = host(11, armed());
        host.arch = Some(Arch::X86_64);
        firmwares.check(&host).unwrap();
        firmwares.note(&host.node, 11);
        assert_eq!(
            firmwares.check(&host).unwrap_err(),
            "its firmware is arm64 UEFI, and the node is x86_64: correct `arch` in the cluster file, \
             or the MAC address if this is another machine"
        );
        firmwares.note(&host.node, 7);
        firmwares.check(&host).unwrap();
        host.arch = None;
        firmwares.note(&host.node, 11);
        firmwares.check(&host).unwrap();
    }
}
