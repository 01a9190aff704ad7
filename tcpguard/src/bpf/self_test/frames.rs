//! The frames of a self-test: those that a client sends, and a check of checksums.

use tcpguard_common::abi::{Addr, FlowKey, option};
use tcpguard_common::wire::{Segment, flag};

/// Ethernet addresses of the host and of the router to the clients: locally administered.
pub(super) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x98];
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// Kinds of clients that differ in how a cookie remembers them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Client {
    Stamped,
    Plain,
}

impl Client {
    pub(super) const ALL: [Self; 2] = [Self::Stamped, Self::Plain];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stamped => "with timestamps",
            Self::Plain => "without timestamps",
        }
    }

    pub(super) const fn mss(self) -> u16 {
        1460
    }

    pub(super) const fn wscale(self) -> u8 {
        match self {
            Self::Stamped => 7,
            Self::Plain => 8,
        }
    }

    pub(super) const fn options(self) -> u32 {
        match self {
            Self::Stamped => option::WSCALE | option::SACK | option::TIMESTAMPS,
            Self::Plain => option::WSCALE | option::SACK,
        }
    }

    /// Its timestamp where it sends one, else 0.
    pub(super) const fn timestamp(self) -> u32 {
        match self {
            Self::Stamped => 0x0102_0304,
            Self::Plain => 0,
        }
    }
}

/// Addresses for documentation (RFC 5737, RFC 3849 and RFC 9637) of the family of `server`: no host has
/// them, and each belongs to another prefix.
pub(super) fn sources(server: &Addr) -> [Addr; 3] {
    match server.as_v4() {
        Some(_) => [[192, 0, 2, 1], [198, 51, 100, 1], [203, 0, 113, 1]].map(Addr::from_v4),
        None => [[0x2001_0db8, 0, 0, 1], [0x2001_0db8, 0xffff_0000, 0, 1], [0x3fff_0000, 0, 0, 1]]
            .map(Addr::from_v6_words),
    }
}

pub(super) fn flow(client: Addr, server: Addr) -> FlowKey {
    FlowKey { client, server, client_port: [0xc0, 0], server_port: [0; 2] }
}

/// The SYN of a client.
pub(super) fn syn(client: &Client, flow: &FlowKey, isn: u32) -> Vec<u8> {
    let [high, low] = client.mss().to_be_bytes();
    let mut options = vec![2, 4, high, low, 1, 3, 3, client.wscale(), 4, 2];
    if *client == Client::Stamped {
        options.extend([8, 10]);
        options.extend(client.timestamp().to_be_bytes());
        options.extend([0; 4]);
    }
    options.resize(options.len().next_multiple_of(4), 1);
    frame(flow, [isn, 0], flag::SYN, &options)
}

/// The third segment of its handshake. `echo` is the timestamp of the SYN-ACK, where it had one.
pub(super) fn ack(
    client: &Client,
    flow: &FlowKey,
    isn: u32,
    cookie: u32,
    echo: Option<u32>,
) -> Vec<u8> {
    let mut options = Vec::new();
    if let Some(echo) = echo {
        options.extend([1, 1, 8, 10]);
        options.extend(client.timestamp().wrapping_add(1).to_be_bytes());
        options.extend(echo.to_be_bytes());
    }
    frame(flow, [isn.wrapping_add(1), cookie.wrapping_add(1)], flag::ACK, &options)
}

fn frame(flow: &FlowKey, [seq, ack]: [u32; 2], flags: u16, options: &[u8]) -> Vec<u8> {
    let mut frame = [HOST_MAC, CLIENT_MAC].concat();
    let tcp_length = 20 + options.len();
    let tcp = |frame: &mut Vec<u8>| {
        frame.extend(flow.client_port);
        frame.extend(flow.server_port);
        frame.extend(seq.to_be_bytes());
        frame.extend(ack.to_be_bytes());
        frame.extend(((tcp_length as u16 / 4) << 12 | flags).to_be_bytes());
        frame.extend(64_240u16.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(options);
    };
    // Checksums stay 0: the programs verify none (decision 18).
    match (flow.client.as_v4(), flow.server.as_v4()) {
        (Some(client), Some(server)) => {
            frame.extend([0x08, 0, 0x45, 0]);
            frame.extend((20 + tcp_length as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(client);
            frame.extend(server);
        }
        _ => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((tcp_length as u16).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend(flow.client.octets());
            frame.extend(flow.server.octets());
        }
    }
    tcp(&mut frame);
    frame
}

/// The checksum of a frame that is wrong, if one is. `segment` is the parsed content of the frame.
pub(super) fn broken_checksum(frame: &[u8], segment: &Segment) -> Option<&'static str> {
    let ip = frame.get(usize::from(segment.ip_at)..)?;
    let tcp_at = usize::from(segment.options_at) - 20 - usize::from(segment.ip_at);
    let (addresses, end) = match segment.flow.client.as_v4() {
        Some(_) => {
            if sum(ip.get(..20)?, 0) != 0xffff {
                return Some("IPv4 header");
            }
            (ip.get(12..20)?, usize::from(u16::from_be_bytes([ip[2], ip[3]])))
        }
        None => (ip.get(8..40)?, 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]))),
    };
    let tcp = ip.get(tcp_at..end)?;
    // The pseudo-header: addresses, length and protocol.
    let pseudo = sum(addresses, 6 + tcp.len() as u32);
    (sum(tcp, pseudo) != 0xffff).then_some("TCP")
}

/// The one's complement sum of big-endian words, RFC 1071; 0xffff over data that includes its checksum.
fn sum(bytes: &[u8], start: u32) -> u32 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u32::from(*byte)));
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[cfg(test)]
mod tests {
    use tcpguard_common::wire;

    use super::*;

    fn servers() -> [Addr; 2] {
        [Addr::from_v4([10, 0, 0, 1]), Addr::from_v6_words([0xfd00_0000, 0, 0, 1])]
    }

    #[test]
    fn the_frames_are_what_the_programs_read() {
        for server in servers() {
            for client in Client::ALL {
                let flow = flow(sources(&server)[0], server);
                let frame = syn(&client, &flow, 7);
                let segment = wire::parse(&frame[..]).expect("a segment");
                assert_eq!((segment.flow, segment.seq, segment.flags), (flow, 7, flag::SYN));
                let sent = wire::syn_options(&frame[..], &segment);
                assert_eq!((sent.mss, sent.wscale), (client.mss(), client.wscale()));
                assert_eq!((sent.options, sent.timestamp), (client.options(), client.timestamp()));

                let echo = (client == Client::Stamped).then_some(9);
                let frame = ack(&client, &flow, 7, 99, echo);
                let segment = wire::parse(&frame[..]).expect("a segment");
                assert_eq!((segment.seq, segment.ack, segment.flags), (8, 100, flag::ACK));
                let times = wire::timestamps(&frame[..], &segment);
                assert_eq!(times.present.then_some(times.echo), echo);
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_a_wrong_checksum() {
        // A SYN-ACK without options, its checksums worked out by hand.
        let frame = [
            0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0, 0x45, 0, 0, 0x28, 0, 0, 0x40, 0,
            0x40, 0x06, 0x26, 0xce, 10, 0, 0, 1, 10, 0, 0, 2, 0x01, 0xbb, 0xc0, 0, 0, 0, 0, 1, 0,
            0, 0, 8, 0x50, 0x12, 0xfa, 0xf0, 0xdf, 0x1a, 0, 0,
        ];
        let segment = wire::parse(&frame[..]).expect("a segment");
        assert_eq!(broken_checksum(&frame, &segment), None);
        for (at, which) in [(22, "IPv4 header"), (24, "IPv4 header"), (38, "TCP"), (51, "TCP")] {
            let mut damaged = frame;
            damaged[at] ^= 0x10;
            assert_eq!(broken_checksum(&damaged, &segment), Some(which), "byte {at}");
        }
    }
}
