//! Frames in several pieces, as some drivers hand them on.

use std::net::{Ipv4Addr, SocketAddr};

use tcpguard_common::abi::{Mode, PacketCounters, Reason};
use tcpguard_common::wire;
use tcpguard_kit::net::bare::run_in_pieces;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};

use super::traffic::v4;
use super::{Pair, SHORTEST, XDP_DROP, XDP_PASS};

/// Counts since `before`: packets, bytes, and those of one reason.
fn since(before: &PacketCounters, now: &PacketCounters, reason: Reason) -> [u64; 3] {
    let counted =
        |packets: &PacketCounters| [packets.entry, packets.bytes, packets.reasons[reason as usize]];
    let (before, now) = (counted(before), counted(now));
    std::array::from_fn(|place| now[place] - before[place])
}

#[test]
fn bytes_in_every_piece_count_and_headers_beyond_the_first_are_out_of_reach() {
    headers_in_pieces(false, Reason::HeaderDepth, XDP_PASS);
    headers_in_pieces(true, Reason::DropBeyondBounds, XDP_DROP);
}

fn headers_in_pieces(drops: bool, beyond: Reason, fate: u32) {
    let pair = Pair::new(Mode::Enforce, 0, drops);
    let program = pair.object.ingress_fd().expect("a descriptor");
    let client = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 9).into(), 4000);
    let mut syn = Segment::new(client, SocketAddr::new(v4(2, 1), 443), flags::SYN);
    syn.options = linux_syn_options(1460, 1);
    syn.payload = vec![7; 30];
    let frame = syn.to_frame();
    let headers = usize::from(wire::parse(&frame[..]).expect("a SYN").options_end);
    for first in SHORTEST..frame.len() {
        let (reason, fate) = if first < headers { (beyond, fate) } else { (Reason::Syn, XDP_PASS) };
        let before = pair.dataplane.packets(0).expect("counters");
        assert_eq!(run_in_pieces(&program, &frame, first).expect("Linux 6.18"), fate);
        let counted = since(&before, &pair.dataplane.packets(0).expect("counters"), reason);
        assert_eq!(counted, [1, frame.len() as u64, 1], "{first} of {} bytes", frame.len());
    }
}
