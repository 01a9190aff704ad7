//! Taking cookies back: the object that calls a function of newer kernels, and where it hangs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::Map;
use aya::programs::{Program, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use aya_obj::generated::bpf_attach_type::BPF_TCX_INGRESS;
use tcpguard_common::abi::maps;
use tcpguard_host::linux::programs::{Attached, Hook, REDEEM};
use tcpguard_host::linux::{Interface, QueueOffsets};

use super::attach::{fd, program_id, take_over};
use super::kfunc::link_kfuncs;
use super::links::HeldLink;
use super::object::{ProgramCost, costs, one_line, refused, test_classifier, with_reason};
use super::order::{self, Lead};
use super::pins::Kind;
use super::{KernelError, Pins, Result, embedded, syscall};

/// Name of the map with the state that each CPU keeps between packets.
const CPU: &str = "CPU";

/// The loaded object. Nothing is attached by loading.
pub struct Redeemer {
    ebpf: Ebpf,
}

impl Redeemer {
    /// Loads it over the main object's maps, which must be pinned in `maps`. `fixed_clock` as in
    /// [`super::Load`].
    ///
    /// # Errors
    /// [`KernelError::MissingFunction`] on kernels before 6.9; otherwise as for
    /// [`super::Object::load`].
    pub fn load(maps: &Path, fixed_clock: bool) -> Result<Self> {
        super::error::require_capabilities()?;
        with_reason(|level| Self::load_logged(maps, fixed_clock, level))
    }

    fn load_logged(maps: &Path, fixed_clock: bool, level: VerifierLogLevel) -> Result<Self> {
        let object = link_kfuncs(embedded::COOKIE.unpack()?)?;
        let offsets = QueueOffsets::of_running_kernel()?;
        let mut queue = [0; 8];
        queue[..4].copy_from_slice(&offsets.queued.to_ne_bytes());
        queue[4..].copy_from_slice(&offsets.limit.to_ne_bytes());
        let fixed_clock = u8::from(fixed_clock);
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(level);
        loader.override_global("FIXED_CLOCK", &fixed_clock, true);
        loader.override_global("QUEUE_OFFSETS", &queue[..], true);
        for name in maps::PINNED {
            loader.map_pin_path(name, maps.join(name));
        }
        // Not shared, and of no use here: the program limits no replies.
        loader.map_max_entries(maps::REPLY_LIMITS, 1);
        let ebpf = loader.load(&object).map_err(|error| refused("maps of cookies", &error))?;
        drop(object);
        let mut redeemer = Self { ebpf };
        redeemer
            .program()?
            .load()
            .map_err(|error| refused(REDEEM, &EbpfError::ProgramError(error)))?;
        Ok(redeemer)
    }

    /// Attaches the program to the ingress of `interface`, or takes over the attachment of an earlier
    /// agent. It stays, also when this process ends, until [`HeldLink::remove`].
    pub fn attach(&mut self, pins: &Pins, interface: &Interface) -> Result<HeldLink> {
        let name = &interface.name;
        let pin = pins.link(Kind::Redeem, interface.index, name);
        let program = self.program()?;
        let id = program_id(program.info(), REDEEM)?;
        let program = fd(program.fd(), REDEEM)?;
        if let Some(link) = take_over(pins, Kind::Redeem, interface, name, program)? {
            return Ok(HeldLink::new(link, pin, id));
        }
        // Every kernel with the function has TCX (6.6).
        let link = syscall::link_tcx(program, interface.index, BPF_TCX_INGRESS);
        let link = link.map_err(|error| KernelError::Attach {
            program: REDEEM,
            interface: interface.name.clone(),
            reason: error.to_string(),
        })?;
        HeldLink::pin(link, pin, id)
    }

    /// Ensures that the program goes first among the ingress programs of the interface with this index.
    /// Returns the programs that it has passed.
    pub fn keep_first(
        &mut self,
        link: &mut HeldLink,
        lead: &mut Lead,
        ifindex: u32,
    ) -> Result<Vec<Attached>> {
        let own = link.program();
        let look = || order::ahead_at_tcx(ifindex, Hook::TcxIngress, own);
        let take = || {
            let program = fd(self.program()?.fd(), REDEEM)?;
            order::lead_at_tcx(link, program, ifindex, BPF_TCX_INGRESS)
        };
        lead.keep(Instant::now(), look, take)
    }

    /// The cost of the program.
    pub fn costs(&self) -> Vec<ProgramCost> {
        costs(&self.ebpf)
    }

    /// Runs the program on `frame`, `repeat` times; the mean time of a run. Test runs do not go through the
    /// hook, so the kernel accepts no connection in them.
    pub fn test(&mut self, frame: &[u8], repeat: u32) -> Result<Duration> {
        test_classifier(self.program()?, frame, repeat)
    }

    /// A descriptor of the program, for benchmarks that put something in front of it.
    pub fn fd(&mut self) -> Result<OwnedFd> {
        let missing = |reason: String| KernelError::Mismatch(format!("{REDEEM}: {reason}"));
        let fd = self.program()?.fd().map_err(|error| missing(one_line(&error)))?;
        fd.as_fd().try_clone_to_owned().map_err(|error| missing(error.to_string()))
    }

    /// Returns whether the program found this good cookie a moment ago: it remembers so, on the CPU on which
    /// it ran, before it looks for a socket.
    pub(super) fn has_accepted(&self, isn: u32) -> Result<bool> {
        let missing = |reason: String| KernelError::Mismatch(format!("map {CPU}: {reason}"));
        let Some(Map::PerCpuArray(map)) = self.ebpf.map(CPU) else {
            return Err(missing("it is not there".to_owned()));
        };
        let size = map.info().map_err(|error| missing(one_line(&error)))?.value_size() as usize;
        let cpus =
            aya::util::nr_cpus().map_err(|(file, error)| missing(format!("{file}: {error}")))?;
        let mut values = vec![0; size.next_multiple_of(8) * cpus];
        syscall::lookup(map.fd().as_fd(), &0u32.to_ne_bytes(), &mut values)
            .map_err(|error| KernelError::Map { what: "read", map: CPU, error })?;
        // The layout of the value is the programs' business. The cookie is an unlikely number, so no word of
        // the value is equal to it but that of a [`HandedOver`].
        let found = isn.to_ne_bytes();
        Ok(values.chunks_exact(4).any(|word| word == found))
    }

    fn program(&mut self) -> Result<&mut SchedClassifier> {
        match self.ebpf.program_mut(REDEEM) {
            Some(Program::SchedClassifier(program)) => Ok(program),
            _ => Err(KernelError::Mismatch(format!("no classifier {REDEEM}"))),
        }
    }
}
