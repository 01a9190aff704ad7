//! Credentials and the server's configuration as `tcpguard fleet enroll` makes them, with the real server.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tcpguard_fleet_kit::bus::program;
use tcpguard_fleet_kit::documents::{self, PORT};
use tcpguard_fleet_kit::network::Network;
use tcpguard_fleet_kit::process::{self, Part, Process};
use tcpguard_fleet_kit::stand_in::StandIn;
use tcpguard_fleet_kit::{wait_for, write_secret};
use tcpguard_kit::net::netns::Netns;

use crate::support::{LEARNED_WITHIN, SOON, attack, connected, is_hint};

/// Numbers of the machines.
const BUS: u8 = 1;
const OPERATOR: u8 = 6;
const HOSTS: [u8; 2] = [2, 3];
/// Time of all commands of the set-up, as docs/fleet.md states it.
const SET_UP: Duration = Duration::from_secs(30);

/// A server that ends when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Output of a verb on the operator's machine.
fn operate(desk: &Netns, arguments: &[&str]) -> Result<String> {
    let output = process::cli(desk, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The credentials of a host, made on the operator's machine, and the server's configuration.
fn enroll(desk: &Netns, number: u8, part: &str) -> Result<(String, String)> {
    let (name, out) = (documents::name(number), format!("/run/{number}.creds"));
    let arguments =
        ["enroll", &name, "--as", part, "--authority", "/run/authority.json", "--out", &out];
    let server = operate(desk, &arguments)?;
    Ok((desk.read(&out)?, server))
}

/// Gives the server its configuration, with the certificate and with other directories.
fn configure(bus: &Netns, server: &str) -> Result<()> {
    let edited = server.replace("#tls {", "tls {").replace("/etc/nats/", "/run/");
    write_secret(bus, "/run/nats.conf", &edited.replace("/var/lib/nats", "/run/nats"))
}

/// Makes the authority and the certificate of the server by the commands of the manual, in `/run` of the operator's
/// machine.
fn make_certificate(desk: &Netns, address: &str) -> Result<()> {
    let page = include_str!("../../../../docs/fleet.md");
    let step =
        page.split_once("**3. Certificate.**").and_then(|(_, rest)| rest.split_once("```sh\n"));
    let commands = step.and_then(|(_, rest)| rest.split_once("```")).context("no commands")?.0;
    let commands = commands.replace("DNS:nats.example.net", &format!("IP:{address}"));
    let script = format!("cd /run\n{}", commands.replace("nats.example.net", address));
    let output = desk.command("sh")?.args(["-ec", &script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn start(bus: &Netns) -> Result<Server> {
    let mut command = bus.command(program()?)?;
    command.args(["-c", "/run/nats.conf"]).stdin(Stdio::null());
    let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(Server(server))
}

#[test]
fn a_fleet_is_set_up_by_the_commands_of_the_manual() {
    let network = Network::new().unwrap();
    let bus = Netns::new("bus").unwrap();
    let desk = Netns::new("desk").unwrap();
    network.join(&bus, BUS).unwrap();
    network.join(&desk, OPERATOR).unwrap();
    let (begun, address) = (Instant::now(), Network::address(BUS));
    make_certificate(&desk, &address.to_string()).unwrap();
    let ca = desk.read("/run/fleet-ca.pem").unwrap();
    let config = |number: u8, more: &str| {
        let name = documents::name(number);
        format!(
            "host = \"{name}\"\n[bus]\nservers = [\"tls://{address}:4222\"]\n\
             credentials = \"/run/fleet.creds\"\nauthorities = \"/run/fleet-ca.pem\"\n{more}"
        )
    };
    let (credentials, server) = enroll(&desk, OPERATOR, "operator").unwrap();
    write_secret(&desk, "/run/fleet.creds", &credentials).unwrap();

    // The administrator of the bus adds the certificate.
    bus.write("/run/server.pem", &desk.read("/run/server.pem").unwrap()).unwrap();
    write_secret(&bus, "/run/server.key", &desk.read("/run/server.key").unwrap()).unwrap();
    configure(&bus, &server).unwrap();
    let running = start(&bus).unwrap();

    let role = operate(&desk, &["key", "/run/ops.key"]).unwrap();
    let operator = "[operator]\nrole = \"ops\"\nkey = \"/run/ops.key\"\n";
    desk.write(process::CONFIG, &config(OPERATOR, operator)).unwrap();
    wait_for("the store", SOON, || Ok(operate(&desk, &["make-store"]).ok())).unwrap();

    let machines = HOSTS.map(|number| {
        let machine = Netns::new(&documents::name(number)).unwrap();
        network.join(&machine, number).unwrap();
        let (credentials, again) = enroll(&desk, number, "edge").unwrap();
        assert_eq!(server, again, "the server knows no host");
        write_secret(&machine, "/run/fleet.creds", &credentials).unwrap();
        machine.write("/run/fleet-ca.pem", &ca).unwrap();
        machine
    });
    let agents = machines.each_ref().map(|machine| StandIn::start(machine, &[PORT]).unwrap());
    let edges: Vec<Process<'_>> = HOSTS
        .iter()
        .zip(&machines)
        .map(|(number, machine)| {
            Process::start(machine, Part::Edge, &config(*number, &role)).unwrap()
        })
        .collect();
    edges.iter().for_each(connected);
    println!("set up after {:.1} s", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < SET_UP, "{:?}", begun.elapsed());
    attack(&agents[0], 512);
    agents[1].wait_for("the hint", LEARNED_WITHIN, |message| is_hint(message, 512)).unwrap();
    operate(&desk, &["block", "203.0.113.0/24", "--for", "10m", "--reason", "test"]).unwrap();
    for edge in &edges {
        edge.wait_until("the rule", SOON, |state| {
            state["edge"]["rules"].as_array().map(Vec::len) == Some(1)
        })
        .unwrap();
    }

    // A revocation ends the connection of its host alone.
    let revoked = documents::name(HOSTS[0]);
    let arguments = ["enroll", &revoked, "--revoke", "--authority", "/run/authority.json"];
    configure(&bus, &operate(&desk, &arguments).unwrap()).unwrap();
    let server = running.0.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &server]).status().unwrap().success());
    edges[0].wait_until("the refusal", SOON, |state| state["bus"]["refused"] == true).unwrap();
    connected(&edges[1]);
}
