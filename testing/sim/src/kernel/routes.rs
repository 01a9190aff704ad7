//! Routes of the host's replies.

use std::net::IpAddr;

use tcpguard_engine::{Route, is_martian};

use super::Kernel;

/// Index of the interface that is not attached.
const BACK: u32 = 3;

impl Kernel {
    /// The kernel's answer to the question about the route of replies to a source.
    pub fn route(&self, client: IpAddr) -> Route {
        match self.own_route(client) {
            Some(route) => route,
            None if is_martian(client) => Route::Nowhere,
            None if self.unseen => Route::Elsewhere(BACK),
            None => Route::Attached,
        }
    }

    /// Returns the route of the source's network, if that has one of its own.
    pub(super) fn own_route(&self, client: IpAddr) -> Option<Route> {
        self.routes.iter().find(|(net, _)| net.contains(&client)).map(|(_, route)| *route)
    }

    /// Returns whether the BPF programs see the reply to a source.
    pub(super) fn shows_answer(&self, client: IpAddr) -> bool {
        self.own_route(client).map_or(!self.unseen, |route| route == Route::Attached)
    }
}
