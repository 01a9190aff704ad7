//! A short gap in the XDP program's attachment: the smallest leak that a leak test must detect.

use std::ffi::CString;
use std::hint::spin_loop;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::setpriority_process;

use crate::net::bpf::{EXIT, Hook, bpf, command, load_program, mov};
use crate::net::foreign::Verdict;
use crate::net::netns::Netns;

// include/uapi/linux/bpf.h
const BPF_OBJ_GET: u32 = 7;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_LINK_UPDATE: u32 = 29;

/// The beginning of `struct bpf_link_info`: type, id, and the program's id.
type LinkInfo = [u32; 3];

#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Time at the end of a gap for which the thread spins. It sleeps through the rest of a longer gap.
const AWAKE: Duration = Duration::from_millis(50);

/// Replaces the XDP program on the interface `eth0` of `host` with one that passes everything, and
/// restores it after `time`. The link stays, as do its pin and the interface's state, so that the gap
/// is as short as the machine can make it. Returns how long it was.
///
/// # Errors
/// When the XDP program is not attached, or the kernel refuses.
pub fn off_for(host: &Netns, time: Duration) -> Result<Duration> {
    let found = host.exec("find /sys/fs/bpf -path */links/*-eth0")?;
    let path = found.lines().next().context("no XDP program is pinned")?;
    let path = CString::new(path)?;
    // A link takes only a program of the same type as a replacement.
    let nothing = load_program(Hook::XdpFrags, &[mov(0, Verdict::Pass as i32), EXIT])?;
    host.run(|| {
        let link = bpf(BPF_OBJ_GET, &(path.as_ptr() as u64))?;
        let own = program(&link)?;
        // A thread that sleeps in a flood may wake up many milliseconds late.
        setpriority_process(None, -20)?;
        let begun = Instant::now();
        update(&link, &nothing)?;
        sleep(time.saturating_sub(AWAKE));
        while begun.elapsed() < time {
            spin_loop();
        }
        update(&link, &own)?;
        Ok(begun.elapsed())
    })
}

/// The program of a link.
fn program(link: &OwnedFd) -> io::Result<OwnedFd> {
    let mut info = LinkInfo::default();
    let get = GetInfo {
        bpf_fd: link.as_raw_fd() as u32,
        info_len: size_of::<LinkInfo>() as u32,
        info: info.as_mut_ptr() as u64,
    };
    command(BPF_OBJ_GET_INFO_BY_FD, &get)?;
    let [_, _, id] = info;
    bpf(BPF_PROG_GET_FD_BY_ID, &id)
}

fn update(link: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    command(BPF_LINK_UPDATE, &[link.as_raw_fd() as u32, program.as_raw_fd() as u32])
}
