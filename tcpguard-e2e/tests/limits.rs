//! What the guard may cost a host.

use std::process::Command;
use std::{env, fs, process};

use tcpguard_e2e::guard;

/// Bytes of the program without symbols, which is what a package holds.
const BINARY: u64 = 8 << 20;

#[test]
fn the_binary_is_small() {
    let stripped = env::temp_dir().join(format!("tcpguard-stripped-{}", process::id()));
    let strip = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(guard::binary().unwrap())
        .status()
        .unwrap();
    assert!(strip.success(), "{strip}");
    let size = fs::metadata(&stripped).unwrap().len();
    fs::remove_file(&stripped).unwrap();
    println!("{size} bytes of {BINARY}");
    assert!(size <= BINARY, "{size} bytes");
}
