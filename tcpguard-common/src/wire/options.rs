//! TCP options of a SYN, and the fingerprint that they and the headers make.

use super::tcp::{Segment, flag};
use super::{Frame, Window};
use crate::abi::{Fingerprint, layout, option, quirk};

/// Options read, padding included; every common stack sends fewer (macOS: 9).
pub const MAX_OPTIONS: usize = 12;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WSCALE: u8 = 3;
const SACK_OK: u8 = 4;
const TIMESTAMP: u8 = 8;
const MD5: u8 = 19;
const AUTH: u8 = 29;
const FAST_OPEN: u8 = 34;

/// The fingerprint of a SYN.
#[inline(always)]
pub fn fingerprint<F: Frame + ?Sized>(frame: &F, syn: &Segment) -> Fingerprint {
    let mut quirks = syn.quirks;
    let ecn = syn.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR;
    let ae = syn.flags & flag::AE != 0;
    set(&mut quirks, quirk::ECN, ecn);
    set(&mut quirks, quirk::ACC_ECN, ae && ecn);
    set(&mut quirks, quirk::RESERVED, syn.flags & flag::RESERVED != 0 || ae && !ecn);
    set(&mut quirks, quirk::PAYLOAD, syn.payload);
    set(&mut quirks, quirk::ACK_NUMBER, syn.ack != 0);
    set(&mut quirks, quirk::URGENT, syn.flags & flag::URG != 0 || syn.urgent != 0);
    set(&mut quirks, quirk::PUSH, syn.flags & flag::PSH != 0);
    set(&mut quirks, quirk::SEQ_ZERO, syn.seq == 0);
    let options = read(frame, syn.options_at, syn.options_end);
    Fingerprint {
        options: options.layout,
        mss: options.mss(),
        window: syn.window,
        ip_id: syn.ip_id,
        quirks: quirks | options.quirks(),
        wscale: options.wscale(),
        ttl: syn.ttl,
        pad: [0; 6],
    }
}

#[inline(always)]
fn set(quirks: &mut u16, bit: u16, condition: bool) {
    if condition {
        *quirks |= bit;
    }
}

/// The fields read from the options, in two words: the verifier walks the loop below once per
/// distinct state, so the state is kept small and is forgotten after each option.
#[derive(Clone, Copy)]
struct Options {
    layout: u64,
    /// Bits 0–15 MSS, 16–23 window scale, 24–31 offset of the timestamp's value from the start of the options,
    /// 32–47 quirks, 48–63 those of [`option`].
    fields: u64,
}

const NO_WSCALE: u64 = 255 << 16;
const TIMESTAMP_AT: u64 = 255 << 24;

const fn option_bits(option: u32) -> u64 {
    (option as u64) << 48
}

impl Options {
    const fn mss(self) -> u16 {
        self.fields as u16
    }

    const fn wscale(self) -> u8 {
        (self.fields >> 16) as u8
    }

    const fn quirks(self) -> u16 {
        (self.fields >> 32) as u16
    }

    const fn timestamp_at(self) -> usize {
        ((self.fields & TIMESTAMP_AT) >> 24) as usize
    }
}

/// The options that decide how the connection works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SynOptions {
    /// MSS option, 0 without one.
    pub mss: u16,
    /// Window scale, if there is one.
    pub wscale: u8,
    /// Value of the timestamp, 0 without.
    pub timestamp: u32,
    /// The timestamp echoed, 0 without.
    pub echo: u32,
    /// Options that are present: bits of [`option`].
    pub options: u32,
}

/// Reads the options of a segment, up to the first one that is broken.
#[inline(always)]
pub fn syn_options<F: Frame + ?Sized>(frame: &F, segment: &Segment) -> SynOptions {
    let options = read(frame, segment.options_at, segment.options_end);
    let bits = (options.fields >> 48) as u32;
    let (mut timestamp, mut echo) = (0, 0);
    if bits & option::TIMESTAMPS != 0 {
        let at = usize::from(segment.options_at) + options.timestamp_at();
        if let Some(times) = frame.window::<8>(at) {
            (timestamp, echo) = (times.u32::<0>(), times.u32::<4>());
        }
    }
    SynOptions { mss: options.mss(), wscale: options.wscale(), timestamp, echo, options: bits }
}

impl SynOptions {
    /// Returns the timestamps option.
    #[inline(always)]
    pub const fn timestamps(&self) -> Timestamps {
        let present = self.options & option::TIMESTAMPS != 0;
        Timestamps { present, value: self.timestamp, echo: self.echo }
    }
}

/// The timestamps option of a segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timestamps {
    /// True if there is one. (No `Option`: the compiler may copy the bytes that a `None` leaves
    /// undefined, and the verifier refuses to read them.)
    pub present: bool,
    /// The sender's, 0 without.
    pub value: u32,
    /// The one echoed, 0 without.
    pub echo: u32,
}

/// The first word of a segment's options in the order that RFC 7323, appendix A, recommends for timestamps, and that
/// nearly all segments have: NOP, NOP, timestamps.
const RECOMMENDED: u32 = 0x0101_080a;

/// Reads the timestamps option of a segment, if its options are in that order or there are none; else `None`.
#[inline(always)]
pub fn recommended_timestamps<F: Frame + ?Sized>(
    frame: &F,
    segment: &Segment,
) -> Option<Timestamps> {
    if segment.options_at == segment.options_end {
        return Some(Timestamps::default());
    }
    if segment.options_at + 12 > segment.options_end {
        return None;
    }
    let options = frame.window::<12>(usize::from(segment.options_at))?;
    if options.u32::<0>() != RECOMMENDED {
        return None;
    }
    Some(Timestamps { present: true, value: options.u32::<4>(), echo: options.u32::<8>() })
}

/// Reads the timestamps option of a segment.
#[inline(always)]
pub fn timestamps<F: Frame + ?Sized>(frame: &F, segment: &Segment) -> Timestamps {
    let (start, end) = (usize::from(segment.options_at), usize::from(segment.options_end));
    if start + 12 > end {
        return Timestamps::default();
    }
    let at = if frame.u32(start) == Some(RECOMMENDED) {
        start + 4
    } else {
        let options = read(frame, segment.options_at, segment.options_end);
        match options.timestamp_at() {
            0 => return Timestamps::default(),
            at => start + at,
        }
    };
    let at = frame.forget(at as u64) as usize;
    match frame.window::<8>(at) {
        Some(times) => {
            Timestamps { present: true, value: times.u32::<0>(), echo: times.u32::<4>() }
        }
        None => Timestamps::default(),
    }
}

const fn quirk_bits(quirk: u16) -> u64 {
    (quirk as u64) << 32
}

#[inline(always)]
fn read<F: Frame + ?Sized>(frame: &F, start: u16, end: u16) -> Options {
    let end = u64::from(end);
    let mut at = u64::from(start);
    let mut options = Options { layout: 0, fields: NO_WSCALE };
    for place in 0..MAX_OPTIONS {
        if at >= end {
            return options;
        }
        let Some(option) = one(frame, at as usize, start.into(), end as usize) else {
            options.fields |= quirk_bits(quirk::BAD_OPTIONS);
            return options;
        };
        options.layout = frame.forget(options.layout | option.code << (4 * place));
        if option.code == layout::END {
            return options;
        }
        options.fields = frame.forget(options.fields & option.keep | option.fields);
        at = frame.forget(at + option.length);
    }
    if at < end {
        options.fields |= quirk_bits(quirk::MANY_OPTIONS);
    }
    options
}

/// One option: its code, its length, and its changes to [`Options::fields`].
struct One {
    code: u64,
    length: u64,
    keep: u64,
    fields: u64,
}

#[inline(always)]
fn one<F: Frame + ?Sized>(frame: &F, at: usize, start: usize, end: usize) -> Option<One> {
    let kind = frame.u8(at)?;
    if kind == NOP || kind == END {
        let code = if kind == NOP { layout::NOP } else { layout::END };
        return Some(One { code, length: 1, keep: u64::MAX, fields: 0 });
    }
    let length = frame.u8(at + 1)?;
    if length < 2 || at + usize::from(length) > end {
        return None;
    }
    let (mut keep, mut fields) = (u64::MAX, 0);
    let code = match (kind, length) {
        (MSS, 4) => {
            keep = !0xffff;
            fields = u64::from(frame.u16(at + 2)?);
            layout::MSS
        }
        (WSCALE, 3) => {
            keep = !NO_WSCALE;
            fields = u64::from(frame.u8(at + 2)?) << 16 | option_bits(option::WSCALE);
            layout::WSCALE
        }
        (SACK_OK, 2) => {
            fields = option_bits(option::SACK);
            layout::SACK_OK
        }
        (TIMESTAMP, 10) => {
            keep = !TIMESTAMP_AT;
            fields = ((at + 2).wrapping_sub(start) as u64) << 24 & TIMESTAMP_AT
                | option_bits(option::TIMESTAMPS);
            let times = frame.window::<8>(at + 2)?;
            if times.u32::<0>() == 0 {
                fields |= quirk_bits(quirk::TS_ZERO);
            }
            if times.u32::<4>() != 0 {
                fields |= quirk_bits(quirk::TS_ECHO);
            }
            layout::TIMESTAMP
        }
        (FAST_OPEN, _) => layout::FAST_OPEN,
        (MD5 | AUTH, _) => {
            fields = option_bits(option::SIGNED);
            layout::AUTH
        }
        _ => layout::OTHER,
    };
    Some(One { code, length: u64::from(length), keep, fields })
}
