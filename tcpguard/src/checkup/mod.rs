//! The checks that an administrator would make by hand, with a judgement: [`states`], [`listeners`],
//! [`tune`] and [`doctor`].
//!
//! All of them work without the agent and as any user, as far as the kernel shows the data to that user;
//! a report names the data that could not be read. Each is made in the same steps: `gather` reads facts
//! from the host, `judge` makes a report of them, a pure function, and [`crate::render`] writes it for
//! people.

pub mod doctor;
mod drop_ins;
mod finding;
pub mod listeners;
pub mod states;
pub mod tune;

pub use finding::{Finding, Owner, worst_first};

use std::collections::BTreeSet;
use std::path::Path;

use crate::host::{Error, Owners, PROC, processes};

/// The owners of these sockets. If some are hidden from this user, `unread` says so.
fn owners(inodes: &BTreeSet<u32>, unread: &mut Vec<String>) -> Result<Owners, Error> {
    let owners = processes::owners(Path::new(PROC), inodes)?;
    if owners.denied && inodes.iter().any(|inode| owners.of(*inode).next().is_none()) {
        unread.push("processes of other users: run it again with sudo".to_owned());
    }
    Ok(owners)
}

/// A value that a report can do without: if it cannot be read, `unread` says why.
fn or_unread<T>(value: Result<Option<T>, Error>, unread: &mut Vec<String>) -> Option<T> {
    value.unwrap_or_else(|error| {
        unread.push(error.to_string());
        None
    })
}
