//! Links that are held open and pinned, with a check that each still does its work.
//!
//! Any process that may attach programs may also detach a link, put another program behind it or remove
//! its pin. So each link knows the program that it should run, and is asked whether it runs it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::KernelError;
use super::syscall::{self, LinkState};

/// A link to one of tcpguard's programs. When it is dropped, a pinned link stays attached.
#[derive(Debug)]
pub struct HeldLink {
    fd: OwnedFd,
    pin: PathBuf,
    /// Kernel id of the program that it runs.
    program: u32,
}

impl HeldLink {
    /// Holds a link that is pinned at `pin` and runs `program`.
    pub(super) const fn new(fd: OwnedFd, pin: PathBuf, program: u32) -> Self {
        Self { fd, pin, program }
    }

    /// Pins a link that was just made.
    ///
    /// # Errors
    /// When it cannot be pinned; it ends when it is closed, which it is then.
    pub(super) fn pin(fd: OwnedFd, pin: PathBuf, program: u32) -> Result<Self, KernelError> {
        match syscall::pin(fd.as_fd(), &pin) {
            Ok(()) => Ok(Self::new(fd, pin, program)),
            Err(error) => Err(KernelError::Pin { what: "pin a link at", path: pin, error }),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn pin_path(&self) -> &Path {
        &self.pin
    }

    /// Replaces it by a link that was just made and runs the same program, pins that one under its pin, and
    /// detaches the old one.
    pub(super) fn replace(&mut self, fd: OwnedFd) -> Result<(), KernelError> {
        let failed = |what| {
            let path = self.pin.clone();
            move |error| KernelError::Pin { what, path, error }
        };
        let old = std::mem::replace(&mut self.fd, fd);
        unpin(&self.pin);
        let pinned = syscall::pin(self.fd.as_fd(), &self.pin);
        syscall::detach_link(old.as_fd()).map_err(failed("detach the link that was pinned at"))?;
        pinned.map_err(failed("pin a link at"))
    }

    /// Kernel id of the program that it should run.
    pub(super) const fn program(&self) -> u32 {
        self.program
    }

    /// The state that the kernel reports for it.
    pub fn state(&self) -> io::Result<LinkState> {
        syscall::link_state(self.fd.as_fd())
    }

    /// Returns whether it hangs on the interface with this index and runs its own program there.
    pub fn is_on(&self, ifindex: u32) -> bool {
        let own = |state: LinkState| state.ifindex == ifindex && state.program == self.program;
        ifindex != 0 && self.state().is_ok_and(own)
    }

    /// Returns whether it would outlive the agent.
    pub fn is_pinned(&self) -> bool {
        self.pin.exists()
    }

    /// Pins it again if its pin was removed. Returns whether that was so.
    pub fn keep_pinned(&self) -> Result<bool, KernelError> {
        if self.is_pinned() {
            return Ok(false);
        }
        if let Some(dir) = self.pin.parent() {
            // The directory may have gone with it; pinning says so if it cannot be made.
            let _ = fs::create_dir_all(dir);
        }
        let pinned = syscall::pin(self.fd.as_fd(), &self.pin);
        pinned.map(|()| true).map_err(|error| KernelError::Pin {
            what: "pin a link again at",
            path: self.pin.clone(),
            error,
        })
    }

    /// Detaches the program, regardless of other holders of the link, and removes the pin.
    ///
    /// # Errors
    /// When the kernel refuses; then the pin stays.
    pub fn remove(self) -> io::Result<()> {
        syscall::detach_link(self.fd.as_fd())?;
        unpin(&self.pin);
        Ok(())
    }

    /// Closes and unpins it, which ends it unless another process holds it.
    pub(super) fn abandon(self) {
        unpin(&self.pin);
    }
}

pub(super) fn unpin(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("pin not removed: {0}: {error}. See: ls -l {0}", path.display());
    }
}
