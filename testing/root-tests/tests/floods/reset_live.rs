//! Cost of reset authentication for a client, for decision 27: the first SYN of a connection is answered by a
//! SYN-ACK with a wrong acknowledgement number, which a client resets (RFC 9293 §3.10.7.3), and the next SYN
//! goes to the host. Needs root and nft.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::packet::{Segment, flags};
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Load};
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
const CLIENTS: u32 = 50;
/// The thread looks whether it has to stop after so long without a frame.
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// The first SYN of each address and port is dropped.
const FIRST_SYN_DROPPED: &str = "\
table inet auth {
  set known {
    type ipv4_addr . inet_service
    flags dynamic,timeout
    timeout 1m
    size 4096
  }
  chain first {
    type filter hook prerouting priority -300
    tcp dport 443 tcp flags & (syn|ack) == syn ip saddr . tcp sport @known accept
    tcp dport 443 tcp flags & (syn|ack) == syn add @known { ip saddr . tcp sport } drop
  }
}";

/// Answers the first SYN of each connection with a wrong acknowledgement number, until `stop` is set. The
/// second goes to the host.
fn answer_wrongly(stop: &AtomicBool) -> Result<()> {
    let socket = PacketSocket::open(INTERFACE)?;
    let (mut buffer, mut known) = ([0; 2048], std::collections::HashSet::new());
    while !stop.load(Ordering::Relaxed) {
        let Some(length) = socket.try_receive(&mut buffer)? else {
            poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&LOOK_UP))?;
            continue;
        };
        let Some(syn) = Segment::parse(&buffer[..length]) else { continue };
        if syn.flags != flags::SYN || syn.dst.port() != PORT || !known.insert(syn.src) {
            continue;
        }
        let mut answer = Segment::new(syn.dst, syn.src, flags::SYN | flags::ACK);
        (answer.src_mac, answer.dst_mac) = (syn.dst_mac, syn.src_mac);
        (answer.ack, answer.window) = (syn.seq.wrapping_add(0x1000), 65_535);
        socket.send(&answer.to_frame())?;
    }
    Ok(())
}

/// Clients. Their first SYN is dropped, and gets a wrong SYN-ACK or none.
fn clients(answered: bool) -> Attempts {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    lab.edge.write("/run/auth.nft", FIRST_SYN_DROPPED).unwrap();
    lab.edge.exec("nft -f /run/auth.nft").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let answering =
        answered.then(|| lab.edge.spawn("auth", move || answer_wrongly(&stopped)).unwrap());
    let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    sleep(4 * SECOND);
    let attempts = load.finish().unwrap();
    stop.store(true, Ordering::Relaxed);
    if let Some(answering) = answering {
        answering.join().expect("a thread that does not panic").unwrap();
    }
    println!("answered wrongly: {answered}: {}", attempts.summary());
    attempts
}

#[test]
fn a_linux_client_sends_its_syn_again_at_once_when_the_answer_was_wrong() {
    let medians = side_by_side(2, [true, false], |answered| {
        let attempts = clients(answered);
        assert!(attempts.share_within(3 * SECOND) >= 0.99, "{}", attempts.summary());
        attempts.quantile(0.5).unwrap()
    });
    let [wrong, none] = medians[..] else { panic!("two medians") };
    println!("median: {wrong:.1?} when answered wrongly, {none:.1?} when not answered");
    assert!(none > SECOND, "{none:?}");
    assert!(wrong < SECOND / 5, "{wrong:?}");
}
