//! The attacker of the root tests and of the benchmark: makes SYNs by a recipe.
//!
//! Run by BPF_PROG_TEST_RUN on live frames, it sends each out of the interface that the test names, and the host at
//! the other end of the cable receives frames as from a driver. Not a part of tcpguard, and never attached to an
//! interface that receives.
//!
//! A benchmark's maximum is that of this program, so it does little per frame. The recipe is constant for the
//! verifier, which removes the branches of other recipes. One comparison covers all stores. They are aligned,
//! since the compiler splits others into bytes. Checksums are sums of numbers that are at hand.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "shared with the test kit, which uses the rest")]

#[path = "../../../kit/src/traffic/random.rs"]
mod random;
#[path = "../recipe.rs"]
mod recipe;

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::random::Random;
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

/// State of the random numbers beyond the seed. One thread runs the program.
static mut STATE: u64 = 0;

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
    let length = recipe!(length) as usize;
    if length == 0 || ctx.data() + length > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    let (frame, mut random) = (Frame(ctx.data()), draws());
    frame.write_common(length);
    let bits = random.bits();
    if recipe!(ipv6) != 0 {
        let source = forge_v6(&frame, &mut random, ttl(bits >> 48));
        forge_tcp(&frame, IPV6_TCP, &mut random, bits, source);
    } else {
        let source = forge_v4(&frame, &mut random, ttl(bits >> 48));
        forge_tcp(&frame, IPV4_TCP, &mut random, bits, source);
    }
    xdp_action::XDP_TX
}

/// The random numbers of the next SYN.
#[inline(always)]
fn draws() -> Random {
    // SAFETY: one thread runs the program.
    let state = unsafe { read_volatile(&raw const STATE) };
    // SAFETY: likewise.
    unsafe { write_volatile(&raw mut STATE, state.wrapping_add(1)) };
    // The seeds of neighbours have nothing in common.
    Random::new(Random::new(recipe!(seed).wrapping_add(state)).bits() & recipe!(distinct))
}

/// Writes the IPv4 header and returns the source's share of the pseudo header.
#[inline(always)]
fn forge_v4(frame: &Frame, random: &mut Random, ttl: u8) -> u64 {
    let bits = random.bits();
    let source = words(bits as u32);
    let mut high = recipe!(source[0]) | source[0] & recipe!(source_drawn[0]);
    let low = recipe!(source[1]) | source[1] & recipe!(source_drawn[1]);
    if varies(recipe::UNICAST) {
        let [first, second] = high.to_ne_bytes();
        let usable = matches!(first, 1..=9 | 11..=126 | 128..=223);
        high = u16::from_ne_bytes([if usable { first } else { 128 + (first >> 2) }, second]);
    }
    let source = frame.write(IPV4_SOURCE, [high, low]);
    let mut sum = u64::from(recipe!(ip_sum)) + source;
    if varies(recipe::VARY_IP_ID) {
        sum += frame.write(IPV4_ID, [(bits >> 32) as u16]);
    }
    sum += frame.write(IPV4_TTL, [u16::from_ne_bytes([ttl, TCP])]);
    frame.write(IPV4_CHECKSUM, [checksum(sum)]);
    source
}

/// Writes the IPv6 header and returns the source's share of the pseudo header.
#[inline(always)]
fn forge_v6(frame: &Frame, random: &mut Random, ttl: u8) -> u64 {
    let mut sum = 0;
    for half in 0..2 {
        let bits = random.bits();
        for word in 0..4 {
            let at = 4 * half + word;
            let drawn = (bits >> (16 * word)) as u16 & recipe!(source_drawn[at]);
            sum += frame.write(IPV6_SOURCE + 2 * at, [recipe!(source[at]) | drawn]);
        }
    }
    // The next header, then the hop limit.
    frame.write(IPV6_NEXT_HEADER, [u16::from_ne_bytes([TCP, ttl])]);
    sum
}

/// Writes the TCP header; 48 random bits are for its port and number.
#[inline(always)]
fn forge_tcp(frame: &Frame, tcp: usize, random: &mut Random, bits: u64, source: u64) {
    let mut sum = u64::from(recipe!(tcp_sum)) + source;
    sum += frame.write(tcp + SOURCE_PORT, [(1024 | (bits >> 32) as u16).to_be()]);
    if varies(recipe::VARY_SEQUENCE) {
        sum += frame.write(tcp + SEQUENCE, words(bits as u32));
    }
    let timestamp_at = recipe!(timestamp_at) as usize;
    if timestamp_at != 0 {
        // A Linux host begins each connection's clock at another time.
        sum += frame.write(timestamp_at, words(random.bits() as u32));
    }
    if varies(recipe::VARY_WINDOW_MSS) {
        let drawn = random.bits();
        sum += frame.write(tcp + WINDOW, [drawn as u16]);
        let mss_at = recipe!(mss_at) as usize;
        if mss_at != 0 {
            sum += frame.write(mss_at, [(536 + ((drawn >> 16) & 0x3ff) as u16).to_be()]);
        }
    }
    frame.write(tcp + CHECKSUM, [checksum(sum)]);
}

/// A frame of the recipe's length, by its address, which is a multiple of eight.
struct Frame(usize);

impl Frame {
    /// Writes the part that all SYNs have in common.
    #[inline(always)]
    fn write_common(&self, length: usize) {
        // Not a loop: the verifier removes only branches that always go one way.
        macro_rules! write_words {
            ($($index:literal)*) => { $( self.write_word::<$index>(length); )* };
        }
        write_words!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }

    /// Writes so much of a word of the recipe's frame as the length allows.
    #[inline(always)]
    fn write_word<const INDEX: usize>(&self, length: usize) {
        let (at, word) = (8 * INDEX, recipe!(frame[INDEX]));
        if at + 8 <= length {
            // SAFETY: within the frame, and aligned.
            unsafe { ((self.0 + at) as *mut u64).write(word) };
        } else {
            for quarter in 0..3 {
                if at + 2 * quarter < length {
                    self.write(at + 2 * quarter, [(word >> (16 * quarter)) as u16]);
                }
            }
        }
    }

    /// Writes words in memory order from the even offset `at` on, and returns their sum.
    #[inline(always)]
    fn write<const N: usize>(&self, at: usize, words: [u16; N]) -> u64 {
        let mut sum = 0;
        for (index, word) in words.into_iter().enumerate() {
            // SAFETY: the verifier sees that it lies within the frame; the address is even.
            unsafe { ((self.0 + at + 2 * index) as *mut u16).write(word) };
            sum += u64::from(word);
        }
        sum
    }
}

/// The TTL or hop limit that eight random bits stand for, or else the common one.
#[inline(always)]
fn ttl(bits: u64) -> u8 {
    let drawn = (bits as u32 >> 1) & 0x7f;
    let ttl = if varies(recipe::VARY_NATURAL_TTL) {
        // Hosts begin at 64 or 128, and hardly any are more than 28 routers away.
        if bits & 1 == 0 { 40 + ((drawn * 25) >> 7) } else { 100 + ((drawn * 29) >> 7) }
    } else if varies(recipe::VARY_TTL) {
        33 + drawn
    } else {
        recipe!(ttl)
    };
    ttl as u8
}

#[inline(always)]
fn varies(what: u32) -> bool {
    recipe!(vary) & what != 0
}

/// The checksum of a sum of words (RFC 1071) below 2³².
#[inline(always)]
fn checksum(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Two words of random bits.
#[inline(always)]
fn words(random: u32) -> [u16; 2] {
    [(random >> 16) as u16, random as u16]
}

/// Never reached: the verifier refuses a program with a path to it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
