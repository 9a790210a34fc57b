//! The transfer against a peer that follows the RFCs, over a network that loses, doubles and delays.
#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const LIMITS: Limits =
    Limits { max_block_bytes: 1468, retransmit_after: Duration::from_millis(100) };

fn request(options: &[RequestOption]) -> ReadRequest {
    ReadRequest { filename: "f".into(), options: options.to_vec() }
}

fn file(len: usize) -> Bytes {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

fn ack(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

/// The receiving side of RFC 1350 and 7440, with the blocks it has.
#[derive(Default)]
struct Peer {
    block_bytes: usize,
    window: u16,
    next: u16,
    since_ack: u16,
    got: Vec<u8>,
    done: bool,
    gap_told: bool,
}

impl Peer {
    fn new(block_bytes: usize, window: u16) -> Self {
        Self { block_bytes, window, next: 1, ..Self::default() }
    }

    fn receive(&mut self, packet: &[u8]) -> Option<[u8; 4]> {
        match packet {
            [0, 6, ..] => (self.next == 1).then(|| ack(0)),
            [0, 3, high, low, payload @ ..] => {
                self.data(u16::from_be_bytes([*high, *low]), payload)
            }
            _ => panic!("{packet:?}"),
        }
    }

    fn data(&mut self, block: u16, payload: &[u8]) -> Option<[u8; 4]> {
        let last_got = self.next.wrapping_sub(1);
        if block != self.next {
            // Out of order: say what is there, once per gap (RFC 7440 section 4).
            self.since_ack = 0;
            let tell = self.window == 1 || !self.gap_told;
            self.gap_told = true;
            return tell.then(|| ack(last_got));
        }
        self.gap_told = false;
        self.got.extend_from_slice(payload);
        self.next = self.next.wrapping_add(1);
        self.since_ack += 1;
        self.done = payload.len() < self.block_bytes;
        if self.done || self.since_ack == self.window {
            self.since_ack = 0;
            return Some(ack(block));
        }
        None
    }
}

/// What happens to each packet in turn: arrives, is lost, arrives twice, or arrives late.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrive,
    Lose,
    Double,
    Delay,
}

/// Plays a whole transfer; returns what the peer got and how it ended.
fn play(len: usize, options: &[RequestOption], peer: Peer, fates: &[Fate]) -> (Vec<u8>, Ended) {
    let mut peer = peer;
    let mut now = Instant::now();
    let mut out = Vec::new();
    let mut transfer = Transfer::start(now, &request(options), file(len), LIMITS, &mut out);
    let mut fates = fates.iter().copied().chain(std::iter::repeat(Fate::Arrive));
    let mut delayed: VecDeque<[u8; 4]> = VecDeque::new();
    loop {
        let mut acks = std::mem::take(&mut delayed);
        for packet in out.drain(..) {
            let times = match fates.next().unwrap() {
                Fate::Arrive | Fate::Delay => 1,
                Fate::Lose => 0,
                Fate::Double => 2,
            };
            acks.extend((0..times).filter_map(|_| peer.receive(&packet)));
        }
        if acks.is_empty() {
            now = transfer.deadline();
            if let Step::Ended(ended) = transfer.on_timeout(now, &mut out) {
                return (peer.got, ended);
            }
        }
        for ack in acks {
            let times = match fates.next().unwrap() {
                Fate::Arrive => 1,
                Fate::Lose => 0,
                Fate::Double => 2,
                Fate::Delay => {
                    delayed.push_back(ack);
                    0
                }
            };
            for _ in 0..times {
                if let Step::Ended(ended) = transfer.on_datagram(now, &ack, &mut out) {
                    return (peer.got, ended);
                }
            }
        }
    }
}

#[test]
fn files_of_every_length_around_a_block_arrive_whole() {
    for len in [0, 1, 511, 512, 513, 1023, 1024, 1025] {
        let (got, ended) = play(len, &[], Peer::new(512, 1), &[]);
        assert_eq!((got, ended), (file(len).to_vec(), Ended::Complete), "{len}");
    }
}

#[test]
fn block_numbers_roll_over_in_lockstep_and_with_windows() {
    let len = 8 * 70_000 + 3;
    for window in [1, 16] {
        let options = [RequestOption::Blksize(8), RequestOption::Windowsize(window)];
        let (got, ended) = play(len, &options, Peer::new(8, window), &[]);
        assert_eq!(ended, Ended::Complete);
        assert!(got == file(len), "window {window}");
    }
}

#[test]
fn a_peer_that_falls_silent_is_given_up_after_waits_that_grow() {
    let start = Instant::now();
    let mut out = Vec::new();
    let mut transfer = Transfer::start(start, &request(&[]), file(10), LIMITS, &mut out);
    let mut waits = Vec::new();
    let mut now = start;
    loop {
        waits.push((transfer.deadline() - now).as_millis());
        now = transfer.deadline();
        if let Step::Ended(ended) = transfer.on_timeout(now, &mut out) {
            assert_eq!(ended, Ended::TimedOut);
            break;
        }
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 8000, 8000]);
    assert_eq!(out.len(), 1 + MAX_RETRIES as usize);
}

#[test]
fn options_are_clamped_and_acknowledged_in_the_order_asked() {
    let options = [
        RequestOption::Tsize,
        RequestOption::Blksize(9000),
        RequestOption::Windowsize(1000),
        RequestOption::Timeout(3),
    ];
    let now = Instant::now();
    let mut out = Vec::new();
    let transfer = Transfer::start(now, &request(&options), file(70_000), LIMITS, &mut out);
    assert_eq!(out, [b"\0\x06tsize\x0070000\0blksize\x001468\0windowsize\x0064\0timeout\x003\0"]);
    assert_eq!(transfer.deadline() - now, Duration::from_secs(3));
}

#[test]
fn a_doubled_acknowledgement_does_not_double_the_data() {
    let now = Instant::now();
    let mut out = Vec::new();
    let mut transfer = Transfer::start(now, &request(&[]), file(5000), LIMITS, &mut out);
    out.clear();
    transfer.on_datagram(now, &ack(1), &mut out);
    transfer.on_datagram(now, &ack(1), &mut out);
    transfer.on_datagram(now, &ack(0), &mut out);
    transfer.on_datagram(now, &ack(9), &mut out);
    assert_eq!(out.len(), 1, "one answer to the first, none to repeated, stale or wild ones");
}

#[test]
fn an_error_of_the_peer_ends_the_transfer() {
    let now = Instant::now();
    let mut out = Vec::new();
    let mut transfer = Transfer::start(now, &request(&[]), file(5000), LIMITS, &mut out);
    let step = transfer.on_datagram(now, b"\0\x05\0\x08go away\0", &mut out);
    assert_eq!(step, Step::Ended(Ended::Abandoned(8)));
}

#[test]
fn a_transfer_whose_peer_asked_anew_says_nothing_more_unless_it_is_answered() {
    let now = Instant::now();
    let mut out = Vec::new();
    let start = |out: &mut Vec<_>| Transfer::start(now, &request(&[]), file(5000), LIMITS, out);
    let mut forgotten = start(&mut out);
    out.clear();
    forgotten.supersede();
    let step = forgotten.on_timeout(forgotten.deadline(), &mut out);
    assert_eq!((step, out.len()), (Step::Ended(Ended::Superseded), 0));
    let mut doubled = start(&mut out);
    out.clear();
    doubled.supersede();
    assert_eq!(doubled.on_datagram(now, &ack(1), &mut out), Step::Wait);
    assert_eq!(out.len(), 1, "the request was doubled on its way: the peer is still here");
    assert_eq!(doubled.on_timeout(doubled.deadline(), &mut out), Step::Wait);
    assert_eq!((out.len(), doubled.acknowledged_bytes(), doubled.is_answered()), (2, 512, true));
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Arrive),
        2 => Just(Fate::Lose),
        1 => Just(Fate::Double),
        1 => Just(Fate::Delay),
    ]
}

#[test]
fn the_fuzz_entry_counts_the_acknowledgement_of_options_apart_from_the_window() {
    let mut data = b"\0\x01f\0octet\0blksize\x008\0windowsize\x0064\0".to_vec();
    let length = data.len();
    data.extend_from_slice(b".\0\x04\0\0");
    data.resize(2 * length, 0);
    fuzz_transfer(&data);
}

proptest! {
    #[test]
    fn a_file_arrives_whole_over_a_bad_network(
        len in 0usize..6000,
        block in prop_oneof![Just(None), (8u16..1468).prop_map(Some)],
        window in 1u16..20,
        fates in prop::collection::vec(fate(), 0..300),
    ) {
        let mut options = vec![RequestOption::Windowsize(window)];
        options.extend(block.map(RequestOption::Blksize));
        let peer = Peer::new(block.unwrap_or(512).into(), window);
        let (got, ended) = play(len, &options, peer, &fates);
        // The peer may have it all although its last word was lost for good.
        if ended == Ended::Complete {
            prop_assert!(got == file(len));
        } else {
            prop_assert_eq!(ended, Ended::TimedOut);
            prop_assert!(file(len).starts_with(&got));
        }
    }

    #[test]
    fn any_datagrams_leave_a_transfer_within_its_bounds(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        block in 8u16..1468, window in 1u16..100,
    ) {
        let mut request =
            format!("\0\x01f\0octet\0blksize\0{block}\0windowsize\0{window}\0").into_bytes();
        request.resize(bytes.len().max(request.len()), 0);
        request.extend(bytes);
        fuzz_transfer(&request);
    }
}
