//! A SYN proxy of the common kind: `reference` of `testing/bpf`, with the kernel's cookies.
//!
//! It has the steps of the kernel's own example but for its first: that one looks every segment up in
//! netfilter's connection tracking. Where the kernel has it built in, the wrapper in front does so, which
//! makes of the reference the example as it is shipped.

use std::env;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::Xdp;

use super::frames::PORT;

/// The reference, loaded and attached nowhere.
pub struct Reference(Ebpf);

impl Reference {
    /// # Errors
    /// Without `TCPGUARD_BPF_DIR`, or on kernels before 6.0.
    pub fn load() -> Result<Self> {
        let directory = env::var_os("TCPGUARD_BPF_DIR")
            .context("TCPGUARD_BPF_DIR is not set: run `cargo xtask bench`")?;
        let mut object = Ebpf::load_file(PathBuf::from(directory).join("reference.o"))?;
        let program: &mut Xdp =
            object.program_mut("reference").context("no program")?.try_into()?;
        program.load().context("the kernel refuses it")?;
        let ports = object.map_mut("PORTS").context("no list of ports")?;
        Array::<_, u16>::try_from(ports)?.set(0, PORT.to_be(), 0)?;
        Ok(Self(object))
    }

    pub fn program(&self) -> Result<BorrowedFd<'_>> {
        let program: &Xdp = self.0.program("reference").context("loaded")?.try_into()?;
        Ok(program.fd()?.as_fd())
    }
}
