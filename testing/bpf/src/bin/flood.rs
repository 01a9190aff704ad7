//! The attacker of the root tests and of the benchmark: makes SYNs by a recipe.
//!
//! Run by BPF_PROG_TEST_RUN on live frames, it sends each out of the interface that the test names, and the host at
//! the other end of the cable receives frames as from a driver. Not a part of tcpguard, and never attached to an
//! interface.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "shared with the test kit, which uses the rest")]

#[path = "../recipe.rs"]
mod recipe;

use core::ptr::read_volatile;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::recipe::Recipe;

// Where things are in untagged Ethernet without IP options or extension headers (RFC 791 §3.1,
// RFC 8200 §3, RFC 9293 §3.1).
const IPV4_ID: usize = 14 + 4;
const IPV4_TTL: usize = 14 + 8;
const IPV4_CHECKSUM: usize = 14 + 10;
const IPV4_SOURCE: usize = 14 + 12;
const IPV4_TCP: usize = 14 + 20;
const IPV6_NEXT_HEADER: usize = 14 + 6;
const IPV6_SOURCE: usize = 14 + 8;
const IPV6_TCP: usize = 14 + 40;
// From the beginning of the TCP header.
const SOURCE_PORT: usize = 0;
const SEQUENCE: usize = 4;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
/// The protocol number of TCP.
const TCP: u8 = 6;

/// Written before the program is loaded.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static RECIPE: Recipe = Recipe::NONE;

/// A field of the recipe. The read is volatile, so that the compiler does not use the initial value
/// above.
macro_rules! recipe {
    ($($field:tt)+) => {
        // SAFETY: reads a field of a static; an index is checked by the caller's loop.
        unsafe { read_volatile(&raw const RECIPE.$($field)+) }
    };
}

/// Makes a frame into the next SYN and sends it. A frame that is too short for that is given up
/// (`XDP_ABORTED`).
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
    frame.write_common(recipe!(length) as usize)?;
    let drawn = random();
    if recipe!(ipv6) != 0 {
        // The next header, then the hop limit.
        frame.write(
            IPV6_NEXT_HEADER,
            [u16::from_ne_bytes([TCP, ttl(drawn as u8, frame.ttl6()?)])],
        )?;
        let source = frame.write(IPV6_SOURCE, source_v6())?;
        forge_tcp(&frame, IPV6_TCP, drawn, source)
    } else {
        let source = frame.write(IPV4_SOURCE, source_v4())?;
        let mut sum = recipe!(ip_sum) + source;
        if varies(recipe::VARY_IP_ID) {
            sum += frame.write(IPV4_ID, [random() as u16])?;
        }
        let ttl = ttl(drawn as u8, frame.ttl4()?);
        sum += frame.write(IPV4_TTL, [u16::from_ne_bytes([ttl, TCP])])?;
        frame.write(IPV4_CHECKSUM, [checksum(sum)])?;
        forge_tcp(&frame, IPV4_TCP, drawn, source)
    }
}

/// `source` is the address's share of the pseudo header.
#[inline(always)]
fn forge_tcp(frame: &Frame, tcp: usize, drawn: u32, source: u32) -> Option<()> {
    let mut sum = recipe!(tcp_sum) + source;
    sum += frame.write(tcp + SOURCE_PORT, [(1024 | (drawn >> 16) as u16).to_be()])?;
    sum += frame.write(tcp + SEQUENCE, words(random()))?;
    let timestamp_at = recipe!(timestamp_at) as usize;
    if timestamp_at != 0 {
        // A Linux host begins each connection's clock at another time.
        sum += frame.write(timestamp_at, words(random()))?;
    }
    if varies(recipe::VARY_WINDOW_MSS) {
        let drawn = random();
        sum += frame.write(tcp + WINDOW, [drawn as u16])?;
        let mss_at = recipe!(mss_at) as usize;
        if mss_at != 0 {
            sum += frame.write(mss_at, [(536 + ((drawn >> 16) & 0x3ff) as u16).to_be()])?;
        }
    }
    frame.write(tcp + CHECKSUM, [checksum(sum)]).map(drop)
}

/// A frame, as 16-bit words in memory order.
struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// Writes the part that all SYNs have in common.
    #[inline(always)]
    fn write_common(&self, length: usize) -> Option<()> {
        const LONGEST: usize = 8 * recipe::FRAME_WORDS;
        if length > LONGEST || self.start + length > self.end {
            return None;
        }
        let mut at = 0;
        while at + 8 <= LONGEST {
            if at + 8 <= length {
                if self.start + at + 8 > self.end {
                    return None;
                }
                let word = recipe!(frame[at / 8]);
                // SAFETY: just checked; BPF stores may be unaligned.
                unsafe { ((self.start + at) as *mut u64).write_unaligned(word) };
            } else if at < length {
                let word = recipe!(frame[at / 8]);
                for quarter in 0..3 {
                    if at + 2 * quarter < length {
                        self.write(at + 2 * quarter, [(word >> (16 * quarter)) as u16])?;
                    }
                }
            }
            at += 8;
        }
        Some(())
    }

    /// Writes words in memory order from the even offset `at` on, and returns their sum.
    #[inline(always)]
    fn write<const N: usize>(&self, at: usize, words: [u16; N]) -> Option<u32> {
        if self.start + at + 2 * N > self.end {
            return None;
        }
        let mut sum = 0;
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: the last word lies within the frame, which begins at an even address.
            unsafe { ((self.start + at + 2 * index) as *mut u16).write(word) };
            sum += u32::from(word);
        }
        Some(sum)
    }

    #[inline(always)]
    fn ttl4(&self) -> Option<u8> {
        self.byte(IPV4_TTL)
    }

    #[inline(always)]
    fn ttl6(&self) -> Option<u8> {
        self.byte(IPV6_NEXT_HEADER + 1)
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        // SAFETY: read only if it lies within the frame.
        (self.start + at < self.end).then(|| unsafe { ((self.start + at) as *const u8).read() })
    }
}

/// The TTL or hop limit that a drawn byte stands for, or else `common`.
#[inline(always)]
fn ttl(drawn: u8, common: u8) -> u8 {
    if varies(recipe::VARY_NATURAL_TTL) {
        // Hosts begin at 64 or 128, and hardly any are more than 28 routers away.
        if drawn & 1 == 0 { 40 + (drawn >> 1) % 25 } else { 100 + (drawn >> 1) % 29 }
    } else if varies(recipe::VARY_TTL) {
        33 + (drawn >> 1)
    } else {
        common
    }
}

#[inline(always)]
fn varies(what: u32) -> bool {
    recipe!(vary) & what != 0
}

#[inline(always)]
fn source_v4() -> [u16; 2] {
    let [high, low] = words(random());
    let mut high = recipe!(source[0]) | high & recipe!(source_drawn[0]);
    let low = recipe!(source[1]) | low & recipe!(source_drawn[1]);
    if varies(recipe::UNICAST) {
        let [first, second] = high.to_ne_bytes();
        let usable = matches!(first, 1..=9 | 11..=126 | 128..=223);
        high = u16::from_ne_bytes([if usable { first } else { 128 + first % 96 }, second]);
    }
    [high, low]
}

#[inline(always)]
fn source_v6() -> [u16; 8] {
    let mut source = [0; 8];
    for pair in 0..4 {
        let [high, low] = words(random());
        let at = 2 * pair;
        source[at] = recipe!(source[at]) | high & recipe!(source_drawn[at]);
        source[at + 1] = recipe!(source[at + 1]) | low & recipe!(source_drawn[at + 1]);
    }
    source
}

/// The checksum of a sum of words (RFC 1071).
#[inline(always)]
fn checksum(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Two words of random bits.
#[inline(always)]
fn words(random: u32) -> [u16; 2] {
    [(random >> 16) as u16, random as u16]
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
