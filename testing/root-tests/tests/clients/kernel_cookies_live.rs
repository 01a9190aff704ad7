//! Real connections through cookies that the kernel makes and the XDP program sends: the back end of kernels 6.1 to
//! 6.8. Needs root.

use tcpguard::bpf::XdpMode;
use tcpguard_common::abi::{ListenerEntry, Reason};
use tcpguard_kit::daemon::armed::{Agreed, Armed, connection, listen};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions};

/// Values of `net.ipv4.tcp_timestamps`: the default, and timestamps without a random offset for each peer.
const DEFAULT: u8 = 1;
const PLAIN: u8 = 2;

/// Options that both ends agree on only if cookies carry them in timestamps.
const OPTIONS: [&str; 4] = ["ts", "sack", "wscale", "ecn"];

fn only(agreed: &Agreed) -> Agreed {
    let kept = agreed.iter().filter(|(name, _)| OPTIONS.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The sizes of the segments, as [`only`] has the rest.
fn sizes(agreed: &Agreed) -> [Option<&String>; 2] {
    ["mss", "advmss"].map(|name| agreed.get(name))
}

fn clients_connect(mode: XdpMode, host_timestamps: u8) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let listener = listen(&lab.edge);
    lab.edge.sysctl("net.ipv4.tcp_timestamps", &host_timestamps.to_string()).unwrap();
    let armed = Armed::attach_without_redeemer(&lab, mode).unwrap();
    let clients = [true, false]
        .into_iter()
        .flat_map(|timestamps| [false, true].map(|ecn| (timestamps, ecn)).into_iter());
    let clients: Vec<(bool, bool)> = clients.collect();
    let dress = |(timestamps, ecn): (bool, bool)| {
        let client = &lab.client;
        client.sysctl("net.ipv4.tcp_timestamps", &u8::from(timestamps).to_string()).unwrap();
        client.sysctl("net.ipv4.tcp_ecn", if ecn { "1" } else { "2" }).unwrap();
    };
    let mut without = Vec::new();
    for client in &clients {
        dress(*client);
        for family in Family::BOTH {
            without.push(connection(&lab, &listener, family).unwrap());
        }
    }
    lab.edge.sysctl("net.ipv4.tcp_syncookies", "2").unwrap();
    armed.configure(|config| config.kernel_timestamps = (host_timestamps == PLAIN).into()).unwrap();
    let learned = armed.counters();
    armed.set_mitigations(ListenerEntry::KERNEL_COOKIES | ListenerEntry::OUT_OF_STATE).unwrap();
    let mut without = without.into_iter();
    let mut count = 0;
    for client in &clients {
        dress(*client);
        let (timestamps, ecn) = *client;
        for family in Family::BOTH {
            let ends = connection(&lab, &listener, family).unwrap();
            let [here, there] = &ends;
            println!(
                "{mode:?} {family:?}, tcp_timestamps {host_timestamps}, client with timestamps \
                 {timestamps}, ECN {ecn}\n  client {here:?}\n  server {there:?}"
            );
            for (end, before) in ends.iter().zip(without.next().unwrap()) {
                if timestamps && host_timestamps == PLAIN {
                    assert_eq!(*end, before, "everything is kept");
                } else {
                    assert_eq!(only(end), Agreed::new(), "nothing but the MSS is kept");
                    // Without timestamps each segment has their twelve bytes more.
                    let more = if timestamps { 12 } else { 0 };
                    let size = |agreed: &Agreed| agreed["mss"].parse::<u32>().unwrap();
                    assert_eq!(size(end), size(&before) + more, "{:?}", sizes(end));
                }
            }
            count += 1;
        }
    }
    armed.wait_until("every connection came by a cookie", |counters| {
        counters.established == learned.established + count
    });
    let counters = armed.counters();
    assert_eq!(counters.cookies_sent, count, "{counters:?}");
    assert_eq!(counters.cookies_redeemed, count, "each found good once: {counters:?}");
    assert_eq!(counters.syn_ack, learned.syn_ack, "the stack answered none: {counters:?}");
    assert_eq!(counters.refused, 0, "{counters:?}");
    let packets = armed.dataplane.packets(0).unwrap();
    assert_eq!(packets.reasons[Reason::Cookie as usize], count);
    assert_eq!(packets.reasons[Reason::DropOutOfState as usize], 0);
    assert_eq!(armed.dataplane.returned_cookies(0).unwrap().invalid, 0);
    // Where the kernel makes none, the SYN goes on to it.
    lab.edge.sysctl("net.ipv4.tcp_syncookies", "1").unwrap();
    connection(&lab, &listener, Family::V4).unwrap();
    assert_eq!(armed.counters().cookies_sent, count);
    assert!(armed.counters().syn_ack > learned.syn_ack);
}

#[test]
fn clients_keep_their_mss_at_the_default_sysctl() {
    clients_connect(XdpMode::Native, DEFAULT);
}

#[test]
fn clients_keep_their_mss_at_the_default_sysctl_in_generic_mode() {
    clients_connect(XdpMode::Generic, DEFAULT);
}

#[test]
fn clients_with_timestamps_keep_all_at_plain_ones() {
    clients_connect(XdpMode::Native, PLAIN);
}

#[test]
fn clients_with_timestamps_keep_all_at_plain_ones_in_generic_mode() {
    clients_connect(XdpMode::Generic, PLAIN);
}
