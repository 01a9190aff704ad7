//! Readers and lists that several crates share for tests and packages, without any part of tcpguard.
#![forbid(unsafe_code)]

pub mod blocks;
pub mod contents;
pub mod corpus;
pub mod hint_check;
pub mod schema;
