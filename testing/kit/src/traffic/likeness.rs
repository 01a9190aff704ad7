//! Fingerprint of a real client's SYN, taken from a captured one, for mimicking floods.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::net::lab::{Family, INTERFACE, Lab};
use crate::net::packet::{Segment, flags};
use crate::net::raw::PacketSocket;

/// Everything of a SYN that its sender's system decides, but for the TTL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Likeness {
    pub window: u16,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    options: [u8; 40],
    length: usize,
    timestamp_at: Option<usize>,
}

impl Likeness {
    /// Returns the fingerprint of `syn`.
    ///
    /// # Errors
    /// When it is no SYN.
    pub fn of(syn: &Segment) -> Result<Self> {
        ensure!(syn.flags == flags::SYN, "no SYN: {syn:?}");
        let (mut options, length) = ([0; 40], syn.options.len());
        options[..length].copy_from_slice(&syn.options);
        let timestamp_at = option_at(&syn.options, 8).map(|at| at + 2);
        let dont_fragment = syn.dont_fragment;
        Ok(Self { window: syn.window, dont_fragment, options, length, timestamp_at })
    }

    /// Has the lab's client knock at the service, and looks at its SYN as it arrives. Nothing needs
    /// to listen there.
    ///
    /// # Errors
    /// When none arrives within 5 s.
    pub fn capture(lab: &Lab, family: Family) -> Result<Self> {
        let wire = lab.edge.run(|| Ok(PacketSocket::open(INTERFACE)?))?;
        let begun = Instant::now();
        let _knocking = lab.client.run(|| {
            let family_code = match family {
                Family::V4 => AddressFamily::INET,
                Family::V6 => AddressFamily::INET6,
            };
            let socket = socket_with(
                family_code,
                SocketType::STREAM,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
                None,
            )?;
            // Goes on by itself.
            let _in_progress = connect(&socket, &family.service());
            Ok(TcpStream::from(socket))
        })?;
        let mut buffer = [0; 256];
        while begun.elapsed() < Duration::from_secs(5) {
            let Some(length) = wire.try_receive(&mut buffer)? else {
                sleep(Duration::from_millis(1));
                continue;
            };
            let syn = Segment::parse(&buffer[..length]);
            if let Some(syn) = syn.filter(|s| s.flags == flags::SYN && s.dst == family.service()) {
                return Self::of(&syn).context("the client's SYN");
            }
        }
        bail!("no SYN of the client arrived within 5 s")
    }

    /// Returns the TCP options, with this timestamp if they hold one.
    pub fn options_at(&self, timestamp: u32) -> Vec<u8> {
        let mut options = self.options[..self.length].to_vec();
        if let Some(at) = self.timestamp_at {
            options[at..at + 4].copy_from_slice(&timestamp.to_be_bytes());
        }
        options
    }
}

/// Returns the offset of the TCP option of this kind (RFC 9293 §3.2), in bytes; `None` if there is none.
pub(crate) fn option_at(options: &[u8], kind: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match *options.get(at)? {
            0 => return None,
            1 => at += 1,
            this if this == kind => return Some(at),
            _ => at += usize::from(*options.get(at + 1)?).max(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::linux_syn_options;

    #[test]
    fn options_are_copied_but_for_the_timestamp() {
        let ends = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let mut syn = Segment::new(ends.0, ends.1, flags::SYN);
        syn.options = linux_syn_options(1460, 7);
        let likeness = Likeness::of(&syn).unwrap();
        assert_eq!(likeness.options_at(7), syn.options);
        assert_eq!(likeness.options_at(8), linux_syn_options(1460, 8));
        assert_eq!(option_at(&syn.options, 3), Some(17));
        assert_eq!(option_at(&syn.options, 30), None);
        assert_eq!(option_at(&[8], 3), None);
    }
}
