//! Programs without an interface, to be timed by BPF_PROG_TEST_RUN: ones that do nothing, and ones that
//! stand before another program and make the packet for it again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tcpguard_host::linux::functions;

use crate::net::bpf::{
    EXIT, Hook, Instruction, add, copy, count, counter, helper, insn, kfunc, load_number,
    load_program, mov, program_array, tail_call, test_run, test_run_in_pieces,
};
use crate::net::foreign::Verdict;

// include/uapi/linux/bpf.h
const BPF_FUNC_GET_PRANDOM_U32: i32 = 7;
const BPF_FUNC_XDP_ADJUST_META: i32 = 54;
const BPF_FUNC_XDP_ADJUST_TAIL: i32 = 65;
/// `XDP_ABORTED`: the result of a wrapper that cannot go on.
const ABORTED: i32 = 0;
/// `TC_ACT_SHOT`: the same at tc.
const SHOT: i32 = 2;
/// `BPF_F_CURRENT_NETNS`, for a look-up in the current network namespace.
const CURRENT_NETNS: i32 = -1;
const TCP: i32 = 6;

/// The 32 bits of a frame that distinguish sources: an IPv4 address, or in an IPv6 address the bits
/// after the first 32, which are the rest of its network.
const SOURCE: usize = 26;
const IPV4_ID: usize = 18;
const IPV4_CHECKSUM: usize = 24;
/// Offsets in a TCP header.
const SEQUENCE: usize = 4;
const WINDOW: usize = 14;

/// Odd, so that numbers below `2^29` stay apart when they are multiplied by it, modulo `2^29`.
const SPREAD: u32 = 0x1e37_79b1;
/// The first bits of a drawn source, so that an IPv4 address is one that a host can have ...
const DRAWN_NET: u32 = 0x8000_0000;
/// ... and the bits that are drawn.
const DRAWN: u32 = 0x1fff_ffff;

/// Runs an XDP program once on `frame` as drivers hand it on that split frames: the first piece holds
/// `first` bytes, at least 14. Returns the program's result.
///
/// # Errors
/// When the kernel refuses; before 6.18 it takes such frames in one piece only.
pub fn run_in_pieces(program: &OwnedFd, frame: &[u8], first: usize) -> Result<u32> {
    test_run_in_pieces(program, frame, first).context("a test run in two pieces failed")
}

/// A program of our own making, attached nowhere.
#[derive(Debug)]
pub struct BareProgram {
    program: OwnedFd,
    /// The program that it may go on as: the kernel empties such an array when no process holds it
    /// open.
    _next: Option<OwnedFd>,
}

impl BareProgram {
    /// Loads the program that costs a packet the least at XDP: it returns `verdict`.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN.
    pub fn load(verdict: Verdict, frames: Frames) -> Result<Self> {
        let program = load_program(frames.hook(), &[mov(0, verdict as i32), EXIT])
            .context("cannot load an XDP program")?;
        Ok(Self { program, _next: None })
    }

    /// Loads the program that does the same, and counts packets of all CPUs in one word.
    ///
    /// # Errors
    /// As of [`Self::load`].
    pub fn counting(verdict: Verdict, frames: Frames) -> Result<Self> {
        let counter = counter().context("cannot make an array")?;
        let code = [count(&counter), vec![mov(0, verdict as i32), EXIT]].concat();
        let program =
            load_program(frames.hook(), &code).context("cannot load an XDP program that counts")?;
        Ok(Self { program, _next: None })
    }

    /// Loads the program that costs a packet the least at tc, where everything passes.
    pub fn classifier() -> Result<Self> {
        let program =
            load_program(Hook::Tc, &[mov(0, 0), EXIT]).context("cannot load a tc program")?;
        Ok(Self { program, _next: None })
    }

    /// Runs it `repeat` times on `frame`. Returns the mean time of a run in ns, as the kernel
    /// measures it, and the result of the last run.
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> Result<(u32, u32)> {
        let tested =
            test_run(&self.program, frame, repeat, &mut []).context("a test run failed")?;
        Ok((tested.time, tested.result))
    }

    /// Runs it once; the packet as it left it.
    pub fn output(&self, frame: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; frame.len() + 256];
        let tested = test_run(&self.program, frame, 1, &mut out).context("a test run failed")?;
        out.truncate(tested.length);
        Ok(out)
    }
}

impl AsFd for BareProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// Frames that an XDP program takes. The kernel lets none go on as one of the other kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frames {
    /// Frames in one piece only.
    Whole,
    /// Frames in many pieces too (`xdp.frags`).
    Pieces,
}

impl Frames {
    const fn hook(self) -> Hook {
        match self {
            Self::Whole => Hook::Xdp,
            Self::Pieces => Hook::XdpFrags,
        }
    }
}

/// The sources of the packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Sources {
    /// Always the same host from the same port.
    One,
    /// Every time one of `2^bits` addresses, at most `2^29`, and another port, as in a flood: an IPv4
    /// address from 128.0.0.0/3, or an IPv6 address with a network that differs beyond the first 32
    /// bits. IPv4 identification and sequence number make up for them, so that the checksums stay right.
    Among {
        /// See [`Sources::drawn`].
        bits: u8,
    },
}

impl Sources {
    /// All sources that can be drawn.
    pub const EVERYWHERE: Self = Self::Among { bits: 29 };

    /// Source `number` of those that are drawn: an IPv4 address, or bits 32 to 63 of an IPv6 address.
    /// Those of fewer bits are the first of those of more.
    pub const fn drawn(number: u32) -> u32 {
        DRAWN_NET | number.wrapping_mul(SPREAD) & DRAWN
    }
}

/// The kernel's look-up in the connection tracking of netfilter, for programs at XDP.
#[derive(Clone, Copy, Debug)]
pub struct Conntrack {
    lookup: i32,
    release: i32,
}

impl Conntrack {
    /// `None` where connection tracking is a module, or not in this kernel at all.
    ///
    /// # Errors
    /// On a kernel without BTF.
    pub fn of_running_kernel() -> Result<Option<Self>> {
        let names = ["bpf_xdp_ct_lookup", "bpf_ct_release"];
        let found = functions(&names)?;
        let id = |name| found.get(name).map(|&id| id as i32);
        Ok(id(names[0]).zip(id(names[1])).map(|(lookup, release)| Self { lookup, release }))
    }

    /// Looks the packet at r7 up with the context in r6; passes it if it is of a connection.
    fn instructions(&self, v6: bool) -> Vec<Instruction> {
        // The tuple (36 bytes, `struct bpf_sock_tuple`) lies at r10 - 40, `struct bpf_ct_opts` as the
        // oldest kernels have it (12 bytes: namespace, error, protocol) at r10 - 56.
        let mut code: Vec<_> = [-40, -32, -24, -16]
            .map(|at| insn(0x7a, 10, 0, at, 0))
            .into_iter()
            .chain(
                [(-8, 0), (-56, CURRENT_NETNS), (-52, 0), (-48, TCP)]
                    .map(|(at, word)| insn(0x62, 10, 0, at, word)),
            )
            .collect();
        // Addresses and ports lie in the packet as in the tuple.
        let (from, words, ports, length) = if v6 { (22, 8, 54, 36) } else { (26, 2, 34, 12) };
        let addresses = (0..words).map(|word| (from + 4 * word, -40 + 4 * word));
        for (from, to) in addresses.chain([(ports, -40 + 4 * words)]) {
            code.push(insn(0x61, 1, 7, from, 0));
            code.push(insn(0x63, 10, 1, to, 0));
        }
        code.extend([
            copy(1, 6),
            copy(2, 10),
            add(2, -40),
            mov(3, length),
            copy(4, 10),
            add(4, -56),
            mov(5, 12),
            kfunc(self.lookup),
            // Over the next four if there is none.
            insn(0x15, 0, 0, 4, 0),
            copy(1, 0),
            kfunc(self.release),
            mov(0, Verdict::Pass as i32),
            EXIT,
        ]);
        code
    }
}

/// Makes wrappers: programs that write a packet into the frame whatever has become of it, and go on as
/// another program, so that one that rewrites packets, longer or shorter ones, can be run repeatedly.
#[derive(Debug)]
pub struct Wrapper {
    length: i16,
    v6: bool,
    /// Instructions that write the packet, which is at r7.
    stores: Vec<Instruction>,
}

impl Wrapper {
    /// Makes wrappers that write `frame`, of 14 bytes at least. Sources are drawn for untagged Ethernet, IPv4
    /// without options or IPv6 without extension headers, TCP.
    pub fn new(frame: &[u8], sources: Sources) -> Result<Self> {
        Self::making_up(frame, sources, SEQUENCE)
    }

    /// Makes wrappers as [`Self::new`] does. Where sources are drawn, each packet has another window as well,
    /// as the SYNs of many flood tools have: it makes up for the port.
    pub fn with_windows(frame: &[u8], sources: Sources) -> Result<Self> {
        Self::making_up(frame, sources, WINDOW)
    }

    /// Makes wrappers that write `frame`. `for_port`: offset in the TCP header of the complement of the port.
    fn making_up(frame: &[u8], sources: Sources, for_port: usize) -> Result<Self> {
        let v6 = match (frame.get(12..15), frame.get(20), frame.get(23)) {
            (Some([0x08, 0x00, 0x45]), _, Some(6)) if frame.len() >= 54 => false,
            (Some([0x86, 0xdd, _]), Some(6), _) if frame.len() >= 74 => true,
            _ if sources == Sources::One => false,
            _ => bail!("not a TCP segment for which a wrapper can draw sources"),
        };
        let length = i16::try_from(frame.len())?;
        let mut frame = frame.to_vec();
        if let Sources::Among { .. } = sources {
            leave_room(&mut frame, v6, for_port);
        }
        let mut stores = Vec::new();
        let whole = frame.chunks_exact(8);
        let rest = whole.remainder();
        for (at, bytes) in (0..).step_by(8).zip(whole) {
            stores.extend(load_number(1, u64::from_le_bytes(bytes.try_into()?)));
            stores.push(insn(0x7b, 7, 1, at, 0));
        }
        for (at, byte) in (length - rest.len() as i16..).zip(rest) {
            stores.push(insn(0x72, 7, 0, at, i32::from(*byte)));
        }
        if let Sources::Among { bits } = sources {
            stores.extend(randomise(v6, bits, for_port));
        }
        Ok(Self { length, v6, stores })
    }

    /// Makes a wrapper before the XDP program `next`, which takes `frames`; without one the packet ends there.
    pub fn xdp(&self, frames: Frames, next: Option<BorrowedFd<'_>>) -> Result<BareProgram> {
        self.before(frames, next, &[])
    }

    /// Makes a wrapper before a program that takes frames in pieces. The wrapper looks the TCP segment up in
    /// the connection tracking first, as the kernel's own example of a SYN proxy does.
    pub fn tracked(&self, conntrack: Conntrack, next: BorrowedFd<'_>) -> Result<BareProgram> {
        self.before(Frames::Pieces, Some(next), &conntrack.instructions(self.v6))
    }

    fn before(
        &self,
        frames: Frames,
        next: Option<BorrowedFd<'_>>,
        first: &[Instruction],
    ) -> Result<BareProgram> {
        let length = i32::from(self.length);
        // r2 = the bytes of metadata that the last run left, then those that the packet is too short by
        let code = vec![
            copy(6, 1),
            insn(0x61, 2, 6, 0, 0),
            insn(0x61, 3, 6, 8, 0),
            insn(0x1f, 2, 3, 0, 0),
            helper(BPF_FUNC_XDP_ADJUST_META),
            copy(1, 6),
            insn(0x61, 2, 6, 0, 0),
            insn(0x61, 4, 6, 4, 0),
            insn(0x1f, 4, 2, 0, 0),
            mov(2, length),
            insn(0x1f, 2, 4, 0, 0),
            helper(BPF_FUNC_XDP_ADJUST_TAIL),
            insn(0x61, 7, 6, 0, 0),
            insn(0x61, 3, 6, 4, 0),
        ];
        self.load(frames.hook(), code, first, next, ABORTED)
    }

    /// Makes a wrapper before the tc program `next`; without one the packet ends there. The packet keeps its
    /// length, which must be right.
    pub fn tc(&self, next: Option<BorrowedFd<'_>>) -> Result<BareProgram> {
        // `data` and `data_end` of `struct __sk_buff`.
        let code = vec![copy(6, 1), insn(0x61, 7, 6, 76, 0), insn(0x61, 3, 6, 80, 0)];
        self.load(Hook::Tc, code, &[], next, SHOT)
    }

    /// `code` leaves the context in r6, the packet in r7 and its end in r3.
    fn load(
        &self,
        hook: Hook,
        mut code: Vec<Instruction>,
        first: &[Instruction],
        next: Option<BorrowedFd<'_>>,
        otherwise: i32,
    ) -> Result<BareProgram> {
        let array = next.map(program_array).transpose().context("cannot make a program array")?;
        let mut body = [&self.stores, first].concat();
        body.extend(array.iter().flat_map(|array| tail_call(6, array)));
        code.extend([copy(4, 7), add(4, self.length.into())]);
        code.push(insn(0x2d, 4, 3, i16::try_from(body.len())?, 0));
        code.extend(body);
        code.extend([mov(0, otherwise), EXIT]);
        let program =
            load_program(hook, &code).context("cannot load a program that makes a packet again")?;
        Ok(BareProgram { program, _next: array })
    }
}

/// Returns the offset of the TCP header.
const fn tcp(v6: bool) -> usize {
    if v6 { 54 } else { 34 }
}

/// Draws the bits that distinguish sources, in a packet with room for it at r7.
fn randomise(v6: bool, bits: u8, for_port: usize) -> Vec<Instruction> {
    let store = |register, at: usize| insn(0x6b, 7, register, at as i16, 0);
    let complement = |register| insn(0xa7, register, 0, 0, -1);
    let half = |register| insn(0x77, register, 0, 0, 16);
    let and = |register, bits: u32| insn(0x57, register, 0, 0, bits as i32);
    let tcp = tcp(v6);
    // r0: the source; r3: the port, and then the upper half of the source.
    let mut code = vec![
        helper(BPF_FUNC_GET_PRANDOM_U32),
        copy(3, 0),
        half(3),
        store(3, tcp),
        complement(3),
        store(3, tcp + for_port),
        and(0, !(u32::MAX << bits)),
        // As in `Sources::drawn`, on 32 bits, and then in the order of the network.
        insn(0x24, 0, 0, 0, SPREAD as i32),
        and(0, DRAWN),
        insn(0x44, 0, 0, 0, DRAWN_NET as i32),
        insn(0xdc, 0, 0, 0, 32),
        insn(0x63, 7, 0, SOURCE as i16, 0),
        // r0: the sum of both halves, a carry added in, and its complement.
        copy(3, 0),
        half(3),
        and(0, 0xffff),
        insn(0x0f, 0, 3, 0, 0),
        copy(4, 0),
        half(4),
        insn(0x0f, 0, 4, 0, 0),
        complement(0),
        store(0, tcp + SEQUENCE + 2),
    ];
    code.extend((!v6).then_some(store(0, IPV4_ID)));
    code
}

/// Sets the fields that will be drawn to zeros, and their future complements to ones. In a sum of
/// ones' complement (RFC 1071) both add nothing, before and after the draw. The checksums take over
/// the former values.
fn leave_room(frame: &mut [u8], v6: bool, for_port: usize) {
    let tcp = tcp(v6);
    let drawn = [SOURCE, SOURCE + 2, tcp];
    let for_port = tcp + for_port;
    let complements = [for_port, tcp + SEQUENCE + 2, if v6 { for_port } else { IPV4_ID }];
    if !v6 {
        take_over(frame, IPV4_CHECKSUM, &[SOURCE, SOURCE + 2, IPV4_ID]);
    }
    take_over(frame, tcp + 16, &[&drawn[..], &complements[..2]].concat());
    for (words, value) in [(drawn, 0), (complements, 0xff)] {
        for at in words {
            frame[at..at + 2].fill(value);
        }
    }
}

/// Adds words of the frame to a checksum.
fn take_over(frame: &mut [u8], checksum: usize, words: &[usize]) {
    let word = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let sum = words.iter().map(|&at| word(at)).sum::<u32>() + word(checksum);
    // Ones mean the same as zeros, but no stack writes them.
    let sum = (sum % 0xffff) as u16;
    frame[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
}
