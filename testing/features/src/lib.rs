//! Nothing: its dependencies are the content of this crate (`Cargo.toml`).
#![forbid(unsafe_code)]
