//! Matches and targets of iptables, in iptables-legacy and as nf_tables carries them for iptables-nft
//! (`include/uapi/linux/netfilter`):
//! `xt_tcpudp.h`, `xt_conntrack.h`, `xt_state.h`, `xt_multiport.h`, `xt_mark.h`, `xt_tcpmss.h`, `xt_TCPMSS.h`,
//! `xt_TCPOPTSTRIP.h`, `nf_nat.h`.

use std::net::IpAddr;

use super::parse::{FLAGS, is_among, is_of_syns, on_option_of_syns, stripping, unknown};
use super::{Condition, Effect, Rule, Source, Target, Test};

/// The source port in the TCP header.
const SOURCE_PORT: Source = Source::Transport { offset: 0, len: 2 };
/// The destination port in the TCP header.
const PORT: Source = Source::Transport { offset: 2, len: 2 };
/// Ports that `multiport` can hold.
const PORTS: usize = 15;
/// Matches that do not make conntrack follow connections.
const UNTRACKED_MATCHES: &str = "addrtype bpf cgroup comment cpu devgroup dscp ecn hashlimit hl \
    icmp icmp6 iprange length limit mac mark multiport owner physdev pkttype policy quota recent \
    rpfilter set socket statistic string tcp tcpmss time tos ttl u32 udp";
/// Targets that do not.
const UNTRACKED_TARGETS: &str = "AUDIT CHECKSUM CLASSIFY DSCP ECN HL HMARK IDLETIMER LED LOG MARK \
    NFLOG NFQUEUE NOTRACK RATEEST REJECT SECMARK SET TCPMSS TCPOPTSTRIP TEE TOS TPROXY TRACE TTL \
    ULOG";
/// The size in a `TCPMSS` target that stands for the path's.
const BY_PATH_MTU: u16 = u16::MAX;

pub(super) fn short(info: &[u8], at: usize) -> Option<u16> {
    info.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn long(info: &[u8], at: usize) -> Option<[u8; 4]> {
    info.get(at..)?.first_chunk().copied()
}

/// Reads a match into the rule.
pub(super) fn matched(name: &str, revision: u32, info: &[u8], rule: &mut Rule) {
    rule.tracks |= !is_among(UNTRACKED_MATCHES, name);
    let known = match name {
        "tcp" => tcp(info, rule),
        "conntrack" => conntrack(revision, info, rule),
        "state" => long(info, 0).map(|states| rule.conditions.push(state(states, false))),
        "multiport" => multiport(revision, info, rule),
        "tcpmss" => tcpmss(info, rule),
        "mark" => mark(Source::Mark, info, rule),
        "connmark" => mark(Source::CtMark, info, rule),
        "comment" => Some(()),
        // They remember packets, whatever the verdict is.
        "recent" | "hashlimit" | "limit" | "connlimit" | "quota" => {
            rule.effects.push(Effect::Decides(name.to_owned()));
            None
        }
        // It finds the socket that the packet already has, which one of a cookie has too early.
        "socket" => {
            rule.effects.push(Effect::Steers(name.to_owned()));
            None
        }
        _ => None,
    };
    if known.is_none() {
        rule.conditions.push(unknown(name));
    }
}

/// `struct xt_tcp`: the ranges of source and destination ports, in the host's byte order, the kind of a
/// TCP option (0: none), the mask of flags, the flags, and the bits of the inverted fields.
fn tcp(info: &[u8], rule: &mut Rule) -> Option<()> {
    const INVERTED_SOURCE: u8 = 1;
    const INVERTED_DESTINATION: u8 = 2;
    const INVERTED_FLAGS: u8 = 4;
    const INVERTED_OPTION: u8 = 8;
    let [option, mask, flags, inverted] = long(info, 8)?;
    for (at, source, bit) in [(0, SOURCE_PORT, INVERTED_SOURCE), (4, PORT, INVERTED_DESTINATION)] {
        let (first, last) = (short(info, at)?, short(info, at + 2)?);
        if (first, last) != (0, u16::MAX) {
            let (from, to) = (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
            let test = Test::Range { from, to, inverted: inverted & bit != 0 };
            rule.conditions.push(Condition { source, mask: vec![], xor: vec![], test });
        }
    }
    if mask != 0 {
        let test = match inverted & INVERTED_FLAGS {
            0 => Test::Equal(vec![flags]),
            _ => Test::Unequal(vec![flags]),
        };
        rule.conditions.push(Condition { source: FLAGS, mask: vec![mask], xor: vec![0], test });
    }
    if is_of_syns(option) {
        rule.conditions.push(on_option_of_syns(inverted & INVERTED_OPTION != 0));
    }
    if option != 0 {
        // Whether a packet has the option is not known.
        rule.conditions.push(unknown("tcp option"));
    }
    Some(())
}

/// `struct xt_conntrack_mtinfo3` and those before it: the fields that are matched, the fields that are
/// inverted, and the states, behind addresses and ports.
fn conntrack(revision: u32, info: &[u8], rule: &mut Rule) -> Option<()> {
    const STATE: u16 = 1;
    let (matched, inverted) = (short(info, 146)?, short(info, 148)?);
    let states = match revision {
        1 => u16::from(*info.get(150)?),
        2 | 3 => short(info, 150)?,
        _ => return None,
    };
    if matched & STATE != 0 {
        let states = u32::from(states).to_ne_bytes();
        rule.conditions.push(state(states, inverted & STATE != 0));
    }
    // Addresses, ports or a direction beside it.
    (matched == STATE).then_some(())
}

/// The states have the numbers that `ct state` has.
fn state(states: [u8; 4], inverted: bool) -> Condition {
    let none = vec![0; 4];
    let test = if inverted { Test::Equal(none) } else { Test::Unequal(none) };
    Condition { source: Source::CtState, mask: states.to_vec(), xor: vec![0; 4], test }
}

/// `struct xt_multiport_v1`. Only one port or range can be said by conditions that must all hold; of
/// several it is said whether a port is within them from the first to the last.
fn multiport(revision: u32, info: &[u8], rule: &mut Rule) -> Option<()> {
    const DESTINATION: u8 = 1;
    let (kind, count) = (*info.first()?, usize::from(*info.get(1)?));
    let inverted = *info.get(2 + 3 * PORTS)? != 0;
    if revision != 1 || kind != DESTINATION || inverted || count > PORTS {
        return None;
    }
    let ports: Option<Vec<u16>> = (0..count).map(|one| short(info, 2 + 2 * one)).collect();
    let ports = ports?;
    let (from, to) = (ports.iter().min()?, ports.iter().max()?);
    let (from, to) = (from.to_be_bytes().to_vec(), to.to_be_bytes().to_vec());
    let test = Test::Range { from, to, inverted: false };
    rule.conditions.push(Condition { source: PORT, mask: vec![], xor: vec![], test });
    // Between the first and the last there may be others.
    (ports.len() == 1).then_some(())
}

/// `struct xt_tcpmss_match_info`: the least size and the greatest, and whether it is inverted. An
/// inverted match holds for packets without such an option.
fn tcpmss(info: &[u8], rule: &mut Rule) -> Option<()> {
    rule.conditions.push(on_option_of_syns(*info.get(4)? != 0));
    // Which size a SYN has is not known.
    None
}

/// `struct xt_mark_mtinfo1`, and `struct xt_connmark_mtinfo1`.
fn mark(source: Source, info: &[u8], rule: &mut Rule) -> Option<()> {
    let (mark, mask) = (long(info, 0)?.to_vec(), long(info, 4)?.to_vec());
    let test = match *info.get(8)? {
        0 => Test::Equal(mark),
        _ => Test::Unequal(mark),
    };
    rule.conditions.push(Condition { source, mask, xor: vec![0; 4], test });
    Some(())
}

/// The first destination of `struct nf_nat_ipv4_multi_range_compat`, or of `struct nf_nat_range` or
/// `nf_nat_range2`, which are longer and hold addresses of both IP versions.
fn destination(info: &[u8]) -> Option<Target> {
    const ADDRESSES: u32 = 1;
    const PORTS: u32 = 2;
    const SHORT: usize = 36;
    let (flags_at, addr_at, port_at) = if info.len() < SHORT { (4, 8, 16) } else { (0, 4, 36) };
    let flags = u32::from_ne_bytes(long(info, flags_at)?);
    let v4 = IpAddr::from(long(info, addr_at)?);
    let v6 = info.get(addr_at..).and_then(|it| it.first_chunk::<16>()).filter(|_| addr_at == 4);
    // An IPv4 address takes the first four bytes.
    let v6 = v6.filter(|addr| addr[4..].iter().any(|byte| *byte != 0));
    let addr = v6.map_or(v4, |addr| IpAddr::from(*addr));
    let port = info.get(port_at..).and_then(|it| it.first_chunk()).copied().map(u16::from_be_bytes);
    Some(Target {
        addr: (flags & ADDRESSES != 0).then_some(addr),
        port: port.filter(|_| flags & PORTS != 0),
    })
}

/// Reads a target into the rule.
pub(super) fn target(name: &str, info: &[u8], rule: &mut Rule) {
    let called = || name.to_owned();
    rule.tracks |= !is_among(UNTRACKED_TARGETS, name);
    rule.effects.push(match name {
        "SYNPROXY" => Effect::Synproxy,
        "TPROXY" => Effect::Steers(called()),
        "DNAT" => Effect::Translates(called(), destination(info).filter(|it| it.addr.is_some())),
        "REDIRECT" => Effect::Translates(called(), destination(info)),
        "SNAT" | "NETMAP" | "MASQUERADE" => Effect::Translates(called(), None),
        // `struct xt_tcpmss_info`.
        "TCPMSS" => Effect::Clamps(short(info, 0).filter(|size| *size != BY_PATH_MTU)),
        // `struct xt_tcpoptstrip_target_info`: a bit for each kind.
        "TCPOPTSTRIP" => {
            let has = |kind: &u8| {
                let byte = usize::from(kind / 32) * 4;
                let word = long(info, byte).map_or(u32::MAX, u32::from_ne_bytes);
                word & 1 << (kind % 32) != 0
            };
            stripping((0..=u8::MAX).filter(has), name).unwrap_or(Effect::Harmless)
        }
        "MARK" | "CONNMARK" | "CONNSECMARK" | "SECMARK" | "CT" | "NOTRACK" | "CLASSIFY"
        | "DSCP" | "TOS" | "ECN" | "HL" | "TTL" | "HMARK" => Effect::Changes(called()),
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT" | "CHECKSUM" | "SET" | "RATEEST"
        | "IDLETIMER" | "LED" => Effect::Harmless,
        _ => Effect::Decides(called()),
    });
}
