//! Connections by state, their cost, and their owners: `tcpguard states`.

mod document;
mod judge;
mod queues;
mod tally;

pub use document::*;
pub use judge::{Limits, StateFacts, judge};
pub use queues::QueueTally;
pub use tally::{Counts, Destination, Tally};

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::finding::{Owner, or_unread, owners};
use crate::linux::{
    Error, Owners, PROC, SockDiag, Sysctls, TcpState, file_handles, processes, sockstat,
};
use crate::time::Time;

/// Reads everything that [`judge`] needs. With `queues` also the data that waits in each connection.
///
/// # Errors
/// When the kernel does not list TCP sockets, or `/proc` cannot be read.
pub fn gather(at: Time, queues: bool) -> Result<StateFacts, Error> {
    let mut unread = Vec::new();
    let sysctls = Sysctls::default();
    let range = or_unread(sysctls.local_ports(), &mut unread);

    let mut sockets = SockDiag::open()?;
    let mut listening = BTreeSet::new();
    sockets.each_connection(&[TcpState::Listen], |listener| {
        listening.insert(listener.local.port());
    })?;
    let mut tally = Tally::new(listening, range.clone(), queues);
    sockets.each_connection(&TcpState::ALL, |connection| tally.add(&connection))?;

    let owners = owners(&tally.inodes(), &mut unread)?;
    let stat = or_unread(sockstat().map(Some), &mut unread).unwrap_or_default();
    let files = or_unread(file_handles(&sysctls), &mut unread);
    let pages = or_unread(sysctls.read("net.ipv4.tcp_mem"), &mut unread);
    let mut setting = |name: &str| or_unread(sysctls.read_number(name), &mut unread);
    Ok(StateFacts {
        at,
        ports: range.map(|range| range.count() as u64),
        destinations: tally.destinations(),
        time_wait: (stat.time_wait, setting("net.ipv4.tcp_max_tw_buckets")),
        orphans: (stat.orphans, setting("net.ipv4.tcp_max_orphans")),
        memory: (stat.memory_pages, pages.and_then(|pages| third(&pages))),
        files: (files.map(|files| files.open), files.map(|files| files.max)),
        close_wait: holders(&tally.close_wait, &owners),
        queues: tally.queues.as_ref().map(|queues| queues.report(&owners)),
        counts: tally.counts,
        descriptors: processes::descriptor_use(Path::new(PROC))?,
        unread,
    })
}

/// Returns the last of the three numbers of `net.ipv4.tcp_mem`: the most pages that TCP may take.
fn third(numbers: &str) -> Option<u64> {
    numbers.split_whitespace().nth(2)?.parse().ok()
}

/// Counts these sockets, given by inode and accept queue, for each process and accept queue, the most first.
/// Of several processes that share a socket the first counts.
fn holders(sockets: &[(u32, Option<u16>)], owners: &Owners) -> Vec<Holder> {
    let mut holders: BTreeMap<_, Holder> = BTreeMap::new();
    for (inode, accept_queue) in sockets {
        let process = owners.of(*inode).next();
        let whose = (process.map(|process| process.pid), accept_queue);
        let holder = holders.entry(whose).or_insert_with(|| Holder {
            process: process.map(Owner::of),
            accept_queue: *accept_queue,
            connections: 0,
            descriptors: process.map(|process| process.fds),
            descriptor_limit: process.and_then(|process| process.fd_limit),
        });
        holder.connections += 1;
    }
    let mut holders: Vec<_> = holders.into_values().collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.connections));
    holders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::Process;

    #[test]
    fn the_process_with_the_most_comes_first_and_the_unseen_are_together() {
        let process = |pid, comm: &str| Process {
            pid,
            comm: comm.to_owned(),
            fds: 900,
            fd_limit: Some(1024),
            ..Process::default()
        };
        let owners = Owners::new(
            [(process(7, "java"), vec![1, 2, 3]), (process(8, "app"), vec![3, 4])],
            true,
        );
        let unaccepted = [(0, Some(9000)); 5];
        let sockets = (1..=6).map(|inode| (inode, None)).chain(unaccepted).collect::<Vec<_>>();
        let found: Vec<_> = holders(&sockets, &owners)
            .into_iter()
            .map(|it| (it.process.map(|owner| owner.pid), it.accept_queue, it.connections))
            .collect();
        let expected =
            [(None, Some(9000), 5), (Some(7), None, 3), (None, None, 2), (Some(8), None, 1)];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_most_memory_is_the_third_number() {
        assert_eq!(third("188319\t251095\t376638\n"), Some(376_638));
        assert_eq!((third("1 2"), third("1 2 x")), (None, None));
    }

    #[test]
    fn the_running_host_is_read() {
        let at = Time("2026-11-20T14:05:31.204Z".parse().expect("a time"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
        let facts = gather(at, true).expect("readable");
        assert!(facts.counts.of(TcpState::Listen, false) > 0, "{facts:?}");
        assert!(facts.ports.is_some() && facts.time_wait.1.is_some(), "{facts:?}");
        assert!(facts.descriptors.iter().any(|it| it.pid == std::process::id()), "{facts:?}");
        drop(listener);
    }
}
