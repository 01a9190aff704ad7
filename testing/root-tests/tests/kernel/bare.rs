//! Tests of the programs that make a packet again for each test run, which the benchmark puts before the
//! programs that it times. Needs root.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use tcpguard::bpf::{Load, Object};
use tcpguard_kit::net::bare::{BareProgram, Conntrack, Frames, Sources, Wrapper};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};

// `enum xdp_action`
const XDP_ABORTED: u32 = 0;
const XDP_PASS: u32 = 2;

const DRAWN: usize = 500;

/// A SYN of each family.
fn syns() -> [Segment; 2] {
    [("203.0.113.6:4000", "192.0.2.1:443"), ("[2001:db8::9]:4000", "[2001:db8::1]:443")].map(
        |(src, dst)| {
            let mut syn = Segment::new(src.parse().unwrap(), dst.parse().unwrap(), flags::SYN);
            (syn.seq, syn.window, syn.dont_fragment) = (0x0123_4567, 64_240, src.contains('.'));
            syn.options = linux_syn_options(1460, 1);
            syn
        },
    )
}

/// A packet of `length` bytes with nothing of `frame` but where it begins.
fn spoilt(frame: &[u8], length: usize) -> Vec<u8> {
    let mut spoilt = vec![0xa5; length];
    spoilt[..14].copy_from_slice(&frame[..14]);
    spoilt
}

/// Network by which the program limits its replies: IPv4 /24, IPv6 /48.
fn network(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3].to_vec(),
        IpAddr::V6(v6) => v6.octets()[..6].to_vec(),
    }
}

#[test]
fn one_flow_is_the_same_frame_again_whatever_came() {
    for syn in syns() {
        let frame = syn.to_frame();
        let wrapper = Wrapper::new(&frame, Sources::One).unwrap();
        for length in [frame.len() - 20, frame.len(), frame.len() + 20] {
            let out =
                wrapper.xdp(Frames::Pieces, None).unwrap().output(&spoilt(&frame, length)).unwrap();
            assert_eq!(out, frame, "{length} bytes at XDP");
        }
        let out = wrapper.tc(None).unwrap().output(&spoilt(&frame, frame.len())).unwrap();
        assert_eq!(out, frame, "at tc");
    }
}

#[test]
fn spoofed_sources_are_many_and_their_checksums_right() {
    for syn in syns() {
        let frame = syn.to_frame();
        let wrapper = Wrapper::new(&frame, Sources::EVERYWHERE).unwrap();
        for (program, extra) in
            [(wrapper.xdp(Frames::Pieces, None).unwrap(), 20), (wrapper.tc(None).unwrap(), 0)]
        {
            let (mut networks, mut ports) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..DRAWN {
                let out = program.output(&spoilt(&frame, frame.len() + extra)).unwrap();
                let mut drawn = Segment::parse(&out).unwrap();
                assert_eq!(drawn.to_frame(), out, "length and checksums are right");
                networks.insert(network(drawn.src.ip()));
                ports.insert(drawn.src.port());
                (drawn.src, drawn.seq, drawn.ip_id) = (syn.src, syn.seq, syn.ip_id);
                assert_eq!(drawn, syn, "nothing else has changed");
            }
            // Of 8,192, 500 are alike in two now and then: in 15, on average.
            assert!(networks.len() > DRAWN - 50, "{} networks", networks.len());
            assert!(ports.len() > DRAWN - 50, "{} ports", ports.len());
        }
    }
}

#[test]
fn what_a_wrapper_makes_reaches_the_next_program() {
    let object = Object::load(Load::default()).unwrap();
    let ingress = object.ingress_fd().unwrap();
    for syn in syns() {
        let frame = syn.to_frame();
        for sources in [Sources::One, Sources::EVERYWHERE] {
            let wrapper = Wrapper::new(&frame, sources).unwrap();
            let result = |program: BareProgram| program.test_run(&frame, 100).unwrap().1;
            assert_eq!(result(wrapper.xdp(Frames::Pieces, None).unwrap()), XDP_ABORTED);
            assert_eq!(
                result(wrapper.xdp(Frames::Pieces, Some(ingress.as_fd())).unwrap()),
                XDP_PASS
            );
        }
    }
}

/// Rules that make the kernel track connections.
const FOLLOW: &str = "add table inet t; \
    add chain inet t c { type filter hook output priority 0; }; \
    add rule inet t c ct state new accept";

#[test]
fn packets_of_followed_connections_pass_before_the_next_program() {
    let Some(conntrack) = Conntrack::of_running_kernel().unwrap() else {
        println!("no conntrack here");
        return;
    };
    let namespace = Netns::new("followed").unwrap();
    let nft = namespace.command("nft").unwrap().arg(FOLLOW).output().unwrap();
    assert!(nft.status.success(), "{}", String::from_utf8_lossy(&nft.stderr));
    let followed = || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address)?;
            let client = TcpStream::connect(listener.local_addr()?)?;
            let ack = Segment::new(client.local_addr()?, client.peer_addr()?, flags::ACK);
            let mut other = ack.clone();
            other.src.set_port(ack.src.port() ^ 1);
            for (segment, expected) in [(ack, XDP_PASS), (other, XDP_ABORTED)] {
                let frame = segment.to_frame();
                let wrapper = Wrapper::new(&frame, Sources::One)?;
                let next = wrapper.xdp(Frames::Pieces, None)?;
                let tracked = wrapper.tracked(conntrack, next.as_fd())?;
                assert_eq!(tracked.test_run(&frame, 2)?.1, expected, "from {}", segment.src);
            }
        }
        Ok(())
    };
    namespace.run(followed).unwrap();
}
