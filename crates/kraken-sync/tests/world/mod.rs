//! A parent, its children and the network between them, in virtual time.

use kraken_model::{Document, Millis, NodeId, Path};
use kraken_sync::{
    Child, ChildInput, ChildOutput, KeyRole, Parent, ParentInput, ParentOutput, ParentSettings,
    Proof, Secret, SessionKeys, Silence, TokenBook,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What a network does to datagrams, in percent.
#[derive(Clone, Copy)]
pub(crate) struct Network {
    loss: u64,
    repeat: u64,
    damage: u64,
    replay: u64,
    max_delay_ms: u64,
}

impl Network {
    pub(crate) fn hostile() -> Self {
        Self { loss: 35, repeat: 20, damage: 10, replay: 20, max_delay_ms: 900 }
    }

    pub(crate) fn poor() -> Self {
        Self { loss: 15, repeat: 10, damage: 5, replay: 10, max_delay_ms: 80 }
    }

    pub(crate) fn good() -> Self {
        Self { loss: 0, repeat: 0, damage: 0, replay: 0, max_delay_ms: 2 }
    }

    pub(crate) fn cut() -> Self {
        Self { loss: 100, ..Self::good() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Datagram {
    to_parent: bool,
    child: usize,
    bytes: Vec<u8>,
}

struct Host {
    node: NodeId,
    child: Child,
    boot: String,
    resume: Option<Secret>,
    cfg: Document,
    dsc: Document,
    /// Every cfg and dsc there was, and which of them the other end has.
    cfgs: Vec<Document>,
    dscs: Vec<Document>,
    cfg_at: usize,
    dsc_at: usize,
    line: u64,
    last_line: u64,
    away: bool,
    /// When it tries to join again; the stream of a join needs the network too.
    rejoin_at: Option<u64>,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) parent: Parent,
    pub(crate) network: Network,
    /// What the parent knows of each child's dsc.
    pub(crate) known: BTreeMap<NodeId, Document>,
    pub(crate) recorded: Vec<Datagram>,
    pub(crate) largest: usize,
    pub(crate) sizes: Vec<usize>,
    pub(crate) silences: usize,
    pub(crate) heard: usize,
    pub(crate) left_parent: usize,
    pub(crate) left_child: usize,
    hosts: Vec<Host>,
    flying: BTreeMap<(u64, u64), Datagram>,
    book: TokenBook,
    random: u64,
}

fn settings() -> ParentSettings {
    ParentSettings {
        hello_ms: 1_000,
        silence: Silence { min_ms: 2_000, max_ms: 20_000 },
        max_assembly_bytes: 4 << 20,
    }
}

fn address(child: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + u16::try_from(child).unwrap()))
}

impl World {
    pub(crate) fn new(seed: u64, children: usize, network: Network) -> Self {
        let mut world = Self {
            now: 1_000,
            parent: Parent::new(settings()),
            network,
            known: BTreeMap::new(),
            recorded: Vec::new(),
            largest: 0,
            sizes: Vec::new(),
            silences: 0,
            heard: 0,
            left_parent: 0,
            left_child: 0,
            hosts: Vec::new(),
            flying: BTreeMap::new(),
            book: TokenBook::default(),
            random: seed,
        };
        for index in 0..children {
            let mut cfg = Document::new();
            cfg.set(Path::known("run_state"), "SYNC");
            world.hosts.push(Host {
                node: NodeId::new(&format!("n{index}")).unwrap(),
                child: Child::new(seed),
                boot: String::new(),
                resume: None,
                cfgs: vec![cfg.clone()],
                dscs: vec![Document::new()],
                cfg,
                dsc: Document::new(),
                cfg_at: 0,
                dsc_at: 0,
                line: 0,
                last_line: 0,
                away: false,
                rejoin_at: None,
            });
            world.boot(index);
        }
        world
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn bytes(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.random(256) as u8)
    }

    /// A new boot of a node: all it held is gone.
    fn boot(&mut self, index: usize) {
        let (now, random) = (Millis(self.now), self.bytes());
        let host = &mut self.hosts[index];
        host.boot = format!("boot-{}", self.now);
        host.child = Child::new(self.random);
        host.child.step(now, ChildInput::Dsc { document: host.dsc.clone() }, &mut Vec::new());
        (host.line, host.last_line) = (0, 0);
        let valid = Duration::from_secs(60);
        let token = self.book.mint(now, &host.node, &host.boot, random, valid);
        self.book.expect(&host.node, &host.boot);
        self.join(index, Proof::Token(token));
    }

    fn join(&mut self, index: usize, proof: Proof) {
        let (now, exported, random) = (Millis(self.now), self.bytes(), self.bytes());
        let host = &mut self.hosts[index];
        let resume = self.book.present(now, &host.node, &host.boot, &proof, random).unwrap();
        let keys = SessionKeys::derive(&exported, KeyRole::Parent);
        let welcome = self.parent.admit(now, &host.node, keys, host.cfg.clone(), resume.clone());
        (host.resume, host.rejoin_at) = (Some(resume), None);
        host.dsc_at = 0;
        // Lines whose acknowledgement was lost come again after a join.
        host.last_line = 0;
        let keys = SessionKeys::derive(&exported, KeyRole::Child);
        let mut out = Vec::new();
        host.child.joined(now, keys, &welcome, &mut out);
        self.child_said(index, out);
    }

    fn restart_parent(&mut self) {
        self.parent = Parent::new(settings());
        self.book = TokenBook::import(self.book.export());
    }

    /// Something happens: a change, a line, a restart.
    pub(crate) fn disturb(&mut self) {
        for _ in 0..self.random(4) {
            self.change_documents();
        }
        let index = self.random(self.hosts.len() as u64) as usize;
        match self.random(30) {
            0 => self.restart_parent(),
            1 => self.boot(index),
            2 => self.grow_documents(150),
            _ => {}
        }
    }

    pub(crate) fn change_documents(&mut self) {
        for index in 0..self.hosts.len() {
            for _ in 0..self.random(3) {
                let path = Path::known(&format!("facts.f{}", self.random(8)));
                let value = self.random(5);
                let cfg = self.random(2) == 0;
                let mut document =
                    if cfg { &self.hosts[index].cfg } else { &self.hosts[index].dsc }.clone();
                if value == 0 {
                    document.remove(path.as_str());
                } else {
                    document.set(path, value as i64);
                }
                self.set(index, cfg, document);
            }
            self.log(index);
        }
    }

    pub(crate) fn change_one_value(&mut self) {
        let mut document = self.hosts[0].dsc.clone();
        document.set(Path::known("images.i7.state"), "ACTIVE");
        self.set(0, false, document);
    }

    /// So many values, of a hundred bytes each.
    pub(crate) fn grow_documents(&mut self, values: u64) {
        for index in 0..self.hosts.len() {
            for cfg in [true, false] {
                let mut document =
                    if cfg { &self.hosts[index].cfg } else { &self.hosts[index].dsc }.clone();
                for value in 0..values {
                    let text = format!("{:0100}", self.random(1 << 40));
                    document.set(Path::known(&format!("images.i{value}.state")), text);
                }
                self.set(index, cfg, document);
            }
        }
    }

    fn set(&mut self, index: usize, cfg: bool, document: Document) {
        let now = Millis(self.now);
        let host = &mut self.hosts[index];
        if cfg {
            host.cfg = document.clone();
            host.cfgs.push(document.clone());
            let (node, mut out) = (host.node.clone(), Vec::new());
            self.parent.step(now, ParentInput::Cfg { node, document }, &mut out);
            self.parent_said(out);
        } else {
            host.dsc = document.clone();
            host.dscs.push(document.clone());
            let mut out = Vec::new();
            host.child.step(now, ChildInput::Dsc { document }, &mut out);
            self.child_said(index, out);
        }
    }

    fn log(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.line += 1;
        let (line, mut out) = (host.line.to_string(), Vec::new());
        host.child.step(
            Millis(self.now),
            ChildInput::Log { stream: "test", line: &line },
            &mut out,
        );
        self.child_said(index, out);
    }

    pub(crate) fn leave(&mut self, index: usize) {
        let mut out = Vec::new();
        self.hosts[index].away = true;
        self.hosts[index].child.step(Millis(self.now), ChildInput::Leave, &mut out);
        self.child_said(index, out);
    }

    fn send(&mut self, datagram: Datagram) {
        self.largest = self.largest.max(datagram.bytes.len());
        self.sizes.push(datagram.bytes.len());
        self.recorded.push(datagram.clone());
        let network = self.network;
        let copies = 1 + u64::from(self.random(100) < network.repeat);
        for _ in 0..copies {
            if self.random(100) >= network.loss {
                let mut copy = datagram.clone();
                if self.random(100) < network.damage {
                    let bit = self.random(copy.bytes.len() as u64 * 8) as usize;
                    copy.bytes[bit / 8] ^= 1 << (bit % 8);
                }
                self.fly(copy);
            }
        }
        if self.random(100) < network.replay {
            let old = self.random(self.recorded.len() as u64) as usize;
            let mut old = self.recorded[old].clone();
            // Also to where it does not belong.
            old.to_parent ^= self.random(4) == 0;
            self.fly(old);
        }
    }

    fn fly(&mut self, datagram: Datagram) {
        let delay = 1 + self.random(self.network.max_delay_ms);
        let tie = self.random(u64::MAX);
        self.flying.insert((self.now + delay, tie), datagram);
    }

    pub(crate) fn deliver_quietly(&mut self, datagram: &Datagram) {
        let network = std::mem::replace(&mut self.network, Network::cut());
        self.deliver(datagram.clone());
        self.network = network;
    }

    fn deliver(&mut self, mut datagram: Datagram) {
        let (now, bytes) = (Millis(self.now), &mut datagram.bytes[..]);
        if datagram.to_parent {
            let mut out = Vec::new();
            let from = address(datagram.child);
            self.parent.step(now, ParentInput::Datagram { from, bytes }, &mut out);
            self.parent_said(out);
        } else {
            let mut out = Vec::new();
            self.hosts[datagram.child].child.step(now, ChildInput::Datagram { bytes }, &mut out);
            self.child_said(datagram.child, out);
        }
    }

    fn child_said(&mut self, index: usize, out: Vec<ChildOutput>) {
        for output in out {
            match output {
                ChildOutput::Send { bytes } => {
                    self.send(Datagram { to_parent: true, child: index, bytes });
                }
                ChildOutput::Cfg { document, .. } => {
                    let host = &mut self.hosts[index];
                    // Documents may repeat: the first one that fits from here on.
                    let at = host.cfgs[host.cfg_at..].iter().position(|cfg| *cfg == document);
                    host.cfg_at += at.expect("a cfg that was set, and no older one");
                }
                ChildOutput::ParentSilent { .. } => {
                    self.hosts[index].rejoin_at = Some(self.now);
                }
                ChildOutput::Left { acknowledged } => {
                    assert!(acknowledged);
                    self.left_child += 1;
                }
                ChildOutput::KeysSpent | ChildOutput::DscTooLarge { .. } => panic!("{output:?}"),
            }
        }
    }

    fn parent_said(&mut self, out: Vec<ParentOutput>) {
        for output in out {
            match output {
                ParentOutput::Send { to, bytes } => {
                    let child = usize::from(to.port() - 1000);
                    self.send(Datagram { to_parent: false, child, bytes });
                }
                ParentOutput::Discovered { node, changes, whole } => {
                    let host = self.hosts.iter_mut().find(|h| h.node == node).unwrap();
                    let known = self.known.entry(node).or_default();
                    if whole {
                        *known = Document::new();
                    }
                    known.apply(&changes);
                    let at = host.dscs[host.dsc_at..].iter().position(|dsc| dsc == known);
                    host.dsc_at += at.expect("a dsc that was said, and no older one");
                }
                ParentOutput::Log { node, stream, lines } => {
                    assert_eq!(&*stream, "test");
                    let host = self.hosts.iter_mut().find(|h| h.node == node).unwrap();
                    for line in lines {
                        let line = line.parse().unwrap();
                        let next = host.last_line == 0 || line == host.last_line + 1;
                        assert!(next, "{line} after {}", host.last_line);
                        host.last_line = line;
                    }
                }
                ParentOutput::Heard { .. } => self.heard += 1,
                ParentOutput::Silent { .. } => self.silences += 1,
                ParentOutput::Left { .. } => self.left_parent += 1,
                ParentOutput::Refused { .. } => {}
                ParentOutput::LogLost { .. } | ParentOutput::CfgTooLarge { .. } => {
                    panic!("{output:?}")
                }
            }
        }
    }

    /// Lets so much time pass, event by event.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100_000, "deadlines that do not move");
            let arrival = self.flying.keys().next().map(|(at, _)| *at);
            let parent = self.parent.next_deadline().map(|at| at.0);
            let children = self.hosts.iter().filter_map(|h| h.child.next_deadline()).map(|at| at.0);
            let rejoins = self.hosts.iter().filter_map(|h| h.rejoin_at);
            let next = children
                .chain(rejoins)
                .chain(arrival)
                .chain(parent)
                .min()
                .unwrap_or(end)
                .max(self.now);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
            if let Some(entry) = self.flying.first_entry()
                && entry.key().0 <= next
            {
                let datagram = entry.remove();
                self.deliver(datagram);
            }
            self.tick();
        }
    }

    fn tick(&mut self) {
        let now = Millis(self.now);
        if self.parent.next_deadline().is_some_and(|at| at <= now) {
            let mut out = Vec::new();
            self.parent.step(now, ParentInput::Tick, &mut out);
            self.parent_said(out);
        }
        for index in 0..self.hosts.len() {
            if self.hosts[index].rejoin_at.is_some_and(|at| at <= self.now) {
                self.hosts[index].rejoin_at = Some(self.now + 1_000);
                if self.network.loss < 100 {
                    let resume = self.hosts[index].resume.clone().unwrap();
                    self.join(index, Proof::Resume(resume));
                }
            }
            if self.hosts[index].child.next_deadline().is_some_and(|at| at <= now) {
                let mut out = Vec::new();
                self.hosts[index].child.step(now, ChildInput::Tick, &mut out);
                self.child_said(index, out);
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.hosts.iter().all(|host| {
            let known = self.known.get(&host.node) == Some(&host.dsc);
            let cfg = host.cfgs.get(host.cfg_at) == Some(&host.cfg);
            let view = self.parent.child(&host.node);
            let acked = view.is_some_and(|v| v.cfg_held == v.cfg_newest && v.heard);
            host.away || (known && cfg && acked && host.child.is_settled())
        })
    }

    /// Waits until both ends hold the same, and fails when that takes longer than this.
    pub(crate) fn settle(&mut self, within_ms: u64) {
        let end = self.now + within_ms;
        while !self.is_settled() {
            assert!(self.now < end, "not converged after {within_ms} ms");
            self.run(100);
        }
    }
}
