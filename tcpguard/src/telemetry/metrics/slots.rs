//! Connections for metrics that are open at once. A new connection always gets a slot: where none is free, an
//! older one loses its own. So no number of slow clients keeps a scraper away.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tcpguard_host::linux::SockDiag;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;

const TOTAL: usize = 32;
/// Connections at once of one client.
const PER_CLIENT: usize = 8;

/// The party for which connections are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Client {
    /// A user of this host.
    User(u32),
    /// A client that is no process of this network namespace, such as one behind a translation of addresses.
    Address(IpAddr),
}

impl Client {
    pub(super) fn of_unix(stream: &UnixStream) -> Option<Self> {
        stream.peer_cred().ok().map(|credentials| Self::User(credentials.uid()))
    }

    /// Returns the user that `sockets` shows at the other end, otherwise the address. `None` if the connection is
    /// over.
    pub(super) fn of_tcp(stream: &TcpStream, sockets: Option<&mut SockDiag>) -> Option<Self> {
        let (client, server) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        let owner = sockets.and_then(|sockets| sockets.owner(client, server).ok().flatten());
        Some(owner.map_or(Self::Address(client.ip().to_canonical()), Self::User))
    }
}

/// A connection, with the task that answers it.
#[derive(Debug)]
struct Connection {
    client: Client,
    /// Set once the head of the request is complete.
    asked: Arc<AtomicBool>,
    task: AbortHandle,
}

/// The open connections, oldest first.
#[derive(Debug, Default)]
pub(super) struct Slots {
    open: Vec<Connection>,
}

impl Slots {
    /// Gives `client` a slot for the connection that `start` begins to answer. The task that answers it sets the
    /// flag once the head of the request is complete.
    pub(super) fn admit(
        &mut self,
        client: Client,
        start: impl FnOnce(Arc<AtomicBool>) -> AbortHandle,
    ) {
        self.open.retain(|connection| !connection.task.is_finished());
        if let Some(client) = self.to_lose_one(client) {
            self.evict_one_of(client);
        }
        let asked = Arc::default();
        let task = start(Arc::clone(&asked));
        self.open.push(Connection { client, asked, task });
    }

    /// Returns the client that loses a slot to a new connection of `client`, if one must: of a full table the client
    /// with the most.
    fn to_lose_one(&self, client: Client) -> Option<Client> {
        if self.held_by(client) >= PER_CLIENT {
            return Some(client);
        }
        let holders = self.open.iter().map(|connection| connection.client);
        holders.max_by_key(|&client| self.held_by(client)).filter(|_| self.open.len() >= TOTAL)
    }

    fn held_by(&self, client: Client) -> usize {
        self.open.iter().filter(|connection| connection.client == client).count()
    }

    /// Ends the oldest connection of `client` without a complete head, otherwise its oldest one.
    fn evict_one_of(&mut self, client: Client) {
        let own = (0..self.open.len()).filter(|&slot| self.open[slot].client == client);
        let oldest = own.min_by_key(|&slot| self.open[slot].asked.load(Ordering::Relaxed));
        if let Some(slot) = oldest {
            self.open.remove(slot).task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPER: Client = Client::User(1);

    /// Slots, and a runtime whose tasks never end.
    struct Host {
        runtime: tokio::runtime::Runtime,
        slots: Slots,
    }

    impl Host {
        fn new() -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            Self { runtime, slots: Slots::default() }
        }

        /// Connects `client` and returns the flag of the new connection.
        fn connect(&mut self, client: Client) -> Arc<AtomicBool> {
            let mut flag = Arc::default();
            self.slots.admit(client, |asked| {
                flag = asked;
                self.runtime.spawn(std::future::pending::<()>()).abort_handle()
            });
            flag
        }

        fn is_open(&self, flag: &Arc<AtomicBool>) -> bool {
            self.slots.open.iter().any(|connection| Arc::ptr_eq(&connection.asked, flag))
        }
    }

    #[test]
    fn a_client_beyond_its_slots_loses_its_own_oldest_unfinished_head() {
        let mut host = Host::new();
        let other = host.connect(SCRAPER);
        let own: Vec<_> = (0..PER_CLIENT).map(|_| host.connect(Client::User(2))).collect();
        own[0].store(true, Ordering::Relaxed);
        let newest = host.connect(Client::User(2));
        assert_eq!(host.slots.open.len(), 1 + PER_CLIENT);
        assert!(host.is_open(&other) && host.is_open(&newest));
        assert!(host.is_open(&own[0]), "its request is being answered");
        assert!(!host.is_open(&own[1]) && host.is_open(&own[2]));
    }

    #[test]
    fn a_client_whose_requests_are_all_answered_loses_the_oldest() {
        let mut host = Host::new();
        let own: Vec<_> = (0..=PER_CLIENT)
            .map(|_| {
                let flag = host.connect(SCRAPER);
                flag.store(true, Ordering::Relaxed);
                flag
            })
            .collect();
        assert!(!host.is_open(&own[0]) && own[1..].iter().all(|flag| host.is_open(flag)));
    }

    #[test]
    fn however_many_users_fill_all_slots_a_scraper_gets_one_and_keeps_it() {
        let mut host = Host::new();
        let fill = |host: &mut Host| {
            for _ in 0..2 * PER_CLIENT {
                for user in 2..8 {
                    host.connect(Client::User(user));
                }
            }
        };
        fill(&mut host);
        assert_eq!(host.slots.open.len(), TOTAL);
        let scrape = host.connect(SCRAPER);
        fill(&mut host);
        assert_eq!(host.slots.open.len(), TOTAL);
        assert!(host.is_open(&scrape));
    }

    #[test]
    fn a_connection_that_is_over_holds_no_slot() {
        let mut host = Host::new();
        let first = host.connect(SCRAPER);
        host.slots.open[0].task.abort();
        host.runtime.block_on(tokio::task::yield_now());
        let second = host.connect(SCRAPER);
        assert!(!host.is_open(&first) && host.is_open(&second));
    }

    #[test]
    fn clients_by_address_are_distinguished() {
        let mut host = Host::new();
        let client = |last: u8| Client::Address(IpAddr::from([192, 0, 2, last]));
        let first = host.connect(client(1));
        (0..PER_CLIENT).for_each(|_| drop(host.connect(client(2))));
        assert!(host.is_open(&first));
    }
}
