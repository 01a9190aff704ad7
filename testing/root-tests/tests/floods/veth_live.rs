//! A veth whose other end discards frames that XDP sends back, as in most containers. The agent notices
//! before the first cookie is sent, and clients get in. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard::bpf::XdpMode;
use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::armed::Armed;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second. In a flood, so many of a validated client, and as many of new clients.
const CLIENTS: u32 = 50;
/// At least this share of clients is served within their patience.
const SERVED: f64 = 0.99;
/// Most of the clients that the naive variant may serve. On a busy machine a few are.
const NAIVE_SERVED: f64 = 0.5;
const NO_PROGRAM: &str = "its peer has no native XDP program: frames sent by XDP_TX are lost";

/// A mimicking flood, while a validated client and new clients come on schedule; the last status of it.
fn flooded(lab: &Lab, agent: &Agent<'_>, family: Family) -> (Status, [Attempts; 2]) {
    let likeness = Likeness::capture(lab, family).unwrap();
    let loads = [Home::One, Home::NewClients].map(|home| {
        let visitors = Visitors { rate: CLIENTS, home, patience: PATIENCE };
        Load::of(&lab.client, family.service(), visitors).unwrap()
    });
    sleep(3 * SECOND);
    let flood = Flood {
        shape: Shape::Copy(likeness),
        rate: size(5_000, 100_000),
        ..Flood::random(family.service(), 8 * SECOND)
    };
    let flood = flood.start(lab).unwrap().wait().unwrap();
    let status = agent.status().unwrap();
    // One load ends after the other, and a client that comes after the flood proves nothing.
    let [known, new_clients] = loads.map(|load| load.finish().unwrap().begun(0, flood.ended));
    println!("  the validated client: {}", known.summary());
    println!("  new clients: {}", new_clients.summary());
    (status, [known, new_clients])
}

/// A host behind a veth whose other end discards frames that XDP sends back.
#[derive(Clone, Copy, Debug)]
struct Veth {
    family: Family,
    /// GRO of its other end: `off` or `on`.
    gro: &'static str,
}

impl Veth {
    /// GRO off and on over IPv4, then over IPv6.
    fn all() -> Vec<Self> {
        let of = |family| ["off", "on"].map(|gro| Self { family, gro });
        Family::BOTH.map(of).concat()
    }

    /// Cookies that were sent in a flood, and its clients. The status states why none is sent.
    fn in_a_flood(self) -> (u64, [Attempts; 2]) {
        println!("{self:?}:");
        let lab = Lab::new(LabOptions::default()).unwrap().lose_answers(self.gro).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent =
            Agent::start_with(&lab.edge, Mode::Enforce, "", &["--xdp-mode", "native"]).unwrap();
        let (status, clients) = flooded(&lab, &agent, self.family);
        assert_ne!(status.mitigation("cookies"), Some("active"), "{self:?}");
        let document = status.document().to_string();
        assert!(document.contains(NO_PROGRAM), "{self:?}: {document}");
        let doctor = cli(&lab.edge, &["doctor", "-i", INTERFACE]).unwrap();
        let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(doctor.contains("other_end") && doctor.contains("generic"), "{doctor}");
        (status.listener_total(PORT, "cookies_sent"), clients)
    }
}

/// Cookies that were sent through such a veth all the same, and the share of clients that were served
/// meanwhile. There is no flood.
fn with_cookies_all_the_same(family: Family) -> (u64, f64) {
    let lab = Lab::new(LabOptions::default()).unwrap().lose_answers("off").unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let armed = Armed::attach(&lab, XdpMode::Native).unwrap();
    let served = |lasts: u32| {
        let load = Load::start(&lab.client, family.service(), CLIENTS).unwrap();
        sleep(lasts * SECOND);
        load.finish().unwrap().share_within(SECOND)
    };
    assert!(served(2) >= SERVED, "how the service answers is learned");
    armed.arm().unwrap();
    let share = served(2);
    let sent = armed.counters().cookies_sent;
    println!("{family:?}: {sent} cookies sent all the same; {:.1} % of clients", 100.0 * share);
    (sent, share)
}

#[test]
fn g20_a_veth_without_xdp_tx_locks_no_client_out() {
    let row = Row::new(Goal::G20).named("veth");
    // Over IPv4 only, or each twice.
    let cases = size(Veth::all()[..2].to_vec(), Veth::all().repeat(2));
    let naive_cases = &Family::BOTH[..size(1, 2)];
    let ours = side_by_side(size(2, 1), &cases, |veth| veth.in_a_flood());
    let naive: Vec<(u64, f64)> =
        naive_cases.iter().map(|family| with_cookies_all_the_same(*family)).collect();
    let sent: u64 = ours.iter().map(|(sent, _)| sent).sum();
    let clients: usize = ours.iter().flat_map(|(_, both)| both).map(|some| some.0.len()).sum();
    let [known, new_clients] = [0, 1].map(|kind| {
        let shares = ours.iter().map(|(_, both)| both[kind].share_within(PATIENCE));
        shares.fold(1.0, f64::min)
    });
    let naive_sent: u64 = naive.iter().map(|(sent, _)| sent).sum();
    let naive_most = naive.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    row.result(
        cases.len() as u64,
        format!(
            "floods over a veth whose other end discards what XDP sends back: {sent} cookies sent; of \
             {clients} clients, at least {:.1} % of the validated ones and {:.1} % of new clients in each are \
             served within {PATIENCE:?}",
            100.0 * known,
            100.0 * new_clients
        ),
        sent == 0 && f64::min(known, new_clients) >= SERVED,
    )
    .naive(
        naive_cases.len() as u64,
        format!(
            "such veths without a flood: {naive_sent} cookies sent all the same, at most {:.1} % of \
             clients served within 1 s",
            100.0 * naive_most
        ),
        naive.iter().all(|(sent, share)| *sent >= 100 && *share <= NAIVE_SERVED),
    )
    .finish();
}

/// Left to itself, the agent takes generic mode there, in which nothing is lost, and leaves native mode when it starts anew.
#[test]
fn auto_is_generic_on_such_a_veth_and_clients_get_cookies() {
    let control = Control::start().unwrap();
    let lab = Lab::new(LabOptions::default()).unwrap().lose_answers("off").unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let native = "[interfaces]\nxdp_mode = \"native\"\n";
    let mut agent = Agent::start_with(&lab.edge, Mode::Enforce, native, &[]).unwrap();
    assert_eq!(agent.status().unwrap().xdp_mode(), "native");
    agent.stop().unwrap();
    agent.start_again_with(Mode::Enforce, "").unwrap();
    let (status, clients) = flooded(&lab, &agent, Family::V4);
    assert_eq!(status.xdp_mode(), "generic", "{}", agent.log());
    assert!(status.health().iter().all(|(code, _)| code != "xdp_generic"), "{}", status.document());
    assert!(status.listener_total(PORT, "cookies_redeemed") > 100, "{}", agent.log());
    for some in clients {
        control.assert_served(&some);
    }
}
