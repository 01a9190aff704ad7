//! Hosts with a packet filter. Where its rules depend on seeing SYNs, none is answered with a cookie, and clients
//! connect as before. Where they do not, or accept tcpguard's mark, cookies are used and clients connect too. Needs
//! root, `TCPGUARD_BIN`, nft and iptables, of both kinds.

use std::thread::sleep;
use std::time::Duration;

use super::packages;
use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::doctor;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, boot_ns};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, Visitors};
use tcpguard_kit::traffic::flood::{Flood, FloodReport, RunningFlood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second. In a flood, so many of a validated client, and as many of new clients.
const CLIENT_RATE: u32 = 50;
const MARK: &str = "mark = 0x10000000\n";

const NEW_NOT_SYN: &str = "\
table inet filter {
  chain input {
    type filter hook input priority 0
    tcp flags & (fin|syn|rst|ack) != syn ct state new counter drop
  }
}";
/// Connections are accepted by their SYN, all else is refused.
const SYN_ACCEPTED: &str = "\
table inet filter {
  chain input {
    type filter hook input priority 0
    ct state established,related accept
    iifname lo accept
    tcp dport 443 tcp flags & (fin|syn|rst|ack) == syn ct state new accept
    meta l4proto tcp reject with tcp reset
  }
}";
/// Invalid packets are dropped: harmless, but where conntrack wants to see each SYN.
const INVALID: &str = "\
table inet filter {
  chain input {
    type filter hook input priority 0
    ct state invalid drop
  }
}";
/// A network may not connect. The rule matches its SYNs.
const DENIED: &str = "\
table inet filter {
  chain input {
    type filter hook input priority 0
    ip saddr 10.79.0.0/16 tcp dport 443 tcp flags & (fin|syn|rst|ack) == syn drop
  }
}";
/// The same. The rule matches its connections.
const DENIED_BY_STATE: &str = "\
table inet filter {
  chain input {
    type filter hook input priority 0
    ip saddr 10.79.0.0/16 tcp dport 443 ct state new drop
  }
}";
/// A rule of iptables-legacy that denies a network by its SYNs, and one of the same size that denies all of
/// its packets.
const LEGACY_DENIED: &str = "-s 10.79.0.0/16 -p tcp --dport 443 --syn -j DROP";
const LEGACY_DENIED_ENTIRELY: &str = "-s 10.79.0.0/16 -p tcp --dport 443 -j DROP";
/// Makers of the cookies.
const BACKENDS: [&str; 2] = ["own", "kernel_helper"];
const CHOSEN: [&str; 2] = ["auto", "kernel_helper"];

pub fn lab() -> Lab {
    Lab::new(LabOptions::default()).unwrap()
}

pub fn load(host: &Netns, rules: &str) {
    host.write("/run/rules.nft", &format!("flush ruleset\n{rules}\n")).unwrap();
    host.exec("nft -f /run/rules.nft").unwrap();
}

pub fn config(backend: &str, more: &str) -> String {
    format!("[cookies]\nbackend = \"{backend}\"\n{more}")
}

/// Open-loop clients for `time`: each attempt begins on schedule, whatever became of the last one.
fn clients(lab: &Lab, home: Home, time: Duration) -> Attempts {
    let visitors = Visitors { rate: CLIENT_RATE, home, patience: SECOND };
    let load = Load::of(&lab.client, Family::V4.service(), visitors).unwrap();
    sleep(time);
    load.finish().unwrap()
}

/// A packet filter that refuses one client refuses all of them. On a busy machine a few are late.
#[track_caller]
pub fn served(lab: &Lab, what: &str) {
    let attempts = clients(lab, Home::One, SECOND);
    println!("{what}: {}", attempts.summary());
    assert!(attempts.share_within(SECOND) >= 0.9, "{what}: {}", attempts.summary());
}

#[track_caller]
fn denied(lab: &Lab, what: &str) {
    let attempts = clients(lab, Home::NewClients, SECOND / 2);
    assert_eq!(attempts.share_within(SECOND), 0.0, "{what}: {}", attempts.summary());
}

/// Asks for cookies as the engine does. Returns the output.
pub fn ask(lab: &Lab) -> String {
    let output = cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "1m"]).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
pub fn taken(lab: &Lab, agent: &Agent<'_>, what: &str) {
    let said = ask(lab);
    assert!(said.contains("SYN cookies active since"), "{what}: {said}");
    let before = agent.status().unwrap().listener_total(PORT, "cookies_sent");
    served(lab, what);
    let sent = agent.status().unwrap().listener_total(PORT, "cookies_sent") - before;
    // Of a second's clients, less those since the poll before.
    assert!(sent >= u64::from(CLIENT_RATE) / 2, "{what}: {sent} cookies");
}

#[track_caller]
pub fn refused(lab: &Lab, agent: &Agent<'_>, what: &str, words: &str) {
    let said = ask(lab);
    assert!(said.contains(words), "{what}: {said}");
    let before = agent.status().unwrap().listener_total(PORT, "cookies_sent");
    served(lab, what);
    assert_eq!(agent.status().unwrap().listener_total(PORT, "cookies_sent"), before, "{what}");
}

/// Follows the doctor's advice about the packet filter.
fn as_the_doctor_says(host: &Netns) {
    doctor::accept_mark(host).unwrap();
    // tcpguard reads the rules once a second.
    sleep(SECOND + SECOND / 5);
}

pub fn with_agent(lab: &Lab, config: &str, test: impl FnOnce(&Agent<'_>)) {
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, config, &[]).unwrap();
    served(lab, "before cookies");
    test(&agent);
}

/// Rules are compared once a second.
#[track_caller]
pub fn given_up(agent: &Agent<'_>) {
    let given_up = |status: &Status| status.mitigation("cookies") != Some("active");
    agent.wait_until("cookies are given up", TIMEOUT, given_up).unwrap();
}

#[test]
fn rules_that_want_to_see_the_syn_get_no_cookies_until_they_accept_the_mark() {
    let cases = [
        (NEW_NOT_SYN, "refuses connections whose SYN it has not seen"),
        (SYN_ACCEPTED, "accepts connections by their SYN only"),
    ];
    side_by_side(2, cases, |(rules, words)| {
        let lab = lab();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        for backend in BACKENDS {
            load(&lab.edge, rules);
            with_agent(&lab, &config(backend, ""), |agent| refused(&lab, agent, backend, words));
        }
        // Kernels that have only the helper cannot mark.
        with_agent(&lab, &config("kernel_helper", MARK), |agent| {
            refused(&lab, agent, "a mark and the helper", words);
        });
        with_agent(&lab, &config("own", MARK), |agent| {
            refused(&lab, agent, "a mark and no rule for it", words);
            as_the_doctor_says(&lab.edge);
            taken(&lab, agent, "the mark is accepted");
            // It is judged again while it stands.
            load(&lab.edge, rules);
            given_up(agent);
            served(&lab, "without the mark's rules again");
        });
    });
}

#[test]
fn rules_of_iptables_are_found_and_let_the_mark_pass() {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    lab.edge.exec("iptables-nft -A INPUT -p tcp ! --syn -m state --state NEW -j DROP").unwrap();
    with_agent(&lab, &config("own", MARK), |agent| {
        refused(&lab, agent, "iptables", "of ip filter INPUT");
        as_the_doctor_says(&lab.edge);
        taken(&lab, agent, "iptables, the mark is accepted");
    });
}

#[test]
fn rules_of_iptables_legacy_are_found_and_let_the_mark_pass() {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let rule = "-p tcp ! --syn -m conntrack --ctstate NEW -j DROP";
    lab.edge.exec(&format!("iptables-legacy -A INPUT {rule}")).unwrap();
    for backend in BACKENDS {
        with_agent(&lab, &config(backend, ""), |agent| {
            refused(&lab, agent, backend, "rule 1 of iptables-legacy filter INPUT");
            let health = agent.status().unwrap().health();
            assert!(health.iter().all(|(code, _)| code != "firewall_unread"), "{health:?}");
        });
    }
    with_agent(&lab, &config("own", MARK), |agent| {
        refused(&lab, agent, "a mark and no rule for it", "of iptables-legacy filter INPUT");
        as_the_doctor_says(&lab.edge);
        taken(&lab, agent, "iptables-legacy, the mark is accepted");
    });
}

#[test]
fn a_network_that_iptables_legacy_denies_by_its_syns_stays_denied() {
    side_by_side(2, BACKENDS, |backend| {
        let lab = lab();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let iptables = |line: &str| lab.edge.exec(&format!("iptables-legacy {line}")).unwrap();
        // iptables-legacy has no generation: a rule that replaces one of its size changes the rules only.
        let replace = |rule: &str| {
            iptables(&format!("-R INPUT 1 {rule}"));
            sleep(SECOND + SECOND / 5);
        };
        iptables(&format!("-A INPUT {LEGACY_DENIED}"));
        with_agent(&lab, &config(backend, ""), |agent| {
            refused(&lab, agent, backend, "is about SYNs, and cookies would bypass it");
            denied(&lab, "by its SYNs");
            replace(LEGACY_DENIED_ENTIRELY);
            taken(&lab, agent, "denied entirely");
            denied(&lab, "entirely");
            replace(LEGACY_DENIED);
            given_up(agent);
            denied(&lab, "by its SYNs again");
        });
    });
}

#[test]
fn a_conntrack_that_wants_to_see_syns_gets_no_cookies() {
    let loose = "net.netfilter.nf_conntrack_tcp_loose";
    side_by_side(2, BACKENDS, |backend| {
        let lab = lab();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        strict(&lab.edge);
        with_agent(&lab, &config(backend, ""), |agent| {
            refused(&lab, agent, backend, loose);
            as_the_doctor_says(&lab.edge);
            taken(&lab, agent, "it takes connections without their SYN");
        });
    });
}

#[test]
fn ufw_takes_cookies() {
    side_by_side(2, BACKENDS, |backend| {
        let lab = lab();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        packages::ufw(&lab.edge);
        with_agent(&lab, &config(backend, ""), |agent| taken(&lab, agent, "ufw"));
    });
}

#[test]
fn a_network_that_is_denied_by_its_syns_stays_denied() {
    side_by_side(2, BACKENDS, |backend| {
        let lab = lab();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        load(&lab.edge, DENIED);
        with_agent(&lab, &config(backend, ""), |agent| {
            refused(&lab, agent, backend, "is about SYNs, and cookies would bypass it");
            denied(&lab, "by its SYNs");
            load(&lab.edge, DENIED_BY_STATE);
            sleep(SECOND + SECOND / 5);
            taken(&lab, agent, "denied by state");
            denied(&lab, "by its connections");
        });
    });
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    load(&lab.edge, DENIED);
    with_agent(&lab, &config("own", "firewall = \"allow\"\n"), |agent| {
        taken(&lab, agent, "the operator allows it");
    });
}

/// A host in a mimicking flood.
#[derive(Clone, Copy)]
struct Host {
    /// Name of its packet filter.
    name: &'static str,
    filter: Filter,
    backend: &'static str,
    family: Family,
    /// `cookies.mark` is set, and the rules that the doctor prints for it are loaded.
    mark: bool,
    /// Expected state of the cookies.
    cookies: &'static str,
}

/// Gives a host its packet filter.
type Filter = fn(&Netns);

/// Name, rules, and whether the rules suit cookies.
const FILTERS: [(&str, Filter, bool); 7] = [
    ("new not SYN", |host| load(host, NEW_NOT_SYN), false),
    ("accepted by SYN", |host| load(host, SYN_ACCEPTED), false),
    ("tcp_loose=0", strict, false),
    ("ufw", packages::ufw, true),
    ("firewalld", packages::firewalld, true),
    ("docker", packages::docker, true),
    ("kube-proxy", packages::kube_proxy, true),
];

fn strict(host: &Netns) {
    load(host, INVALID);
    host.sysctl("net.netfilter.nf_conntrack_tcp_loose", "0").unwrap();
}

impl Host {
    /// The host with rules that lock all clients out, without and with the mark, that of Docker, and then the others.
    fn all() -> Vec<Self> {
        let mut hosts = Vec::new();
        for (name, filter, takes_cookies) in FILTERS {
            let cookies = if takes_cookies { "active" } else { "refused" };
            // Beside NAT the agent chooses.
            let backends = if name == "ufw" || !takes_cookies { BACKENDS } else { CHOSEN };
            let host =
                |backend, family| Self { name, filter, backend, family, mark: false, cookies };
            hosts.extend(backends.map(|backend| host(backend, Family::V4)));
            if !takes_cookies && name != "tcp_loose=0" {
                hosts.push(Self { mark: true, cookies: "active", ..host("own", Family::V4) });
            }
            if name == "docker" {
                hosts.push(host("auto", Family::V6));
            }
        }
        let first = [(FILTERS[0].0, "own", Family::V4), ("docker", "auto", Family::V6)];
        hosts.sort_by_key(|host| !first.contains(&(host.name, host.backend, host.family)));
        hosts
    }

    /// The clients in the flood: the validated one, and new ones.
    fn in_a_flood(self) -> [Attempts; 2] {
        let Self { name, backend, family, cookies, .. } = self;
        let lab = lab();
        let likeness = Likeness::capture(&lab, family).unwrap();
        (self.filter)(&lab.edge);
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let config = config(backend, if self.mark { MARK } else { "" });
        let agent = Agent::start_with(&lab.edge, Mode::Enforce, &config, &[]).unwrap();
        if self.mark {
            as_the_doctor_says(&lab.edge);
        }
        let flooded = Flooded::begin(&lab, family, likeness);
        let what = format!("{name}, {family:?}, {backend}: cookies are {cookies}");
        let decided = agent
            .wait_until(&what, TIMEOUT, |status| status.mitigation("cookies") == Some(cookies))
            .unwrap();
        println!("{what}, {:?}", decided.mitigation_reason("cookies"));
        sleep(3 * SECOND);
        flooded.end(|flood| [flood.started, flood.ended])
    }
}

/// A validated client and new clients, and after a second a mimicking flood.
struct Flooded {
    clients: [Load; 2],
    flood: RunningFlood,
}

impl Flooded {
    fn begin(lab: &Lab, family: Family, likeness: Likeness) -> Self {
        let clients = [Home::One, Home::NewClients].map(|home| {
            let visitors = Visitors { rate: CLIENT_RATE, home, patience: SECOND };
            Load::of(&lab.client, family.service(), visitors).unwrap()
        });
        sleep(SECOND);
        let flood = Flood {
            shape: Shape::Copy(likeness),
            rate: 1_500,
            ..Flood::random(family.service(), 60 * SECOND)
        };
        Self { clients, flood: flood.start(lab).unwrap() }
    }

    /// Ends both. Returns the clients that began to connect in `span`, in nanoseconds since boot.
    fn end(self, span: impl FnOnce(&FloodReport) -> [u64; 2]) -> [Attempts; 2] {
        let [from, to] = span(&self.flood.stop().unwrap());
        let [known, new_clients] = self.clients.map(|load| load.finish().unwrap().begun(from, to));
        println!("  the validated client: {}", known.summary());
        println!("  new clients: {}", new_clients.summary());
        [known, new_clients]
    }
}

/// The clients where cookies are sent whatever the rules are, and the agent hangs: it does not compare cookies
/// with completed handshakes.
fn with_an_agent_that_hangs() -> [Attempts; 2] {
    let lab = lab();
    let likeness = Likeness::capture(&lab, Family::V4).unwrap();
    load(&lab.edge, NEW_NOT_SYN);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let config = config("own", "firewall = \"allow\"\n");
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, &config, &[]).unwrap();
    let flooded = Flooded::begin(&lab, Family::V4, likeness);
    agent
        .wait_until("cookies", TIMEOUT, |status| status.mitigation("cookies") == Some("active"))
        .unwrap();
    agent.pause().unwrap();
    let from = boot_ns();
    sleep(2 * SECOND);
    let to = boot_ns();
    agent.resume().unwrap();
    println!("cookies whatever the rules are, and an agent that hangs");
    flooded.end(|_| [from, to])
}

/// Cookies are refused, or taken where the rules accept them, and as many clients connect as before.
#[test]
fn g19_in_a_flood_no_packet_filter_locks_clients_out() {
    let row = Row::new(Goal::G19);
    let hosts = &Host::all()[..size(3, 17)];
    let cases = hosts.iter().map(Some).chain([None]);
    let mut ours = side_by_side(3, cases, |host| {
        host.map_or_else(with_an_agent_that_hangs, |host| host.in_a_flood())
    });
    let naive = ours.pop().expect("the naive variant");
    let clients: usize = ours.iter().flatten().map(|some| some.0.len()).sum();
    let share = |some: &Attempts| some.share_within(SECOND);
    let [known, new_clients] =
        [0, 1].map(|kind| ours.iter().map(|both| share(&both[kind])).fold(1.0, f64::min));
    let naive_clients: usize = naive.iter().map(|some| some.0.len()).sum();
    let naive_most = naive.iter().map(share).fold(0.0, f64::max);
    row.result(
        hosts.len() as u64,
        format!(
            "hosts with a packet filter in a flood: of {clients} clients, at least {:.1} % of the known ones \
             and {:.1} % of new clients at each connect within 1 s",
            100.0 * known,
            100.0 * new_clients
        ),
        f64::min(known, new_clients) >= 0.99,
    )
    .naive(
        1,
        format!("host: of {naive_clients} clients at most {:.1} % of a kind", 100.0 * naive_most),
        naive_most < 0.1,
    )
    .finish();
}
