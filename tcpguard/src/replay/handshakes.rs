//! The handshakes of a capture. Listeners and the direction of each packet are inferred from them.
//!
//! A capture does not say which host tcpguard would run on, nor where it listens. Its handshakes do. A destination that
//! answers SYNs is a listener. A capture of one direction holds no replies. There a destination is a listener if it gets
//! many SYNs, or if its clients continue after their SYNs. Single SYNs to many destinations make no listeners, because
//! that is the pattern of a port scan. A reset that answers a SYN is a reply too: where all SYNs are refused, no socket
//! listens, and both directions were captured. The same holds of a reset that answers any other segment without ACK, as
//! scanners send. A host with a listener is the protected host. SYNs travel towards its side, and packets that it sends
//! to other hosts leave it.
//!
//! This module sees every packet before the replayed agent does, and makes no decision about any.

use std::net::IpAddr;

use tcpguard_common::abi::{Addr, Class, FlowKey, HashKey, ListenerKey};
use tcpguard_common::fastpath::hash;
use tcpguard_common::model::{Recent, hash_key};
use tcpguard_common::wire::{Segment, flag};

use super::reach::Reach;
use super::sources::Sketch;
use crate::bpf::ip;
use crate::documents::is_this_host;

/// Key of sketches: fixed, so that the same capture has the same numbers every time.
const HASH_KEY: HashKey = hash_key(0x7463_7067_7561_7264);
const ATTEMPTS: usize = 65_536;
/// Segments of scanners remembered.
const PROBES: usize = 16_384;
/// Destinations of which attempts are counted.
const DESTINATIONS: usize = 4096;
/// Addresses of listeners remembered.
const HOSTS: usize = 4096;
/// Addresses with a [`Reach`] that is counted.
const ROAMERS: usize = 4096;
/// Attempts after which a destination counts as a listener in a capture without replies. A scanner tries a port once or
/// twice. Below this number of handshakes there is no verdict on a listener anyway.
const LISTENS_AFTER: u32 = 16;
/// A capture holds one direction only when fewer than one SYN in this many is answered, and clients go on without
/// answers. Beside an unanswered flood few SYNs are answered.
const ANSWERED_ONE_IN: u64 = 100;
/// The same for refused SYNs. A middlebox before the host may refuse SYNs to other ports, while the
/// host's own replies take another path. Therefore half of all SYNs must be refused. A flood of an
/// open port can then pass for refused only at the price of as many SYNs to a closed port.
const REFUSED_ONE_IN: u64 = 2;
/// A client sends, and gets, no more than this before it has heard of the other's window scale, in bytes
/// (RFC 9293 §3.1: 16 bits of window). A guessed acknowledgement number passes for a client's once in
/// 65,536 times.
const FIRST_FLIGHT: u32 = 65_535;

/// A segment holds no more data than this, in bytes.
const LONGEST_DATA: u32 = 65_535;

#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// Sequence number of its SYN.
    seq: u32,
    /// The SYN carries data (TCP Fast Open, RFC 7413).
    data: bool,
    /// Sequence number of the last SYN-ACK that answered it.
    isn: Option<u32>,
    completed: bool,
    /// Direction of its SYN.
    direction: Direction,
}

impl Attempt {
    /// Returns whether `next` is the sequence number after the SYN: of data in it, none, some or all may
    /// have been taken.
    const fn is_followed_by(&self, next: u32) -> bool {
        let step = next.wrapping_sub(self.seq);
        step == 1 || self.data && step != 0 && step <= LONGEST_DATA
    }

    /// Returns whether a segment of the client proves that the SYN-ACK with number `isn` reached it: the third ACK,
    /// or one of the segments after it.
    const fn is_proved_by(&self, segment: &Segment, isn: u32) -> bool {
        let (sent, taken) = (segment.seq.wrapping_sub(self.seq), segment.ack.wrapping_sub(isn));
        sent != 0 && sent <= FIRST_FLIGHT && taken != 0 && taken <= FIRST_FLIGHT
    }

    /// The third ACK, where a segment that proves it is a later one.
    fn third_ack(&self, segment: &Segment, isn: u32) -> Option<ThirdAck> {
        let ack = isn.wrapping_add(1);
        let is_third = self.is_followed_by(segment.seq) && segment.ack == ack;
        (!is_third).then_some(ThirdAck { seq: self.seq.wrapping_add(1), ack })
    }
}

/// The numbers of a third ACK that the capture lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ThirdAck {
    /// Sequence number of the third ACK.
    pub seq: u32,
    /// Acknowledgement number of the third ACK.
    pub ack: u32,
}

impl ThirdAck {
    /// Puts them into the frame of the segment that proves it, so that it is taken for the third ACK that was
    /// lost.
    pub fn write(self, frame: &mut [u8], segment: &Segment) {
        // The options begin 20 bytes after the header does.
        let seq = usize::from(segment.options_at) - 16;
        frame[seq..seq + 4].copy_from_slice(&self.seq.to_be_bytes());
        frame[seq + 4..seq + 8].copy_from_slice(&self.ack.to_be_bytes());
    }
}

/// Direction of a segment, and the facts that it proves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Noted {
    /// Direction of the segment.
    pub direction: Direction,
    /// The listener that it shows, if any.
    pub listener: Option<ListenerKey>,
    /// The third ACK of its handshake, if the capture lost that and this segment proves it.
    pub lost: Option<ThirdAck>,
}

impl Noted {
    const fn going(direction: Direction) -> Self {
        Self { direction, listener: None, lost: None }
    }
}

/// Direction of a segment, as the listeners' host sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    In,
    Out,
}

/// Extent to which a capture holds the replies to SYNs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RepliesSeen {
    /// All replies that were sent.
    All,
    /// Not all replies: some clients go on after a reply that was not captured. It took another path, or the
    /// capturing host did not keep up.
    Some,
    /// Next to no replies: the capture holds one direction only.
    None,
}

impl Direction {
    const fn back(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

/// Attempts under way, and counts of the whole capture.
#[derive(Clone, Debug, Default)]
pub struct Handshakes {
    attempts: Recent<FlowKey, Attempt, ATTEMPTS>,
    /// Directions of segments that have neither ACK nor SYN.
    probes: Recent<FlowKey, Direction, PROBES>,
    destinations: Recent<ListenerKey, u32, DESTINATIONS>,
    hosts: Recent<Addr, (), HOSTS>,
    asking: Recent<Addr, Reach, ROAMERS>,
    answering: Recent<Addr, Reach, ROAMERS>,
    pub syns: u64,
    /// SYN-ACKs that answer one of these SYNs, retransmissions included.
    pub answers: u64,
    /// Resets that answer one of these SYNs.
    refused: u64,
    completed: u64,
    went_on: u64,
    /// Estimate of the sources that send unsolicited replies.
    pub reflectors: Sketch,
}

impl Handshakes {
    /// Takes note of a segment.
    pub fn note(&mut self, class: Class, segment: &Segment) -> Noted {
        let noted = match class {
            Class::Syn => self.note_syn(segment),
            _ => self.note_other(class, segment),
        };
        if let Some(key) = &noted.listener {
            self.hosts.insert(key.addr, ());
        }
        noted
    }

    fn note_other(&mut self, class: Class, segment: &Segment) -> Noted {
        let to_client = segment.flow.reversed();
        if let Some(attempt) = self.attempts.get_mut(&to_client) {
            let follows = attempt.is_followed_by(segment.ack);
            let answers = class == Class::SynAck && follows;
            if answers {
                attempt.isn = Some(segment.seq);
                self.answers += 1;
            }
            let resets = class == Class::Rst && segment.flags & flag::ACK != 0;
            if resets && follows && attempt.isn.is_none() && !attempt.completed {
                self.refused += 1;
                // It speaks against a listener as its SYN spoke for one.
                if let Some(attempts) = self.destinations.get_mut(&destination(&to_client)) {
                    *attempts = attempts.saturating_sub(1);
                }
            }
            let listens = answers && attempt.direction == Direction::In;
            let listener = listens.then(|| destination(&to_client));
            return Noted { listener, ..Noted::going(attempt.direction.back()) };
        }
        let one_sided = self.one_sided();
        let Some(attempt) = self.attempts.get_mut(&segment.flow) else {
            if is_probe(class, segment) {
                let direction = self.way(&segment.flow);
                self.probes.insert(segment.flow, direction);
                return Noted::going(direction);
            }
            if only_answers(class, segment)
                && let Some(direction) = self.probes.peek(&to_client)
            {
                return Noted::going(direction.back());
            }
            // Of an attempt that is forgotten, older than the capture, or not in it.
            if class == Class::SynAck {
                self.note_answer(&segment.flow);
            }
            let direction = self.way(&segment.flow);
            if direction == Direction::In && only_answers(class, segment) {
                self.reflectors.add(hash::source(&HASH_KEY, &segment.flow.client.client()));
            }
            return Noted::going(direction);
        };
        let mut noted = Noted::going(attempt.direction);
        if matches!(class, Class::Ack | Class::Fin) && !attempt.completed {
            match attempt.isn {
                Some(isn) if attempt.is_proved_by(segment, isn) => {
                    attempt.completed = true;
                    self.completed += 1;
                    noted.lost = attempt.third_ack(segment, isn);
                }
                Some(_) => {}
                // Without its answer, a client shows that there was one by going on.
                None => {
                    attempt.completed = attempt.is_followed_by(segment.seq);
                    self.went_on += u64::from(attempt.completed);
                    let listens =
                        attempt.completed && one_sided && attempt.direction == Direction::In;
                    noted.listener = listens.then(|| destination(&segment.flow));
                }
            }
        }
        noted
    }

    /// Notes a SYN-ACK to a SYN that is not in the capture. A sender that answers SYNs of many
    /// networks is a host with only its own direction captured. Replies to SYNs that were spoofed
    /// with one host's address all go to that host instead.
    fn note_answer(&mut self, flow: &FlowKey) {
        if self.hosts.peek(&flow.client).is_none() && self.hosts.peek(&flow.server).is_none() {
            let reach = extend(&mut self.answering, flow);
            if reach.is_far() {
                self.hosts.insert(flow.client, ());
            }
        }
    }

    /// Notes the SYN of a new attempt. A sender that reaches many networks at ever different ports
    /// is no scanner. It is the host that the capture was taken on: a file sharer and its peers.
    fn note_question(&mut self, flow: &FlowKey) {
        if self.hosts.peek(&flow.client).is_none() && self.hosts.peek(&flow.server).is_none() {
            let reach = extend(&mut self.asking, flow);
            if reach.is_far() && reach.is_diverse() {
                self.hosts.insert(flow.client, ());
            }
        }
    }

    /// Direction of a segment, from the known hosts alone. A segment from a host with a listener to
    /// a host without one leaves the former.
    fn way(&self, flow: &FlowKey) -> Direction {
        match self.hosts.peek(&flow.server).is_none() && self.hosts.peek(&flow.client).is_some() {
            true => Direction::Out,
            false => Direction::In,
        }
    }

    /// Returns whether an address is, or may well be, one of the host that the capture is about: it has a listener, or
    /// reaches out to more networks than a protected host has.
    pub fn is_own(&self, addr: IpAddr) -> bool {
        let is_it = |known: &Addr| ip(&known.client()) == addr;
        is_this_host(addr)
            || self.hosts.iter().any(|(host, ())| is_it(host))
            || self.asking.iter().any(|(host, reach)| reach.is_far() && is_it(host))
    }

    /// Returns whether the capture holds one direction only, as far as it has been read: next to no SYN is answered,
    /// nor are most of them refused, nor is the answer there of most handshakes that complete.
    pub const fn one_sided(&self) -> bool {
        self.completed <= self.went_on
            && self.answers * ANSWERED_ONE_IN + self.refused * REFUSED_ONE_IN < self.syns
    }

    /// Returns the extent to which the capture holds the replies to SYNs, as far as it has been read.
    pub const fn replies_seen(&self) -> RepliesSeen {
        if self.one_sided() {
            RepliesSeen::None
        } else if self.went_on * ANSWERED_ONE_IN > self.syns {
            RepliesSeen::Some
        } else {
            RepliesSeen::All
        }
    }

    /// Handshakes that completed. Where replies are missing from the capture, attempts that the
    /// client continued count as well.
    pub const fn completed(&self) -> u64 {
        match self.replies_seen() {
            RepliesSeen::All => self.completed,
            RepliesSeen::Some | RepliesSeen::None => self.completed + self.went_on,
        }
    }

    /// Notes a SYN. It makes its destination a listener only if many SYNs go there and the capture
    /// holds no replies.
    fn note_syn(&mut self, segment: &Segment) -> Noted {
        self.syns += 1;
        let flow = &segment.flow;
        if let Some(attempt) = self.attempts.get_mut(flow)
            && attempt.seq == segment.seq
        {
            return Noted::going(attempt.direction);
        }
        self.note_question(flow);
        let noted = Noted::going(self.way(flow));
        let (seq, data, direction) = (segment.seq, segment.payload, noted.direction);
        let attempt = Attempt { seq, data, isn: None, completed: false, direction };
        self.attempts.insert(*flow, attempt);
        if direction == Direction::Out || !self.one_sided() {
            return noted;
        }
        let destination = destination(flow);
        let Some(attempts) = self.destinations.get_mut(&destination) else {
            self.destinations.insert(destination, 1);
            return noted;
        };
        *attempts = attempts.saturating_add(1);
        Noted { listener: (*attempts >= LISTENS_AFTER).then_some(destination), ..noted }
    }
}

/// Adds the destination of a segment to the reach of its sender, and returns that reach.
fn extend(reaches: &mut Recent<Addr, Reach, ROAMERS>, flow: &FlowKey) -> Reach {
    let mut reach = reaches.peek(&flow.client).copied().unwrap_or_default();
    reach.add(&flow.server, flow.server_port);
    reaches.insert(flow.client, reach);
    reach
}

/// Returns whether a segment is a scanner's: no stack sends one without ACK that neither opens nor aborts a connection.
const fn is_probe(class: Class, segment: &Segment) -> bool {
    !matches!(class, Class::Syn) && segment.flags & (flag::ACK | flag::RST) == 0
}

/// Returns whether a segment is one that only ever answers a segment without ACK, mostly a SYN (RFC 9293 §3.10.7.1).
fn only_answers(class: Class, segment: &Segment) -> bool {
    match class {
        Class::SynAck => true,
        Class::Rst => segment.seq == 0 && segment.flags & flag::ACK != 0,
        _ => false,
    }
}

fn destination(flow: &FlowKey) -> ListenerKey {
    ListenerKey::new(flow.server, flow.server_port)
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Addr;

    use super::*;

    const LISTENER: ListenerKey = ListenerKey::new(Addr::from_v4([198, 51, 100, 1]), [0, 80]);

    fn from_client(port: u16, seq: u32, ack: u32) -> Segment {
        let flow = FlowKey {
            client: Addr::from_v4([192, 0, 2, 1]),
            server: LISTENER.addr,
            client_port: port.to_be_bytes(),
            server_port: LISTENER.port,
        };
        Segment { flow, seq, ack, ..Segment::default() }
    }

    fn to_client(port: u16, seq: u32, ack: u32) -> Segment {
        let there = from_client(port, seq, ack);
        Segment { flow: there.flow.reversed(), ..there }
    }

    /// The result for a segment in this direction that proves no lost third ACK.
    fn shows(direction: Direction, listener: Option<ListenerKey>) -> Noted {
        Noted { listener, ..Noted::going(direction) }
    }

    /// The refusal of a SYN (RFC 9293 §3.10.7.1).
    fn refusal(port: u16, ack: u32) -> Segment {
        Segment { flags: flag::RST | flag::ACK, ..to_client(port, 0, ack) }
    }

    #[test]
    fn an_address_that_replies_to_a_syn_is_a_listener_and_one_that_does_not_is_none() {
        let mut handshakes = Handshakes::default();
        let unsolicited = handshakes.note(Class::SynAck, &to_client(1, 500, 8));
        assert_eq!(unsolicited, shows(Direction::In, None), "no SYN yet");
        let syn = handshakes.note(Class::Syn, &from_client(1, 7, 0));
        assert_eq!(syn, shows(Direction::In, None));
        let other = handshakes.note(Class::SynAck, &to_client(1, 500, 9));
        assert_eq!(other, shows(Direction::Out, None), "of another SYN");
        assert!(handshakes.one_sided());
        let answer = handshakes.note(Class::SynAck, &to_client(1, 500, 8));
        assert_eq!(answer, shows(Direction::Out, Some(LISTENER)));
        assert!(!handshakes.one_sided());
        assert_eq!((handshakes.syns, handshakes.answers), (1, 1));
    }

    #[test]
    fn where_everything_is_refused_there_is_no_listener_and_both_directions_are_there() {
        let mut handshakes = Handshakes::default();
        for port in 1..=100 {
            let syn = handshakes.note(Class::Syn, &from_client(port, 7, 0));
            assert_eq!(syn, shows(Direction::In, None), "{port}");
            let reset = handshakes.note(Class::Rst, &refusal(port, 8));
            assert_eq!(reset, shows(Direction::Out, None));
            assert_eq!(handshakes.replies_seen(), RepliesSeen::All);
        }
        assert_eq!((handshakes.refused, handshakes.completed()), (100, 0));
    }

    #[test]
    fn resets_that_answer_no_syn_are_no_refusals() {
        for reset in [
            Segment { flags: flag::RST, ..refusal(1, 8) },
            refusal(1, 9),
            refusal(2, 8),
            from_client(1, 8, 0),
        ] {
            let mut handshakes = Handshakes::default();
            handshakes.note(Class::Syn, &from_client(1, 7, 0));
            handshakes.note(Class::Rst, &reset);
            assert!(handshakes.refused == 0 && handshakes.one_sided(), "{reset:?}");
        }
        let mut handshakes = Handshakes::default();
        handshakes.note(Class::Syn, &from_client(1, 7, 0));
        handshakes.note(Class::SynAck, &to_client(1, 500, 8));
        handshakes.note(Class::Rst, &refusal(1, 8));
        assert_eq!(handshakes.refused, 0, "it was accepted before");
    }

    #[test]
    fn a_reset_answers_a_probe_without_syn_and_leaves_the_host() {
        for (flags, class) in [
            (0, Class::Null),
            (flag::FIN, Class::FinNoAck),
            (flag::FIN | flag::PSH | flag::URG, Class::Xmas),
        ] {
            let mut handshakes = Handshakes::default();
            let probe = Segment { flags, ..from_client(1, 7, 0) };
            assert_eq!(handshakes.note(class, &probe), shows(Direction::In, None));
            let reset = handshakes.note(Class::Rst, &refusal(1, 7));
            assert_eq!(reset, shows(Direction::Out, None), "{class:?}");
            assert_eq!((handshakes.reflectors.estimate(), handshakes.refused), (0, 0));
            let unsolicited = handshakes.note(Class::Rst, &refusal(2, 7));
            assert_eq!(unsolicited, shows(Direction::In, None), "{class:?}");
        }
    }

    /// A middlebox before the host refuses SYNs to another port, and the host's replies take
    /// another path.
    #[test]
    fn refusals_at_other_ports_do_not_hide_a_listener_whose_answers_are_not_seen() {
        let mut handshakes = Handshakes::default();
        let mut found = None;
        for port in 1..=100 {
            found = found.or(handshakes.note(Class::Syn, &from_client(port, 7, 0)).listener);
            if port % 3 == 0 {
                let mut elsewhere = from_client(port, 7, 0);
                elsewhere.flow.server_port = [0, 81];
                handshakes.note(Class::Syn, &elsewhere);
                let flow = elsewhere.flow.reversed();
                handshakes.note(Class::Rst, &Segment { flow, ..refusal(port, 8) });
            }
        }
        assert_eq!((found, handshakes.replies_seen()), (Some(LISTENER), RepliesSeen::None));
    }

    #[test]
    fn a_handshake_completes_once_and_only_by_a_right_number() {
        let mut handshakes = Handshakes::default();
        handshakes.note(Class::Syn, &from_client(1, u32::MAX, 0));
        handshakes.note(Class::SynAck, &to_client(1, u32::MAX, 0));
        for (seq, ack) in
            [(0, u32::MAX), (0, FIRST_FLIGHT), (u32::MAX, 0), (FIRST_FLIGHT, 0), (1 << 31, 1 << 31)]
        {
            handshakes.note(Class::Ack, &from_client(1, seq, ack));
            assert_eq!(handshakes.completed(), 0, "{seq} {ack}");
        }
        for _ in 0..2 {
            handshakes.note(Class::Syn, &from_client(1, u32::MAX, 0));
            let third = handshakes.note(Class::Ack, &from_client(1, 0, 0));
            assert_eq!(third, shows(Direction::In, None), "nothing was lost");
        }
        assert_eq!(handshakes.completed(), 1);
    }

    #[test]
    fn a_later_segment_proves_a_third_ack_that_the_capture_lost() {
        for (class, seq, ack) in [
            (Class::Ack, 8, 1701),
            (Class::Ack, 308, 501),
            (Class::Ack, 308, 1701),
            (Class::Fin, 7 + FIRST_FLIGHT, 500 + FIRST_FLIGHT),
        ] {
            let mut handshakes = Handshakes::default();
            handshakes.note(Class::Syn, &from_client(1, 7, 0));
            handshakes.note(Class::SynAck, &to_client(1, 500, 8));
            let later = handshakes.note(class, &from_client(1, seq, ack));
            assert_eq!(later.lost, Some(ThirdAck { seq: 8, ack: 501 }), "{seq} {ack}");
            assert_eq!(handshakes.completed(), 1);
            let next = handshakes.note(class, &from_client(1, seq, ack));
            assert_eq!((next.lost, handshakes.completed()), (None, 1), "only once");
        }
    }

    #[test]
    fn of_data_in_a_syn_some_may_be_acknowledged_with_it() {
        for (data, ack, answers) in [(true, 108, 1), (true, 8, 1), (true, 7, 0), (false, 108, 0)] {
            let mut handshakes = Handshakes::default();
            let syn = Segment { payload: data, ..from_client(1, 7, 0) };
            handshakes.note(Class::Syn, &syn);
            handshakes.note(Class::SynAck, &to_client(1, 500, ack));
            handshakes.note(Class::Ack, &from_client(1, ack, 501));
            assert_eq!((handshakes.answers, handshakes.completed()), (answers, answers), "{ack}");
        }
    }

    #[test]
    fn without_replies_a_listener_is_where_a_client_goes_on() {
        let mut handshakes = Handshakes::default();
        handshakes.note(Class::Syn, &from_client(1, 7, 0));
        let unmatched = handshakes.note(Class::Ack, &from_client(1, 9, 501));
        assert_eq!((unmatched, handshakes.completed()), (shows(Direction::In, None), 0));
        let next = handshakes.note(Class::Ack, &from_client(1, 8, 501));
        assert_eq!(next, shows(Direction::In, Some(LISTENER)));
        let again = handshakes.note(Class::Ack, &from_client(1, 8, 501));
        assert_eq!((again, handshakes.completed()), (shows(Direction::In, None), 1), "only once");
    }

    #[test]
    fn without_replies_a_listener_is_where_many_syns_go() {
        let mut handshakes = Handshakes::default();
        let mut listens =
            |port, seq| handshakes.note(Class::Syn, &from_client(port, seq, 0)).listener;
        for port in 1..16 {
            assert_eq!(listens(port, 7), None);
            assert_eq!(listens(port, 7), None, "a repetition is no other attempt");
        }
        assert_eq!(listens(16, 7), Some(LISTENER));
    }

    #[test]
    fn what_a_host_with_a_listener_asks_of_others_leaves_it_and_makes_them_no_listeners() {
        let mut handshakes = Handshakes::default();
        handshakes.note(Class::Syn, &from_client(1, 7, 0));
        handshakes.note(Class::SynAck, &to_client(1, 500, 8));
        let flow = FlowKey {
            client: LISTENER.addr,
            server: Addr::from_v4([203, 0, 113, 5]),
            client_port: [9, 9],
            server_port: [1, 187],
        };
        let own = Segment { flow, seq: 70, ..Segment::default() };
        assert_eq!(handshakes.note(Class::Syn, &own), shows(Direction::Out, None));
        let answer = Segment { flow: flow.reversed(), seq: 900, ack: 71, ..Segment::default() };
        assert_eq!(handshakes.note(Class::SynAck, &answer), shows(Direction::In, None));
        let ack = Segment { seq: 71, ack: 901, ..own };
        assert_eq!(handshakes.note(Class::Ack, &ack), shows(Direction::Out, None));
        assert_eq!((handshakes.answers, handshakes.completed()), (2, 1));
    }

    #[test]
    fn where_syns_are_answered_their_number_makes_no_listener() {
        let mut handshakes = Handshakes::default();
        handshakes.note(Class::Syn, &from_client(1, 7, 0));
        handshakes.note(Class::SynAck, &to_client(1, 500, 8));
        for port in 2..50 {
            let mut elsewhere = from_client(port, 7, 0);
            elsewhere.flow.server_port = [0, 81];
            assert_eq!(handshakes.note(Class::Syn, &elsewhere).listener, None);
        }
    }
}
