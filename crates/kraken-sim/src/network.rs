//! The network between the parent and its nodes, and what it does to datagrams.

use crate::application::Application;
use crate::fleet::{Event, Fleet};
use crate::plant::Bug;
use kraken_model::Millis;
use kraken_sync::{ChildInput, ChildOutput, ParentInput, ParentOutput};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// How many datagrams are recorded, to be sent again by somebody.
const RECORDED: usize = 256;

/// The longest delay of a datagram where nothing is wrong, in milliseconds.
const DELAY_MS: u64 = 3;

/// A datagram on its way, once or several times.
pub(crate) struct Sent {
    to_parent: bool,
    bytes: Vec<u8>,
    /// Whether it was taken by whom it was for.
    is_taken: Cell<bool>,
    /// For a planted bug: what came of it.
    meant: Cell<Vec<ParentOutput>>,
}

/// Where the datagrams of a node come from.
fn address(node: usize, port: u16) -> SocketAddr {
    let host = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + u32::try_from(node).unwrap_or(0);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(host)), port)
}

/// Which node an address belongs to.
fn node_at(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => (u32::from(ip) & 0x00ff_ffff) as usize,
        IpAddr::V6(_) => 0,
    }
}

impl<A: Application> Fleet<A> {
    pub(crate) fn send_to_node(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.send(false, node_at(to), to.port(), bytes);
    }

    pub(crate) fn send_to_parent(&mut self, n: usize, bytes: &[u8]) {
        let port = self.nodes[n].agent.as_ref().map_or(0, |agent| agent.port);
        self.send(true, n, port, bytes);
    }

    fn send(&mut self, to_parent: bool, n: usize, port: u16, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        let (is_taken, meant) = (Cell::new(false), Cell::new(Vec::new()));
        let sent = Rc::new(Sent { to_parent, bytes, is_taken, meant });
        let noise = self.noise;
        if !self.random.chance(noise.loss) {
            self.fly(n, port, &sent);
        }
        if self.random.chance(noise.twice) {
            self.fly(n, port, &sent);
        }
        if noise.replay == 0 {
            return;
        }
        if self.recorded.len() == RECORDED {
            self.recorded.pop_front();
        }
        self.recorded.push_back((n, port, sent));
        if self.random.chance(noise.replay) {
            let old = self.random.below(self.recorded.len() as u64) as usize;
            let (n, port, old) = self.recorded[old].clone();
            self.fly(n, port, &old);
        }
    }

    fn fly(&mut self, n: usize, port: u16, sent: &Rc<Sent>) {
        let delay = 1 + self.random.below(DELAY_MS.max(self.noise.delay_ms));
        let at = Millis(self.now.0 + delay);
        self.queue.push(at, Event::Datagram { node: n, port, sent: Rc::clone(sent) });
    }

    pub(crate) fn arrives(&mut self, n: usize, port: u16, sent: &Rc<Sent>) {
        if self.nodes[n].cuts > 0 {
            return;
        }
        let mut bytes = sent.bytes.clone();
        let was_taken = sent.is_taken.get();
        if sent.to_parent {
            if was_taken && self.plan.bug == Some(Bug::ReplayTaken) {
                let meant = sent.meant.take();
                for output in &meant {
                    self.sync_said(output);
                }
                self.judge_replay(n, was_taken, &meant);
                return;
            }
            let from = address(n, port);
            let outputs = self.sync_step(ParentInput::Datagram { from, bytes: &mut bytes });
            self.judge_replay(n, was_taken, &outputs);
            self.repeat_delta(&outputs);
            let is_refused = |output: &ParentOutput| matches!(output, ParentOutput::Refused { .. });
            if self.process.is_some() && !outputs.iter().any(is_refused) {
                sent.is_taken.set(true);
                if self.plan.bug == Some(Bug::ReplayTaken) {
                    sent.meant.set(outputs);
                }
            }
            return;
        }
        let Some(agent) = self.nodes[n].agent.as_mut().filter(|agent| agent.port == port) else {
            return;
        };
        let received = agent.child.counters();
        let mut outputs = Vec::new();
        let bytes = &mut bytes[..];
        agent.child.step(self.now, ChildInput::Datagram { bytes }, &mut outputs);
        let counted = agent.child.counters();
        let is_refused =
            counted.refused + counted.malformed > received.refused + received.malformed;
        if !is_refused {
            sent.is_taken.set(true);
        }
        let is_news = |output: &ChildOutput| {
            matches!(output, ChildOutput::Cfg { .. } | ChildOutput::Left { .. })
        };
        let news = outputs.iter().filter(|output| is_news(output)).count();
        if let Some(checker) = self.checker.as_mut().filter(|_| was_taken && news > 0) {
            checker.replayed(self.now, n);
        }
        self.child_said(n, outputs);
    }

    /// What was taken before must mean nothing the second time.
    fn judge_replay(&mut self, n: usize, was_taken: bool, outputs: &[ParentOutput]) {
        let is_news = |output: &&ParentOutput| {
            matches!(
                output,
                ParentOutput::Discovered { .. }
                    | ParentOutput::Heard { .. }
                    | ParentOutput::Left { .. }
                    | ParentOutput::Log { .. }
            )
        };
        let news = outputs.iter().filter(is_news).count();
        if let Some(checker) = self.checker.as_mut().filter(|_| was_taken && news > 0) {
            checker.replayed(self.now, n);
        }
    }

    /// For a planted bug: what a node said before is applied a second time, behind what it said
    /// since.
    fn repeat_delta(&mut self, outputs: &[ParentOutput]) {
        if self.plan.bug != Some(Bug::DeltaTwice) {
            return;
        }
        for output in outputs {
            let ParentOutput::Discovered { node, changes, whole: false } = output else { continue };
            let Some(process) = &mut self.process else { return };
            let n = crate::fleet::number(node);
            let before = process.repeated.insert(n, changes.clone());
            if let Some(changes) = before {
                let again = ParentOutput::Discovered { node: node.clone(), changes, whole: false };
                self.sync_said(&again);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_one_node() {
        for node in [0, 1, 255, 256, 99_999] {
            assert_eq!(node_at(address(node, 7)), node);
        }
    }
}
