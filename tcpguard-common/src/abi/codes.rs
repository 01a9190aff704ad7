//! The code lists: the fates of a packet, and the small enumerations that maps hold as bytes. Every
//! list exists only here.

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal, $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $value,)+ }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name used in text, JSON and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value behind a byte read from a map, or `None` for an unknown one.
            #[inline(always)]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($value => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    /// The fate of a packet, with its cause. Each packet gets exactly one.
    Reason {
        /// Not TCP over IPv4 or IPv6 (ARP, UDP, ICMP, another protocol): tcpguard does not judge it.
        NotTcp = 0, "not_tcp";
        /// More VLAN tags than the parser follows.
        VlanDepth = 1, "vlan_depth";
        /// More IPv6 extension headers than the parser follows.
        Ipv6Depth = 2, "ipv6_depth";
        /// A later fragment: it carries no TCP header.
        Fragment = 3, "fragment";
        /// A first fragment too short to hold the TCP flags.
        FragmentShort = 4, "fragment_short";
        /// Headers that contradict the frame or themselves; the stack refuses them too.
        Malformed = 5, "malformed";
        /// The host's configuration is missing or of another layout version: everything passes.
        Unconfigured = 6, "unconfigured";
        /// A SYN for an address and port on which nothing listens.
        NoListener = 7, "no_listener";
        /// A SYN let through to its listener.
        Syn = 8, "syn";
        /// A SYN that a signature rule matched, let through because it was retransmitted as a client's is.
        SynRetransmitted = 9, "syn_retransmitted";
        /// A SYN that a rule matched, let through because its source completed a handshake before.
        SynValidated = 10, "syn_validated";
        /// A SYN that a rule matched, let through because its source is protected or allowlisted.
        SynExempt = 11, "syn_exempt";
        /// A SYN that a source rule would have dropped in enforce mode.
        WouldDropSource = 12, "would_drop_source";
        /// A SYN that a signature rule would have dropped in enforce mode.
        WouldDropSignature = 13, "would_drop_signature";
        /// A SYN that a rule matched while no agent was alive to answer for the rule.
        AgentGone = 14, "agent_gone";
        /// An inbound SYN-ACK.
        SynAck = 15, "syn_ack";
        /// The third packet of a handshake, acknowledging the listener's sequence number.
        HandshakeAck = 16, "handshake_ack";
        /// A legal segment of a connection: ACK, data or FIN.
        Segment = 17, "segment";
        /// A reset.
        Rst = 18, "rst";
        /// A flag combination that no TCP sends, let through because the policy only counts.
        Illegal = 19, "illegal_flags";
        /// Dropped: a SYN from a blocked source or prefix.
        DropSource = 20, "drop_source";
        /// Dropped: a SYN with a flood's signature.
        DropSignature = 21, "drop_signature";
        /// Dropped: a flag combination that no TCP sends.
        DropIllegal = 22, "drop_illegal_flags";
        /// Headers that reach further into the frame than the parser does.
        HeaderDepth = 23, "header_depth";
        /// Answered: a SYN to a listener in cookie mode.
        Cookie = 24, "cookie";
        /// Dropped: a SYN of a client that is not validated, with a reply beyond the limit of the CPU, its
        /// share of the total.
        DropReplyLimit = 25, "drop_reply_limit";
        /// Dropped: a SYN of a client that is not validated, beyond the budget of its listener.
        DropBudget = 26, "drop_budget";
        /// Dropped: a SYN with a reply beyond the limit of the network of its source address, or to the Ethernet
        /// address of a group.
        DropReflection = 27, "drop_reflection";
        /// A segment that belongs to no connection, let through because the policy only counts.
        OutOfState = 28, "out_of_state";
        /// Dropped: a segment that belongs to no connection.
        DropOutOfState = 29, "drop_out_of_state";
        /// Dropped: a frame with headers beyond one of the parser's bounds.
        DropBeyondBounds = 30, "drop_beyond_bounds";
        /// Dropped: a SYN to a port at which nothing listens, beyond those that the stack may refuse.
        DropClosedPort = 31, "drop_closed_port";
    }
}

codes! {
    /// The reason for which a SYN gets no cookie although cookies are sent at its listener.
    Unanswered {
        /// No SYN-ACK shows how the listener answers, or some SYN-ACKs from there are not of the host's own.
        NoRecord = 0, "no_record";
        /// The host's SYN-ACKs to the network of its source leave by another interface, or with another VLAN tag,
        /// or none was seen.
        NoWay = 1, "no_way";
        /// The SYN was sent to an Ethernet address that is not this host's.
        OtherMac = 2, "other_mac";
        /// The host replies to no such source: its own address, that of a group, or none.
        NoReply = 3, "no_reply";
        /// The SYN is a fragment, or too short for a reply.
        Fragment = 4, "fragment";
        /// The SYN is signed (TCP-MD5, TCP-AO).
        Signed = 5, "signed";
        /// There is no cookie: no secret is drawn, or the kernel made none.
        NoCookie = 6, "no_cookie";
        /// Cookies are withheld at its server address: none that was sent from there was returned.
        Withheld = 7, "withheld";
    }
}

/// The kernel's action on a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Hand it to the network stack.
    Pass,
    /// Discard it.
    Drop,
    /// Send the reply that it was turned into back where it came from.
    Tx,
}

impl Reason {
    /// The fate that belongs to the reason.
    #[inline(always)]
    pub const fn action(self) -> Action {
        match self {
            Self::DropSource
            | Self::DropSignature
            | Self::DropIllegal
            | Self::DropReplyLimit
            | Self::DropBudget
            | Self::DropReflection
            | Self::DropOutOfState
            | Self::DropBeyondBounds
            | Self::DropClosedPort => Action::Drop,
            Self::Cookie => Action::Tx,
            _ => Action::Pass,
        }
    }

    /// [`Reason::bound`] of a first fragment that ends before the TCP flags. No stack makes one (RFC 1858 §3,
    /// RFC 3128).
    pub const SHORT_FRAGMENT: u8 = Self::FragmentShort.bound();
    /// [`Reason::bound`] of all of them.
    pub const EVERY_BOUND: u8 = 15;
    /// [`Reason::bound`] of those that may come through a router: VLAN tags do not, and networks that have
    /// many of them have them for a reason.
    pub const ROUTED: u8 = Self::EVERY_BOUND & !Self::VlanDepth.bound();

    /// The bound at which the parser gave up, as a bit: a SYN that the stack would answer may lie
    /// beyond it. 0: none. Frames that are no TCP, and frames that the stack refuses as well, have no
    /// such bit.
    #[inline(always)]
    pub const fn bound(self) -> u8 {
        match self {
            Self::VlanDepth => 1,
            Self::Ipv6Depth => 2,
            Self::HeaderDepth => 4,
            Self::FragmentShort => 8,
            _ => 0,
        }
    }

    /// Returns whether the parser gave up at one of its bounds.
    #[inline(always)]
    pub const fn is_beyond_bounds(self) -> bool {
        self.bound() != 0
    }
}

codes! {
    /// The class of a segment, by its six classic TCP flags.
    Class {
        /// Opens a connection. ECE, CWR, PSH and URG do not matter: Linux answers all of these.
        Syn = 0, "syn";
        /// Answers a SYN.
        SynAck = 1, "syn_ack";
        /// ACK without SYN, RST or FIN, with or without data.
        Ack = 2, "ack";
        /// FIN with ACK.
        Fin = 3, "fin";
        /// RST, with or without ACK.
        Rst = 4, "rst";
        /// Illegal: SYN and FIN.
        SynFin = 5, "syn_fin";
        /// Illegal: SYN and RST.
        SynRst = 6, "syn_rst";
        /// Illegal: FIN and RST.
        FinRst = 7, "fin_rst";
        /// Illegal: FIN without ACK.
        FinNoAck = 8, "fin_no_ack";
        /// Illegal: no flag at all.
        Null = 9, "null";
        /// Illegal: FIN, PSH and URG without ACK (a "Christmas tree" scan).
        Xmas = 10, "xmas";
        /// Illegal: only PSH and/or URG, that is data without ACK.
        NoAck = 11, "no_ack";
    }
}

codes! {
    /// The effect of a rule that matches.
    Mode {
        /// Nothing is matched against rules.
        Off = 0, "off";
        /// Matches are counted, nothing is dropped.
        Observe = 1, "observe";
        /// Matches are dropped.
        Enforce = 2, "enforce";
    }
}

codes! {
    /// Location of a listener's sockets, which decides the means that apply to it.
    ListenerKind {
        /// This host's own stack answers, in this network namespace.
        Local = 0, "local";
        /// Its SYN-ACKs come from elsewhere: a forwarded or translated service, or another namespace.
        Forwarded = 1, "forwarded";
    }
}

codes! {
    /// Progress of a connection attempt.
    FlowState {
        /// A SYN was seen and passed on.
        Syn = 0, "syn";
        /// The SYN was answered.
        SynAck = 1, "syn_ack";
        /// The handshake is complete: by the kernel's word, or, where the kernel is not asked, by the
        /// client's acknowledgement.
        Completed = 2, "completed";
        /// The client answered with a reset.
        Reset = 3, "reset";
        /// A rule dropped the SYN.
        Dropped = 4, "dropped";
        /// This host sent the SYN: the client is here, and there is no listener.
        Own = 5, "own";
        /// The client acknowledged the reply, and the kernel, where it is asked, has not completed the
        /// handshake.
        Acknowledged = 6, "acknowledged";
        /// The client acknowledged the reply, and the host has retransmitted its reply: it ignored the
        /// acknowledgement.
        Ignored = 7, "ignored";
    }
}
