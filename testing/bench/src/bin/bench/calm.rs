//! The price of tcpguard while no attack is under way: the rate of bulk TCP, and CPU time for a new connection.
//!
//! A veth hands packets of TSO over whole. With TSO of the peer off and GRO of the host on, it stands for a network card:
//! segments arrive, and GRO merges them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::net::sockopt::set_socket_linger;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::net::lab::INTERFACE;
use tcpguard_kit::net::netns::Netns;

use crate::page;
use crate::part::Table;
use crate::samples::Samples;

const HOST: &str = "10.9.0.2";
const BULK: u16 = 5201;
const SHORT: u16 = 80;
const QUESTION: usize = 100;
const ANSWER: usize = 200;
/// TCP has found its speed.
const WARM: Duration = Duration::from_millis(300);

/// Bulk TCP and new connections, with and without tcpguard; needs root and two CPUs
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench calm", max_term_width = 100)]
struct Options {
    /// Rounds through all settings
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for which each is measured
    #[arg(long, default_value_t = 1.0)]
    window: f64,
}

/// Agents on the host.
const ARMS: [(&str, Option<&str>, bool); 5] = [
    ("without tcpguard", None, false),
    ("native", Some("native"), false),
    ("native, cookies", Some("native"), true),
    ("generic", Some("generic"), false),
    ("generic, cookies", Some("generic"), true),
];

/// The link between client and host: name, MTU, and whether segments arrive, as from a network card.
const LINKS: [(&str, u32, bool); 4] = [
    ("veth, MTU 1500", 1500, false),
    ("veth, MTU 9000", 9000, false),
    ("segments and GRO, MTU 1500", 1500, true),
    ("segments and GRO, MTU 9000", 9000, true),
];

/// Gbit/s received and sent, and microseconds for a connection, round by round.
type Row = [Samples; 3];

/// `bench calm`: prints a table.
///
/// # Errors
/// When the lab fails.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench calm").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    crate::e2e::able()?;
    let window = Duration::from_secs_f64(options.window);
    let mut rows: Vec<Vec<Row>> = vec![vec![Row::default(); ARMS.len()]; LINKS.len()];
    for _ in 0..options.rounds.max(1) {
        for ((_, mtu, segments), rows) in LINKS.into_iter().zip(&mut rows) {
            let lab = Lab::new(mtu, segments)?;
            for ((_, xdp_mode, cookies), row) in ARMS.into_iter().zip(rows) {
                let measured = lab.measure(xdp_mode, cookies, window)?;
                row.iter_mut().zip(measured).for_each(|(samples, one)| samples.push(one));
            }
        }
    }
    let columns = [
        "link",
        "program",
        "received, Gbit/s",
        "×",
        "sent, Gbit/s",
        "×",
        "µs for a connection",
        "×",
    ];
    let table = Table { columns: columns.map(str::to_owned).to_vec(), rows: cells(&rows) };
    println!("{}", page::markdown(&table));
    Ok(())
}

/// Each value, and its ratio to that of the same round without tcpguard.
fn cells(rows: &[Vec<Row>]) -> Vec<Vec<String>> {
    let of_link = |((link, ..), rows): (&(&str, u32, bool), &Vec<Row>)| {
        let of_arm = |((arm, ..), row): (&(&str, Option<&str>, bool), &Row)| {
            let values = row.iter().zip(&rows[0]).flat_map(|(samples, bare)| {
                let median = samples.median().unwrap_or_default();
                [format!("{median:.1}"), samples.over(bare).cell(2)]
            });
            [(*link).to_owned(), (*arm).to_owned()].into_iter().chain(values).collect()
        };
        ARMS.iter().zip(rows).map(of_arm).collect::<Vec<Vec<String>>>()
    };
    LINKS.iter().zip(rows).flat_map(of_link).collect()
}

/// A host and a client with a cable, without the slow parts of the lab of floods.
struct Lab {
    host: Netns,
    client: Netns,
}

impl Lab {
    fn new(mtu: u32, segments: bool) -> Result<Self> {
        let (mut host, mut client) = (Netns::new("host")?, Netns::new("client")?);
        client.ip(&[
            &format!(
                "link add far mtu {mtu} type veth peer name {INTERFACE} mtu {mtu} netns {}",
                host.path()
            ),
            "addr add 10.9.0.1/24 dev far",
            "link set far up",
        ])?;
        host.ip(&[
            &format!("addr add {HOST}/24 dev {INTERFACE}"),
            &format!("link set {INTERFACE} up"),
        ])?;
        if segments {
            client.exec("ethtool -K far tso off gso off")?;
            host.exec(&format!("ethtool -K {INTERFACE} gro on"))?;
        }
        let bulk = host.run(|| Ok(TcpListener::bind((HOST, BULK))?))?;
        host.spawn("bulk", move || serve(&bulk, |stream| drop(spawn(|| pump(stream)))))?;
        // All work for a connection happens on one CPU, so that the time is that of the CPU.
        for netns in [&mut host, &mut client] {
            netns.keep_on_cpu(1);
        }
        let short = host.run(|| Ok(TcpListener::bind((HOST, SHORT))?))?;
        host.spawn("short", move || serve(&short, |stream| drop(answer(stream))))?;
        Ok(Self { host, client })
    }

    /// Gbit/s received and sent by the host, and microseconds for a connection.
    fn measure(&self, xdp_mode: Option<&str>, cookies: bool, window: Duration) -> Result<[f64; 3]> {
        let agent = xdp_mode.map(|mode| {
            let config = format!("[interfaces]\nxdp_mode = \"{mode}\"\n");
            Agent::start_with(&self.host, Mode::Enforce, &config, &[])
        });
        let agent = agent.transpose()?;
        let result = self.traffic(cookies, window);
        drop(agent);
        result
    }

    fn traffic(&self, cookies: bool, window: Duration) -> Result<[f64; 3]> {
        self.client.run(|| connections(WARM))?;
        if cookies {
            for port in [BULK, SHORT] {
                let listener = format!("{HOST}:{port}");
                let ordered =
                    cli(&self.host, &["mitigation", &listener, "cookies", "on", "--for", "10m"])?;
                ensure!(ordered.status.success(), "no cookies: {ordered:?}");
            }
            sleep(WARM);
        }
        Ok([
            self.client.run(|| transfer(b's', window))?,
            self.client.run(|| transfer(b'r', window))?,
            self.client.run(|| connections(window))?,
        ])
    }
}

/// Handles each connection until the listener fails.
fn serve(listener: &TcpListener, handle: impl Fn(TcpStream)) -> Result<()> {
    loop {
        handle(listener.accept()?.0);
    }
}

/// Receives or sends, as the client's first byte says, until the client goes.
fn pump(mut stream: TcpStream) {
    let (mut buffer, mut order) = (vec![0; 1 << 17], [0]);
    let sends = stream.read_exact(&mut order).is_ok() && order == *b"r";
    while moves(&mut stream, &mut buffer, sends).is_ok_and(|bytes| bytes > 0) {}
}

fn moves(stream: &mut TcpStream, buffer: &mut [u8], sends: bool) -> std::io::Result<usize> {
    if sends { stream.write(buffer) } else { stream.read(buffer) }
}

/// Gbit/s of a transfer: `s` to the host, `r` from it.
fn transfer(order: u8, window: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect((HOST, BULK))?;
    stream.write_all(&[order])?;
    let (mut buffer, begun) = (vec![0; 1 << 17], Instant::now());
    let (mut bytes, mut first) = (0, None);
    while begun.elapsed() < WARM + window {
        let moved = moves(&mut stream, &mut buffer, order == b's')?;
        match first {
            Some(_) => bytes += moved,
            None if begun.elapsed() >= WARM => first = Some(Instant::now()),
            None => {}
        }
    }
    let took = first.context("nothing was transferred")?.elapsed();
    Ok(bytes as f64 * 8e-9 / took.as_secs_f64())
}

fn answer(mut stream: TcpStream) -> std::io::Result<usize> {
    stream.read_exact(&mut [0; QUESTION])?;
    stream.write(&[0; ANSWER])
}

/// Microseconds for a connection with a question and an answer, one after the other.
fn connections(window: Duration) -> Result<f64> {
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < window {
        let mut stream = TcpStream::connect((HOST, SHORT))?;
        stream.write_all(&[0; QUESTION])?;
        stream.read_exact(&mut [0; ANSWER])?;
        // A reset, so that no port is left in TIME_WAIT.
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        count += 1;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}
