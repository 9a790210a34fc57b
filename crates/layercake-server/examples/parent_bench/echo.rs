//! What the kernel alone needs: datagrams as large as a hello and its answer, taken and given back
//! by the batch, with nothing in between. The floor under `parent.hellos`.

use crate::batch::{BATCH, Batched};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a hello takes that changes nothing; its answer is about as large.
const BYTES: usize = 44;

/// How many datagrams are echoed.
const DATAGRAMS: usize = 400_000;

/// How many are on their way at once.
const WINDOW: usize = 2_048;

/// How long an answer is waited for before it counts as lost.
const LOST: Duration = Duration::from_secs(1);

/// From so many sockets, as children's datagrams come.
const SOCKETS: usize = 128;

/// Pairs of taken and given datagrams for each second of a core.
pub(crate) fn measure() -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let batched = Batched::new(socket);
    let echo = std::thread::spawn(move || serve(batched, &over));
    let mut sockets: Vec<Batched> = (0..SOCKETS)
        .map(|n| {
            let socket = UdpSocket::bind(format!("127.2.0.{}:0", n + 1)).unwrap();
            socket.connect(address).unwrap();
            Batched::new(socket)
        })
        .collect();
    let batch: Vec<_> = (0..BATCH).map(|_| (vec![7; BYTES], None)).collect();
    let (mut sent, mut back, mut heard) = (0, 0, Instant::now());
    while back < DATAGRAMS && heard.elapsed() < LOST {
        for socket in &mut sockets {
            if sent < DATAGRAMS && sent - back < WINDOW {
                sent += socket.give(&batch);
            }
            let taken = socket.take(|_, _| ());
            if taken > 0 {
                (back, heard) = (back + taken, Instant::now());
            }
        }
    }
    eprintln!("echo: {sent} sent, {back} came back");
    is_over.store(true, Ordering::Relaxed);
    let (echoed, took) = echo.join().unwrap();
    echoed as f64 / took.as_secs_f64()
}

fn serve(mut socket: Batched, is_over: &AtomicBool) -> (usize, Duration) {
    let thread = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
    };
    let mut echoed = 0;
    let mut answers = Vec::with_capacity(BATCH);
    let began = thread();
    while !is_over.load(Ordering::Relaxed) {
        if socket.take(|bytes, from| answers.push((bytes.to_vec(), from))) == 0 {
            let mut wanted = [PollFd::new(&socket.socket, PollFlags::IN)];
            let at_most = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            // Nothing came: then it is looked whether all is over.
            poll(&mut wanted, Some(&at_most)).unwrap();
            continue;
        }
        let mut given = 0;
        while given < answers.len() {
            given += socket.give(&answers[given..]);
        }
        echoed += given;
        answers.clear();
    }
    (echoed, thread() - began)
}
