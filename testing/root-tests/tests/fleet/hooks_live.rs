//! Hooks: a real command and a real listener receive the events of an incident.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;
use tcpguard_fleet_kit::documents::PORT;
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::process::{Part, Process};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::stand_in::StandIn;
use tcpguard_fleet_kit::{wait_for, write_secret};
use tcpguard_kit::net::netns::Netns;

use crate::support::{SECOND, SOON, attack, calm, connected};

const HOST: u8 = 2;
/// The hook's program, and the files that it writes.
const PROGRAM: &str = "/run/hook";
const EVENTS: &str = "/run/hook.events";
const FACTS: &str = "/run/hook.facts";
const KEY: &str = "a key of the webhook";

fn install(machine: &Netns, script: &str) {
    machine
        .run(|| {
            std::fs::write(PROGRAM, format!("#!/bin/sh\n{script}\n"))?;
            Ok(std::fs::set_permissions(PROGRAM, std::fs::Permissions::from_mode(0o755))?)
        })
        .unwrap();
}

/// The documents that the program received, one a line.
fn events(machine: &Netns) -> Vec<Value> {
    let text = machine.read(EVENTS).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["event"].as_str()).collect()
}

/// Returns whether tcpdump reads a filter, for a capture of Ethernet without frames.
fn is_filter(filter: &str) -> bool {
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, 1];
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-r", "-", filter]).stdin(Stdio::piped());
    let mut tcpdump = tcpdump.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    // One that refuses the filter may not read it.
    let _ = tcpdump.stdin.take().unwrap().write_all(&bytes);
    tcpdump.wait().unwrap().success()
}

#[test]
fn a_command_receives_start_and_end_with_filters_and_a_text_for_the_provider() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let script = format!(
        "/bin/cat >> {EVENTS}; echo >> {EVENTS}; echo \"$# $1 HOME=$HOME\" >> {FACTS}; \
         read -r stat < /proc/$$/stat; set -- $stat; echo \"$1 $5\" >> {FACTS}"
    );
    install(&machine, &script);
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let hook = format!("[[hook]]\ncommand = [\"{PROGRAM}\", \"--quiet\"]\n");
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, &hook)).unwrap();
    connected(&edge);
    attack(&agent, 512);
    wait_for("the start", SOON, || Ok((!events(&machine).is_empty()).then_some(()))).unwrap();
    calm(&agent);
    wait_for("the end", SOON, || Ok((events(&machine).len() == 2).then_some(()))).unwrap();

    let received = events(&machine);
    assert_eq!(kinds(&received), ["start", "end"]);
    for event in &received {
        assert_eq!(event["schema"], "tcpguard.hook/1");
        assert_eq!(event["incident"]["class"], "random_spoofed");
        assert_eq!(event["incident"]["sources"], "spoofed");
        assert_eq!(event["incident"]["victims"][0], "192.0.2.10/32");
    }
    assert!(received[0]["id"].as_str() < received[1]["id"].as_str(), "ids rise");
    let provider = received[0]["provider"].as_str().unwrap();
    assert!(provider.contains("192.0.2.10"), "{provider}");
    let filter = received[0]["match"]["pcap"].as_str().unwrap();
    assert!(is_filter(filter), "{filter}");
    assert!(!is_filter("dst port and"), "a filter may be wrong");

    let facts = machine.read(FACTS).unwrap();
    let mut lines = facts.lines();
    assert_eq!(lines.next(), Some("1 --quiet HOME="), "arguments as configured, no environment");
    let ids: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "a process group of its own");
}

/// A command that hangs is killed with its children, and the next event comes to its turn.
#[test]
fn a_command_that_hangs_is_killed_and_holds_up_no_start_and_no_end() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    install(&machine, &format!("/bin/cat >> {EVENTS}; echo >> {EVENTS}; /bin/sleep 7777"));
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let hook = format!("[[hook]]\ncommand = [\"{PROGRAM}\"]\n");
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, &hook)).unwrap();
    connected(&edge);
    for window in [512, 513] {
        attack(&agent, window);
        std::thread::sleep(SECOND);
    }
    calm(&agent);
    // Two starts and two ends, of which each takes ten seconds.
    wait_for("four events", 60 * SECOND, || Ok((events(&machine).len() == 4).then_some(())))
        .unwrap();
    let received = events(&machine);
    let starts = kinds(&received).iter().filter(|kind| **kind == "start").count();
    assert_eq!(starts, 2, "{:?}", kinds(&received));
    let state = edge.status().unwrap();
    assert!(state["edge"]["hooks"][0]["failed"].as_u64() >= Some(3), "{state:#}");
    drop(edge);
    assert_eq!(sleepers(), 0, "children are left");
}

/// Number of the processes that sleep as long as the command does.
fn sleepers() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.filter(|line| line.ends_with(b"sleep\x007777\0")).count()
}

/// A request that a listener received.
struct Call {
    line: String,
    headers: String,
    body: Vec<u8>,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A listener of HTTP that answers with these status lines in turn, the last one for ever.
fn listener(machine: &Netns, port: u16, answers: &'static [&'static str]) -> Receiver<Call> {
    let (sender, receiver) = mpsc::channel();
    let bound = machine.run(|| Ok(TcpListener::bind(("127.0.0.1", port))?)).unwrap();
    std::thread::spawn(move || {
        let last = answers.last().copied();
        let mut answers =
            answers.iter().copied().chain(std::iter::repeat(last.unwrap_or_default()));
        for stream in bound.incoming().flatten() {
            let answer = answers.next().unwrap_or_default();
            if let Ok(call) = serve(stream, answer)
                && sender.send(call).is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn serve(mut stream: TcpStream, answer: &str) -> std::io::Result<Call> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut headers) = (String::new(), String::new());
    reader.read_line(&mut line)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        headers.push_str(&header);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(Call { line, headers, body })
}

#[test]
fn a_webhook_is_signed_tried_again_and_follows_no_redirect() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    write_secret(&machine, "/run/hook.key", KEY).unwrap();
    let calls = listener(&machine, 8080, &["503 Unavailable", "204 No Content"]);
    let elsewhere = listener(&machine, 8082, &["204 No Content"]);
    let redirecting =
        listener(&machine, 8081, &["302 Found\r\nlocation: http://127.0.0.1:8082/other"]);
    let hooks = "[[hook]]\nurl = \"http://127.0.0.1:8080/events?a=1\"\nkey = \"/run/hook.key\"\n\
                 [[hook]]\nurl = \"http://127.0.0.1:8081/\"\n";
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, hooks)).unwrap();
    connected(&edge);
    attack(&agent, 512);
    let [first, second] = [(); 2].map(|()| calls.recv_timeout(SOON).unwrap());
    assert!(first.line.starts_with("POST /events?a=1 HTTP/1.1"), "{}", first.line);
    let key = first.header("idempotency-key").unwrap();
    assert_eq!(second.header("idempotency-key"), Some(key), "the same event again");
    assert_eq!(first.body, second.body);
    let document: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(document["id"], key);

    // The receiver computes the signature by itself.
    machine.run(|| Ok(std::fs::write("/run/body", &first.body)?)).unwrap();
    let mut openssl = machine.command("openssl").unwrap();
    let output = openssl.args(["dgst", "-sha256", "-hmac", KEY, "/run/body"]).output().unwrap();
    let digest =
        String::from_utf8_lossy(&output.stdout).trim().rsplit(' ').next().map(str::to_owned);
    let expected = format!("sha256={}", digest.unwrap());
    assert_eq!(first.header("x-tcpguard-signature"), Some(expected.as_str()));

    redirecting.recv_timeout(SOON).unwrap();
    std::thread::sleep(5 * SECOND);
    assert!(elsewhere.try_recv().is_err(), "the redirect was followed");
    let state = edge.status().unwrap();
    let hooks = &state["edge"]["hooks"];
    assert_eq!(hooks[0]["delivered"], 1, "{hooks:#}");
    assert_eq!(hooks[1]["failed"], 1, "{hooks:#}");
    assert!(!state.to_string().contains(KEY), "no secret is shown");
}
