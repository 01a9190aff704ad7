//! Data that waits in connections: unread data, which the application has not taken, and unacknowledged
//! data, which the other end has not acknowledged.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::NonZeroU16;

use super::{ConnectionQueues, ProcessQueues, Queues};
use crate::finding::Owner;
use crate::linux::{Connection, Owners};

/// Connections that are reported one by one.
const WORST: usize = 10;

/// The data kept of all connections during the dump: 16 bytes of each, all of the worst.
#[derive(Clone, Debug, Default)]
pub struct QueueTally {
    all: Vec<Waiting>,
    worst: Vec<Connection>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    inode: u32,
    unread: u32,
    unacknowledged: u32,
    /// See [`Connection::accept_queue`].
    accept_queue: Option<NonZeroU16>,
}

impl QueueTally {
    /// Takes one connection into account.
    pub fn add(&mut self, connection: &Connection) {
        let (unread, unacknowledged) = (connection.recv_queue, connection.send_queue);
        let accept_queue = connection.accept_queue().and_then(NonZeroU16::new);
        self.all.push(Waiting { inode: connection.inode, unread, unacknowledged, accept_queue });
        let waits = weight(connection);
        if waits == 0 {
            return;
        }
        let place = self.worst.partition_point(|other| weight(other) >= waits);
        if place < WORST {
            self.worst.truncate(WORST - 1);
            self.worst.insert(place, *connection);
        }
    }

    /// The sockets for which owners are looked up.
    pub fn inodes(&self) -> impl Iterator<Item = u32> {
        self.all.iter().map(|waiting| waiting.inode)
    }

    /// By process. Of several that share a connection the first counts.
    pub fn report(&self, owners: &Owners) -> Queues {
        let mut processes: BTreeMap<_, ProcessQueues> = BTreeMap::new();
        for waiting in &self.all {
            let owner = owners.of(waiting.inode).next();
            let whose = (owner.map(|owner| owner.pid), waiting.accept_queue);
            let queues = processes.entry(whose).or_insert_with(|| ProcessQueues {
                process: owner.map(Owner::of),
                accept_queue: waiting.accept_queue.map(NonZeroU16::get),
                connections: 0,
                unread: 0,
                unread_max: 0,
                unacknowledged: 0,
                unacknowledged_max: 0,
            });
            queues.connections += 1;
            queues.unread += u64::from(waiting.unread);
            queues.unread_max = queues.unread_max.max(waiting.unread);
            queues.unacknowledged += u64::from(waiting.unacknowledged);
            queues.unacknowledged_max = queues.unacknowledged_max.max(waiting.unacknowledged);
        }
        let mut processes: Vec<_> = processes.into_values().collect();
        processes.sort_by_key(|queues| {
            (Reverse(queues.unread.max(queues.unacknowledged)), Reverse(queues.connections))
        });
        let worst = self.worst.iter().map(|connection| ConnectionQueues {
            local: connection.local,
            remote: connection.remote,
            state: connection.state,
            unread: connection.recv_queue,
            unacknowledged: connection.send_queue,
            process: owners.of(connection.inode).next().map(Owner::of),
            accept_queue: connection.accept_queue(),
        });
        Queues { processes, worst: worst.collect() }
    }
}

/// The rank of a connection.
fn weight(connection: &Connection) -> u32 {
    connection.recv_queue.max(connection.send_queue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::{Process, TcpState};

    fn connection(inode: u32, recv_queue: u32, send_queue: u32) -> Connection {
        Connection {
            state: TcpState::Established,
            local: "192.0.2.1:443".parse().expect("an address"),
            remote: "198.51.100.9:4000".parse().expect("an address"),
            recv_queue,
            send_queue,
            inode,
            uid: 0,
            interface: 0,
        }
    }

    fn tally(connections: &[(u32, u32, u32)]) -> QueueTally {
        let mut tally = QueueTally::default();
        for (inode, unread, unacknowledged) in connections {
            tally.add(&connection(*inode, *unread, *unacknowledged));
        }
        tally
    }

    #[test]
    fn each_process_has_its_sums_and_its_worst() {
        let process =
            |pid, comm: &str| Process { pid, comm: comm.to_owned(), ..Process::default() };
        let owners = Owners::new(
            [
                (process(7, "java"), vec![1, 2]),
                (process(8, "nginx"), vec![3]),
                (process(9, "a"), vec![5]),
            ],
            false,
        );
        let tally =
            tally(&[(1, 100, 0), (2, 300, 50), (3, 0, 9_000), (0, 0, 70), (4, 1, 0), (5, 0, 0)]);
        let found: Vec<_> = tally
            .report(&owners)
            .processes
            .into_iter()
            .map(|it| {
                let pid = it.process.map(|owner| owner.pid).or(it.accept_queue.map(u32::from));
                let sums = (it.unread, it.unread_max, it.unacknowledged, it.unacknowledged_max);
                (pid, it.connections, sums)
            })
            .collect();
        assert_eq!(
            found,
            [
                (Some(8), 1, (0, 0, 9_000, 9_000)),
                (Some(7), 2, (400, 300, 50, 50)),
                (Some(443), 1, (0, 0, 70, 70)),
                (None, 1, (1, 1, 0, 0)),
                (Some(9), 1, (0, 0, 0, 0)),
            ]
        );
    }

    #[test]
    fn the_worst_ten_are_kept_in_order_whatever_comes_first() {
        let numbers: Vec<u32> = (0..50).map(|number| number * 7 % 50).collect();
        let connections: Vec<_> = numbers.iter().map(|number| (1, *number, 3)).collect();
        let worst: Vec<_> = tally(&connections)
            .report(&Owners::default())
            .worst
            .iter()
            .map(|it| it.unread)
            .collect();
        assert_eq!(worst, (40..50).rev().collect::<Vec<_>>());
        assert_eq!(tally(&[(1, 0, 0)]).report(&Owners::default()).worst, []);
    }
}
