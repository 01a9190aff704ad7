//! Every key of the configuration file with its explanation: the thresholds of the engine's own list,
//! and the few other ones.

use serde_json::{Value, json};
use tcpguard_engine::{Threshold, thresholds};

use super::Config;
use super::value::{BEYOND_BOUNDS, COOKIE_BACKENDS, COOKIE_FIREWALL, MODES, XDP_MODES};

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
    value: fn(&Config) -> Value,
}

/// Sections in the order of the file, with the text above each. The first is the top level.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", ""),
    ("interfaces", ""),
    (
        "detection",
        "What raises an alarm, and what ends it. No host needs other values to be protected; each \
         comment says where one helps. All other numbers are the same everywhere: docs/thresholds.md. \
         Try a value on a capture: `tcpguard replay --config FILE CAPTURE`.",
    ),
    ("policy", "What is dropped, and what else is done about a flood."),
    ("cookies", ""),
    ("protect", ""),
    ("listeners", ""),
    ("states", "From when on `tcpguard states` finds numbers of connections unusual."),
    ("control", ""),
    ("metrics", ""),
];

const OTHERS: &[Other] = &[
    Other {
        name: "mode",
        doc: "What happens when a rule matches:\n\
              \u{20} \"observe\"  count what would be dropped, drop nothing\n\
              \u{20} \"enforce\"  drop\n\
              \u{20} \"off\"      match nothing\n\
              A mode set with `tcpguard mode` holds over restarts and wins over this line.",
        example: None,
        value: |config| named(&MODES, config.mode),
    },
    Other {
        name: "interfaces.names",
        doc: "Interfaces to guard, such as [\"eth0\"]. `tcpguard run -i IFACE` takes the place of \
              this list.",
        example: None,
        value: |config| json!(config.interfaces),
    },
    Other {
        name: "interfaces.xdp_mode",
        doc: "How to attach:\n\
              \u{20} \"auto\"     in the driver where it can, else in the network stack, and status says which\n\
              \u{20} \"native\"   in the driver or not at all\n\
              \u{20} \"generic\"  in the network stack: works everywhere, costs more per packet",
        example: None,
        value: |config| named(&XDP_MODES, config.xdp_mode),
    },
    Other {
        name: "policy.drop_illegal_flags",
        doc: "Drop segments with flag combinations that no TCP sends (SYN with FIN, no flag at all, \
              …) in enforce mode; false: count them only.",
        example: None,
        value: |config| json!(config.drop_illegal_flags),
    },
    Other {
        name: "policy.drop_out_of_state",
        doc: "Drop ACK, FIN and RST segments that belong to no connection, in enforce mode and while \
              they are looked for: under a SYN flood, or when a listener sends many resets. They are \
              told by the kernel's own table of connections; false: count them only.",
        example: None,
        value: |config| json!(config.drop_out_of_state),
    },
    Other {
        name: "policy.beyond_bounds",
        doc: "Frames whose headers go on beyond what the guard reads, and in which the kernel may find \
              a SYN: three VLAN tags, nine IPv6 extension headers, a TCP header in a second fragment \
              or far into the frame. Hosts rarely get such frames. Nothing is dropped but in enforce mode, \
              whoever a frame is from. Fragments that end before the TCP flags are what no stack sends; \
              frames with too many VLAN tags are nobody's flood, because no router passes them on.\n\
              \u{20} \"auto\"     drop what no stack sends, and the others while they are a flood\n\
              \u{20} \"pass\"     count them, by reason\n\
              \u{20} \"drop\"     drop them all",
        example: None,
        value: |config| named(&BEYOND_BOUNDS, config.beyond_bounds),
    },
    Other {
        name: "cookies.backend",
        doc: "Who makes cookies: \"own\" (the guard; Linux 6.9), \"kernel_helper\" (the kernel on its \
              behalf, with tcp_syncookies=2 meanwhile), \"kernel\" (the kernel alone), or \"auto\": \
              the first of these that works.",
        example: None,
        value: |config| named(&COOKIE_BACKENDS, config.cookie_backend),
    },
    Other {
        name: "cookies.firewall",
        doc: "What happens where a rule of the host's packet filter depends on seeing the SYN, which it \
              does not when SYNs are answered with cookies: \"refuse\" (no cookies of the guard's at the \
              listeners that the rule concerns), or \"allow\" (cookies all the same; rules that deny or \
              limit SYNs are bypassed then, and rules that refuse connections without a SYN shut \
              clients out). `tcpguard doctor` names the rules.",
        example: None,
        value: |config| named(&COOKIE_FIREWALL, config.cookie_firewall),
    },
    Other {
        name: "cookies.mark",
        doc: "Bits that are set in the mark (fwmark) of segments that bring back a cookie of the guard's \
              own, such as 0x10000000, so that the packet filter can accept them: `tcpguard doctor` \
              prints the rules. Take bits that nothing else uses: policy routing and VPNs read marks \
              too. 0: none. (0 to 4294967295)",
        example: None,
        value: |config| json!(config.cookie_mark),
    },
    Other {
        name: "cookies.replies_per_network",
        doc: "SYNs a second that are answered with cookies in place of the listener, per network that \
              they claim to be from (IPv4 /24, IPv6 /48), twice as many at once: their addresses may \
              be forged, and the answers hit whoever has them. Known clients are answered in any \
              case. Raise it where many new clients share a carrier's /24. (1 to 1000000)",
        example: None,
        value: |config| json!(config.replies_per_network),
    },
    Other {
        name: "cookies.replies_total",
        doc: "The same in all. Beyond it only SYNs that come again are answered. Lower it where the uplink \
              or a device before it cannot carry as many SYN-ACKs. (1000 to 100000000)",
        example: None,
        value: |config| json!(config.replies_total),
    },
    Other {
        name: "protect.prefixes",
        doc: "Prefixes whose SYNs no rule on sources or signatures drops, such as [\"192.0.2.0/24\"]. \
              The host's own addresses, its gateways and resolvers are always protected.",
        example: None,
        value: |config| {
            json!(config.protect_prefixes.iter().map(ToString::to_string).collect::<Vec<_>>())
        },
    },
    Other {
        name: "protect.ssh_ports",
        doc: "Local ports whose connected peers are protected too, so that no rule locks an \
              administrator out.",
        example: None,
        value: |config| json!(config.ssh_ports),
    },
    Other {
        name: "listeners.ignore_ports",
        doc: "Ports on which listeners are not followed.",
        example: None,
        value: |config| json!(config.ignore_ports),
    },
    Other {
        name: "states.syn_recv",
        doc: "Half-open connections up to which nothing is unusual. A host whose clients answer within \
              a tenth of a second has as many at 150 new connections a second. Raise it for a busier host. (1 to 100000000)",
        example: None,
        value: |config| json!(config.states.syn_recv),
    },
    Other {
        name: "states.established_warning",
        doc: "Open connections from which on it is a warning. Set it where the host's capacity is known. \
              Default: none; what connections use up (descriptors, memory, ports) is judged against its \
              limits. (1 to 100000000)",
        example: Some("50000"),
        value: |config| json!(config.states.established_warning),
    },
    Other {
        name: "states.established_critical",
        doc: "Open connections from which on it is critical; never fewer. Set it to the number at which \
              to page somebody. Default: none. (1 to 100000000)",
        example: Some("80000"),
        value: |config| json!(config.states.established_critical),
    },
    Other {
        name: "control.group",
        doc: "Unix group whose members may read the status without being root, such as \"adm\". \
              Changes always need root. Default: none.",
        example: Some("\"adm\""),
        value: |config| json!(config.group),
    },
    Other {
        name: "metrics.listen",
        doc: "Loopback address and port on which metrics are served by HTTP, at /metrics, to anybody \
              on this host. The service may not use TCP unless a drop-in lets it: docs/metrics.md. \
              Default: none; the socket /run/tcpguard/metrics.sock is always there.",
        example: Some("\"127.0.0.1:9469\""),
        value: |config| json!(config.metrics_listen),
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
        intro: "What is different at one interface. Such a block may stand several times, once for each \
                interface; it does not make the guard protect one that is not named above.",
        keys: &[
            BlockKey { name: "name", doc: "Which interface. Not optional.", example: "\"eth1\"" },
            BlockKey {
                name: "xdp_mode",
                doc: "How to attach to it, in place of interfaces.xdp_mode.",
                example: "\"generic\"",
            },
        ],
    },
    Block {
        name: "[listener]",
        intro: "What is different at one listener. Such a block may stand several times, once for each \
                place. What it does not say is as everywhere.",
        keys: &[
            BlockKey {
                name: "at",
                doc: "Which: a port, or an address that a socket is bound to and a port, such as \
                      \"203.0.113.10:443\". What is said of an address goes before what is said of its \
                      port alone, key by key. Not optional.",
                example: "\":443\"",
            },
            BlockKey {
                name: "ignore",
                doc: "Do not follow it at all: nothing is found there, and nothing done. With false it is \
                      followed although listeners.ignore_ports has its port.",
                example: "false",
            },
            BlockKey {
                name: "mode",
                doc: "The mode there, if it is milder than the guard's own: \"observe\" tells what would \
                      be done, \"off\" only that there is an attack. Sources that are blocked for the \
                      whole host are blocked there too.",
                example: "\"observe\"",
            },
            BlockKey {
                name: "cookies",
                doc: "false: never answer SYNs with cookies in its place, but on an operator's word \
                      (`tcpguard mitigation`). The same holds for the two that follow.",
                example: "true",
            },
            BlockKey {
                name: "overload",
                doc: "false: never let only validated clients and repeated SYNs through.",
                example: "true",
            },
            BlockKey {
                name: "budget",
                doc: "false: never limit the SYNs of clients that are not validated.",
                example: "true",
            },
        ],
    },
];

/// Returns whether blocks have this name.
pub(super) fn is_block(name: &str) -> bool {
    BLOCKS.iter().any(|block| block.name.trim_matches(['[', ']']) == name)
}

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

pub(super) fn named<T: PartialEq>(names: &[(&str, T)], value: T) -> Value {
    json!(names.iter().find(|(_, named)| *named == value).map(|(name, _)| *name))
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

    /// Its value in `config`, as the file writes it.
    pub(super) fn value(self, config: &Config) -> Value {
        match self {
            Self::Threshold(threshold) => number(threshold, threshold.get(&config.settings)),
            Self::Other(other) => (other.value)(config),
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
