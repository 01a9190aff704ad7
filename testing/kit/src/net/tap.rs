//! A tap: an interface with this process at its other end, as that of a virtual machine has the hypervisor.
#![expect(unsafe_code, reason = "ioctl(TUNSETIFF) has no safe form in rustix")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::net::netns::Netns;
use crate::net::raw::PacketSocket;
use crate::traffic::flood::be_a_machine_of_its_own;

const DEVICE: &str = "/dev/net/tun";
/// Bytes of the kernel's memory for frames that wait to be written to the tap.
const HELD: i32 = 16 << 20;
/// Most frames that are written to the tap before one is read from it.
const TURN: usize = 16;
const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A tap whose frames come from and go to another interface of its namespace. Dropping it removes the tap.
#[derive(Debug)]
pub struct Tap {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Tap {
    /// Makes a tap with this name. Frames that arrive at `wire` arrive at it, and the frames that it sends leave by `wire`.
    ///
    /// # Errors
    /// On a kernel without taps, when there is an interface with this name, or none with the name of the wire.
    pub fn start(host: &Netns, name: &'static str, wire: &'static str) -> Result<Self> {
        let (tap, wire) = host.run(|| {
            let wire = PacketSocket::open(wire).with_context(|| wire.to_owned())?;
            wire.hold(HELD)?;
            Ok((make(name).with_context(|| format!("cannot make the tap {name}"))?, wire))
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = host.spawn("tap", move || forward(tap, &wire, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                failure => eprintln!("the tap failed: {failure:?}"),
            }
        }
    }
}

/// Makes a tap in the network namespace of this thread. It lasts as long as the file.
fn make(name: &str) -> Result<File> {
    ensure!(name.len() < libc::IFNAMSIZ, "{name} is too long for an interface");
    // A file that blocks: the driver runs a native program only on frames written to such a file.
    let file = File::options().read(true).write(true).open(DEVICE).context(DEVICE)?;
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the kernel reads and writes one `ifreq`, which lives through the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    ensure!(made == 0, "TUNSETIFF: {}", io::Error::last_os_error());
    Ok(file)
}

fn forward(mut tap: File, wire: &PacketSocket, stop: &AtomicBool) -> Result<()> {
    be_a_machine_of_its_own()?;
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(&tap, PollFlags::IN), PollFd::new(wire, PollFlags::IN)];
        poll(&mut ready, Some(&LOOK_UP))?;
        let is_to_be_read = ready[0].revents().contains(PollFlags::IN);
        if is_to_be_read {
            let length = tap.read(&mut buffer)?;
            wire.send(&buffer[..length])?;
        }
        for _ in 0..TURN {
            let Some(length) = wire.try_receive(&mut buffer)? else { break };
            match tap.write(&buffer[..length]) {
                // The interface is down.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
                written => drop(written?),
            }
        }
    }
    Ok(())
}
