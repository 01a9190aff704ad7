//! Broken interfaces, and other programs on them.

use super::*;

pub(super) const CASES: &[Case] = &[
    // Interfaces.
    (
        |f| f.of_host.interfaces[0].link = None,
        "interface",
        CRITICAL,
        "this host has: lo, eth0",
        "tcpguard.toml",
    ),
    (|f| link(f).ethernet = false, "ethernet", CRITICAL, "tunnel", "tcpguard.toml"),
    (|f| link(f).loopback = true, "ethernet", NOTICE, "loopback", ""),
    (|f| link(f).state = OperState::Down, "link_down", WARNING, "down", "ip link set dev eth0 up"),
    (
        |f| link(f).xdp = Some(XdpFeatures { basic: false, takes: false, large_packets: false }),
        "native_xdp",
        NOTICE,
        "EOPNOTSUPP",
        "",
    ),
    (|f| link(f).xdp = None, "native_xdp", NOTICE, "6.3", ""),
    (
        |f| link(f).fixed_offloads = Some(true),
        "native_xdp",
        WARNING,
        "offers no ctrl_guest_offloads",
        "ctrl_guest_offloads=on",
    ),
    (
        |f| {
            link(f).mtu = 9000;
            link(f).xdp = Some(XdpFeatures { basic: true, takes: true, large_packets: false });
        },
        "mtu",
        WARNING,
        "ERANGE or EINVAL",
        "ip link set dev eth0 mtu 3502",
    ),
    (
        |f| {
            link(f).mtu = 9001;
            link(f).driver = Some("ena".to_owned());
        },
        "mtu",
        WARNING,
        "refuses native XDP above 3498",
        "ip link set dev eth0 mtu 3498",
    ),
    (
        |f| {
            f.of_host.kernel.page_bytes = 16 << 10;
            link(f).mtu = 16_000;
            link(f).xdp = Some(XdpFeatures { basic: true, takes: true, large_packets: false });
        },
        "mtu",
        WARNING,
        "exceeds a page",
        "ip link set dev eth0 mtu 15790",
    ),
    (
        |f| {
            f.of_host.kernel.features[2].support = Support::Missing;
            link(f).mtu = 9000;
        },
        "mtu",
        NOTICE,
        "native XDP takes 3502 at most",
        "",
    ),
    (
        |f| {
            link(f).driver = Some("gve".to_owned());
            link(f).device.queues = Some(Span { now: 5, max: 8 });
        },
        "xdp_queues",
        WARNING,
        "5 queues: driver gve refuses native XDP with more than half of 8",
        "ethtool -L eth0 rx 4 tx 4",
    ),
    (
        |f| {
            link(f).driver = Some("ena".to_owned());
            link(f).device.queues = Some(Span { now: 8, max: 8 });
            link(f).xdp = Some(XdpFeatures { basic: false, takes: false, large_packets: false });
        },
        "native_xdp",
        NOTICE,
        "with so many queues",
        "",
    ),
    (
        |f| {
            link(f).driver = Some("virtio_net".to_owned());
            link(f).device.queues = Some(Span { now: 4, max: 4 });
        },
        "xdp_queues",
        NOTICE,
        "under a lock",
        "",
    ),
    (
        |f| {
            link(f).received = Some(false);
            link(f).programs = Ok(vec![ours()]);
        },
        "other_end",
        NOTICE,
        "XDP_TX",
        "generic",
    ),
    (
        |f| {
            link(f).kind = Some("veth".to_owned());
            link(f).programs = Ok(vec![ours()]);
        },
        "bulk_tcp",
        NOTICE,
        "segmentation offload",
        "generic",
    ),
    (
        |f| link(f).programs = Ok(vec![Attached { hook: Hook::XdpGeneric, ..ours() }]),
        "bulk_tcp",
        NOTICE,
        "switches GRO off",
        "",
    ),
    (|f| link(f).merges = Some(true), "lro", WARNING, "LRO", "ethtool -K eth0 lro off"),
    (
        |f| {
            link(f).strips_vlan = Some(true);
            link(f).vlans = vec!["eth0.7".to_owned()];
        },
        "vlan_tags",
        WARNING,
        "eth0.7",
        "ethtool -K eth0 rxvlan off",
    ),
    (
        |f| {
            link(f).kind = Some("bridge".to_owned());
            link(f).members = vec!["eth1".to_owned(), "eth2".to_owned()];
        },
        "stacked",
        WARNING,
        "a bridge of",
        "[\"eth1\", \"eth2\"]",
    ),
    (
        |f| {
            link(f).kind = Some("vlan".to_owned());
            link(f).below = Some("eth1".to_owned());
        },
        "stacked",
        WARNING,
        "a vlan upon eth1",
        "[\"eth1\"]",
    ),
    (
        |f| link(f).master = Some(("br0".to_owned(), "bridge".to_owned())),
        "stacked",
        NOTICE,
        "a member of br0 (bridge)",
        "",
    ),
    (
        |f| {
            link(f).master = Some(("bond0".to_owned(), "bond".to_owned()));
            link(f).siblings = vec![("eth1".to_owned(), false), ("eth2".to_owned(), true)];
        },
        "stacked",
        WARNING,
        "of which eth1 is not attached",
        "[\"bond0\"]",
    ),
    // Other programs.
    (
        |f| link(f).programs = Ok(vec![foreign(Hook::XdpNative, Some("xdp_dispatcher"))]),
        "xdp_program",
        CRITICAL,
        "EBUSY",
        "xdp-loader unload eth0",
    ),
    (
        |f| link(f).programs = Ok(vec![foreign(Hook::XdpGeneric, Some("firewall"))]),
        "xdp_program",
        CRITICAL,
        "firewall (id 42, generic XDP)",
        "bpftool net show dev eth0",
    ),
    (
        |f| link(f).programs = Ok(vec![foreign(Hook::XdpNative, Some("cil_xdp_entry"))]),
        "xdp_program",
        CRITICAL,
        "Cilium attaches it again",
        "loadBalancer.acceleration=disabled",
    ),
    (
        |f| above(f, foreign(Hook::XdpGeneric, Some("balancer"))),
        "xdp_program",
        CRITICAL,
        "attached to br0, which is above, balancer (id 42, generic XDP): the agent cannot attach below it",
        "ip link set dev br0 xdp off",
    ),
    (
        |f| above(f, foreign(Hook::XdpNative, None)),
        "xdp_program",
        UNKNOWN,
        "attached to br0",
        "sudo tcpguard doctor",
    ),
    (
        |f| above(f, ours()),
        "xdp_program",
        CRITICAL,
        "tcpguard's program is attached to br0",
        "tcpguard detach -i br0",
    ),
    (
        |f| {
            f.of_host.interfaces[0].bond = Some("bond0".to_owned());
            link(f).programs = Ok(vec![foreign(Hook::XdpNative, Some("balancer"))]);
        },
        "xdp_program",
        WARNING,
        "refuses native XDP on bond0",
        "ip link set dev eth0 xdp off",
    ),
    (
        |f| link(f).programs = Ok(vec![foreign(Hook::XdpNative, None)]),
        "xdp_program",
        UNKNOWN,
        "id 42",
        "sudo",
    ),
    (
        |f| link(f).programs = Err("no netlink".to_owned()),
        "xdp_program",
        UNKNOWN,
        "no netlink",
        "ip link show",
    ),
    (
        |f| {
            let (shaper, behind) =
                (foreign(Hook::TcxEgress, Some("shaper")), foreign(Hook::TcxEgress, Some("x")));
            link(f).programs = Ok(vec![ours(), shaper, own_egress(), behind]);
        },
        "tc_programs",
        NOTICE,
        "shaper (id 42, TCX egress): programs that run first",
        "bpftool prog show",
    ),
    (
        |f| {
            f.of_host.kernel.features.push(feature(TCX, false, Support::Missing));
            let u32 = Attached { hook: Hook::ClsactEgress, id: None, name: Some("u32".to_owned()) };
            link(f).programs = Ok(vec![u32]);
        },
        "tc_programs",
        NOTICE,
        "u32 (clsact egress): programs that may run first",
        "tc filter show dev eth0 egress",
    ),
];

#[test]
fn a_member_of_a_bond_passes_where_the_others_are_attached_or_examined_too() {
    let mut facts = healthy();
    link(&mut facts).master = Some(("bond0".to_owned(), "bond".to_owned()));
    link(&mut facts).siblings = vec![("eth1".to_owned(), true), ("eth2".to_owned(), false)];
    let mut second = facts.of_host.interfaces[0].clone();
    second.name = "eth2".to_owned();
    facts.of_host.interfaces.push(second);
    let of_check = found(&facts, "stacked");
    let passes =
        |one: &Checked| outcome(one) == PASSED && one.finding.text.contains("as are all others");
    assert!(of_check.len() == 2 && of_check.iter().all(passes), "{of_check:#?}");
}

#[test]
fn generic_mode_costs_a_veth_and_a_bridge_nothing_that_doctor_reports() {
    for (kind, received, in_words) in [
        ("veth", Some(false), "\"auto\" takes generic mode: its peer has no native XDP program"),
        ("veth", Some(true), "supports native XDP"),
        ("bridge", None, "supports native XDP"),
    ] {
        let mut facts = healthy();
        link(&mut facts).kind = Some(kind.to_owned());
        link(&mut facts).received = received;
        link(&mut facts).programs = Ok(vec![Attached { hook: Hook::XdpGeneric, ..ours() }]);
        for code in ["bulk_tcp", "other_end", "native_xdp"] {
            let found = found(&facts, code);
            assert!(found.iter().all(|one| outcome(one) == PASSED), "{kind}: {found:#?}");
        }
        let native = found(&facts, "native_xdp");
        assert!(native[0].finding.text.contains(in_words), "{native:#?}");
    }
}

/// Attaches a program to the bridge above `eth0`, and none to `eth0`.
fn above(facts: &mut Facts, program: Attached) {
    link(facts).programs = Ok(Vec::new());
    link(facts).above = vec![("br0".to_owned(), program)];
}

fn own_egress() -> Attached {
    foreign(Hook::TcxEgress, Some("tcpguard_egress"))
}

#[test]
fn tc_programs_behind_tcpguards_are_none_of_its_concern() {
    let cls = |hook| foreign(hook, Some("cls"));
    for programs in [
        vec![ours(), own_egress(), cls(Hook::TcxEgress), cls(Hook::ClsactEgress)],
        // Before tcpguard's are attached: they go first at TCX.
        vec![cls(Hook::TcxEgress)],
        vec![own_egress(), cls(Hook::TcxIngress)],
    ] {
        let mut facts = healthy();
        link(&mut facts).programs = Ok(programs);
        let found = found(&facts, "tc_programs");
        assert_eq!(outcome(&found[0]), PASSED, "{found:#?}");
        assert!(found[0].finding.text.contains("before the others: cls (id 42, "), "{found:#?}");
    }
}

#[test]
fn a_member_is_examined_as_a_part_of_its_bond() {
    let mut facts = healthy();
    let (name, bond) = ("eth1".to_owned(), Some("bond0".to_owned()));
    let mut member = eth0();
    member.master = Some(("bond0".to_owned(), "bond".to_owned()));
    member.programs = Ok(Vec::new());
    member.above = vec![("bond0".to_owned(), ours())];
    member.driver = Some("ena".to_owned());
    member.mtu = 9001;
    let existing = Vec::new();
    facts.of_host.interfaces.push(InterfaceFacts { name, link: Some(member), existing, bond });
    let of_member: Vec<Checked> = checked(&facts, true)
        .into_iter()
        .filter(|one| one.finding.subject.as_deref() == Some("eth1") && outcome(one) != PASSED)
        .collect();
    let [mtu] = &of_member[..] else { panic!("{of_member:#?}") };
    assert_eq!(mtu.finding.hint.as_deref(), Some("ip link set dev bond0 mtu 3498"));
}
