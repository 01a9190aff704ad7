//! The one configuration record that the programs read per packet.

use super::{LATE_POLLS, Pace, Rate, ReplyRate};

/// The single entry of the `CONFIG` map. All-zero means "not configured": everything passes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// [`super::ABI_VERSION`] of the agent that wrote this.
    pub abi_version: u32,
    /// A [`super::Mode`] code.
    pub mode: u8,
    /// Flows, sources and fingerprints are tracked for one flow in `2^sample_shift`, chosen by
    /// keyed hash (see [`crate::fastpath::hash`]).
    pub sample_shift: u8,
    /// SYNs in a tick of [`super::Pace`] up to which a CPU tracks each of that sample, as a power
    /// of two; 0: whatever their number.
    pub tracked_bits: u8,
    /// 1: drop illegal flag combinations in enforce mode; 0: count them only.
    pub drop_illegal: u8,
    /// Boot time in ns at which the agent last said that it lives.
    pub heartbeat_ns: u64,
    /// Time without a heartbeat after which rules no longer drop, in ns.
    pub heartbeat_limit_ns: u64,
    /// Boot times in ns at which the agent last read the counters, the latest first; 0: not yet. See
    /// [`super::Late`].
    pub polled_ns: [u64; LATE_POLLS],
    /// Key of all hashes.
    pub hash_key: HashKey,
    /// Cookie of the network namespace in which handshakes count (`SO_NETNS_COOKIE`).
    pub netns_cookie: u64,
    /// Tables with source rules for every port: [`Self::HOSTS`] and [`Self::NETS`]. SYNs skip the other
    /// look-ups. For the rules for certain ports see [`Self::port_rules`].
    pub source_rules: u8,
    /// 1: the tracepoint counts completed handshakes, and it alone validates clients; 0: third ACKs do.
    pub established_seen: u8,
    /// Bounds of the parser beyond which frames are dropped in enforce mode: bits of [`super::Reason::bound`].
    /// Frames beyond the others are only counted.
    pub drop_beyond_bounds: u8,
    /// 1: the host may have connections that are older than the tables ([`crate::fastpath::PREEXISTING_NS`]),
    /// so the socket table is searched for every SYN that is to be answered with a cookie.
    pub preexisting_connections: u8,
    /// Bits that are set in the mark (`skb->mark`) of segments that return a good cookie made by XDP, so that
    /// the host's packet filter can recognise them; 0: none.
    pub cookie_mark: u32,
    /// Number of the client filter that is asked, one of two; see [`crate::fastpath::clients`].
    pub client_filter: u32,
    /// 1: outgoing packets are not seen, so a third ACK is recognised by its sequence number alone. This is for
    /// captures of one direction. Blind senders can spoof such ACKs, so they validate no client.
    pub one_sided: u8,
    /// Mask codes of the signature rules for every listener, as [`super::ListenerEntry::masks`].
    pub masks: u8,
    /// 1: resets of this host's own stack leave by an interface that is not attached, so that a closed port is
    /// recognised by the SYNs that are sent there; see [`crate::fastpath::closed`].
    pub resets_unseen: u8,
    /// 1: some listener accepts cookies made by XDP, so segments that bring none are marked; see
    /// [`crate::fastpath::no_cookie`].
    pub marks_segments: u8,
    /// Number of the rule set that counts: rules under any other number are not there. See
    /// [`super::SourceV4`].
    pub rule_set: u64,
    /// SYN-ACKs sent by XDP to one network (IPv4 /24, IPv6 /48) on one CPU: its share of the limit. All-zero: no
    /// limit, as for the next.
    pub replies_per_network: ReplyRate,
    /// SYN-ACKs sent by XDP to unvalidated sources on one CPU: its share of the host's total.
    pub replies_per_cpu: Rate,
    /// 1: some listener has [`super::ListenerEntry::OUT_OF_STATE`]; 0 lets every segment skip that stage.
    pub out_of_state: u8,
    /// 1: segments that belong to no connection are dropped in enforce mode; 0: count them only.
    pub drop_out_of_state: u8,
    /// 1: the host's `net.ipv4.tcp_timestamps` is 2, so that the cookies of
    /// [`super::ListenerEntry::KERNEL_COOKIES`] keep window scale, SACK and timestamps of clients
    /// that send timestamps. With any other value of it the kernel would read them back wrong.
    pub kernel_timestamps: u8,
    /// Tables with source rules for certain ports, as [`Self::source_rules`].
    pub port_rules: u8,
    /// Nanoseconds in which each listener may check one cookie that turns out to be wrong:
    /// [`crate::fastpath::FAILED_COOKIE_NS`]. 0: there is no limit.
    pub failed_cookie_ns: u32,
    /// SYNs to closed ports that this host's own stack is given to refuse, on one CPU: its share of the
    /// host's total. All-zero: there is no limit. See [`crate::fastpath::closed`].
    pub closed_ports: Rate,
}

impl Config {
    /// There are source rules in `SOURCE_HOSTS`.
    pub const HOSTS: u8 = 1;
    /// There are source rules in a trie.
    pub const NETS: u8 = 2;

    /// [`Self::tracked_bits`] where so many flows a second are to be tracked at most.
    pub const fn tracked_bits(per_second: u64) -> u8 {
        let bits = Pace::bits(per_second);
        if bits == 0 { 1 } else { bits }
    }

    /// The number of the set that replaces `set`. It differs in one byte, so that a program reads the one or
    /// the other and no mixture, however the record is copied.
    pub const fn rule_set_after(set: u64) -> u64 {
        set & !0xff | set.wrapping_add(1) & 0xff
    }

    /// Takes note that the counters are about to be read, at boot time `at_ns`.
    pub fn note_poll(&mut self, at_ns: u64) {
        self.polled_ns.rotate_right(1);
        self.polled_ns[0] = at_ns;
    }

    /// Returns the number of reads of the counters since boot time `at_ns`, [`LATE_POLLS`] at most.
    #[inline(always)]
    pub fn polls_since(&self, at_ns: u64) -> usize {
        self.polled_ns.iter().filter(|polled| at_ns < **polled).count()
    }
}

/// Secret words, random whenever the tables start empty: an attacker must not be able to aim at a
/// slot. See [`crate::fastpath::hash`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HashKey(pub [u64; 10]);
