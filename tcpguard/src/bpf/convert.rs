//! Conversion between the layouts of the maps and the engine's types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use tcpguard_common::abi::{
    self, Addr, Config, EVERY_PORT, FlowKey, ListenerKey, PrefixV4, PrefixV6, SCOPE_BITS,
    SignatureKey, SourceHost, SourceKey, SourceV4, SourceV6, maps,
};
use tcpguard_common::fastpath::hash;
use tcpguard_engine as engine;

/// The map form of an address.
pub fn addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(ip) => Addr::from_v4(ip.octets()),
        IpAddr::V6(ip) => Addr::from_v6(ip.octets()),
    }
}

/// The address of a map.
pub fn ip(addr: &Addr) -> IpAddr {
    match addr.as_v4() {
        Some(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        None => IpAddr::V6(Ipv6Addr::from(addr.octets())),
    }
}

/// The map form of a prefix.
pub(super) enum Prefix {
    V4(PrefixV4),
    V6(PrefixV6),
}

pub(super) fn prefix(net: &IpNet) -> Prefix {
    match net {
        IpNet::V4(net) => {
            Prefix::V4(PrefixV4 { bits: net.prefix_len().into(), addr: net.network().octets() })
        }
        IpNet::V6(net) => {
            Prefix::V6(PrefixV6 { bits: net.prefix_len().into(), addr: net.network().octets() })
        }
    }
}

/// The map form of a prefix, and of one port or every port, in a rule set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// Key of one client.
    Host(SourceHost),
    /// Key of an IPv4 prefix.
    V4(SourceKey<SourceV4>),
    /// Key of an IPv6 prefix.
    V6(SourceKey<SourceV6>),
}

impl Source {
    /// Returns whether it is the key of no rule: fewer bits count than name the set and the port, or no SYN is
    /// looked up by it.
    pub(super) const fn is_not_looked_up(&self) -> bool {
        match self {
            Self::Host(key) => !key.is_canonical(),
            Self::V4(key) => key.bits < SCOPE_BITS,
            Self::V6(key) => key.bits < SCOPE_BITS,
        }
    }

    /// Returns whether it belongs to this set.
    pub(super) const fn is_of(&self, set: u64) -> bool {
        match self {
            Self::Host(key) => key.is_of(set),
            Self::V4(key) => key.data.is_of(set),
            Self::V6(key) => key.data.is_of(set),
        }
    }
}

/// Bits of an IPv6 prefix that is one client.
const V6_CLIENT: u8 = 64;

/// Returns the table in which a source rule over this prefix is: [`Config::HOSTS`] or [`Config::NETS`].
pub fn source_table(net: &IpNet) -> u8 {
    let is_client = match net {
        IpNet::V4(net) => net.prefix_len() == 32,
        IpNet::V6(net) => net.prefix_len() == V6_CLIENT,
    };
    if is_client { Config::HOSTS } else { Config::NETS }
}

/// Returns whether a prefix is one client's, or a part of it.
pub fn is_one_client(net: &IpNet) -> bool {
    source_table(net) == Config::HOSTS || client_around(net).is_some()
}

/// The client in which a longer prefix than a client's is.
pub fn client_around(net: &IpNet) -> Option<IpNet> {
    match net {
        IpNet::V6(net) if net.prefix_len() > V6_CLIENT => {
            Some(Ipv6Net::new_assert(net.addr(), V6_CLIENT).trunc().into())
        }
        _ => None,
    }
}

pub(super) fn source(set: u64, net: &IpNet, port: Option<u16>) -> Source {
    let port = port.map_or(EVERY_PORT, u16::to_be_bytes);
    if source_table(net) == Config::HOSTS {
        return Source::Host(SourceHost::new(set, port, &addr(net.network())));
    }
    let bits = SCOPE_BITS + u32::from(net.prefix_len());
    match net {
        IpNet::V4(net) => {
            let data = SourceV4::new(set, port, net.network().octets());
            Source::V4(SourceKey { bits, data })
        }
        IpNet::V6(net) => {
            let data = SourceV6::new(set, port, Addr::from_v6(net.network().octets()));
            Source::V6(SourceKey { bits, data })
        }
    }
}

/// The prefix of a map key, and its port.
pub(super) fn net(source: &Source) -> Option<(IpNet, Option<u16>)> {
    let (addr, port, bits) = match source {
        Source::Host(key) if !key.is_canonical() => return None,
        Source::Host(key) => {
            let addr = ip(&key.client());
            let bits = if addr.is_ipv4() { 32 } else { V6_CLIENT.into() };
            (addr, key.port, SCOPE_BITS + bits)
        }
        Source::V4(key) => (IpAddr::from(key.data.addr), key.data.port, key.bits),
        Source::V6(key) => (IpAddr::from(key.data.addr.octets()), key.data.port, key.bits),
    };
    let net = IpNet::new(addr, u8::try_from(bits.checked_sub(SCOPE_BITS)?).ok()?).ok()?;
    Some((net, (port != EVERY_PORT).then_some(u16::from_be_bytes(port))))
}

/// The keys under which the programs find a listener; two for a dual-stack wildcard.
pub fn listener_keys(listener: &engine::Listener, dual_stack: bool) -> Vec<ListenerKey> {
    let port = listener.port.to_be_bytes();
    let mut keys = vec![ListenerKey::new(addr(listener.addr), port)];
    if dual_stack && listener.addr == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        keys.push(ListenerKey::new(Addr::ANY_V4, port));
    }
    keys
}

/// The scope of signature rules, as their keys have it: one listener, by its slot in the tables, or
/// every listener.
pub const fn signature_scope(listener: engine::ListenerId) -> u32 {
    if listener.0 == engine::ListenerId::HOST.0 {
        return SignatureKey::EVERY_LISTENER;
    }
    listener.0 % maps::MAX_LISTENERS
}

/// Number of ports and of addresses below which a source is no scanner, whatever else it did. Bits may coincide.
const SEVERAL: u32 = 4;
/// Time for which a completed handshake counts as recent (`docs/evidence/detection.md`).
pub const RECENT: Duration = Duration::from_secs(600);

/// The engine's form of a listener's counters; `tracepoint` says whether completions are seen.
pub fn listener_counters(
    counters: &abi::ListenerCounters,
    late: abi::Late,
    cookies: &abi::ReturnedCookies,
    tracepoint: bool,
) -> engine::ListenerCounters {
    macro_rules! converted {
        ($($count:ident)*) => {{
            let abi::ListenerCounters { established, $($count),* } = *counters;
            engine::ListenerCounters {
                syn_retransmit_timed: late.syn_retransmit_timed,
                established: tracepoint.then_some(established),
                let_through: late.let_through,
                late: late.polls,
                returned_cookies: [0, 1].map(|family| engine::ReturnedCookies {
                    valid: cookies.valid[family],
                    completed: cookies.completed[family],
                    networks: cookies.networks[family].into(),
                    asked: cookies.asked[family].into(),
                }),
                $($count),*
            }
        }};
    }
    converted!(
        syn syn_retransmit syn_ack syn_ack_retransmit established_returning acknowledged reset refused dropped_source
        dropped_signature accepted_retransmits exempt ack_ignored cookies_sent cookies_redeemed limited
    )
}

/// The engine's form of the counters of a rule.
pub fn rule_counters(id: engine::RuleId, hits: &abi::RuleHits) -> engine::RuleCounters {
    let abi::RuleHits { hits, returns } = *hits;
    let abi::RuleReturns { accepted_retransmits, completed } = returns;
    engine::RuleCounters {
        id,
        hits,
        accepted_retransmits: accepted_retransmits.into(),
        completed: completed.into(),
    }
}

/// The engine's form of a cell of sources that send SYNs to ports on which no socket listens; `None`
/// for an empty one. `client` is asked for the entry of a source that tried several ports.
pub fn closed_port_source(
    cell: &abi::ClosedPortSource,
    now: engine::Timestamp,
    client: impl FnOnce(IpAddr) -> Option<abi::Client>,
) -> Option<engine::ClosedPortSource> {
    let time = |seconds: u32| engine::Timestamp::from_millis(u64::from(seconds) * 1000);
    let source = ip(&cell.source);
    let recent = |client: &abi::Client| {
        now.since(engine::Timestamp::from_nanos(client.completed_ns)) <= RECENT
    };
    let completed = || client(source).filter(recent).map_or(0, |client| client.counters.completed);
    let several = cell.ports.count_ones().max(cell.servers.count_ones()) >= SEVERAL;
    (cell.syns != 0).then(|| engine::ClosedPortSource {
        source,
        server: ip(&cell.server),
        port: u16::from_be_bytes(cell.port),
        ports: distinct_bits(cell.ports),
        servers: distinct_bits(cell.servers),
        syns: cell.syns,
        completed: if several { completed() } else { 0 },
        since: time(cell.since_s),
        last: time(cell.last_s),
    })
}

/// Estimates the number of distinct values that set these bits, each one of 64 (linear counting: Whang,
/// Vander-Zanden, Taylor, 1990). A full bitmap counts as one with a single bit unset.
fn distinct_bits(bits: u64) -> u32 {
    let unset = f64::from(bits.count_zeros().max(1));
    (64.0 * (64.0 / unset).ln()).round() as u32
}

/// The engine's form of a sampled flow; `None` for one that the sample no longer covers, because
/// the shift has grown since it was recorded: its end would not be seen, and it would look failed.
pub fn flow(config: &Config, key: &FlowKey, flow: &abi::Flow) -> Option<engine::Flow> {
    let sampled = hash::sampled(hash::flow(&config.hash_key, key), config.sample_shift);
    if sampled { recorded_flow(config, key, flow) } else { None }
}

/// The engine's form of a flow that was recorded, also of one that the sample no longer covers; `None` for a
/// connection that the host began.
pub fn recorded_flow(config: &Config, key: &FlowKey, flow: &abi::Flow) -> Option<engine::Flow> {
    let time = |ns: u64| (ns != 0).then(|| engine::Timestamp::from_nanos(ns));
    Some(engine::Flow {
        listener: engine::ListenerId(flow.listener),
        client: ip(&key.client),
        server: ip(&key.server),
        syn_at: engine::Timestamp::from_nanos(flow.syn_ns),
        syn_ack_at: time(flow.syn_ack_ns),
        done_at: time(flow.done_ns),
        state: match abi::FlowState::from_code(flow.state)? {
            abi::FlowState::Syn => engine::FlowState::Syn,
            abi::FlowState::SynAck => engine::FlowState::SynAck,
            abi::FlowState::Acknowledged => engine::FlowState::Acknowledged,
            abi::FlowState::Ignored => engine::FlowState::Ignored,
            abi::FlowState::Completed => engine::FlowState::Completed,
            abi::FlowState::Reset => engine::FlowState::Reset,
            abi::FlowState::Dropped => engine::FlowState::Dropped,
            abi::FlowState::Own => return None,
        },
        syn_retransmits: flow.syn_retransmits,
        sample_shift: flow.sample_shift.max(config.sample_shift).min(31),
        fingerprint: flow.fingerprint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood is sampled more thinly, and the entries that it left in the queue before must still be
    /// recognised.
    #[test]
    fn a_flow_beyond_the_sample_is_not_tracked_and_still_on_record() {
        let key = FlowKey { client: Addr::from_v4([198, 51, 100, 7]), ..FlowKey::default() };
        let mut config =
            Config { hash_key: tcpguard_common::model::hash_key(1), ..Config::default() };
        let beyond = |config: &Config| {
            !hash::sampled(hash::flow(&config.hash_key, &key), config.sample_shift)
        };
        let flow = abi::Flow { state: abi::FlowState::SynAck as u8, ..abi::Flow::default() };
        assert!(super::flow(&config, &key, &flow).is_some());
        while !beyond(&config) {
            config.sample_shift += 1;
        }
        assert!(super::flow(&config, &key, &flow).is_none());
        let recorded = recorded_flow(&config, &key, &flow).expect("a recorded flow");
        assert_eq!(recorded.state, engine::FlowState::SynAck);
    }
}
