//! Every key of the configuration file with its explanation: the thresholds of the engine's own list,
//! and the few other ones.

use serde_json::{Value, json};
use tcpguard_engine::{Threshold, thresholds};

use super::Config;

/// A key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    /// One that is read into the engine's settings.
    Threshold(&'static Threshold),
    Other(&'static Other),
}

/// A key that is no threshold.
#[derive(Debug)]
pub(super) struct Other {
    name: &'static str,
    doc: &'static str,
    /// The value to show where there is no default.
    example: Option<&'static str>,
}

/// Sections in the order of the file, with the text above each. The first is the top level.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", ""),
    ("interfaces", ""),
    (
        "detection",
        "Thresholds that raise and end an alarm. No host needs other values to be protected, and \
         each comment names the case in which one helps. docs/thresholds.md lists all other \
         numbers, which are the same on every host. Try a value on a capture: `tcpguard replay \
         --config FILE CAPTURE`.",
    ),
    ("policy", "Drops and other measures against a flood."),
    ("cookies", ""),
    ("protect", ""),
    ("listeners", ""),
    ("states", "Numbers of connections from which `tcpguard states` reports them."),
    ("control", ""),
    ("metrics", ""),
    ("fleet", "Exchange with other hosts."),
];

const OTHERS: &[Other] = &[
    Other {
        name: "mode",
        doc: "Effect of a matching rule:\n\
              \u{20} \"observe\"  count the packets that would be dropped, drop nothing\n\
              \u{20} \"enforce\"  drop\n\
              \u{20} \"off\"      match nothing\n\
              A mode set with `tcpguard mode` survives restarts and has priority over this line.",
        example: None,
    },
    Other {
        name: "interfaces.names",
        doc: "Interfaces to protect, such as [\"eth0\"]. `tcpguard run -i IFACE` replaces this \
              list.",
        example: None,
    },
    Other {
        name: "interfaces.xdp_mode",
        doc: "XDP mode:\n\
              \u{20} \"auto\"     in the driver if possible, else in the network stack. Status shows which.\n\
              \u{20}            On a veth with a peer that has no native XDP program, in the network stack\n\
              \u{20} \"native\"   in the driver or not at all\n\
              \u{20} \"generic\"  in the network stack: works everywhere, costs more per packet",
        example: None,
    },
    Other {
        name: "policy.drop_illegal_flags",
        doc: "Drop segments with flag combinations that no TCP sends (SYN with FIN, no flag at \
              all, …) in mode enforce. false: only count them.",
        example: None,
    },
    Other {
        name: "policy.drop_out_of_state",
        doc: "Drop out-of-state segments (ACK, FIN and RST that belong to no connection) in mode \
              enforce, under a SYN flood or while a listener sends many resets. The kernel's own \
              table of connections decides. false: only count them.",
        example: None,
    },
    Other {
        name: "policy.beyond_bounds",
        doc: "Frames with headers beyond the parser's bounds, in which the kernel may find a SYN: \
              three VLAN tags, nine IPv6 extension headers, a TCP header in a second fragment or \
              far into the frame. Hosts rarely get such frames. They are dropped in mode enforce \
              only, from any source. No stack sends fragments that end before the TCP flags. \
              Frames with too many VLAN tags never count as a flood, because no router forwards \
              them.\n\
              \u{20} \"auto\"     drop frames that no stack sends, and the others while they are a flood\n\
              \u{20} \"pass\"     count them, by reason\n\
              \u{20} \"drop\"     drop them all",
        example: None,
    },
    Other {
        name: "cookies.backend",
        doc: "Maker of SYN cookies: \"own\" (tcpguard, from Linux 6.9 on), \"kernel_helper\" (the \
              kernel for tcpguard, with tcp_syncookies=2 meanwhile), \"kernel\" (the kernel \
              alone), or \"auto\": the first of these that works.",
        example: None,
    },
    Other {
        name: "cookies.firewall",
        doc: "SYN cookies at listeners with a packet-filter rule that depends on the SYN. The \
              filter does not see SYNs that cookies answer. \"refuse\": the agent sends no cookies \
              there. \"allow\": it sends cookies nevertheless. Rules that deny or limit SYNs are \
              then bypassed, and rules that refuse connections without a SYN cut off your \
              clients. `tcpguard doctor` names the rules.",
        example: None,
    },
    Other {
        name: "cookies.mark",
        doc: "Bits that are set in the mark (fwmark) of segments with a cookie of tcpguard's own, \
              such as 0x10000000. Your packet filter can accept them by it: `tcpguard doctor` \
              prints the rules. Choose bits that nothing else uses, because policy routing and \
              VPNs read marks too. 0: none. (0 to 4294967295)",
        example: None,
    },
    Other {
        name: "cookies.replies_per_network",
        doc: "SYN cookies a second for each network of sources (IPv4 /24, IPv6 /48), at most 256 \
              at once. The limit protects the real owners of spoofed addresses from the replies. \
              It does not hold for validated clients, however many connections come from one \
              address, if they complete them. In a flood, SYNs beyond it go to the stack, as many \
              as its queue holds. Raise it if many of your new clients share a carrier's /24. (1 \
              to 1000000)",
        example: None,
    },
    Other {
        name: "cookies.replies_total",
        doc: "The same in all. Lower it if your uplink or a device before it cannot carry as many \
              SYN-ACKs. (1000 to 100000000)",
        example: None,
    },
    Other {
        name: "protect.prefixes",
        doc: "Prefixes from which no source rule drops SYNs, such as [\"192.0.2.0/24\"], and no \
              signature rule or limit those of a client: 20 a second of each address, as many of \
              all together as the queue of the listener holds. The host's own addresses, its \
              gateways and resolvers are always protected from source rules.",
        example: None,
    },
    Other {
        name: "protect.ssh_ports",
        doc: "Local ports with protected peers while these are connected and logged in, so that no \
              rule locks you out. A peer counts at once if systemd-logind knows its session, else \
              after 130 s.",
        example: None,
    },
    Other {
        name: "listeners.ignore_ports",
        doc: "Ports at which listeners are not monitored.",
        example: None,
    },
    Other {
        name: "states.syn_recv",
        doc: "Half-open connections up to which nothing is reported. A host with clients a tenth \
              of a second away has as many at 150 new connections a second. Raise it if your host \
              is busier. (1 to 100000000)",
        example: None,
    },
    Other {
        name: "states.established_warning",
        doc: "Open connections from which tcpguard reports a warning. Set it if you know the \
              host's capacity. Default: none, because the descriptors, memory and ports of \
              connections are judged against their limits. (1 to 100000000)",
        example: Some("50000"),
    },
    Other {
        name: "states.established_critical",
        doc: "Open connections from which the report is critical, never fewer than for the \
              warning. Set it to the number at which you want to be paged. Default: none. (1 to \
              100000000)",
        example: Some("80000"),
    },
    Other {
        name: "control.group",
        doc: "Unix group with read access to the status, such as \"adm\". Changes always need \
              root. Default: none.",
        example: Some("\"adm\""),
    },
    Other {
        name: "metrics.listen",
        doc: "Loopback address and port of the metrics, served by HTTP at /metrics to every user \
              of this host. The service may use TCP only with a drop-in: docs/metrics.md. \
              Default: none. The socket /run/tcpguard/metrics.sock always exists.",
        example: Some("\"127.0.0.1:9469\""),
    },
    Other {
        name: "fleet.listen",
        doc: "Let `tcpguard-fleet` connect, by the socket /run/tcpguard/fleet.sock. It learns of \
              the attacks on this host, and sends hints of other hosts and the rules of the \
              fleet's operators. No hint drops a SYN by itself, and every operator of this host \
              has priority over the fleet: docs/threat-model.md.",
        example: None,
    },
    Other {
        name: "fleet.group",
        doc: "Unix group that may read and write that socket.",
        example: None,
    },
];

/// A block that may stand several times, each time for another one.
pub(super) struct Block {
    /// Its name as that of a section, between brackets of its own: `[listener]`.
    pub name: &'static str,
    /// The text above it.
    pub intro: &'static str,
    keys: &'static [BlockKey],
}

/// A key in a block.
struct BlockKey {
    name: &'static str,
    doc: &'static str,
    example: &'static str,
}

/// Blocks in the order of the file, after all sections.
pub(super) const BLOCKS: &[Block] = &[
    Block {
        name: "[interface]",
        intro: "Settings of one interface. Such a block can be repeated, once for each interface. \
                It does not attach tcpguard to an interface that is not named above.",
        keys: &[
            BlockKey { name: "name", doc: "Name of the interface. Required.", example: "\"eth1\"" },
            BlockKey {
                name: "xdp_mode",
                doc: "XDP mode of this interface, in place of interfaces.xdp_mode.",
                example: "\"generic\"",
            },
            BlockKey {
                name: "next_program",
                doc: "XDP program that gets the packets that tcpguard passes on this interface, in \
                      place of the network stack. Pin it in /sys/fs/bpf/tcpguard/next, and name \
                      it here. It must be declared xdp.frags (xdp before Linux 5.18). Needs \
                      the BPF JIT. Default: none.",
                example: "\"balancer\"",
            },
        ],
    },
    Block {
        name: "[listener]",
        intro: "Settings of one listener. Such a block can be repeated, once for each listener. \
                Other settings are those of the host.",
        keys: &[
            BlockKey {
                name: "at",
                doc: "A port, or an address to which a socket is bound and a port, such as \
                      \"203.0.113.10:443\". A block with an address overrides that of its port \
                      alone, key by key. Required.",
                example: "\":443\"",
            },
            BlockKey {
                name: "ignore",
                doc: "Do not monitor it: nothing is detected or mitigated there. With false it is \
                      monitored even if listeners.ignore_ports has its port.",
                example: "false",
            },
            BlockKey {
                name: "mode",
                doc: "Mode of the listener, if it is milder than that of the host. \"observe\" \
                      reports attacks and the mitigations that would start, and \"off\" only \
                      attacks. Sources that are blocked for the whole host are blocked there too.",
                example: "\"observe\"",
            },
            BlockKey {
                name: "signature",
                doc: "false: make no rules against signatures of attacks on it.",
                example: "true",
            },
            BlockKey {
                name: "source",
                doc: "false: make no rules against sources of attacks on it. Sources that attack \
                      other listeners are still blocked for the whole host.",
                example: "true",
            },
            BlockKey {
                name: "cookies",
                doc: "false: send no SYN cookies for it, unless you order them with `tcpguard \
                      mitigation`. The same applies to the next two keys.",
                example: "true",
            },
            BlockKey {
                name: "budget",
                doc: "false: never limit the rate of SYNs of sources that are not validated.",
                example: "true",
            },
            BlockKey {
                name: "out_of_state",
                doc: "false: do not look for segments that belong to no connection.",
                example: "true",
            },
        ],
    },
];

impl Block {
    /// Its keys: name, explanation, and a value that it may have.
    pub(super) fn keys(&self) -> Vec<(&'static str, String, String)> {
        let explained = |key: &BlockKey| (key.name, key.doc.to_owned(), key.example.to_owned());
        self.keys.iter().map(explained).collect()
    }
}

/// The value of a threshold, as the file writes it.
pub(super) fn number(threshold: &Threshold, value: f64) -> Value {
    if threshold.unit.is_whole() { json!(value as u64) } else { json!(value) }
}

/// The value of a key in the sections of a configuration.
pub(super) fn at<'v>(sections: &'v Value, key: &str) -> &'v Value {
    sections.pointer(&format!("/{}", key.replace('.', "/"))).unwrap_or(&Value::Null)
}

/// Every key, section by section.
pub(super) fn keys() -> impl Iterator<Item = Key> {
    SECTIONS.iter().flat_map(|(section, _)| keys_of(section))
}

/// The keys of one section: those that are no thresholds first.
pub(super) fn keys_of(section: &str) -> impl Iterator<Item = Key> {
    let others = OTHERS.iter().map(Key::Other);
    others.chain(thresholds().map(Key::Threshold)).filter(move |key| key.section() == Some(section))
}

impl Key {
    /// Its name with its section, `detection.clear_s`; `None` for a threshold that no file can change.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Threshold(threshold) => threshold.key,
            Self::Other(other) => Some(other.name),
        }
    }

    /// Returns whether an operator may know it as `name`: without its section, or by the name in
    /// docs/detection.md.
    pub(super) fn is_called(self, name: &str) -> bool {
        let key = self.name().and_then(|key| key.rsplit('.').next());
        key == Some(name) || matches!(self, Self::Threshold(threshold) if threshold.name == name)
    }

    fn section(self) -> Option<&'static str> {
        self.name().map(|name| name.split_once('.').map_or("", |(section, _)| section))
    }

    /// Its purpose, and the values that it may have.
    pub(super) fn doc(self) -> String {
        match self {
            Self::Threshold(threshold) => {
                let most = threshold.in_words(threshold.most);
                format!("{} ({} to {most})", threshold.doc, threshold.least)
            }
            Self::Other(other) => other.doc.to_owned(),
        }
    }

    /// Its value in `config`, of which these are the `sections`, as the file writes it.
    pub(super) fn value(self, config: &Config, sections: &Value) -> Value {
        match self {
            Self::Threshold(threshold) => number(threshold, threshold.get(&config.settings)),
            Self::Other(other) => at(sections, other.name).clone(),
        }
    }

    /// The value that a file shows where the value is `default`.
    pub(super) fn example(self, default: &Value) -> String {
        match self {
            Self::Other(Other { example: Some(example), .. }) => (*example).to_owned(),
            _ => default.to_string(),
        }
    }
}
