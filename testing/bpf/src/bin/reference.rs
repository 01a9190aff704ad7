//! The reference for tcpguard's cookies in the benchmark: a typical SYN proxy in XDP, with the kernel's
//! helpers for cookies and for checksums. No part of tcpguard.
//!
//! It does the same in the same order as the kernel's own example (`xdp_synproxy` of its selftests), but for the
//! look-up in the connection tracking of netfilter. The frame of a SYN or of an ACK is resized to hold the longest
//! header. For a SYN to a port on the list the checksums are verified, the kernel makes the cookie, the requested
//! options go into the timestamp, and the frame becomes the SYN-ACK. An ACK is checked for a cookie. All are
//! counted by one counter. It handles untagged IPv4 without options and IPv6 without extension headers. Anything
//! but TCP passes.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_ktime_get_ns, bpf_tcp_raw_check_syncookie_ipv4,
    bpf_tcp_raw_check_syncookie_ipv6, bpf_tcp_raw_gen_syncookie_ipv4,
    bpf_tcp_raw_gen_syncookie_ipv6, bpf_xdp_adjust_tail,
};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
/// A TCP header with all its options.
const LONGEST_TCP: usize = 60;
const MOST_PORTS: u32 = 8;
const MOST_OPTIONS: usize = 7;
/// A network card sends nothing shorter.
const SHORTEST_FRAME: usize = 60;
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Ports that are answered for, in network byte order; 0 ends the list.
#[map]
static PORTS: Array<u16> = Array::with_max_entries(MOST_PORTS, 0);

#[map]
static ANSWERED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Options that a SYN asked for.
#[derive(Default)]
struct Asked {
    /// 15: no window scaling.
    wscale: u32,
    sack: bool,
    /// The client's, as on the wire; with `timestamps` only.
    timestamp: u32,
    timestamps: bool,
}

#[xdp(frags)]
pub fn reference(ctx: XdpContext) -> u32 {
    let frame = Frame::of(ctx.ctx);
    let Some(ethertype) = frame.read::<u16>(12) else { return xdp_action::XDP_PASS };
    match u16::from_be(ethertype) {
        0x0800 if frame.read::<u8>(ETHERNET) == Some(0x45) => proxy::<false>(ctx.ctx, &frame),
        0x86dd if frame.read::<u8>(ETHERNET + 6) == Some(6) => proxy::<true>(ctx.ctx, &frame),
        _ => xdp_action::XDP_PASS,
    }
}

#[inline(always)]
fn proxy<const V6: bool>(ctx: *mut xdp_md, frame: &Frame) -> u32 {
    let tcp = ETHERNET + if V6 { IPV6 } else { IPV4 };
    let protocol = if V6 { Some(6) } else { frame.read::<u8>(ETHERNET + 9) };
    let (Some(6), Some(offset), Some(flags)) =
        (protocol, frame.read::<u8>(tcp + 12), frame.read::<u8>(tcp + 13))
    else {
        return xdp_action::XDP_PASS;
    };
    let length = usize::from(offset >> 4) * 4;
    // Linux 6.1 wants to see of this number, and not of one that it is made of, that it is not 0.
    let length = opaque(length);
    if length < TCP {
        return xdp_action::XDP_DROP;
    }
    let flags = flags & FIN_SYN_RST_ACK;
    if flags != SYN && flags != ACK {
        return xdp_action::XDP_DROP;
    }
    // The helpers want to see that a header of any length lies within the frame. SYN or ACK, it is
    // made to: so does the kernel's example.
    if resize(ctx, frame, frame.end - frame.start + LONGEST_TCP - length).is_none() {
        return xdp_action::XDP_DROP;
    }
    let frame = &Frame::of(ctx);
    let done = if flags == SYN { answer::<V6>(ctx, frame, length) } else { check::<V6>(frame) };
    done.unwrap_or(xdp_action::XDP_DROP)
}

#[inline(always)]
fn is_listed(port: u16) -> bool {
    for index in 0..MOST_PORTS {
        match PORTS.get(index) {
            Some(&listed) if listed == port => return true,
            Some(&listed) if listed != 0 => {}
            _ => return false,
        }
    }
    false
}

/// `None`: no cookie of the kernel's.
#[inline(always)]
fn check<const V6: bool>(frame: &Frame) -> Option<u32> {
    let tcp = ETHERNET + if V6 { IPV6 } else { IPV4 };
    let segment = frame.at(tcp, TCP)?;
    let ip = frame.at(ETHERNET, if V6 { IPV6 } else { IPV4 })?;
    // SAFETY: both headers lie within the frame.
    let good = unsafe {
        if V6 {
            bpf_tcp_raw_check_syncookie_ipv6(ip as *mut _, segment as *mut _)
        } else {
            bpf_tcp_raw_check_syncookie_ipv4(ip as *mut _, segment as *mut _)
        }
    };
    (good == 0).then_some(xdp_action::XDP_PASS)
}

#[inline(always)]
fn answer<const V6: bool>(ctx: *mut xdp_md, frame: &Frame, length: usize) -> Option<u32> {
    let tcp = ETHERNET + if V6 { IPV6 } else { IPV4 };
    if !is_listed(frame.read::<u16>(tcp + 2)?) {
        return None;
    }
    let segment = frame.at(tcp, LONGEST_TCP)?;
    let ip = frame.at(ETHERNET, if V6 { IPV6 } else { IPV4 })?;
    if !V6 && fold(sum(ip, IPV4, 0)?) != 0xffff {
        return None;
    }
    if fold(sum(segment, length, pseudo_header::<V6>(frame, length)?)?) != 0xffff {
        return None;
    }
    // SAFETY: the headers lie within the frame; `length` is at most that of the last.
    let cookie = unsafe {
        if V6 {
            bpf_tcp_raw_gen_syncookie_ipv6(ip as *mut _, segment as *mut _, length as u32)
        } else {
            bpf_tcp_raw_gen_syncookie_ipv4(ip as *mut _, segment as *mut _, length as u32)
        }
    };
    if cookie < 0 {
        return None;
    }
    if let Some(count) = ANSWERED.get_ptr_mut(0) {
        // SAFETY: this CPU's value; programs at this hook do not preempt each other.
        unsafe { *count += 1 };
    }
    let asked = options(frame, tcp, length);
    let length = write_segment(frame, tcp, cookie as u32, &asked)?;
    turn_round::<V6>(frame, length)?;
    frame.write(tcp + 16, 0u16)?;
    let sum = sum(segment, length, pseudo_header::<V6>(frame, length)?)?;
    frame.write(tcp + 16, !fold(sum))?;
    let wanted = tcp + length;
    resize(ctx, frame, if wanted < SHORTEST_FRAME { SHORTEST_FRAME } else { wanted })?;
    Some(xdp_action::XDP_TX)
}

/// The SYN-ACK over the SYN, but for its checksum: its length.
#[inline(always)]
fn write_segment(frame: &Frame, tcp: usize, cookie: u32, asked: &Asked) -> Option<usize> {
    let ports = frame.read::<u32>(tcp)?;
    let isn = u32::from_be(frame.read::<u32>(tcp + 4)?);
    frame.write(tcp, ports.rotate_left(16))?;
    frame.write(tcp + 4, cookie.to_be())?;
    frame.write(tcp + 8, isn.wrapping_add(1).to_be())?;
    frame.write(tcp + 14, 65_535u16.to_be())?;
    // MSS 1460.
    frame.write(tcp + 20, 0x0204_05b4u32.to_be())?;
    let mut length = TCP + 4;
    if asked.timestamps {
        // SACK permitted, or two NOPs, and timestamps.
        let kind: u32 = if asked.sack { 0x0402_080a } else { 0x0101_080a };
        // SAFETY: takes no arguments.
        let now = (unsafe { bpf_ktime_get_ns() } / 1_000_000) as u32;
        let said = asked.wscale | u32::from(asked.sack) << 4;
        frame.write(tcp + 24, kind.to_be())?;
        frame.write(tcp + 28, (now & !0x3f | said).to_be())?;
        frame.write(tcp + 32, asked.timestamp)?;
        length += 12;
    } else if asked.sack {
        frame.write(tcp + 24, 0x0101_0402u32.to_be())?;
        length += 4;
    }
    if asked.wscale != 15 {
        let scale = 0x0103_0307u32.to_be();
        if asked.timestamps {
            frame.write(tcp + 36, scale)?;
        } else if asked.sack {
            frame.write(tcp + 28, scale)?;
        } else {
            frame.write(tcp + 24, scale)?;
        }
        length += 4;
    }
    frame.write(tcp + 12, (length as u8 / 4) << 4)?;
    frame.write(tcp + 13, SYN | ACK)?;
    Some(length)
}

/// Ethernet and IP headers of the answer; `length` is that of the segment.
#[inline(always)]
fn turn_round<const V6: bool>(frame: &Frame, length: usize) -> Option<()> {
    let (to, from) = (frame.read::<[u16; 3]>(0)?, frame.read::<[u16; 3]>(6)?);
    frame.write(0, from)?;
    frame.write(6, to)?;
    if V6 {
        let (from, to) = (frame.read::<[u32; 4]>(22)?, frame.read::<[u32; 4]>(38)?);
        frame.write(22, to)?;
        frame.write(38, from)?;
        frame.write(18, (length as u16).to_be())?;
        return frame.write(21, 64u8);
    }
    let (from, to) = (frame.read::<u32>(26)?, frame.read::<u32>(30)?);
    frame.write(26, to)?;
    frame.write(30, from)?;
    frame.write(16, ((IPV4 + length) as u16).to_be())?;
    frame.write(18, 0u16)?;
    frame.write(20, 0x4000u16.to_be())?;
    frame.write(22, 64u8)?;
    frame.write(24, 0u16)?;
    let sum = sum(frame.at(ETHERNET, IPV4)?, IPV4, 0)?;
    frame.write(24, !fold(sum))
}

/// The options of the SYN.
#[inline(always)]
fn options(frame: &Frame, tcp: usize, length: usize) -> Asked {
    let mut asked = Asked { wscale: 15, ..Asked::default() };
    let mut at = TCP;
    for _ in 0..MOST_OPTIONS {
        if at >= length || at > LONGEST_TCP - 2 {
            break;
        }
        let Some(kind) = frame.read::<u8>(tcp + at) else { break };
        let size = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(frame.read::<u8>(tcp + at + 1).unwrap_or(0)),
        };
        if size == 0 {
            break;
        }
        match kind {
            3 => {
                let scale = frame.read::<u8>(tcp + at + 2).unwrap_or(0);
                asked.wscale = u32::from(if scale > 14 { 14 } else { scale });
            }
            4 => asked.sack = true,
            8 => {
                asked.timestamps = true;
                asked.timestamp = frame.read::<u32>(tcp + at + 2).unwrap_or(0);
            }
            _ => {}
        }
        at += size;
    }
    asked
}

/// Sum over the addresses, the protocol and the length (RFC 9293 §3.1).
#[inline(always)]
fn pseudo_header<const V6: bool>(frame: &Frame, length: usize) -> Option<u32> {
    let (at, size) = if V6 { (22, 32) } else { (26, 8) };
    let rest = u32::from(6u16.to_be()) + u32::from((length as u16).to_be());
    sum(frame.at(at, size)?, size, rest)
}

/// Sum over `length` bytes at `from`, which must lie within the frame, and `seed`.
#[inline(always)]
fn sum(from: usize, length: usize, seed: u32) -> Option<u32> {
    // SAFETY: by the caller; the kernel's verifier checks it.
    let sum =
        unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, from as *mut u32, length as u32, seed) };
    u32::try_from(sum).ok()
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Makes the frame `length` bytes long. Earlier bounds of the frame are void then.
#[inline(always)]
fn resize(ctx: *mut xdp_md, frame: &Frame, length: usize) -> Option<()> {
    let grow = length as i32 - (frame.end - frame.start) as i32;
    // SAFETY: the context that the program was called with.
    (unsafe { bpf_xdp_adjust_tail(ctx, grow) } == 0).then_some(())
}

/// A number of which the compiler knows nothing.
#[inline(always)]
fn opaque(mut value: usize) -> usize {
    // SAFETY: changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
    value
}

/// The first piece of the packet.
struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    fn of(ctx: *mut xdp_md) -> Self {
        // SAFETY: the context that the program was called with.
        unsafe { Self { start: (*ctx).data as usize, end: (*ctx).data_end as usize } }
    }

    /// The address of `length` bytes at offset `at`.
    #[inline(always)]
    fn at(&self, at: usize, length: usize) -> Option<usize> {
        let from = self.start + at;
        // Of a single byte LLVM would make a comparison that the verifier does not understand.
        (opaque(from + length) <= self.end).then_some(from)
    }

    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> Option<T> {
        let from = self.at(at, size_of::<T>())?;
        // SAFETY: within the frame; BPF loads may be unaligned.
        Some(unsafe { (from as *const T).read_unaligned() })
    }

    #[inline(always)]
    fn write<T>(&self, at: usize, value: T) -> Option<()> {
        let to = self.at(at, size_of::<T>())?;
        // SAFETY: likewise.
        unsafe { (to as *mut T).write_unaligned(value) };
        Some(())
    }
}

/// Never reached: the verifier refuses a program with a path to it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The cookie helpers are open to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
