//! What the cipher alone costs: opening a hello and sealing its answer, with nothing around it. It is the
//! floor under `sync_bench`, on the same core in the same run.
//!
//! Prints one JSON object a line: name, value, unit. Meaningful in a release build only.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// About what a hello that changes nothing has inside its seal.
const BYTES: usize = 64;
/// A key for each of so many children: one key would stay in the cache, as those of a fleet do not.
const CHILDREN: usize = 10_000;
const ROUNDS: usize = 20;

fn main() {
    let keys: Vec<LessSafeKey> = (0..CHILDREN).map(key).collect();
    let nonce = || Nonce::assume_unique_for_key([7; NONCE_LEN]);
    let seal = |key: &LessSafeKey| {
        let mut bytes = vec![0; BYTES];
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut bytes).unwrap();
        bytes
    };
    let mut hellos: Vec<Vec<Vec<u8>>> =
        (0..ROUNDS).map(|_| keys.iter().map(seal).collect()).collect();
    let began = Instant::now();
    for round in &mut hellos {
        for (key, hello) in keys.iter().zip(round) {
            black_box(key.open_in_place(nonce(), Aad::empty(), hello).unwrap());
            black_box(seal(key));
        }
    }
    let per_second = (ROUNDS * CHILDREN) as f64 / began.elapsed().as_secs_f64();
    println!("{{\"name\":\"seal.pairs\",\"value\":{per_second:.0},\"unit\":\"1/s\"}}");
}

fn key(n: usize) -> LessSafeKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &bytes).unwrap())
}
