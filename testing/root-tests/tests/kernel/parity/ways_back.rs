//! Ways back in the kernel and on the host: the same next hops, and the same replies to them.

use tcpguard_common::abi::{Mode, NextHops, Reason, Unanswered};

use super::{Pair, addr, bits, show};

impl Pair {
    /// Gives both sides these routes, each of a kind of [`NextHops`].
    pub fn set_routes(&mut self, routes: &[(&str, u32)]) {
        let routes = routes.iter().map(|(net, kind)| (net.parse().unwrap(), *kind)).collect();
        self.dataplane.set_routes(&routes).unwrap();
        let found = self.dataplane.routes().unwrap().into_iter();
        self.model.routes =
            found.map(|(net, number)| ((addr(net.network()), bits(&net)), number)).collect();
        self.model.next_hops = self.dataplane.next_hops().unwrap().into_iter().collect();
    }

    /// Keeps the next hops that both sides have seen from growing old.
    pub fn keep_ways_back(&mut self) {
        for (route, hops) in &mut self.model.next_hops {
            let seen = hops.hops.iter_mut().filter(|hop| hop.ifindex != 0);
            seen.for_each(|hop| hop.seen = u32::MAX);
            self.dataplane.set_next_hops(*route, hops).unwrap();
        }
    }
}

#[test]
fn random_traffic_by_routes_of_every_kind_is_answered_alike() {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    pair.keep_agent();
    pair.arm();
    pair.set_routes(&[
        ("0.0.0.0/0", NextHops::GATEWAY),
        ("192.0.7.0/25", NextHops::ON_LINK),
        ("192.0.7.16/28", NextHops::NOWHERE),
        ("192.0.7.160/27", NextHops::GATEWAY),
        ("2001:db8::/32", NextHops::ON_LINK),
    ]);
    show(&mut pair, 78, 20_000);
    let answered = pair.reasons.get(&Reason::Cookie).copied().unwrap_or(0);
    assert!(answered > 500, "{:?}", pair.reasons);
    let unanswered = |why: Unanswered| pair.model.host.unanswered[why as usize];
    assert!(unanswered(Unanswered::NoReply) > 50 && unanswered(Unanswered::NoWay) > 0);
}
