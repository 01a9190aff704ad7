//! The service under attack: answers each request with a few bytes, or carries out an order of
//! [`crate::traffic::transfer`].

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::daemon::service::Service;
use crate::net::lab::BACKLOG;
use crate::net::lab_filter::steer;
use crate::net::netns::Netns;
use crate::traffic::transfer;

/// Request of a client.
pub const REQUEST: &[u8; 4] = b"ping";
/// Response of the service.
pub const RESPONSE: &[u8; 4] = b"pong";

/// Way in which the service takes its connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Behaviour {
    Answer,
    /// Listens but does not accept: its accept queue fills.
    Hang,
}

/// A running service on one port, IPv4 and IPv6, with a backlog of [`BACKLOG`]. It ends when
/// dropped.
#[derive(Debug)]
pub struct Server {
    served: Arc<AtomicU64>,
    hangs: Arc<AtomicBool>,
    _service: Service,
}

impl Server {
    /// Starts the service; it listens when this returns.
    pub fn start(host: &Netns, port: u16, behaviour: Behaviour) -> Result<Self> {
        Self::with_backlog(host, port, behaviour, BACKLOG)
    }

    /// Likewise, with another backlog; `net.core.somaxconn` bounds it.
    pub fn with_backlog(
        host: &Netns,
        port: u16,
        behaviour: Behaviour,
        backlog: i32,
    ) -> Result<Self> {
        let served = Arc::new(AtomicU64::new(0));
        let hangs = Arc::new(AtomicBool::new(behaviour == Behaviour::Hang));
        let (counter, hanging) = (Arc::clone(&served), Arc::clone(&hangs));
        let service = Service::start(host, port, backlog, move |listener, stop| {
            answer(listener, stop, &hanging, &counter)
        })?;
        Ok(Self { served, hangs, _service: service })
    }

    /// A service that answers, on a listener that uses MPTCP, as those of Go do by default.
    pub fn of_mptcp(host: &Netns, port: u16) -> Result<Self> {
        let served = Arc::new(AtomicU64::new(0));
        let hangs = Arc::new(AtomicBool::new(false));
        let (counter, hanging) = (Arc::clone(&served), Arc::clone(&hangs));
        let service = Service::start_mptcp(host, port, BACKLOG, move |listener, stop| {
            answer(listener, stop, &hanging, &counter)
        })?;
        Ok(Self { served, hangs, _service: service })
    }

    /// A service that answers, and gets the connections to [`crate::net::lab_filter::STEERED_PORT`] as well, by an sk_lookup program.
    pub fn steered(host: &Netns, port: u16) -> Result<Self> {
        let served = Arc::new(AtomicU64::new(0));
        let hangs = Arc::new(AtomicBool::new(false));
        let (counter, hanging) = (Arc::clone(&served), Arc::clone(&hangs));
        let service = Service::start(host, port, BACKLOG, move |listener, stop| {
            let _steering = steer(listener)?;
            answer(listener, stop, &hanging, &counter)
        })?;
        Ok(Self { served, hangs, _service: service })
    }

    /// From now on it behaves like this.
    pub fn behave(&self, behaviour: Behaviour) {
        self.hangs.store(behaviour == Behaviour::Hang, Ordering::Relaxed);
    }

    /// Requests answered so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

fn answer(
    listener: &TcpListener,
    stop: &AtomicBool,
    hangs: &AtomicBool,
    served: &AtomicU64,
) -> Result<()> {
    let mut clients: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if hangs.load(Ordering::Relaxed) {
            // Waits for nothing: a connection that is never taken would be ready at once.
            poll(&mut [PollFd::new(listener, PollFlags::empty())], Some(&LOOK_UP))?;
            continue;
        }
        let mut ready: Vec<_> = std::iter::once(PollFd::new(listener, PollFlags::IN))
            .chain(clients.iter().map(|client| PollFd::new(client, PollFlags::IN)))
            .collect();
        poll(&mut ready, Some(&LOOK_UP))?;
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut answered = ready[1..].iter();
        clients.retain_mut(|client| {
            if answered.next() != Some(&true) {
                return true;
            }
            let mut request = [0; REQUEST.len()];
            let read = client.read(&mut request);
            if read.is_ok_and(|length| request[..length] == *REQUEST) {
                if client.write_all(RESPONSE).is_ok() {
                    served.fetch_add(1, Ordering::Relaxed);
                }
            } else if [transfer::PULL, transfer::PUSH].contains(&&request)
                && let Ok(client) = client.try_clone()
            {
                transfer::serve(client, request);
            }
            false
        });
        if ready[0] {
            while let Ok((client, _)) = listener.accept() {
                client.set_nonblocking(true)?;
                clients.push(client);
            }
        }
    }
    Ok(())
}
