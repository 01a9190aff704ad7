//! Hosts that translate or steer packets, or change SYNs. A client with a cookie gets what it would get without: the
//! same socket, the same segments. Needs root, `TCPGUARD_BIN`, nft, iptables and ss.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::armed::{connection, listen};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::lab::{Family, Lab, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Home, Load, Visitors};
use tcpguard_kit::traffic::server::{Behaviour, Server};

use super::firewall_live::{config, given_up, lab, load, refused, served, taken, with_agent};
use super::packages;

const SECOND: Duration = Duration::from_secs(1);
/// Rules are compared once a second.
const NOTICED: Duration = Duration::from_millis(1_200);

/// Another port is redirected: NAT that is about no client of the service.
fn redirect(host: &Netns) {
    load(host, &rule("nat hook prerouting priority dstnat", "tcp dport 9999 redirect to :9080"));
}

fn legacy(host: &Netns) {
    for iptables in ["iptables-legacy", "ip6tables-legacy"] {
        let rule = "-t nat -A PREROUTING -p tcp --dport 9999 -j REDIRECT --to-ports 9080";
        host.exec(&format!("{iptables} {rule}")).unwrap();
    }
}

/// A chain with one rule for both IP versions.
fn rule(hook: &str, rule: &str) -> String {
    format!("table inet t {{\n chain c {{\n type {hook}\n {rule}\n }}\n}}")
}

fn backend(status: &Status) -> &str {
    status.document()["cookies"]["backend"].as_str().unwrap_or_default()
}

/// IPv6 clients, as [`served`] has IPv4's.
#[track_caller]
fn served_ipv6(lab: &Lab, what: &str) {
    let visitors = Visitors { rate: 50, home: Home::One, patience: SECOND };
    let load = Load::of(&lab.client, Family::V6.service(), visitors).unwrap();
    sleep(SECOND);
    let attempts = load.finish().unwrap();
    assert!(attempts.share_within(SECOND) >= 0.9, "{what}, IPv6: {}", attempts.summary());
}

/// Loads the rules of a package.
type Rules = fn(&Netns);

#[test]
fn beside_nat_the_kernels_helper_makes_the_cookies_before_the_first_own_one() {
    let hosts: [(&str, Rules); 5] = [
        ("redirect", redirect),
        ("legacy", legacy),
        ("firewalld", packages::firewalld),
        ("docker", packages::docker),
        ("kube-proxy", packages::kube_proxy),
    ];
    side_by_side(2, hosts, |(name, rules)| {
        let lab = lab();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        rules(&lab.edge);
        with_agent(&lab, &config("auto", ""), |agent| {
            let status = agent.status().unwrap();
            assert_eq!(backend(&status), "kernel_helper", "{name}: in calm");
            let why = &status.document()["cookies"]["reason"];
            assert!(why.as_str().is_some_and(|why| why.contains("NAT of IPv4 (chain ")), "{why}");
            served_ipv6(&lab, name);
            taken(&lab, agent, name);
            served_ipv6(&lab, name);
            let sysctl = lab.edge.read("/proc/sys/net/ipv4/tcp_syncookies").unwrap();
            assert_eq!(sysctl.trim(), "2", "{name}");
        });
        let sysctl = lab.edge.read("/proc/sys/net/ipv4/tcp_syncookies").unwrap();
        assert_eq!(sysctl.trim(), "1", "{name}: given back");
        with_agent(&lab, &config("own", ""), |agent| {
            refused(&lab, agent, name, "\"auto\" allows it");
        });
    });
}

#[test]
fn nat_that_comes_and_goes_while_cookies_run_is_followed() {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let is_made_by = |agent: &Agent<'_>, by: &str| {
        agent.wait_until(by, TIMEOUT, |status| backend(status) == by).unwrap();
    };
    with_agent(&lab, &config("auto", ""), |agent| {
        for round in 0..2 {
            is_made_by(agent, "own");
            taken(&lab, agent, &format!("own, {round}"));
            packages::docker(&lab.edge);
            is_made_by(agent, "kernel_helper");
            taken(&lab, agent, &format!("helped, {round}"));
            served_ipv6(&lab, "helped");
            lab.edge.exec("nft flush ruleset").unwrap();
        }
        is_made_by(agent, "own");
        sleep(NOTICED);
        let sysctl = lab.edge.read("/proc/sys/net/ipv4/tcp_syncookies").unwrap();
        assert_eq!(sysctl.trim(), "1", "given back while own cookies are made");
        taken(&lab, agent, "own again");
    });
}

#[test]
fn packets_that_rules_take_elsewhere_get_no_cookies_of_this_listener() {
    const STEERS: &str = "takes packets to another socket or interface";
    const TRANSLATES: &str = "translates packets to another address or port";
    let prerouting = "filter hook prerouting priority mangle";
    let nat = "nat hook prerouting priority dstnat";
    let cases = [
        (prerouting, "meta nfproto ipv4 tcp dport 443 tproxy ip to :9080 accept", STEERS),
        (prerouting, "ip saddr 192.0.2.0/24 tcp dport 443 tproxy ip to :9080 accept", STEERS),
        (prerouting, "meta l4proto tcp socket transparent 1 meta mark set 1 accept", STEERS),
        (nat, "ip saddr 192.0.2.0/24 tcp dport 443 redirect to :9080", TRANSLATES),
        (nat, "ip6 saddr 2001:db8::/32 tcp dport 443 dnat ip6 to [2001:db8::1]:9080", TRANSLATES),
    ];
    side_by_side(2, cases, |(hook, one, words)| {
        let lab = lab();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        for backend in ["auto", "kernel_helper"] {
            lab.edge.exec("nft flush ruleset").unwrap();
            with_agent(&lab, &config(backend, ""), |agent| {
                taken(&lab, agent, "before");
                // It is noticed while cookies run, too.
                lab.edge.write("/run/rules.nft", &rule(hook, one)).unwrap();
                let loaded = lab.edge.exec("nft -f /run/rules.nft");
                loaded.unwrap_or_else(|error| panic!("{one}: {error}"));
                given_up(agent);
                // All of them go on, where not this rule is about them.
                if !one.contains("443 tproxy") || one.contains("saddr") {
                    refused(&lab, agent, one, words);
                }
            });
        }
    });
}

#[test]
fn a_cookie_keeps_no_larger_mss_than_the_rules_leave() {
    let clamp = |size: &str| {
        rule(
            "filter hook prerouting priority mangle",
            &format!(
                "tcp dport 443 tcp flags & (syn|rst) == syn tcp option maxseg size set {size}"
            ),
        )
    };
    side_by_side(2, ["own", "kernel_helper"], |backend| {
        let lab = lab();
        let listener = listen(&lab.edge);
        load(&lab.edge, &clamp("1240"));
        let sizes = || {
            Family::BOTH.map(|family| {
                let [_, server] = connection(&lab, &listener, family).unwrap();
                server["mss"].parse::<u32>().unwrap()
            })
        };
        let without = sizes();
        let agent = Agent::start_with(&lab.edge, Mode::Enforce, &config(backend, ""), &[]).unwrap();
        assert_eq!(sizes(), without, "{backend}: before cookies");
        let said = super::firewall_live::ask(&lab);
        assert!(said.contains("SYN cookies active since"), "{backend}: {said}");
        let sent = || agent.status().unwrap().listener_total(PORT, "cookies_sent");
        let before = sent();
        // One SYN a second goes to the stack, to renew the way back.
        for (here, there) in
            sizes().into_iter().zip(without).chain(sizes().into_iter().zip(without))
        {
            assert!(here <= there && here >= 500, "{backend}: {here}, without cookies {there}");
        }
        sleep(SECOND / 2);
        assert!(sent() >= before + 2, "{backend}: answered with cookies");
        // Less than any cookie keeps of an IPv6 client, which may connect there too.
        load(&lab.edge, &clamp("1200"));
        given_up(&agent);
        assert_eq!(sizes(), without.map(|size| size - 40), "{backend}: no cookies");
    });
}

#[test]
fn what_is_set_on_syns_alone_is_an_obstacle_with_its_remedy() {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let marks = |what: &str| {
        rule(
            "filter hook prerouting priority mangle",
            &format!("tcp dport 443 {what} ct mark set 7"),
        )
    };
    load(&lab.edge, &marks("tcp flags & (fin|syn|rst|ack) == syn"));
    with_agent(&lab, &config("own", ""), |agent| {
        refused(&lab, agent, "by flags", "let it match connections (ct state new)");
        load(&lab.edge, &marks("ct state new"));
        sleep(NOTICED);
        taken(&lab, agent, "by state");
    });
    served(&lab, "without agent");
}
