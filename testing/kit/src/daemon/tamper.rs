//! The agent's state in the kernel, changed behind its back by a process that may write there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::net::bpf::{EXIT, Hook, MapElement, bpf, command, load_program, mov};
use crate::net::foreign::Verdict;
use crate::net::netns::Netns;

// include/uapi/linux/bpf.h
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_MAP_GET_NEXT_KEY: u32 = 4;
const BPF_OBJ_GET: u32 = 7;
const BPF_MAP_FREEZE: u32 = 22;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;

/// A pinned BPF map of tcpguard.
#[derive(Debug)]
pub struct PinnedMap {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

/// A pinned BPF link of tcpguard.
#[derive(Debug)]
pub struct PinnedLink(OwnedFd);

impl PinnedMap {
    /// The agent's only map of that name in `host`, with keys and values of these sizes in bytes (a per-CPU
    /// map's values are left alone).
    pub fn open(host: &Netns, name: &str, key: usize, value: usize) -> Result<Self> {
        Ok(Self { fd: open(host, &format!("*/maps/{name}"))?, key, value })
    }

    /// Every element, by key.
    pub fn entries(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            let mut next = vec![0; self.key];
            let last = entries.last().map(|(key, _)| key.as_slice());
            match self.run(BPF_MAP_GET_NEXT_KEY, last, Some(&mut next)) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                found => found?,
            }
            let value = self.get(&next)?;
            entries.push((next, value));
        }
        entries.sort();
        Ok(entries)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> io::Result<Vec<u8>> {
        let mut value = vec![0; self.value];
        self.run(BPF_MAP_LOOKUP_ELEM, Some(key), Some(&mut value))?;
        Ok(value)
    }

    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!((key.len(), value.len()), (self.key, self.value));
        self.run(BPF_MAP_UPDATE_ELEM, Some(key), Some(&mut value.to_vec()))
    }

    pub fn remove(&self, key: &[u8]) -> io::Result<()> {
        self.run(BPF_MAP_DELETE_ELEM, Some(key), None)
    }

    /// Makes it read-only for all processes, for good. Only programs may still write it.
    pub fn freeze(&self) -> io::Result<()> {
        command(BPF_MAP_FREEZE, &(self.fd.as_raw_fd() as u32))
    }

    fn run(&self, what: u32, key: Option<&[u8]>, value: Option<&mut Vec<u8>>) -> io::Result<()> {
        let element = MapElement {
            map_fd: self.fd.as_raw_fd() as u32,
            key: key.map_or(0, |key| key.as_ptr() as u64),
            value: value.map_or(0, |value| value.as_mut_ptr() as u64),
            ..MapElement::default()
        };
        command(what, &element)
    }
}

impl PinnedLink {
    /// The link pinned at a path that matches `pattern`, such as `*/links/*`.
    pub fn open(host: &Netns, pattern: &str) -> Result<Self> {
        Ok(Self(open(host, pattern)?))
    }

    /// Takes its program off.
    pub fn detach(&self) -> io::Result<()> {
        command(BPF_LINK_DETACH, &(self.0.as_raw_fd() as u32))
    }

    /// Replaces the program of an XDP link with one that passes every packet.
    pub fn replace(&self) -> io::Result<()> {
        // The kernel replaces a program only with one of the same kind.
        let program = load_program(Hook::XdpFrags, &[mov(0, Verdict::Pass as i32), EXIT])?;
        command(BPF_LINK_UPDATE, &[self.0.as_raw_fd() as u32, program.as_raw_fd() as u32])
    }
}

fn open(host: &Netns, pattern: &str) -> Result<OwnedFd> {
    let found = host.exec(&format!("find /sys/fs/bpf -path {pattern} -type f"))?;
    let path = found.lines().next().with_context(|| format!("nothing is pinned at {pattern}"))?;
    let path = CString::new(path)?;
    host.run(|| Ok(bpf(BPF_OBJ_GET, &(path.as_ptr() as u64))?))
}
