//! Turning a SYN into the SYN-ACK that answers it, in place.
//!
//! The reply is never longer than the SYN: it holds no option that the SYN did not hold, but for
//! the MSS. Where the SYN had no MSS and the frame has no space for it (no padding behind the 54
//! bytes of a bare SYN), the MSS is left out. That is as good as the MSS that a host without the
//! option is assumed to have, 536 or 1,220 bytes. So the frame is only ever cut, which works in
//! native and generic mode and on every driver, where making it longer does not.
//!
//! Parts of the SYN beyond the fixed headers (IPv4 options, IPv6 extension headers, data) are not in
//! the reply. VLAN tags stay. Data is not acknowledged, so the client retransmits it, as after any
//! SYN-ACK of a server without TCP Fast Open.

use super::checksum::Sum;
use super::tcp::{PROTOCOL, flag};
use super::{FrameMut, Segment, Window, WindowMut};
use crate::abi::{Addr, option, quirk};

/// Ethernet's shortest frame, without its check sequence. Not every driver pads frames that XDP
/// sends.
const SHORTEST: usize = 60;
const TCP_HEADER: usize = 20;
const DONT_FRAGMENT: u32 = 0x4000;

// Options as Linux writes them, in words; NOPs in front.
const MSS: u32 = 0x0204_0000;
const WSCALE: u32 = 0x0103_0300;
const SACK: u32 = 0x0101_0402;
const TIMESTAMP: u32 = 0x0101_080a;
const SACK_TIMESTAMP: u32 = 0x0402_080a;

/// The fields of the reply; numbers in host byte order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SynAck {
    /// Ethernet address to which it goes, as [`crate::abi::NextHop::mac`].
    pub to: u64,
    /// Sequence number.
    pub isn: u32,
    /// Window, unscaled.
    pub window: u16,
    /// MSS in bytes; 0: no option.
    pub mss: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Window scale, if it is sent.
    pub wscale: u8,
    /// The options that are sent beside the MSS: bits of [`option`].
    pub options: u32,
    /// Value of the timestamp, if it is sent.
    pub timestamp: u32,
    /// The one echoed.
    pub echo: u32,
}

impl SynAck {
    /// Makes `frame`, which holds `syn`, the reply. `None` for a fragment, and where the frame has less
    /// room than a SYN with these options takes; then it is unchanged.
    #[inline(always)]
    pub fn replace<F: FrameMut + ?Sized>(mut self, frame: &mut F, syn: &Segment) -> Option<()> {
        let v6 = syn.quirks & quirk::IPV6 != 0;
        let ip_at = usize::from(syn.ip_at);
        let tcp_at = ip_at + if v6 { 40 } else { 20 };
        let length = frame.length();
        let room = length.checked_sub(tcp_at + TCP_HEADER)?;
        if self.options_length() > room {
            self.mss = 0;
        }
        let options = frame.forget(self.options_length() as u64) as usize;
        if syn.fragment || options > room {
            return None;
        }
        let end = tcp_at + TCP_HEADER + options;
        let wanted = if end < SHORTEST { SHORTEST } else { end };
        if wanted < length {
            frame.cut(wanted)?;
        }
        turn_round(frame, self.to)?;
        let tcp_length = (TCP_HEADER + options) as u32;
        let mut pseudo = Sum::default();
        pseudo.add(u32::from(PROTOCOL) + tcp_length);
        if v6 {
            self.ipv6(frame, ip_at, syn, tcp_length, &mut pseudo)?;
        } else {
            self.ipv4(frame, ip_at, syn, tcp_length, &mut pseudo)?;
        }
        let tcp_at = frame.forget(tcp_at as u64) as usize;
        self.tcp(frame, tcp_at, syn, options, pseudo)
    }

    #[inline(always)]
    const fn has(&self, option: u32) -> bool {
        self.options & option != 0
    }

    /// Bytes that the options take.
    #[inline(always)]
    const fn options_length(&self) -> usize {
        let mss = if self.mss != 0 { 4 } else { 0 };
        let wscale = if self.has(option::WSCALE) { 4 } else { 0 };
        let rest = if self.has(option::TIMESTAMPS) {
            12
        } else if self.has(option::SACK) {
            4
        } else {
            0
        };
        mss + wscale + rest
    }

    #[inline(always)]
    fn ipv4<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        at: usize,
        syn: &Segment,
        tcp_length: u32,
        pseudo: &mut Sum,
    ) -> Option<()> {
        let version_and_length = 0x4500_0000 | (20 + tcp_length);
        let ttl_and_protocol = u32::from(self.ttl) << 24 | u32::from(PROTOCOL) << 16;
        let (src, dst) = (words(&syn.flow.server)[3], words(&syn.flow.client)[3]);
        pseudo.add(src);
        pseudo.add(dst);
        let mut sum = Sum::default();
        for word in [version_and_length, DONT_FRAGMENT, ttl_and_protocol, src, dst] {
            sum.add(word);
        }
        let mut ip = frame.window_mut::<20>(at)?;
        ip.set_u32::<0>(version_and_length);
        ip.set_u32::<4>(DONT_FRAGMENT);
        ip.set_u32::<8>(ttl_and_protocol | u32::from(sum.checksum()));
        ip.set_u32::<12>(src);
        ip.set_u32::<16>(dst);
        Some(())
    }

    #[inline(always)]
    fn ipv6<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        at: usize,
        syn: &Segment,
        tcp_length: u32,
        pseudo: &mut Sum,
    ) -> Option<()> {
        let next = u32::from(PROTOCOL) << 8 | u32::from(self.ttl);
        let (src, dst) = (words(&syn.flow.server), words(&syn.flow.client));
        for word in src {
            pseudo.add(word);
        }
        for word in dst {
            pseudo.add(word);
        }
        let mut ip = frame.window_mut::<40>(at)?;
        ip.set_u32::<0>(0x6000_0000);
        ip.set_u32::<4>(tcp_length << 16 | next);
        ip.set_u32::<8>(src[0]);
        ip.set_u32::<12>(src[1]);
        ip.set_u32::<16>(src[2]);
        ip.set_u32::<20>(src[3]);
        ip.set_u32::<24>(dst[0]);
        ip.set_u32::<28>(dst[1]);
        ip.set_u32::<32>(dst[2]);
        ip.set_u32::<36>(dst[3]);
        Some(())
    }

    #[inline(always)]
    fn tcp<F: FrameMut + ?Sized>(
        &self,
        frame: &mut F,
        at: usize,
        syn: &Segment,
        options: usize,
        sum: Sum,
    ) -> Option<()> {
        let ports = u32::from(u16::from_be_bytes(syn.flow.server_port)) << 16
            | u32::from(u16::from_be_bytes(syn.flow.client_port));
        let offset = ((TCP_HEADER + options) as u32 / 4) << 28;
        let ecn = if self.has(option::ECN) { flag::ECE } else { 0 };
        let flags = flag::SYN | flag::ACK | ecn;
        let last = offset | u32::from(flags) << 16 | u32::from(self.window);
        let header = [ports, self.isn, syn.seq.wrapping_add(1), last];
        let mut out = Words { frame, at: at + TCP_HEADER, sum };
        if self.mss != 0 {
            out.put(MSS | u32::from(self.mss))?;
        }
        out.forget();
        let sack = self.has(option::SACK);
        if self.has(option::TIMESTAMPS) {
            out.put(if sack { SACK_TIMESTAMP } else { TIMESTAMP })?;
            out.put(self.timestamp)?;
            out.put(self.echo)?;
        } else if sack {
            out.put(SACK)?;
        }
        out.forget();
        if self.has(option::WSCALE) {
            out.put(WSCALE | u32::from(self.wscale))?;
        }
        let mut sum = out.sum;
        for word in header {
            sum.add(word);
        }
        let mut tcp = frame.window_mut::<TCP_HEADER>(at)?;
        tcp.set_u32::<0>(header[0]);
        tcp.set_u32::<4>(header[1]);
        tcp.set_u32::<8>(header[2]);
        tcp.set_u32::<12>(header[3]);
        tcp.set_u16::<16>(sum.checksum());
        // The urgent pointer.
        tcp.set_u16::<18>(0);
        Some(())
    }
}

/// Sends the frame from the Ethernet address that it was sent to.
#[inline(always)]
fn turn_round<F: FrameMut + ?Sized>(frame: &mut F, to: u64) -> Option<()> {
    let old = frame.window::<6>(0)?;
    let (own, own_end) = (old.u32::<0>(), old.u16::<4>());
    drop(old);
    let mut ethernet = frame.window_mut::<12>(0)?;
    ethernet.set_u32::<0>((to >> 16) as u32);
    ethernet.set_u16::<4>(to as u16);
    ethernet.set_u32::<6>(own);
    ethernet.set_u16::<10>(own_end);
    Some(())
}

/// The address in four words, as they are written with [`WindowMut::set_u32`].
#[inline(always)]
fn words(addr: &Addr) -> [u32; 4] {
    let [a, b, c, d] = *addr.words();
    [u32::from_be(a), u32::from_be(b), u32::from_be(c), u32::from_be(d)]
}

/// Writes words one after the other and adds them up.
struct Words<'a, F: ?Sized> {
    frame: &'a mut F,
    at: usize,
    sum: Sum,
}

impl<F: FrameMut + ?Sized> Words<'_, F> {
    #[inline(always)]
    fn put(&mut self, word: u32) -> Option<()> {
        self.sum.add(word);
        self.frame.set_u32(self.at, word)?;
        self.at += 4;
        Some(())
    }

    /// Makes the position of the next word independent of earlier writes, as far as the verifier
    /// knows.
    #[inline(always)]
    fn forget(&mut self) {
        self.at = self.frame.forget(self.at as u64) as usize;
    }
}
