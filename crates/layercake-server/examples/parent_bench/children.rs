//! The children, all in this one process: what they cost is nobody's concern here.

use crate::batch::{BATCH, Batched};
use crate::nodes;
use kraken::{Clock, EXPORTER_LABEL, KeyPin, client_config};
use kraken_model::{Millis, NodeId};
use kraken_sync::{
    Child, ChildInput, ChildOutput, JOIN_VERSION, JoinReply, JoinRequest, KeyRole, Proof,
    Revisions, Secret, SessionKeys, Welcome, message_len,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// How many joins are under way at once.
const JOINERS: usize = 64;

/// From so many sockets the datagrams of all children come.
const SOCKETS: usize = 250;

/// How many hellos are on their way at once, when they are sent as fast as they are answered.
const WINDOW: usize = 2_048;

/// How long an answer is waited for before its hello counts as lost.
const LOST: Duration = Duration::from_secs(5);

/// How often those who have something to say are looked for.
const PACE: Duration = Duration::from_millis(2);

/// A time that does not come.
const NEVER: Millis = Millis(u64::MAX);

/// Datagrams on their way to the parent, whose socket knows where that is.
type Outgoing = Vec<(Vec<u8>, Option<SocketAddrV4>)>;

/// What a node is told at its boot.
struct Invitation {
    node: NodeId,
    boot_id: String,
    token: Secret,
}

/// A node that was let in.
type Joined = (usize, SessionKeys, Box<Welcome>);

struct Fleet {
    clock: Clock,
    children: Vec<Child>,
    /// The child of each session, by the number that the parent gives it.
    by_slot: Vec<usize>,
    sockets: Vec<Batched>,
    /// Who wants to be looked at when, and when that is planned at the earliest.
    due: BinaryHeap<Reverse<(Millis, usize)>>,
    planned: Vec<Millis>,
    /// How far the children's clocks are ahead of this machine's.
    ahead: Duration,
    /// How many datagrams were sent and taken.
    sent: u64,
    taken: u64,
    /// How many lost their parent.
    orphans: u64,
    /// How many of the children, the first ones, still speak.
    speaking: usize,
}

/// Takes commands until there are no more.
pub(crate) fn main() {
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    let first = lines.next().unwrap();
    let (parent, pin) = first.split_once(' ').unwrap();
    let (parent, pin): (SocketAddr, KeyPin) = (parent.parse().unwrap(), pin.parse().unwrap());
    let mut invited = Vec::new();
    let mut fleet = None;
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), &mut fleet) {
            (["join"], _) => {
                let mut all = Fleet::new(parent, invited.len());
                all.join(parent, &client_config(pin).unwrap(), &std::mem::take(&mut invited));
                println!("{} {}", all.speaking, all.orphans);
                fleet = Some(all);
            }
            (["flood", rounds], Some(fleet)) => fleet.flood(rounds.parse().unwrap()),
            (["steady", seconds, silent], Some(fleet)) => {
                fleet
                    .steady(Duration::from_secs(seconds.parse().unwrap()), silent.parse().unwrap());
            }
            ([node, boot_id, token], None) => invited.push(Invitation {
                node: NodeId::new(node).unwrap(),
                boot_id: (*boot_id).to_owned(),
                token: Secret::from_hex(token).unwrap(),
            }),
            _ => panic!("{line}"),
        }
    }
}

/// An address of its own on loopback, of which there are 16 million.
fn address(n: usize) -> SocketAddr {
    let [_, a, b, c] = u32::try_from(n).unwrap().to_be_bytes();
    (Ipv4Addr::new(127, 1 + a, b, c), 0).into()
}

fn join(
    parent: SocketAddr,
    config: &Arc<ClientConfig>,
    n: usize,
    invitation: &Invitation,
) -> Joined {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&address(n).into()).unwrap();
    socket.connect(&parent.into()).unwrap();
    let name = ServerName::from(parent.ip());
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut tls = StreamOwned::new(connection, TcpStream::from(socket));
    let request = JoinRequest {
        version: JOIN_VERSION,
        node: invitation.node.clone(),
        boot_id: invitation.boot_id.clone(),
        proof: Proof::Token(invitation.token.clone()),
        held: Revisions::default(),
    };
    tls.write_all(&request.encode().unwrap()).unwrap();
    let mut prefix = [0; 4];
    tls.read_exact(&mut prefix).unwrap();
    let mut body = vec![0; message_len(prefix).unwrap()];
    tls.read_exact(&mut body).unwrap();
    let JoinReply::Welcome(welcome) = JoinReply::decode(&body).unwrap() else {
        panic!("{} is refused", invitation.node);
    };
    let secret = tls.conn.export_keying_material([0; 32], EXPORTER_LABEL, None).unwrap();
    (n, SessionKeys::derive(&secret, KeyRole::Child), welcome)
}

impl Fleet {
    fn new(parent: SocketAddr, count: usize) -> Self {
        let sockets = (0..SOCKETS).map(|n| {
            let socket = UdpSocket::bind(address(n + 1)).unwrap();
            socket.connect(parent).unwrap();
            Batched::new(socket)
        });
        Self {
            clock: Clock::start(),
            children: (0..count).map(|n| Child::new(n as u64)).collect(),
            by_slot: vec![usize::MAX; count],
            sockets: sockets.collect(),
            due: BinaryHeap::new(),
            planned: vec![NEVER; count],
            ahead: Duration::ZERO,
            sent: 0,
            taken: 0,
            orphans: 0,
            speaking: count,
        }
    }

    /// Every node joins, from an address of its own, while those that have joined say hello; until
    /// the parent knows all that they have to say.
    fn join(&mut self, parent: SocketAddr, config: &Arc<ClientConfig>, invited: &[Invitation]) {
        let next = &AtomicUsize::new(0);
        let (sender, joined) = sync_channel(JOINERS);
        std::thread::scope(|scope| {
            for sender in vec![sender; JOINERS] {
                scope.spawn(move || {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let Some(invitation) = invited.get(n) else { return };
                        sender.send(join(parent, config, n, invitation)).unwrap();
                    }
                });
            }
            let mut is_over = false;
            while !is_over || self.children.iter().any(|child| !child.is_settled()) {
                // Not all at once: those that have joined have something to say too.
                for _ in 0..JOINERS {
                    match joined.try_recv() {
                        Ok(joined) => self.let_in(joined),
                        Err(TryRecvError::Disconnected) => is_over = true,
                        Err(TryRecvError::Empty) => break,
                    }
                }
                self.turn();
            }
        });
    }

    fn let_in(&mut self, (n, keys, welcome): Joined) {
        let (now, mut said) = (self.now(), Vec::new());
        self.by_slot[welcome.session.0 as u32 as usize] = n;
        let child = &mut self.children[n];
        child.step(now, ChildInput::Dsc { document: nodes::dsc(n) }, &mut said);
        child.joined(now, keys, &welcome, &mut said);
        self.follow(n, &mut said);
    }

    fn now(&self) -> Millis {
        self.clock.now().plus(self.ahead)
    }

    /// Sends what a child said, and plans when it wants to be looked at again.
    fn follow(&mut self, n: usize, said: &mut Vec<ChildOutput>) {
        for output in said.drain(..) {
            match output {
                ChildOutput::Send { bytes } => {
                    // What the kernel does not take is lost, and repaired.
                    let given = self.sockets[n % SOCKETS].socket.send(&bytes);
                    self.sent += u64::from(given.is_ok());
                }
                ChildOutput::ParentSilent { .. } => self.orphans += 1,
                _ => {}
            }
        }
        if let Some(at) = self.children[n].next_deadline().filter(|at| *at < self.planned[n]) {
            self.planned[n] = at;
            self.due.push(Reverse((at, n)));
        }
    }

    /// Every child takes what has come for it, and says what it has to say; then a moment passes.
    fn turn(&mut self) {
        let now = self.now();
        let mut said = Vec::new();
        for s in 0..SOCKETS {
            let mut spoke = Vec::new();
            let Self { sockets, children, by_slot, taken, .. } = self;
            sockets[s].take(|bytes, _| {
                let n = by_slot[slot(bytes)];
                children[n].step(now, ChildInput::Datagram { bytes }, &mut said);
                *taken += 1;
                spoke.push((n, std::mem::take(&mut said)));
            });
            for (n, mut said) in spoke {
                self.follow(n, &mut said);
            }
        }
        while let Some(Reverse((at, n))) = self.due.peek().copied().filter(|next| next.0.0 <= now) {
            self.due.pop();
            if at == self.planned[n] {
                self.planned[n] = NEVER;
                if n < self.speaking {
                    self.children[n].step(now, ChildInput::Tick, &mut said);
                    self.follow(n, &mut said);
                }
            }
        }
        std::thread::park_timeout(PACE);
    }

    fn refused(&self) -> u64 {
        let counters = self.children.iter().map(Child::counters);
        counters.map(|c| c.refused + c.malformed).sum()
    }

    /// All children say hello, one behind the other, as fast as the parent answers; so many times.
    fn flood(&mut self, rounds: usize) {
        let (mut sent, mut answered) = (0, 0);
        for _ in 0..rounds {
            // For the children ten seconds have passed, and a little more.
            self.ahead += Duration::from_millis(11_500);
            let hellos = self.hellos();
            let round: usize = hellos.iter().map(Vec::len).sum();
            let answers = self.exchange(hellos);
            sent += round;
            answered += answers.len();
            let now = self.now();
            for mut bytes in answers {
                let n = self.by_slot[slot(&bytes)];
                let mut said = Vec::new();
                self.children[n].step(now, ChildInput::Datagram { bytes: &mut bytes }, &mut said);
                self.follow(n, &mut said);
            }
        }
        println!("{sent} {answered} {}", self.refused());
    }

    /// What all children say now, by socket.
    fn hellos(&mut self) -> Vec<Outgoing> {
        let now = self.now();
        let mut hellos: Vec<_> = (0..SOCKETS).map(|_| Vec::new()).collect();
        let mut said = Vec::new();
        for (n, child) in self.children[..self.speaking].iter_mut().enumerate() {
            child.step(now, ChildInput::Tick, &mut said);
            for output in said.drain(..) {
                let ChildOutput::Send { bytes } = output else { panic!("{output:?}") };
                hellos[n % SOCKETS].push((bytes, None));
            }
        }
        hellos
    }

    fn exchange(&mut self, hellos: Vec<Outgoing>) -> Vec<Vec<u8>> {
        let all: usize = hellos.iter().map(Vec::len).sum();
        let mut next = vec![0; SOCKETS];
        let mut answers: Vec<Vec<u8>> = Vec::with_capacity(all);
        let (mut sent, mut heard) = (0, Instant::now());
        while answers.len() < all && heard.elapsed() < LOST {
            for (s, socket) in self.sockets.iter_mut().enumerate() {
                let waiting = &hellos[s][next[s]..];
                if !waiting.is_empty() && sent - answers.len() < WINDOW {
                    let given = socket.give(&waiting[..waiting.len().min(BATCH)]);
                    next[s] += given;
                    sent += given;
                }
                if socket.take(|bytes, _| answers.push(bytes.to_vec())) > 0 {
                    heard = Instant::now();
                }
            }
        }
        answers
    }

    /// Every child says hello when its time has come, but the last of them, who fall silent.
    fn steady(&mut self, lasts: Duration, silent: usize) {
        self.speaking -= silent;
        let (sent, taken, refused) = (self.sent, self.taken, self.refused());
        let began = Instant::now();
        while began.elapsed() < lasts {
            self.turn();
        }
        // The last answers.
        while self.taken - taken < self.sent - sent && began.elapsed() < lasts + LOST {
            self.turn();
        }
        let (sent, taken) = (self.sent - sent, self.taken - taken);
        println!("{sent} {taken} {} {}", self.refused() - refused, self.orphans);
    }
}

/// Which session a datagram belongs to, as the parent numbers them.
fn slot(datagram: &[u8]) -> usize {
    u32::from_be_bytes(datagram[5..9].try_into().unwrap()) as usize
}
