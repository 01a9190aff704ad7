use super::facts::{Conntrack, Lent, default_hash_entries};
use super::*;

const GIB: u64 = 1 << 30;

/// A host of this size without load, with the kernel's own values.
fn host(gib: u64, cpus: u32) -> HostFacts {
    HostFacts {
        kernel: "6.18.1".to_owned(),
        memory: gib * GIB,
        page: 4096,
        cpus,
        hash_entries: default_hash_entries(gib * GIB),
        syncookies: Some(1),
        somaxconn: Some(4096),
        load: Load { max_orphans: default_hash_entries(gib * GIB) / 2, ..Load::default() },
        default_routes: 1,
        conntrack: Some(Conntrack { count: 10, buckets: 65_536 }),
        ..HostFacts::default()
    }
}

fn advise(host: &HostFacts, name: &str, value: &str) -> Advice {
    let setting = CATALOGUE.iter().find(|setting| setting.name.ends_with(name)).expect(name);
    setting.advise(host, value)
}

fn to(text: &str) -> Verdict {
    Verdict::Change { to: text.to_owned() }
}

fn harmful(text: &str) -> Verdict {
    Verdict::Harmful { to: text.to_owned() }
}

/// The values of a kernel with no setting changed.
fn defaults(host: &HostFacts) -> Values {
    let half = (host.hash_entries / 2).to_string();
    let backlog = (host.hash_entries / 128).max(128).to_string();
    let values = [
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv4.tcp_max_syn_backlog", backlog.as_str()),
        ("net.core.somaxconn", "4096"),
        ("net.ipv4.tcp_synack_retries", "5"),
        ("net.ipv4.tcp_abort_on_overflow", "0"),
        ("net.ipv4.tcp_timestamps", "1"),
        ("net.ipv4.tcp_sack", "1"),
        ("net.ipv4.tcp_window_scaling", "1"),
        ("net.ipv4.tcp_syn_retries", "6"),
        ("net.ipv4.tcp_fin_timeout", "60"),
        ("net.ipv4.tcp_keepalive_time", "7200"),
        ("net.ipv4.tcp_keepalive_intvl", "75"),
        ("net.ipv4.tcp_keepalive_probes", "9"),
        ("net.ipv4.tcp_tw_reuse", "2"),
        ("net.ipv4.tcp_tw_recycle", "0"),
        ("net.ipv4.tcp_max_tw_buckets", half.as_str()),
        ("net.ipv4.tcp_orphan_retries", "0"),
        ("net.ipv4.tcp_max_orphans", half.as_str()),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("net.core.netdev_max_backlog", "1000"),
        ("net.core.netdev_budget", "300"),
        ("net.netfilter.nf_conntrack_max", "65536"),
        ("net.netfilter.nf_conntrack_tcp_loose", "1"),
        ("net.ipv4.conf.all.rp_filter", "2"),
    ];
    let sysctls = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Values { sysctls: sysctls.collect(), files: Vec::new() }
}

fn judged(host: &HostFacts, values: &Values) -> Tune {
    judge(host, values, Time("2026-01-02T03:04:05Z".parse().expect("a time")))
}

#[test]
fn an_idle_host_of_any_size_is_well_with_the_kernels_own_values() {
    for gib in [1, 4, 64] {
        for cpus in [1, 4, 64] {
            let host = host(gib, cpus);
            let values = defaults(&host);
            assert_eq!(values.sysctls.len(), CATALOGUE.len(), "every setting has a default here");
            let tune = judged(&host, &values);
            for row in &tune.settings {
                assert_eq!(
                    (row.verdict, &row.to),
                    (Word::Good, &None),
                    "{gib} GiB {cpus}: {row:?}"
                );
            }
        }
    }
}

#[test]
fn each_value_has_its_advice_on_an_idle_host() {
    let host = host(4, 4);
    for (name, value, expected) in [
        ("tcp_syncookies", "0", harmful("1")),
        ("tcp_syncookies", "2", harmful("1")),
        ("tcp_max_syn_backlog", "65536", Verdict::LeaveAlone),
        ("somaxconn", "128", to("4096")),
        ("somaxconn", "65535", Verdict::Good),
        ("tcp_synack_retries", "0", harmful("5")),
        ("tcp_synack_retries", "1", harmful("5")),
        ("tcp_synack_retries", "2", Verdict::Good),
        ("tcp_synack_retries", "8", to("5")),
        ("tcp_abort_on_overflow", "1", harmful("0")),
        ("tcp_timestamps", "0", harmful("1")),
        ("tcp_timestamps", "2", Verdict::Good),
        ("tcp_sack", "0", harmful("1")),
        ("tcp_window_scaling", "0", harmful("1")),
        ("tcp_syn_retries", "1", to("6")),
        ("tcp_syn_retries", "3", Verdict::Good),
        ("tcp_syn_retries", "10", to("6")),
        ("tcp_fin_timeout", "5", to("60")),
        ("tcp_fin_timeout", "15", Verdict::Good),
        ("tcp_fin_timeout", "180", to("60")),
        ("tcp_keepalive_time", "30", to("7200")),
        ("tcp_keepalive_time", "600", Verdict::Good),
        ("tcp_keepalive_time", "7440", to("7200")),
        ("tcp_keepalive_intvl", "1", to("75")),
        ("tcp_keepalive_intvl", "90", to("75")),
        ("tcp_keepalive_probes", "1", to("9")),
        ("tcp_keepalive_probes", "20", to("9")),
        ("tcp_tw_reuse", "0", Verdict::Good),
        ("tcp_tw_reuse", "1", to("2")),
        ("tcp_max_tw_buckets", "5000", harmful("16384")),
        ("tcp_max_tw_buckets", "262144", Verdict::Good),
        ("tcp_orphan_retries", "1", to("0")),
        ("tcp_orphan_retries", "8", Verdict::Good),
        ("tcp_orphan_retries", "15", to("0")),
        ("tcp_max_orphans", "100", to("16384")),
        ("ip_local_port_range", "50000 50100", to("32768 60999")),
        ("ip_local_port_range", "1024 65535", Verdict::Good),
        ("netdev_max_backlog", "300", to("1000")),
        ("netdev_budget", "64", to("300")),
        ("nf_conntrack_max", "1024", to("65536")),
        ("nf_conntrack_tcp_loose", "0", Verdict::LeaveAlone),
    ] {
        let advice = advise(&host, name, value);
        assert_eq!(advice.verdict, expected, "{name} = {value}: {}", advice.why);
        assert!(!advice.why.is_empty(), "{name} = {value}");
    }
}

#[test]
fn a_value_of_another_form_is_left_alone() {
    let host = host(4, 4);
    for setting in &CATALOGUE {
        for value in ["", "x", "-1", "1 2 3", "99999999999999999999", "1.5"] {
            let advice = setting.advise(&host, value);
            assert_eq!(advice.verdict, Verdict::LeaveAlone, "{} = {value:?}", setting.name);
        }
    }
}

#[test]
fn no_number_breaks_an_advice() {
    let mut crowded = host(1, 1);
    crowded.load = Load {
        listen_overflows: u64::MAX,
        queue_full_cookies: u64::MAX / 2,
        queue_full_drops: u64::MAX / 2,
        listen_drops: u64::MAX,
        time_wait: u64::MAX,
        time_wait_overflows: u64::MAX,
        orphans: u64::MAX,
        max_orphans: u64::MAX,
        received: u64::MAX,
        backlog_drops: u64::MAX,
        squeezed: u64::MAX,
        ports_short: true,
    };
    crowded.memory = 0;
    crowded.cpus = u32::MAX;
    crowded.conntrack = Some(Conntrack { count: u64::MAX, buckets: u64::MAX });
    crowded.listeners =
        vec![Listening { at: "[::]:80".parse().expect("an address"), backlog: u32::MAX }];
    for host in [HostFacts::default(), crowded] {
        for setting in &CATALOGUE {
            for value in ["0", "1", "4294967295", "18446744073709551615"] {
                for value in [value.to_owned(), format!("{value} {value}")] {
                    assert!(!setting.advise(&host, &value).why.is_empty(), "{}", setting.name);
                }
            }
        }
    }
}

#[test]
fn a_borrowed_sysctl_is_left_to_the_agent() {
    let mut host = host(4, 4);
    host.lent = Some(Lent::From(1));
    let advice = advise(&host, "tcp_syncookies", "2");
    assert_eq!(advice.verdict, Verdict::LeaveAlone);
    assert!(advice.why.contains("restores 1"), "{}", advice.why);
    host.lent = Some(Lent::InUse);
    assert_eq!(advise(&host, "tcp_syncookies", "2").verdict, Verdict::LeaveAlone);
    assert_eq!(advise(&host, "tcp_syncookies", "0").verdict, harmful("1"));
}

#[test]
fn an_accept_queue_that_overflows_gets_as_long_as_the_memory_affords() {
    for (gib, value, expected) in [
        (1, "4096", Verdict::Short),
        (4, "4096", to("8192")),
        (4, "8192", Verdict::Short),
        (64, "4096", to("8192")),
        (64, "32768", to("65536")),
        (64, "65536", Verdict::Short),
    ] {
        let mut host = host(gib, 4);
        host.load.listen_overflows = 17;
        let backlog = value.parse().expect("a number");
        host.listeners = vec![Listening { at: "192.0.2.1:443".parse().expect("one"), backlog }];
        let advice = advise(&host, "somaxconn", value);
        assert_eq!(advice.verdict, expected, "{gib} GiB, {value}: {}", advice.why);
        assert!(advice.why.contains("192.0.2.1:443"), "{}", advice.why);
        // The application's own backlog is the limit: this one is not.
        host.listeners[0].backlog = 128;
        let advice = advise(&host, "somaxconn", value);
        assert_eq!(advice.verdict, Verdict::Good, "{}", advice.why);
        assert!(advice.why.contains("not by this limit"), "{}", advice.why);
    }
}

#[test]
fn load_changes_the_advice() {
    type Change = fn(&mut HostFacts);
    let cases: [(&str, &str, Change, Verdict); 23] = [
        ("tcp_synack_retries", "5", |host| host.load.queue_full_cookies = 1000, to("3")),
        ("tcp_synack_retries", "5", |host| host.load.queue_full_cookies = 999, Verdict::Good),
        ("tcp_synack_retries", "3", |host| host.load.queue_full_drops = 1000, Verdict::Good),
        ("tcp_fin_timeout", "60", |host| host.load.orphans = 9000, to("30")),
        ("tcp_orphan_retries", "0", |host| host.load.orphans = 9000, to("5")),
        ("tcp_orphan_retries", "4", |host| host.load.orphans = 9000, Verdict::Good),
        ("tcp_max_tw_buckets", "16384", |host| host.load.time_wait = 13_000, to("32768")),
        ("tcp_max_tw_buckets", "16384", |host| host.load.time_wait_overflows = 1, to("32768")),
        ("tcp_max_tw_buckets", "262144", |host| host.load.time_wait = 262_000, Verdict::Short),
        ("tcp_tw_reuse", "1", |host| host.load.ports_short = true, Verdict::LeaveAlone),
        (
            "ip_local_port_range",
            "32768 60999",
            |host| host.load.ports_short = true,
            to("10240 65535"),
        ),
        ("ip_local_port_range", "1024 65535", |host| host.load.ports_short = true, Verdict::Short),
        ("netdev_max_backlog", "1000", |host| host.load.backlog_drops = 5, to("2048")),
        (
            "netdev_max_backlog",
            "1000",
            |host| {
                host.load.backlog_drops = 5;
                host.load.received = 50_001;
            },
            Verdict::Good,
        ),
        (
            "netdev_max_backlog",
            "1000",
            |host| {
                host.load.backlog_drops = 5;
                host.load.received = 50_000;
            },
            to("2048"),
        ),
        ("netdev_budget", "300", |host| host.load.squeezed = 5, to("600")),
        ("netdev_budget", "600", |host| host.load.squeezed = 5, Verdict::Short),
        (
            "nf_conntrack_max",
            "65536",
            |host| host.conntrack = Some(Conntrack { count: 60_000, buckets: 65_536 }),
            to("131072"),
        ),
        ("tcp_max_syn_backlog", "256", |host| host.syncookies = None, to("8192")),
        ("tcp_max_syn_backlog", "256", |host| host.syncookies = Some(0), to("8192")),
        ("tcp_max_syn_backlog", "8192", |host| host.syncookies = Some(0), Verdict::Good),
        (
            "tcp_synack_retries",
            "5",
            |host| {
                host.syncookies = Some(0);
                host.load.listen_drops = 4307;
            },
            to("3"),
        ),
        ("tcp_synack_retries", "5", |host| host.load.listen_drops = 4307, Verdict::Good),
    ];
    for (name, value, change, expected) in cases {
        let mut host = host(4, 4);
        change(&mut host);
        let advice = advise(&host, name, value);
        assert_eq!(advice.verdict, expected, "{name} = {value}: {}", advice.why);
    }
    let mut busy = host(4, 4);
    busy.load.ports_short = true;
    let at = |text: &str| Listening { at: text.parse().expect("an address"), backlog: 128 };
    busy.listeners = vec![at("0.0.0.0:80"), at("0.0.0.0:27017"), at("0.0.0.0:40000")];
    let why = advise(&busy, "ip_local_port_range", "32768 60999").why;
    assert!(why.ends_with("ip_local_reserved_ports=27017"), "{why}");
}

#[test]
fn without_cookies_what_tcp_max_syn_backlog_refuses_is_said_and_never_good() {
    let mut host = host(4, 4);
    host.syncookies = Some(0);
    (host.load.listen_drops, host.load.listen_overflows, host.load.queue_full_drops) =
        (4337, 20, 10);
    let advice = advise(&host, "tcp_max_syn_backlog", "256");
    assert_eq!(advice.verdict, to("8192"));
    let expected = "SYN cookies are off (tcp_syncookies 0), so new clients get at most three quarters of this value: \
                    192. 8192 gives them all 4096 slots of somaxconn. Since boot, 4307 packets were dropped that \
                    found no full queue.";
    assert_eq!(advice.why, expected);
    // The value that was advised is no folklore once cookies are on.
    host.syncookies = Some(1);
    let advice = advise(&host, "tcp_max_syn_backlog", "8192");
    assert_eq!(
        (advice.verdict, &*advice.why),
        (Verdict::Good, "no effect while SYN cookies are on")
    );
}

/// `listeners` sends those to `tune` whose backlogs are from before somaxconn was lowered.
#[test]
fn somaxconn_is_raised_to_the_longest_backlog() {
    for (value, backlog, expected) in [
        ("64", 128, to("4096")),
        ("64", 8192, to("8192")),
        ("4096", 8192, to("8192")),
        ("4096", 4096, Verdict::Good),
        ("64", u32::MAX, to("65536")),
        ("65536", u32::MAX, Verdict::Good),
    ] {
        let mut host = host(4, 4);
        let at = "192.0.2.1:443".parse().expect("one");
        host.listeners = vec![Listening { at, backlog }];
        let advice = advise(&host, "somaxconn", value);
        assert_eq!(advice.verdict, expected, "{value} {backlog}: {}", advice.why);
    }
}

#[test]
fn a_backlog_of_packets_grows_with_memory_and_shrinks_with_cpus() {
    for (gib, cpus, value, expected) in [
        (1, 1, "1000", to("2048")),
        (1, 4, "1000", Verdict::Short),
        (64, 4, "32768", Verdict::Short),
        (64, 1, "32768", to("65536")),
        (64, 64, "1000", to("2048")),
        (64, 64, "2048", Verdict::Short),
        (64, 1, "65536", Verdict::Short),
    ] {
        let mut host = host(gib, cpus);
        host.load.backlog_drops = 1;
        let advice = advise(&host, "netdev_max_backlog", value);
        assert_eq!(advice.verdict, expected, "{gib} GiB {cpus} CPUs {value}: {}", advice.why);
    }
}

#[test]
fn a_backlog_of_packets_is_shorter_where_pages_are_larger() {
    let mut host = host(1, 1);
    host.load.backlog_drops = 1;
    host.page = 16 << 10;
    assert_eq!(advise(&host, "netdev_max_backlog", "1000").verdict, Verdict::Short);
}

#[test]
fn sources_are_checked_as_loosely_as_the_routes_need() {
    let own = |values: &[(&str, u64)]| -> Vec<(String, u64)> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    };
    for (all, interfaces, routes, expected) in [
        ("0", own(&[("eth0", 0)]), 1, to("2")),
        ("0", own(&[("eth0", 1)]), 1, Verdict::Good),
        ("0", own(&[("eth0", 2), ("eth1", 2)]), 2, Verdict::Good),
        ("1", own(&[("eth0", 0)]), 1, Verdict::Good),
        ("1", own(&[("eth0", 0), ("eth1", 0)]), 2, to("2")),
        ("1", own(&[("eth0", 2), ("eth1", 2)]), 2, Verdict::Good),
        ("0", own(&[("eth0", 1), ("eth0.7", 0)]), 1, Verdict::LeaveAlone),
        ("2", own(&[("eth0", 0), ("eth1", 1)]), 3, Verdict::Good),
    ] {
        let mut host = host(4, 4);
        (host.rp_filter, host.default_routes) = (interfaces.clone(), routes);
        let advice = advise(&host, "rp_filter", all);
        assert_eq!(advice.verdict, expected, "{all} {interfaces:?} {routes}: {}", advice.why);
        if advice.verdict == Verdict::LeaveAlone {
            assert!(advice.why.contains("net.ipv4.conf.eth0/7.rp_filter"), "{}", advice.why);
        }
    }
}

#[test]
fn a_line_of_a_file_is_judged_as_the_value_that_it_sets() {
    let host = host(4, 4);
    for (name, value) in [
        ("net.ipv4.tcp_tw_recycle", "1"),
        ("net.ipv4.tcp_abort_on_overflow", "1"),
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.ipv4.tcp_syncookies", "2"),
        ("net.ipv4.tcp_timestamps", "0"),
        ("net.ipv4.tcp_synack_retries", "1"),
        ("net.ipv4.tcp_fin_timeout", "10"),
        ("net.ipv4.tcp_max_tw_buckets", "5000"),
        ("net.ipv4.tcp_tw_reuse", "1"),
    ] {
        let mut values = defaults(&host);
        let text = format!("# from a forum\n{name} = 9\n{name} = {value}\n");
        values.files = sysctl_files::parse(std::path::Path::new("/etc/sysctl.d/x.conf"), &text);
        let place = Some("/etc/sysctl.d/x.conf:3");
        let tune = judged(&host, &values);
        let [row] = tune.to_change()[..] else { panic!("{name}: {:?}", tune.to_change()) };
        let found = (&*row.name, row.value.as_deref(), &row.to, row.place.as_deref());
        assert_eq!(found, (name, Some(value), &None, place));
        assert!(change::wanted(&tune).is_empty());
        let finding = tune.findings().next().expect("a finding");
        let hint = format!("edit /etc/sysctl.d/x.conf:3: remove {name}");
        assert_eq!((finding.subject, finding.hint), (Some(name.to_owned()), Some(hint)));

        // The kernel has the value already.
        values.sysctls.insert(name.to_owned(), value.to_owned());
        let tune = judged(&host, &values);
        let [row] = tune.to_change()[..] else { panic!("{name}: {:?}", tune.to_change()) };
        assert_eq!((row.to.is_some(), row.place.as_deref()), (true, place), "{row:?}");
    }
    let mut values = defaults(&host);
    let path = std::path::Path::new("/etc/sysctl.d/x.conf");
    values.files = sysctl_files::parse(path, "net.ipv4.tcp_fin_timeout = 30\n");
    assert_eq!(judged(&host, &values).findings().count(), 0, "harmless");
}

#[test]
fn a_row_has_the_commands_for_there_and_back() {
    let host = host(4, 4);
    let mut values = defaults(&host);
    values.sysctls.insert("net.core.somaxconn".to_owned(), "128".to_owned());
    let range = "net.ipv4.ip_local_port_range";
    values.sysctls.insert(range.to_owned(), "50000\t50100".to_owned());
    values.sysctls.remove("net.netfilter.nf_conntrack_max");
    let tune = judged(&host, &values);
    let row = |name: &str| tune.settings.iter().find(|row| row.name == name).expect(name);
    let backlog = row("net.core.somaxconn");
    assert_eq!(backlog.command.as_deref(), Some("sysctl -w net.core.somaxconn=4096"));
    assert_eq!(backlog.undo.as_deref(), Some("sysctl -w net.core.somaxconn=128"));
    let ports = row(range);
    assert_eq!(ports.value.as_deref(), Some("50000 50100"));
    assert_eq!(
        ports.command.as_deref(),
        Some("sysctl -w net.ipv4.ip_local_port_range='32768 60999'")
    );
    let absent = row("net.netfilter.nf_conntrack_max");
    assert_eq!((absent.verdict, &absent.value, &absent.to), (Word::Absent, &None, &None));
    assert!(absent.why.contains("not in use"), "{}", absent.why);

    let wanted = change::wanted(&tune);
    let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
    assert_eq!(names, ["net.core.somaxconn", range]);
    assert!(change::file(&wanted).contains("\nnet.core.somaxconn = 4096\n"));
}

#[test]
fn what_concerns_a_card_is_a_command_and_never_applied() {
    let mut host = host(4, 4);
    host.load.squeezed = 1000;
    host.devices = vec![Device {
        name: "eth0".to_owned(),
        driver: Some("ena".to_owned()),
        rx_ring: Some(Span { now: 512, max: 4096 }),
        queues: Some(Span { now: 1, max: 8 }),
        lost: Some(9),
        rps: Some(false),
    }];
    let values = defaults(&host);
    let tune = judged(&host, &values);
    let rows: Vec<&Row> = tune.settings.iter().filter(|row| row.kind == Kind::Interface).collect();
    let reported: Vec<(Option<&str>, Option<&str>)> =
        rows.iter().map(|row| (row.command.as_deref(), row.undo.as_deref())).collect();
    assert_eq!(
        reported,
        [
            (Some("ethtool -G eth0 rx 1024"), Some("ethtool -G eth0 rx 512")),
            (Some("ethtool -L eth0 combined 4"), Some("ethtool -L eth0 combined 1")),
            (
                Some("echo f > /sys/class/net/eth0/queues/rx-0/rps_cpus"),
                Some("echo 0 > /sys/class/net/eth0/queues/rx-0/rps_cpus")
            ),
        ]
    );
    assert!(change::wanted(&tune).iter().all(|wanted| wanted.name.starts_with("net.")));

    host.load.squeezed = 0;
    host.devices[0] = Device {
        rx_ring: Some(Span { now: 4096, max: 4096 }),
        queues: Some(Span { now: 4, max: 4 }),
        rps: Some(true),
        ..host.devices[0].clone()
    };
    let verdicts: Vec<Word> =
        advice::device::rows(&host, &host.devices[0]).iter().map(|row| row.verdict).collect();
    assert_eq!(verdicts, [Word::Short, Word::Good, Word::Change]);
    let silent = Device { name: "eth0".to_owned(), ..Device::default() };
    assert_eq!(advice::device::rows(&host, &silent), [], "a driver that reports nothing");
}
