//! The guard's cookies beside a SYN proxy of the usual kind, in the same rounds: `reference` of the
//! BPF crate, with the kernel's cookies.

use std::env;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::Xdp;

use crate::packet::median;

/// What the guard may cost of what the reference does.
const TARGET: f64 = 0.8;

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
        program.load().context("the kernel refuses the reference")?;
        let ports = object.map_mut("PORTS").context("no list of ports")?;
        Array::<_, u16>::try_from(ports)?.set(0, 443u16.to_be(), 0)?;
        Ok(Self(object))
    }

    /// For a program that goes on as this one.
    ///
    /// # Errors
    /// Never, once it is loaded.
    pub fn with_fd<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> Result<T>) -> Result<T> {
        use std::os::fd::AsFd;
        work(self.program()?.fd()?.as_fd())
    }

    fn program(&self) -> Result<&Xdp> {
        Ok(self.0.program("reference").context("loaded")?.try_into()?)
    }
}

/// A packet that both take, and what it cost each of them in a round, net.
pub struct Comparison {
    pub name: &'static str,
    pub ours: Vec<f64>,
    pub reference: Vec<f64>,
}

impl Comparison {
    pub fn of(name: &'static str) -> Self {
        Self { name, ours: Vec::new(), reference: Vec::new() }
    }
}

/// Prints medians, and the median of each round's ratio.
pub fn print(comparisons: &mut [Comparison]) {
    println!(
        "\nbeside a SYN proxy with the kernel's cookie helpers, ns net of a program that does \
         nothing; at most {TARGET} is wanted"
    );
    println!("{:<34} {:>8} {:>10} {:>7} {:>13}", "", "tcpguard", "reference", "ratio", "min-max");
    for comparison in comparisons {
        let rounds = comparison.ours.iter().zip(&comparison.reference);
        let mut ratios: Vec<f64> = rounds.map(|(ours, other)| ours / other).collect();
        let ratio = median(&mut ratios);
        println!(
            "{:<34} {:>8.0} {:>10.0} {ratio:>7.2} {:>6.2}-{:.2}{}",
            comparison.name,
            median(&mut comparison.ours),
            median(&mut comparison.reference),
            ratios[0],
            ratios[ratios.len() - 1],
            if ratio > TARGET { "  above the target" } else { "" },
        );
    }
}
