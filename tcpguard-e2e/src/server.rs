//! The service under attack: answers each request with a few bytes, or carries out an order of
//! [`crate::transfer`].

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

use crate::lab::BACKLOG;
use crate::netns::Netns;
use crate::transfer;

/// What a client sends.
pub const REQUEST: &[u8; 4] = b"ping";
/// What it gets.
pub const RESPONSE: &[u8; 4] = b"pong";

/// Whether the service takes its connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Behaviour {
    /// Accepts and answers.
    Answer,
    /// Listens but never accepts: its accept queue fills.
    Hang,
}

/// A running service on one port, IPv4 and IPv6, with a backlog of [`BACKLOG`]. It ends when
/// dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    /// Starts the service; it listens when this returns.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Netns, port: u16, behaviour: Behaviour) -> Result<Self> {
        let listener = host.run(|| open(port))?;
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&served));
        let thread = host.spawn("server", move || match behaviour {
            Behaviour::Answer => answer(&listener, &stopped, &counter),
            Behaviour::Hang => hang(&listener, &stopped),
        })?;
        Ok(Self { stop, served, thread: Some(thread) })
    }

    /// Requests answered so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                failure => eprintln!("the server failed: {failure:?}"),
            }
        }
    }
}

fn open(port: u16) -> Result<TcpListener> {
    let socket = socket(AddressFamily::INET6, SocketType::STREAM, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))
        .with_context(|| format!("cannot bind port {port}"))?;
    listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

fn answer(listener: &TcpListener, stop: &AtomicBool, served: &AtomicU64) -> Result<()> {
    let mut clients: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
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

fn hang(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        // Waits for nothing: a connection that is never taken would be ready at once.
        poll(&mut [PollFd::new(listener, PollFlags::empty())], Some(&LOOK_UP))?;
    }
    Ok(())
}
