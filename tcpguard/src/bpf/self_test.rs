//! Self-test before SYNs of a listener are answered on its behalf: the loaded programs, tried with the
//! listener's recorded SYN-ACK.
//!
//! Test runs of a SYN, of the SYN-ACK that the program made of it, and of the ACK that a client would
//! send for that, with timestamps and without. Nothing leaves, no socket is involved, and no counter of
//! the listener moves: the test has a listener of its own, at the same address and at port 0, to which
//! no packet of a client is ever addressed. Its entries in the tables are removed again.

mod frames;

use frames::{Client, ack, broken_checksum, syn};
use ipnet::IpNet;
use tcpguard_common::abi::{
    ABI_VERSION, Addr, CookieSecret, FlowKey, ListenerEntry, ListenerKey, Mode, NextHop,
    SynAckRecord, maps, option,
};
use tcpguard_common::cookie::{self, Choice, Handshake, MAX_WSCALE, Offer};
use tcpguard_common::fastpath::COOKIE_HEARTBEAT_NS;
use tcpguard_common::wire::{self, flag};
use tcpguard_host::hint::Hint as _;

use super::convert::ip;
use super::{Dataplane, KernelError, Object, Redeemer};

/// The slot among the listeners that is the test's own: no real one may have it.
pub const TEST_LISTENER: u32 = maps::MAX_LISTENERS - 1;

/// Interface that test runs have: `lo`, the first of every network namespace.
const TEST_INTERFACE: u32 = 1;

// Actions of XDP programs, the kernel's `bpf.h`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// Reason why a listener is not to be answered for.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// No SYN-ACK of the listener is recorded.
    #[error("no SYN-ACK of it was seen yet. Check that it listens: ss -lnt")]
    NoRecord,
    /// The record is implausible.
    #[error(
        "the recorded SYN-ACK is damaged: no host sends {0}. Start a new record: systemctl restart \
         tcpguard"
    )]
    Implausible(String),
    /// There is no secret.
    #[error("no secret for SYN cookies exists. Create one: systemctl restart tcpguard")]
    NoSecret,
    /// The programs answer no SYN of any listener.
    #[error("the programs answer no SYN: {0}. See: tcpguard status")]
    Idle(&'static str),
    /// The SYN was not answered.
    #[error("a test SYN got no reply: the program {0}. See: tcpguard doctor --selftest")]
    NoReply(&'static str),
    /// The answer is not the listener's.
    #[error("the reply to a test SYN {client} has {what}. See: tcpguard doctor --selftest")]
    Differs {
        /// Options with which the SYN came.
        client: &'static str,
        what: String,
    },
    /// The cookie is not taken back.
    #[error(
        "the cookie in the reply to a test SYN {client} is not accepted: {why}. See: tcpguard doctor --selftest"
    )]
    NotTaken {
        /// Options with which the SYN came.
        client: &'static str,
        /// The reason for the refusal.
        why: &'static str,
    },
    /// A test run was not possible.
    #[error("{}", .0.with_hint())]
    Kernel(#[from] KernelError),
}

/// Tries the programs for the listener with SYN-ACKs that leave from `server`, an address and a port of
/// this host. `now_ns` is boot time, by which the test's SYNs differ from earlier ones.
pub fn self_test(
    object: &mut Object,
    redeemer: &mut Redeemer,
    dataplane: &Dataplane,
    server: &ListenerKey,
    now_ns: u64,
) -> Result<(), SelfTestError> {
    let record = dataplane.syn_ack(server)?.ok_or(SelfTestError::NoRecord)?;
    plausible(&record)?;
    let secret = dataplane.cookie_secret()?;
    if secret.drawn == 0 {
        return Err(SelfTestError::NoSecret);
    }
    let config = dataplane.config()?;
    if config.abi_version != ABI_VERSION {
        return Err(SelfTestError::Idle("they have no configuration"));
    }
    if config.mode != Mode::Enforce as u8 {
        return Err(SelfTestError::Idle("the mode is not enforce"));
    }
    if now_ns.saturating_sub(config.heartbeat_ns) > COOKIE_HEARTBEAT_NS {
        return Err(SelfTestError::Idle("the agent has written no heartbeat for 6s"));
    }
    let key = ListenerKey::new(server.addr, [0; 2]);
    let entry = ListenerEntry {
        id: TEST_LISTENER,
        mitigations: ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT,
        ..ListenerEntry::default()
    };
    let mut test = Test { object, redeemer, record, secret, server: key.addr, now_ns };
    let interfaces = SynAckRecord::interface(TEST_INTERFACE, 0);
    let looks = SynAckRecord { interfaces, ..record };
    let hop = NextHop {
        mac: NextHop::mac(frames::CLIENT_MAC),
        ifindex: TEST_INTERFACE,
        // It does not age.
        seen: u32::MAX,
        ..NextHop::default()
    };
    let placed = dataplane
        .place_test_listener(&key, &entry, &looks)
        .and_then(|()| dataplane.place_test_route(&test.clients(), frames::HOST_MAC, hop));
    let result = placed.map_err(SelfTestError::from).and_then(|()| test.run());
    // Also where it was placed in part only.
    let removed = dataplane
        .remove_test_listener(&key, &test.flows())
        .and(dataplane.remove_test_route(&test.clients(), frames::HOST_MAC));
    result?;
    Ok(removed?)
}

/// Tests that a record can be that of a SYN-ACK.
fn plausible(record: &SynAckRecord) -> Result<(), SelfTestError> {
    let implausible = |what: String| Err(SelfTestError::Implausible(what));
    if record.options & option::WSCALE != 0 && record.wscale > MAX_WSCALE {
        return implausible(format!("window scale {}", record.wscale));
    }
    if record.ttl == 0 {
        return implausible("a time to live of 0".to_owned());
    }
    Ok(())
}

/// A test under way.
struct Test<'a> {
    object: &'a mut Object,
    redeemer: &'a mut Redeemer,
    record: SynAckRecord,
    secret: CookieSecret,
    server: Addr,
    now_ns: u64,
}

/// The fields of a SYN-ACK that a program chose.
struct SynAckFields {
    isn: u32,
    timestamp: u32,
}

impl Test<'_> {
    fn run(&mut self) -> Result<(), SelfTestError> {
        for (number, client) in (0..).zip(Client::ALL) {
            // Time goes on by more than two between two tests.
            let isn = ((self.now_ns >> 10) as u32).wrapping_add(number);
            let source = self.source(&client, isn)?;
            let (flow, frame) = self.syn(&client, source, isn);
            let (action, _, frame) = self.object.test_ingress_frame(&frame, 1)?;
            if action != XDP_TX {
                return Err(SelfTestError::NoReply(fate(action)));
            }
            let answer = self.compare(&client, &flow, isn, &frame)?;
            self.check_cookie(&client, &flow, isn, &answer)?;
        }
        Ok(())
    }

    /// Flows of which something may be left in the tables.
    fn flows(&self) -> Vec<FlowKey> {
        frames::sources(&self.server).map(|source| frames::flow(source, self.server)).to_vec()
    }

    /// Its clients, as prefixes.
    fn clients(&self) -> [IpNet; 3] {
        frames::sources(&self.server).map(|source| ip(&source).into())
    }

    fn syn(&self, client: &Client, source: Addr, isn: u32) -> (FlowKey, Vec<u8>) {
        let flow = frames::flow(source, self.server);
        (flow, syn(client, &flow, isn))
    }

    /// Finds an address for documentation that no rule drops.
    fn source(&mut self, client: &Client, isn: u32) -> Result<Addr, SelfTestError> {
        for source in frames::sources(&self.server) {
            let (_, frame) = self.syn(client, source, isn);
            match self.object.test_ingress(&frame, 1)? {
                (XDP_TX, _) => return Ok(source),
                (XDP_DROP, _) => {}
                (action, _) => return Err(SelfTestError::NoReply(fate(action))),
            }
        }
        Err(SelfTestError::NoReply("dropped it, from three addresses for documentation"))
    }

    /// Compares a SYN-ACK with the one that the listener would have sent.
    fn compare(
        &self,
        client: &Client,
        flow: &FlowKey,
        isn: u32,
        frame: &[u8],
    ) -> Result<SynAckFields, SelfTestError> {
        let differs = |what: String| Err(SelfTestError::Differs { client: client.name(), what });
        let Ok(segment) = wire::parse(frame) else {
            return differs("headers that cannot be read".to_owned());
        };
        if let Some(which) = broken_checksum(frame, &segment) {
            return differs(format!("a wrong {which} checksum"));
        }
        let record = &self.record;
        let agreed = self.agreed(client);
        let sent = wire::syn_options(frame, &segment);
        let wscale = if agreed.has(option::WSCALE) { record.wscale } else { 0 };
        let offered = if sent.options & option::WSCALE != 0 { sent.wscale } else { 0 };
        if !frame.starts_with(&[frames::CLIENT_MAC, frames::HOST_MAC].concat()) {
            return differs("other Ethernet addresses".to_owned());
        }
        let numbers: [(&str, u64, u64); 7] = [
            ("time to live", segment.ttl.into(), record.ttl.into()),
            ("flags", segment.flags.into(), (flag::SYN | flag::ACK).into()),
            ("acknowledgement", segment.ack.into(), isn.wrapping_add(1).into()),
            ("window", segment.window.into(), record.window.into()),
            ("MSS", sent.mss.into(), record.mss.into()),
            ("options", sent.options.into(), agreed.options.into()),
            ("window scale", offered.into(), wscale.into()),
        ];
        for (name, found, expected) in numbers {
            if found != expected {
                return differs(format!("{name} {found}, not the listener's {expected}"));
            }
        }
        if segment.flow != flow.reversed() {
            return differs("other addresses than the SYN".to_owned());
        }
        let times = wire::timestamps(frame, &segment);
        let echo = if agreed.has(option::TIMESTAMPS) { client.timestamp() } else { 0 };
        if times.echo != echo {
            return differs(format!("timestamp {} echoed", times.echo));
        }
        Ok(SynAckFields { isn: segment.seq, timestamp: times.value })
    }

    /// The options and values that host and client both support.
    fn agreed(&self, client: &Client) -> Offer {
        let v6 = self.server.as_v4().is_none();
        let options = client.options() & self.record.options;
        Choice::new(&Offer::new(client.mss(), client.wscale(), options), v6).agreed()
    }

    /// Has the client's ACK checked.
    fn check_cookie(
        &mut self,
        client: &Client,
        flow: &FlowKey,
        isn: u32,
        answer: &SynAckFields,
    ) -> Result<(), SelfTestError> {
        let refused = |why| SelfTestError::NotTaken { client: client.name(), why };
        let agreed = self.agreed(client);
        let stamped = agreed.has(option::TIMESTAMPS);
        let handshake = Handshake { flow, client_isn: isn };
        let echo = stamped.then_some(answer.timestamp);
        // Made a moment after `now_ns`, or, on a host that is short of time, some moments.
        let tick = cookie::ticks(self.now_ns);
        let holds = [tick + 64, tick + cookie::SLOT_TICKS]
            .iter()
            .find_map(|tick| cookie::check(&self.secret, &handshake, *tick, answer.isn, echo));
        if holds != Some(agreed) {
            return Err(refused("it does not hold what was agreed"));
        }
        let frame = ack(client, flow, isn, answer.isn, echo);
        self.redeemer.test(&frame, 1)?;
        if !self.redeemer.has_accepted(answer.isn)? {
            return Err(refused("the program that takes cookies back finds none in the ACK"));
        }
        Ok(())
    }
}

fn fate(action: u32) -> &'static str {
    match action {
        XDP_PASS => "passed it to the stack",
        XDP_DROP => "dropped it",
        _ => "gave up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_says_how_to_go_on() {
        let client = "with timestamps";
        for error in [
            SelfTestError::NoRecord,
            SelfTestError::Implausible("window scale 15".to_owned()),
            SelfTestError::NoSecret,
            SelfTestError::Idle("the mode is not enforce"),
            SelfTestError::NoReply(fate(XDP_PASS)),
            SelfTestError::Differs { client, what: "no timestamps".to_owned() },
            SelfTestError::NotTaken { client, why: "it does not hold what was agreed" },
            SelfTestError::Kernel(KernelError::Mismatch("no map sources".to_owned())),
        ] {
            assert!(hint_check::is_named(&error.to_string()), "{error}");
            // Every one there is stands above.
            match error {
                SelfTestError::NoRecord
                | SelfTestError::Implausible(_)
                | SelfTestError::NoSecret
                | SelfTestError::Idle(_)
                | SelfTestError::NoReply(_)
                | SelfTestError::Differs { .. }
                | SelfTestError::NotTaken { .. }
                | SelfTestError::Kernel(_) => {}
            }
        }
    }
}
