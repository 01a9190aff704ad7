//! `flood FILE`: writes a capture of a flood among clients, for the picture in the README (`cargo xtask
//! picture`). It is the same each time.
#![forbid(unsafe_code)]

use std::fs;
use std::net::SocketAddrV4;

use anyhow::{Context, Result};
use tcpguard_eval::wire::flag::{ACK, SYN};
use tcpguard_eval::wire::{SERVER, Scene, Tcp, address};

/// Seed of the random numbers.
const SEED: u64 = 1;
/// Clients a second, and their time: enough to be known before the flood, and to be seen after it (s).
const CLIENTS: f64 = 50.0;
const LENGTH: f64 = 105.0;
/// SYNs a second of the flood, and its time (s).
const RATE: f64 = 2000.0;
const FROM: f64 = 35.0;
const UNTIL: f64 = 65.0;
/// Time between a SYN and its answer, in s.
const TURN: f64 = 60e-6;

fn main() -> Result<()> {
    let file = std::env::args_os().nth(1).context("usage: flood FILE")?;
    let mut scene = Scene::new(SEED);
    scene.clients(0.0, LENGTH, CLIENTS);
    flood(&mut scene);
    fs::write(&file, scene.capture())
        .with_context(|| format!("cannot write {}", file.to_string_lossy()))
}

/// SYNs of one fingerprint (no options, a window of its own, one distance) from anywhere, each answered
/// once, as by a kernel with SYN cookies.
fn flood(scene: &mut Scene) {
    for number in 0..((UNTIL - FROM) * RATE) as u64 {
        let at = FROM + number as f64 / RATE;
        let bot = SocketAddrV4::new(address(&mut scene.random), scene.ephemeral());
        let (seq, isn) = (scene.random.bits() as u32, scene.random.bits() as u32);
        scene.put(at, &Tcp { ttl: 244, window: 512, ..Tcp::new(bot, SERVER, SYN, seq, 0) });
        let answer = Tcp::new(SERVER, bot, SYN | ACK, isn, seq.wrapping_add(1));
        scene.put(at + TURN, &answer);
    }
}
