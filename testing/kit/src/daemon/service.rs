//! The common part of the lab's services: one port, IPv4 and IPv6, a thread, and an end.

use std::net::{Ipv6Addr, SocketAddrV6, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, Protocol, SocketType, bind, ipproto, listen, socket, sockopt};

use crate::net::netns::Netns;
use crate::net::raw;

/// A running service. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Service {
    /// Has `serve` serve connections to a port, until the flag is set. The port is open when this returns.
    pub fn start(
        host: &Netns,
        port: u16,
        backlog: i32,
        serve: impl FnOnce(&TcpListener, &AtomicBool) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        Self::on(host, host.run(|| open(port, backlog, None))?, serve)
    }

    /// The same with MPTCP.
    pub fn start_mptcp(
        host: &Netns,
        port: u16,
        backlog: i32,
        serve: impl FnOnce(&TcpListener, &AtomicBool) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        Self::on(host, host.run(|| open(port, backlog, Some(ipproto::MPTCP)))?, serve)
    }

    fn on(
        host: &Netns,
        listener: TcpListener,
        serve: impl FnOnce(&TcpListener, &AtomicBool) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = host.spawn("service", move || serve(&listener, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                failure => eprintln!("the service failed: {failure:?}"),
            }
        }
    }
}

/// A listener on every address that takes a connection only with its first data (`TCP_DEFER_ACCEPT`), for so many
/// seconds.
pub fn deferring(host: &Netns, port: u16, backlog: i32, seconds: i32) -> Result<TcpListener> {
    host.run(|| {
        let listener = open(port, backlog, None)?;
        raw::set_option(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)?;
        Ok(listener)
    })
}

fn open(port: u16, backlog: i32, protocol: Option<Protocol>) -> Result<TcpListener> {
    let socket = socket(AddressFamily::INET6, SocketType::STREAM, protocol)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))
        .with_context(|| format!("cannot bind port {port}"))?;
    listen(&socket, backlog)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}
