//! The layouts that belong to this ABI version.

use std::mem::{align_of, offset_of, size_of};

use tcpguard_common::abi::{
    ABI_VERSION, Addr, Bucket, Class, Client, ClientNetwork, ClosedPortSource, Config,
    CookieNetwork, CookieSecret, DropCacheSet, ExemptEntry, Fingerprint, Flow, FlowKey, FlowSet,
    HostCounters, Late, LetThrough, ListenerCounters, ListenerEntry, ListenerKey, NextHop,
    NextHops, PacketCounters, PortEntry, PrefixV4, PrefixV6, REASON_SLOTS, Rate, Reason, ReplyRate,
    ReturnedCookies, RuleRef, RuleReturns, SignatureKey, SourceCounters, SourceHost, SourceKey,
    SourceSet, SourceV4, SourceV6, SynAckRecord, SynSample, SynSamples,
};

/// A change here is a change of the ABI: raise `ABI_VERSION` with it.
#[test]
fn sizes_of_this_abi_version() {
    assert_eq!(ABI_VERSION, 1);
    let sizes = [
        ("Addr", size_of::<Addr>(), 16),
        ("Bucket", size_of::<Bucket>(), 8),
        ("Client", size_of::<Client>(), 72),
        ("ClientNetwork", size_of::<ClientNetwork>(), 16),
        ("Config", size_of::<Config>(), 184),
        ("CookieSecret", size_of::<CookieSecret>(), 24),
        ("ExemptEntry", size_of::<ExemptEntry>(), 4),
        ("ReturnedCookies", size_of::<ReturnedCookies>(), 64),
        ("Fingerprint", size_of::<Fingerprint>(), 24),
        ("Flow", size_of::<Flow>(), 64),
        ("FlowKey", size_of::<FlowKey>(), 36),
        ("FlowSet", size_of::<FlowSet>(), 1672),
        ("Handover", size_of::<CookieNetwork>(), 16),
        ("HostCounters", size_of::<HostCounters>(), 200),
        ("Late", size_of::<Late>(), 32),
        ("LetThrough", size_of::<LetThrough>(), 16),
        ("ListenerCounters", size_of::<ListenerCounters>(), 136),
        ("ListenerEntry", size_of::<ListenerEntry>(), 32),
        ("ListenerKey", size_of::<ListenerKey>(), 20),
        ("PacketCounters", size_of::<PacketCounters>(), 656),
        ("PortEntry", size_of::<PortEntry>(), 6),
        ("PrefixV4", size_of::<PrefixV4>(), 8),
        ("PrefixV6", size_of::<PrefixV6>(), 20),
        ("Probe", size_of::<ClosedPortSource>(), 64),
        ("Rate", size_of::<Rate>(), 8),
        ("ReplyRate", size_of::<ReplyRate>(), 8),
        ("RuleReturns", size_of::<RuleReturns>(), 8),
        ("RuleRef", size_of::<RuleRef>(), 8),
        ("DropCacheSet", size_of::<DropCacheSet>(), 32),
        ("SignatureKey", size_of::<SignatureKey>(), 32),
        ("SourceHost", size_of::<SourceHost>(), 12),
        ("SourceKey of SourceV4", size_of::<SourceKey<SourceV4>>(), 12),
        ("SourceKey of SourceV6", size_of::<SourceKey<SourceV6>>(), 24),
        ("SourceCounters", size_of::<SourceCounters>(), 48),
        ("SourceSet", size_of::<SourceSet>(), 1096),
        ("NextHop", size_of::<NextHop>(), 24),
        ("NextHops", size_of::<NextHops>(), 120),
        ("SynAckRecord", size_of::<SynAckRecord>(), 24),
        ("SynSample", size_of::<SynSample>(), 128),
        ("SynSamples", size_of::<SynSamples>(), 8200),
    ];
    for (name, size, expected) in sizes {
        assert_eq!(size, expected, "size of {name}");
    }
}

#[test]
fn offsets_that_other_tools_may_read() {
    assert_eq!(offset_of!(Config, heartbeat_ns), 8);
    assert_eq!(offset_of!(Config, polled_ns), 24);
    assert_eq!(offset_of!(Config, hash_key), 40);
    assert_eq!(offset_of!(Config, netns_cookie), 120);
    assert_eq!(offset_of!(Config, client_filter), 136);
    assert_eq!(offset_of!(Config, rule_set), 144);
    assert_eq!(offset_of!(Flow, syn_seq), 24);
    assert_eq!(offset_of!(Flow, fingerprint), 40);
    assert_eq!(offset_of!(PacketCounters, reasons), 16);
    assert_eq!(offset_of!(PacketCounters, classes), 16 + 8 * REASON_SLOTS);
    assert_eq!(offset_of!(FlowKey, client_port), 32);
}

/// The kernel aligns values to 8 bytes, trie values to 4 behind an IPv4 key.
#[test]
fn no_type_wants_more_alignment_than_a_map_gives() {
    assert!(align_of::<FlowSet>() <= 8 && align_of::<Client>() <= 8);
    assert!(align_of::<RuleRef>() <= 4 && align_of::<ExemptEntry>() <= 4);
}

#[test]
fn codes_have_no_gap_and_names_of_their_own() {
    for (place, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, place);
        assert_eq!(Reason::from_code(place as u8), Some(*reason));
    }
    for (place, class) in Class::ALL.iter().enumerate() {
        assert_eq!(*class as usize, place);
    }
    let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}
