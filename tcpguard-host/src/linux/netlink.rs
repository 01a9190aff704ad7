//! Requests to the kernel over netlink: framing, sequence numbers, errors, time limit.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NLMSG_DONE,
    NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NlaBuffer, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};

use super::Error;

/// Time that the kernel may take for one answer. It answers netlink requests while they are being sent, so
/// that this is only reached when something is badly wrong.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of the buffer for a datagram, larger than any of a dump: `netlink_dump` (net/netlink/af_netlink.c)
/// stays below 32 KiB.
pub(super) const DATAGRAM_LEN: usize = 64 * 1024;

/// Number of requests at most for a list while its dump is inconsistent.
const ATTEMPTS: u32 = 4;

const HEADER_LEN: usize = 16;
// Flags of an error, and an attribute of it, include/uapi/linux/netlink.h.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One netlink message within a datagram.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) payload: &'a [u8],
    flags: u16,
    sequence: u32,
}

/// The messages of one datagram; ends after the first that is cut off.
pub(super) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<Message<'_>, DecodeError>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let packet = match NetlinkBuffer::new_checked(datagram) {
            Ok(packet) => packet,
            Err(error) => {
                datagram = &[];
                return Some(Err(error));
            }
        };
        let len = packet.length() as usize;
        let message = Message {
            kind: packet.message_type(),
            flags: packet.flags(),
            sequence: packet.sequence_number(),
            payload: &datagram[HEADER_LEN..len],
        };
        let aligned = len.next_multiple_of(usize::from(NLMSG_ALIGNTO));
        datagram = datagram.get(aligned..).unwrap_or_default();
        Some(Ok(message))
    })
}

/// The attributes that follow a fixed header of `header_len` bytes.
pub(super) fn attributes(
    payload: &[u8],
    header_len: usize,
) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, DecodeError>> {
    NlasIterator::new(payload.get(header_len.next_multiple_of(4)..).unwrap_or_default())
}

/// `N` bytes of a fixed header or attribute.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], DecodeError> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(|| {
        DecodeError::from(format!("{} bytes where {} are needed", bytes.len(), offset + N))
    })
}

/// A request/answer socket that is kept open, with its buffers.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// The kernel's words about the last error.
    words: Option<String>,
}

/// A request: what it is for, and its kind, flags and payload.
struct Call<'a> {
    what: &'static str,
    kind: u16,
    flags: u16,
    payload: &'a [u8],
}

impl Netlink {
    /// Opens a socket of `protocol` (`NETLINK_…`) in the network namespace of this thread.
    pub(super) fn open(protocol: isize) -> Result<Self, Error> {
        let mut socket = Socket::new(protocol).map_err(Error::Open)?;
        socket.bind_auto().map_err(Error::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(Error::Open)?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(ANSWER_TIMEOUT),
        )
        .map_err(|error| Error::Open(error.into()))?;
        // Where the kernel has no words, an error is a number.
        let _ = socket.set_ext_ack(true);
        let (request, answer) = (Vec::new(), vec![0; DATAGRAM_LEN]);
        Ok(Self { socket, sequence: 0, request, answer, words: None })
    }

    /// The words of the kernel, or of a driver, about the last request that was refused.
    pub(super) fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }

    /// Has the kernel apply the filters in a request for a list (Linux 4.20), rather than list
    /// everything.
    pub(super) fn strict(&mut self) -> Result<(), Error> {
        self.socket.set_netlink_get_strict_chk(true).map_err(Error::Open)
    }

    /// Everything that `parse` accepts of a list; `parse` returns `None` for irrelevant entries.
    ///
    /// A list that changed while it was read is read again, a few times.
    pub(super) fn dump<T>(
        &mut self,
        what: &'static str,
        kind: u16,
        payload: &[u8],
        parse: impl Fn(&Message) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            let end = self.exchange(
                Call { what, kind, flags: NLM_F_DUMP, payload },
                usize::MAX,
                |message| {
                    found.extend(parse(message)?);
                    Ok(())
                },
            )?;
            if end != End::Inconsistent {
                return Ok(found);
            }
        }
        Err(Error::Unstable { what })
    }

    /// Hands each entry of a list to `each`, however long the list is. An entry that comes, goes or
    /// moves meanwhile is handed over once, twice or not at all.
    pub(super) fn stream(
        &mut self,
        what: &'static str,
        kind: u16,
        payload: &[u8],
        each: impl FnMut(&Message) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.exchange(Call { what, kind, flags: NLM_F_DUMP, payload }, usize::MAX, each).map(drop)
    }

    /// Lists as [`Netlink::dump`] does, but only the first `limit` entries of a list that may be huge. Takes
    /// the socket, because only closing it ends a dump early.
    pub(super) fn dump_first<T>(
        mut self,
        what: &'static str,
        kind: u16,
        payload: &[u8],
        limit: usize,
        parse: impl Fn(&Message) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        self.exchange(Call { what, kind, flags: NLM_F_DUMP, payload }, limit, |message| {
            found.extend(parse(message)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// The answer to a question about one thing, or `None` if there was only an acknowledgement.
    pub(super) fn query<T>(
        &mut self,
        what: &'static str,
        kind: u16,
        payload: &[u8],
        parse: impl Fn(&Message) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, Error> {
        let mut found = None;
        self.exchange(Call { what, kind, flags: NLM_F_ACK, payload }, usize::MAX, |message| {
            found = parse(message)?;
            Ok(())
        })?;
        Ok(found)
    }

    /// Has the kernel do something. `flags` are those of the request's kind.
    pub(super) fn command(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: u16,
        payload: &[u8],
    ) -> Result<(), Error> {
        let done = self.exchange(
            Call { what, kind, flags: NLM_F_ACK | flags, payload },
            usize::MAX,
            |_| Ok(()),
        );
        done.map(drop).map_err(|error| match error.os_error() {
            Some(libc::EPERM) => Error::NotPermitted { what },
            _ => error,
        })
    }

    fn exchange(
        &mut self,
        call: Call<'_>,
        limit: usize,
        mut each: impl FnMut(&Message) -> Result<(), DecodeError>,
    ) -> Result<End, Error> {
        let Call { what, kind, flags, payload } = call;
        self.send(kind, flags, payload).map_err(|source| Error::Refused { what, source })?;
        let mut garbled = None;
        let mut inconsistent = false;
        let mut seen = 0;
        // A dump is read to its end even if a message makes no sense: until then the kernel
        // refuses the next one on this socket.
        loop {
            let len = self.receive(what)?;
            let Some(datagram) = self.answer.get(..len) else {
                garbled.get_or_insert(format!("a datagram of {len} bytes").into());
                continue;
            };
            for message in messages(datagram) {
                let message = match message {
                    Ok(message) => message,
                    Err(detail) => {
                        garbled.get_or_insert(detail);
                        break;
                    }
                };
                if message.sequence != self.sequence {
                    continue;
                }
                inconsistent |= message.flags & NLM_F_DUMP_INTR != 0;
                let outcome = match message.kind {
                    NLMSG_NOOP => Ok(()),
                    NLMSG_OVERRUN => Err("messages were lost".into()),
                    NLMSG_DONE | NLMSG_ERROR => match end_code(&message) {
                        Ok(0) => {
                            return match garbled {
                                Some(detail) => Err(Error::Garbled { what, detail }),
                                None if inconsistent => Ok(End::Inconsistent),
                                None => Ok(End::Complete),
                            };
                        }
                        Ok(code) => {
                            self.words = words(&message);
                            let source = io::Error::from_raw_os_error(code.saturating_neg());
                            return Err(Error::Refused { what, source });
                        }
                        Err(detail) => return Err(Error::Garbled { what, detail }),
                    },
                    _ if seen == limit => return Ok(End::Cut),
                    _ => {
                        seen += 1;
                        each(&message)
                    }
                };
                if let Err(detail) = outcome {
                    garbled.get_or_insert(detail);
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = u32::try_from(HEADER_LEN + payload.len()).map_err(io::Error::other)?;
        self.request.clear();
        self.request.extend_from_slice(&len.to_ne_bytes());
        self.request.extend_from_slice(&kind.to_ne_bytes());
        self.request.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.request.extend_from_slice(&self.sequence.to_ne_bytes());
        self.request.extend_from_slice(&0u32.to_ne_bytes());
        self.request.extend_from_slice(payload);
        self.socket.send(&self.request, 0).map(drop)
    }

    fn receive(&mut self, what: &'static str) -> Result<usize, Error> {
        loop {
            match self.socket.recv(&mut &mut self.answer[..], libc::MSG_TRUNC) {
                Ok(len) => return Ok(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::NoAnswer { what });
                }
                Err(source) => return Err(Error::Refused { what, source }),
            }
        }
    }
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("fd", &self.socket.as_raw_fd()).finish_non_exhaustive()
    }
}

/// Outcome of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Complete,
    Inconsistent,
    Cut,
}

/// The negated errno at the start of NLMSG_ERROR and NLMSG_DONE; 0 for success.
fn end_code(message: &Message) -> Result<i32, DecodeError> {
    field(message.payload, 0).map(i32::from_ne_bytes)
}

/// The words in an error: an attribute behind the header of the request, and behind the request itself where that is
/// returned.
fn words(message: &Message) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let returned = match message.flags & NLM_F_CAPPED {
        0 => u32::from_ne_bytes(field(message.payload, 4).ok()?) as usize,
        _ => HEADER_LEN,
    };
    let found = attributes(message.payload, 4 + returned).flatten();
    let text = found.filter(|one| one.kind() == NLMSGERR_ATTR_MSG).find_map(|one| {
        let bytes = one.value().to_vec();
        String::from_utf8(bytes).ok()
    })?;
    Some(text.trim_end_matches(['\0', '\n', ' ']).to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One message with a header, padded as the kernel does.
    pub(in crate::linux) fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = HEADER_LEN + payload.len();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(len as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(payload);
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    /// One attribute, padded as the kernel does.
    pub(in crate::linux) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(len as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    /// The result of `parse` for the only message of a datagram.
    pub(in crate::linux) fn parsed<T>(
        datagram: &[u8],
        parse: fn(&Message) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        messages(datagram).next().expect("one message").and_then(|message| parse(&message))
    }

    /// The same for a message with this payload, of a kind that does not matter.
    pub(in crate::linux) fn parsed_payload<T>(
        payload: &[u8],
        parse: fn(&Message) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        parsed(&message(0x18, payload), parse)
    }

    #[test]
    fn the_words_of_an_error_are_behind_the_request() {
        let says = attribute(NLMSGERR_ATTR_MSG, b"Peer MTU is too large to set XDP\0");
        let header = |length: u32| [&length.to_ne_bytes()[..], &[0; 12]].concat();
        let error = (-libc::EINVAL).to_ne_bytes();
        let whole = [&error[..], &header(24), &[7; 8], &says].concat();
        let capped = [&error[..], &header(24), &says].concat();
        let of = |flags, payload: &[u8]| {
            words(&Message { kind: NLMSG_ERROR, payload, flags, sequence: 0 })
        };
        let expected = Some("Peer MTU is too large to set XDP".to_owned());
        assert_eq!(of(NLM_F_ACK_TLVS, &whole), expected);
        assert_eq!(of(NLM_F_ACK_TLVS | NLM_F_CAPPED, &capped), expected);
        assert_eq!(of(0, &whole), None);
        assert_eq!(of(NLM_F_ACK_TLVS, &whole[..30]), None, "cut off");
    }

    #[test]
    fn a_datagram_is_split_into_its_messages() {
        let datagram = [message(20, b"first"), message(21, b""), message(22, b"third")].concat();
        let found: Vec<_> = messages(&datagram)
            .map(|message| message.map(|m| (m.kind, m.payload.to_vec())).expect("well formed"))
            .collect();
        assert_eq!(found, [(20, b"first".to_vec()), (21, Vec::new()), (22, b"third".to_vec())]);
    }

    #[test]
    fn a_cut_datagram_ends_with_an_error() {
        let whole = [message(20, b"0123"), message(21, b"4567")].concat();
        let boundaries = [0, 20, 40];
        for cut in 0..=whole.len() {
            let found: Vec<_> = messages(&whole[..cut]).collect();
            let last_is_error = found.last().is_some_and(Result::is_err);
            assert_eq!(last_is_error, !boundaries.contains(&cut), "cut at {cut}");
            assert!(found.len() <= 2, "cut at {cut}");
        }
    }

    #[test]
    fn a_length_field_that_lies_is_an_error() {
        for len in [0u32, 1, 15, 21, 1 << 16, u32::MAX] {
            let mut datagram = message(20, b"0123");
            datagram[..4].copy_from_slice(&len.to_ne_bytes());
            let found: Vec<_> = messages(&datagram).collect();
            assert!(matches!(found[..], [Err(_)]), "length {len}");
        }
    }

    #[test]
    fn the_kernels_refusal_is_reported_with_its_reason() {
        let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE).expect("netlink");
        let error = netlink
            .dump("list nonsense", 0x7ff0, &[0; 4], |_| Ok(Some(())))
            .expect_err("no such message type");
        assert_eq!(error.os_error(), Some(libc::EOPNOTSUPP), "{error}");
        assert!(error.to_string().starts_with("cannot list nonsense: "), "{error}");
    }

    #[test]
    fn an_answer_that_makes_no_sense_does_not_spoil_the_next_one() {
        const RTM_GETLINK: u16 = 18;
        let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE).expect("netlink");
        let error = netlink
            .dump("list links", RTM_GETLINK, &[0; 16], |_| Err::<Option<()>, _>("odd".into()))
            .expect_err("the parser refuses");
        assert!(matches!(error, Error::Garbled { .. }), "{error}");
        let links = netlink
            .dump("list links", RTM_GETLINK, &[0; 16], |m| Ok(Some(m.kind)))
            .expect("a second request works");
        assert!(!links.is_empty());
    }
}
