//! The `tcpguard` binary.
fn main() {}
