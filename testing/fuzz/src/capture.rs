//! Captures: whatever a file says of itself, its packets are judged or it is refused.

use std::io::Cursor;

use tcpguard::replay::{OnHost, replay};
use tcpguard_engine::Mode;

/// The input is the file: pcap or pcapng, plain or compressed.
///
/// # Panics
/// When its packets do not add up, or the result cannot be serialised.
pub fn capture(input: &[u8]) {
    let source = Box::new(Cursor::new(input.to_vec()));
    let Ok(outcome) = replay("input", source, OnHost, Mode::Enforce) else {
        return;
    };
    let read = &outcome.replay;
    // The last one may be cut off, and is none then.
    let cut = read.skipped.get("cut_off").copied().unwrap_or(0);
    let skipped: u64 = read.skipped.values().sum();
    assert!(cut <= 1 && skipped - cut <= read.packets, "{read:?}");
    assert!(read.syns + read.syn_acks <= read.packets, "{read:?}");
    assert!(read.duration_s >= 0.0 && read.duration_s.is_finite(), "{read:?}");
    serde_json::to_vec(read).expect("a document");
    for (attack, line) in outcome.in_full() {
        serde_json::to_vec(&attack).expect("a document");
        serde_json::to_vec(&line).expect("a document");
    }
}
