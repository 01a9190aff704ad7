//! State that an agent finds changed: pins of another version at a start, and a damaged configuration at a
//! reload. Needs root and `TCPGUARD_BIN`.

use std::ops::AddAssign;

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_kit::daemon::agent::{self, Agent, Mode, cli};
use tcpguard_kit::daemon::pins::{PIN_DIR, pretend_layout};
use tcpguard_kit::net::lab::{INTERFACE, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::random::Random;

/// Programs that see the interface's outgoing packets.
fn egress_programs(host: &Netns) -> usize {
    let query = || Ok(SchedClassifier::query_tcx(INTERFACE, TcAttachType::Egress)?.1.len());
    host.run(query).unwrap()
}

/// The kernel's id of the link at XDP, as the agent says, if it protects.
fn link(agent: &Agent<'_>) -> Option<u64> {
    let status = agent.status().ok().filter(|status| status.state() == "protecting")?;
    status.document()["interfaces"][0]["link_id"].as_u64()
}

/// Returns whether an agent that starts after this `change` of the pins protects by the same link as the one
/// before, and nothing is counted twice.
fn is_taken_over(agent: &mut Agent<'_>, host: &Netns, change: impl Fn()) -> bool {
    let before = link(agent).expect("it protects");
    agent.stop().unwrap();
    change();
    agent.start_again(Mode::Enforce).is_ok()
        && link(agent) == Some(before)
        && egress_programs(host) == 1
}

/// The naive variant knows only the layout of its own version, and takes another version's program for a
/// foreign one.
#[test]
fn g15_what_another_version_pinned_is_taken_over() {
    let row = Row::new(Goal::G15).named("pins");
    let times = size(4, 20);
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let mitigations = (0..times).map(|time| if time % 2 == 0 { -1 } else { 1 });
    let taken = mitigations
        .filter(|step| {
            is_taken_over(&mut agent, &lab.edge, || pretend_layout(&lab.edge, *step).unwrap())
        })
        .count() as u64;
    let rename = || {
        let find = format!("find {PIN_DIR} -mindepth 1 -maxdepth 1 -type d -name v*");
        for layout in lab.edge.exec(&find).unwrap().lines() {
            let unknown = layout.replace("/v", "/unknown-v");
            lab.edge.exec(&format!("mv {layout} {unknown}")).unwrap();
        }
    };
    let naive = is_taken_over(&mut agent, &lab.edge, rename);
    row.result(times, format!("layouts: {taken} taken over by the next agent"), taken == times)
        .naive(1, format!("layout of a name that is not known: {naive}"), !naive)
        .finish();
}

const CONFIG: &str = "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n[detection]\n\
    clear_s = 30\nfast_min = 64\n[protect]\nprefixes = [\"203.0.113.0/24\"]\n[policy]\n\
    rule_ttl_max_s = 3600\n[[listener]]\nat = \":443\"\nmode = \"observe\"\n";

/// Results of an agent that was given damaged configurations.
#[derive(Debug, Default)]
struct Given {
    understood: u64,
    refused: u64,
    /// Refused without a line and a column in the status.
    unnamed: u64,
    /// Refused, and the agent is not as before.
    changed: u64,
}

impl AddAssign for Given {
    fn add_assign(&mut self, more: Self) {
        self.understood += more.understood;
        self.refused += more.refused;
        self.unnamed += more.unnamed;
        self.changed += more.changed;
    }
}

/// State of an agent that should not change.
fn course(agent: &Agent<'_>) -> Option<(String, Option<u64>, u64)> {
    let status = agent.status().ok()?;
    let pid = status.document()["daemon"]["pid"].as_u64()?;
    Some((status.state().to_owned(), status.rules_in_kernel(), pid))
}

/// Lets `apply` have the agent take up this configuration, and says whether it did.
fn given(
    agent: &mut Agent<'_>,
    lab: &Lab,
    config: &str,
    apply: fn(&mut Agent<'_>, &Lab) -> bool,
) -> Given {
    let before = course(agent).expect("an agent");
    lab.edge.write(agent::CONFIG, config).unwrap();
    if apply(agent, lab) {
        return Given { understood: 1, ..Given::default() };
    }
    let config = agent.status().map(|status| status.document()["daemon"]["config"].clone());
    let error = config.ok().and_then(|config| Some(config["error"].as_str()?.to_owned()));
    // FILE:LINE:COLUMN: …
    let place = error.as_deref().and_then(|error| error.strip_prefix(agent::CONFIG));
    let numbers = place.map(|place| place.split(':').skip(1).take(2).map(str::parse::<u32>));
    let is_named = numbers.is_some_and(|numbers| numbers.flatten().count() == 2);
    Given {
        refused: 1,
        unnamed: u64::from(!is_named),
        changed: u64::from(course(agent).as_ref() != Some(&before)),
        ..Given::default()
    }
}

fn reload(_: &mut Agent<'_>, lab: &Lab) -> bool {
    cli(&lab.edge, &["reload"]).unwrap().status.success()
}

/// A new configuration for a program that has no reload and keeps no valid configuration.
fn restart(agent: &mut Agent<'_>, lab: &Lab) -> bool {
    agent.stop().unwrap();
    lab.edge.exec(&format!("rm {}/config.json", agent::STATE_DIR)).unwrap();
    agent.start_again_by_file().is_ok()
}

#[test]
fn g15_a_damaged_configuration_changes_nothing_of_a_running_agent() {
    let row = Row::new(Goal::G15).named("reload");
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start_by_file(&lab.edge, CONFIG).unwrap();
    assert!(cli(&lab.edge, &["block", "198.51.100.0/24"]).unwrap().status.success());
    let mut random = Random::new(seed());
    let mut damaged = || {
        let place = random.between(0, CONFIG.len() as u64 - 1) as usize;
        if random.between(0, 3) == 0 {
            return CONFIG[..place].to_owned();
        }
        let mut bytes = CONFIG.as_bytes().to_vec();
        bytes[place] = random.between(0x20, 0x7e) as u8;
        String::from_utf8(bytes).unwrap()
    };
    let (times, mut ours, mut naive) = (size(30, 500), Given::default(), Given::default());
    for _ in 0..times {
        ours += given(&mut agent, &lab, &damaged(), reload);
        // The configuration that was understood may set another mode.
        lab.edge.write(agent::CONFIG, CONFIG).unwrap();
        assert!(reload(&mut agent, &lab), "{}", agent.log());
    }
    assert!(ours.refused > times / 4 && ours.understood > 0, "{ours:?}");
    while naive.refused == 0 {
        naive += given(&mut agent, &lab, &damaged(), restart);
    }
    let Given { refused, unnamed, changed, .. } = ours;
    row.result(
        times,
        format!(
            "reloads: {refused} refused, {unnamed} without a place, {changed} changed something"
        ),
        unnamed + changed == 0,
    )
    .naive(
        naive.understood + naive.refused,
        format!("restarts: {} refused, {} changed something", naive.refused, naive.changed),
        naive.changed == naive.refused,
    )
    .finish();
}
