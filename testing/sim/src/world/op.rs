//! The events of a world.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tcpguard_common::abi::{Fingerprint, Mask};
use tcpguard_engine::{
    FleetAction, FleetMessage, FleetName, FleetRule, Force, Hint, Mode, Ports, SharedSignature,
};

pub const LISTENERS: u32 = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Op {
    /// Some polls with this traffic at one listener.
    Traffic(Traffic),
    /// Time passes without polls, in seconds.
    Gap(u64),
    /// The kernel's counters start again.
    Restart,
    /// One listener's counters go backwards.
    Backwards(u32),
    /// A listener appears or goes.
    Toggle(u32),
    /// The /28 of this host is protected and nothing else, or nothing is.
    Protect(Option<u8>),
    /// An operator sets the mode.
    Mode(Mode),
    /// An operator blocks a prefix.
    Block {
        /// See [`net`].
        host: u8,
        /// Length of the prefix, at most 32.
        bits: u8,
        /// At most four; none for every port.
        ports: Vec<u16>,
        /// Duration of the block, in s.
        seconds: u64,
        /// Permission to block a protected or very wide prefix too.
        force: Force,
    },
    /// An operator removes a block.
    Unblock {
        /// See [`net`].
        host: u8,
        /// Length of the prefix, at most 32.
        bits: u8,
    },
    /// An operator removes every rule.
    UnblockAll,
    /// An operator imports rules, which replace the operators' other ones.
    Import {
        /// Host, length and ports of each prefix.
        hosts: Vec<(u8, u8, Vec<u16>)>,
        /// Duration of the rules, in s.
        seconds: u64,
        /// True if the operators' other rules stay.
        merge: bool,
        /// Permission to accept protected or very wide prefixes too.
        force: Force,
    },
    /// An operator lets rules stay that wait for it.
    Confirm {
        /// See [`net`].
        host: u8,
        /// Length of the prefix, at most 32.
        bits: u8,
    },
    /// An operator exempts a prefix.
    Allow {
        /// See [`net`].
        host: u8,
        /// Length of the prefix, at most 32.
        bits: u8,
        /// Duration of the exemption, in s.
        seconds: u64,
    },
    /// An operator takes an exemption back.
    Disallow {
        /// See [`net`].
        host: u8,
        /// Length of the prefix, at most 32.
        bits: u8,
    },
    /// The agent is started again; the kernel keeps its rules.
    NewAgent,
    /// The kernel takes no rules from now on, or does again.
    Refuse(bool),
    /// The fleet process sends a message.
    Fleet(FleetMessage),
    /// Unsolicited replies, a poll, and closed ports tried by one source.
    Host {
        /// Number of unsolicited replies.
        unsolicited: u64,
        /// Number of closed ports.
        ports: u32,
    },
}

impl Op {
    /// Enough polls without traffic for every attack to end.
    pub fn calm() -> Self {
        Self::Traffic(Traffic {
            listener: 0,
            polls: 160,
            spoofed: 0,
            real: 0,
            sources: 1,
            shape: Shape::Clients,
            returning: u64::MAX,
            half_open: Some(0),
            queue_drops: 0,
            overflows: 0,
        })
    }
}

/// Other hosts report a flood with the SYNs of [`Shape::Constant`], or with those of the clients.
pub fn hint(of_clients: bool, reporters: u16, ttl_s: u16) -> Op {
    let print = if of_clients { CLIENTS } else { CONSTANT };
    let signature = SharedSignature::of(Mask::NoTtl, &print);
    Op::Fleet(FleetMessage::Hint(Hint { port: 443, signature, reporters, ttl_s }))
}

/// The fleet has a rule over the prefix of `bits` bits, at most 32, around that host.
///
/// # Panics
/// When there are more than four ports.
pub fn fleet_rule(serial: u8, allow: bool, at: (u8, u8), ports: &[u16], lifetime_s: u64) -> Op {
    let (host, bits) = at;
    let ports: &[u16] = if allow { &[] } else { ports };
    Op::Fleet(FleetMessage::Rule(FleetRule {
        name: fleet_name(serial),
        action: if allow { FleetAction::Allow } else { FleetAction::Block },
        net: net(host, bits),
        ports: Ports::new(ports).expect("up to four"),
        lifetime_s,
        reason: "test".to_owned(),
    }))
}

/// The fleet removes a rule.
pub fn fleet_rule_gone(serial: u8) -> Op {
    Op::Fleet(FleetMessage::RuleGone(fleet_name(serial)))
}

/// Two roles have rules.
fn fleet_name(serial: u8) -> FleetName {
    let role = if serial % 4 == 3 { "soc" } else { "ops" };
    FleetName { role: role.to_owned(), serial: serial.into() }
}

/// Fingerprint of the clients' SYNs.
pub(super) const CLIENTS: Fingerprint = Fingerprint {
    options: 3,
    mss: 1460,
    window: 64240,
    ip_id: 0,
    quirks: 0,
    wscale: 0,
    ttl: 57,
    pad: [0; 6],
};
/// Fingerprint of the SYNs of [`Shape::Constant`].
pub(super) const CONSTANT: Fingerprint = Fingerprint {
    options: 0,
    mss: 0,
    window: 512,
    ip_id: 0,
    quirks: 0,
    wscale: 0,
    ttl: 244,
    pad: [0; 6],
};

/// Traffic at one listener.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Index of the listener, below [`LISTENERS`].
    pub listener: u32,
    pub polls: u32,
    /// SYNs a poll that never complete.
    pub spoofed: u64,
    /// Connects a poll that complete.
    pub real: u64,
    /// Number of sources of the SYNs that never complete.
    pub sources: u32,
    /// Fingerprints of the spoofed ones.
    pub shape: Shape,
    /// Of the hits of a rule, one in so many is a retransmission that passes and completes; not 0.
    pub returning: u64,
    /// Entries in the SYN queue, where it can be seen.
    pub half_open: Option<u32>,
    /// SYNs a poll that the kernel drops because that queue is full.
    pub queue_drops: u64,
    /// Handshakes a poll for which there is no room in the accept queue.
    pub overflows: u64,
}

/// Fingerprints of spoofed SYNs.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Constant,
    /// With a random TTL.
    RandomTtl,
    /// With a random window.
    RandomWindow,
    /// SYNs like those of clients, and retransmitted like theirs.
    Clients,
}

/// Risky rules end after a minute unless they are confirmed.
pub const PENDING_CONFIRMATION: Force =
    Force::PendingConfirmation { within: Duration::from_secs(60), caller: None };

/// Addresses of operators' blocks, protected prefixes and one-source floods meet in this network.
pub fn host(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, host)
}

/// The prefix of `bits` bits, at most 32, around that host.
pub fn net(at: u8, bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(host(at), bits)).trunc()
}
