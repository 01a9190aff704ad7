//! The host's own sockets, as plain sets.

extern crate std;

use std::collections::BTreeSet;

use crate::abi::{Addr, FlowKey, ListenerKey};
use crate::fastpath::{KernelCookie, Origin, Socket};
use crate::wire::Segment;

/// The replies of the kernel to look-ups of its sockets.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Flows with a connection, in whatever state.
    pub connections: BTreeSet<FlowKey>,
    /// Listening sockets, those bound to every address included.
    pub listening: BTreeSet<ListenerKey>,
    /// The cookie that the kernel would make next, if it would.
    pub next_cookie: Option<KernelCookie>,
    /// Cookies that it has made: the flow, the client's sequence number, and the cookie.
    pub cookies: BTreeSet<(FlowKey, u32, u32)>,
    /// The origin of the SYN-ACKs that leave.
    pub origin: Origin,
    /// Number of look-ups of sockets.
    pub searches: u64,
}

impl Sockets {
    pub(super) fn find(&mut self, segment: &Segment, check: bool) -> Socket {
        self.searches += 1;
        let flow = &segment.flow;
        if self.connections.contains(flow) {
            return Socket::Connection;
        }
        if !self.listens(flow) {
            return Socket::None;
        }
        let cookie = (*flow, segment.seq.wrapping_sub(1), segment.ack.wrapping_sub(1));
        if check && self.cookies.contains(&cookie) { Socket::Cookie } else { Socket::Listening }
    }

    pub(super) fn cookie(&mut self, syn: &Segment) -> Option<KernelCookie> {
        if self.connections.contains(&syn.flow) || !self.listens(&syn.flow) {
            return None;
        }
        let cookie = self.next_cookie?;
        self.cookies.insert((syn.flow, syn.seq, cookie.isn));
        Some(cookie)
    }

    fn listens(&self, flow: &FlowKey) -> bool {
        let any = if flow.server.as_v4().is_some() { Addr::ANY_V4 } else { Addr::ANY_V6 };
        let bound = |addr| self.listening.contains(&ListenerKey::new(addr, flow.server_port));
        bound(flow.server) || bound(any)
    }
}
