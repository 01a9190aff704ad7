//! The BPF object, its loading and queries about it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use aya::maps::Map;
use aya::programs::{Program, ProgramError, SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use tcpguard_common::abi::maps;
use tcpguard_host::linux::programs::{EGRESS, INGRESS};
use tcpguard_host::linux::{SocketOffsets, kernel_release};

use super::error::{missing_capabilities, require_capabilities};
use super::table::{PerCpu, Plain, Table};
use super::{Features, KernelError, Result, embedded};

/// Name of the program at the tracepoint.
pub(super) const ESTABLISHED: &str = "tcpguard_established";

/// Parameters for loading the object.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Directory in which the maps of [`maps::PINNED`] are pinned, or are to be pinned; `None`: nowhere.
    pub maps: Option<&'a Path>,
    /// Offsets of the fields that the tracepoint reads; `None`: do without the tracepoint.
    pub offsets: Option<SocketOffsets>,
    /// Level of the debug lines from the programs; `None`: the object without any.
    pub log: Option<log::Level>,
    /// True if the time is taken from the `CLOCK` map instead of the kernel's clock: for tests that compare
    /// with the host.
    pub fixed_clock: bool,
    /// Number of rules that can be in force.
    pub rules: u32,
    /// Features that are used. Tests do without some that the kernel has.
    pub features: Features,
}

impl Default for Load<'_> {
    fn default() -> Self {
        Self {
            maps: None,
            offsets: None,
            log: None,
            fixed_clock: false,
            rules: maps::RULES,
            features: Features::of_running_kernel(),
        }
    }
}

/// The reader of debug lines from the programs.
type Logger = aya_log::EbpfLogger<&'static dyn log::Log>;

/// The cost of a program.
#[derive(Clone, Debug)]
pub struct ProgramCost {
    pub name: String,
    /// Instructions that the verifier walked.
    pub verified: Option<u32>,
    /// Number of its runs since it was loaded, as far as the kernel counted; see [`super::count_runs`].
    pub runs: u64,
    /// Time that these runs took.
    pub run_time: Duration,
}

/// The loaded object. Nothing is attached by loading.
pub struct Object {
    pub(super) ebpf: Ebpf,
    /// Slots in each of the maps of [`maps::SIZED_BY_RULES`].
    pub(super) rule_slots: u32,
    pub(super) features: Features,
    pub(super) logger: Option<Logger>,
}

impl Object {
    /// Loads the object and its programs into the kernel.
    ///
    /// # Errors
    /// When privileges are missing or the kernel refuses; the message says which.
    pub fn load(load: Load<'_>) -> Result<Self> {
        require_capabilities()?;
        with_reason(|level| Self::load_logged(load, level))
    }

    fn load_logged(load: Load<'_>, level: VerifierLogLevel) -> Result<Self> {
        let fixed_clock = u8::from(load.fixed_clock);
        let multi_buffer = u8::from(load.features.multi_buffer);
        let log = load.log.map_or(0, |level| level as u8);
        let offsets = load.offsets.map(global);
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(level);
        loader.override_global("FIXED_CLOCK", &fixed_clock, true);
        loader.override_global("MULTI_BUFFER", &multi_buffer, true);
        if let Some(offsets) = &offsets {
            loader.override_global("SOCKET_OFFSETS", &offsets[..], true);
        }
        if load.log.is_some() {
            loader.override_global("AYA_LOG_LEVEL", &log, true);
        }
        let rule_slots = maps::rule_slots(load.rules);
        for name in maps::SIZED_BY_RULES {
            loader.map_max_entries(name, rule_slots);
        }
        for name in maps::PINNED {
            // The kernel refuses an array whose programs were compiled to one that is not, and the other way round.
            let shared = name != maps::NEXT_PROGRAMS || load.features.tail_calls;
            if let Some(dir) = load.maps.filter(|_| shared) {
                loader.map_pin_path(name, dir.join(name));
            }
        }
        let packed = if load.log.is_some() { &embedded::LOGGING } else { &embedded::MAIN };
        let object = load.features.adapt(packed.unpack()?)?;
        let mut ebpf = loader.load(&object).map_err(|error| refused("its maps", &error))?;
        drop(object);
        for (name, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                Program::RawTracePoint(program) if load.offsets.is_some() => program.load(),
                _ => Ok(()),
            };
            loaded.map_err(|error| refused(name, &EbpfError::ProgramError(error)))?;
        }
        let logger = match load.log {
            Some(_) => aya_log::EbpfLogger::init(&mut ebpf).ok(),
            None => None,
        };
        Ok(Self { ebpf, rule_slots, features: load.features, logger })
    }

    /// Hands the debug lines that have come meanwhile to the log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// A map as a table, if keys and values have the sizes that this binary expects.
    pub(super) fn table<K: Plain, V: Plain>(&self, name: &'static str) -> Result<Table<K, V>> {
        Ok(Table::new(self.map(name, size_of::<K>(), size_of::<V>())?, name))
    }

    /// A map as a per-CPU array, likewise.
    pub(super) fn per_cpu<V: Plain>(&self, name: &'static str) -> Result<PerCpu<V>> {
        let cpus = aya::util::nr_cpus().map_err(|(file, error)| {
            KernelError::Mismatch(format!("cannot count the CPUs from {file}: {error}"))
        })?;
        Ok(PerCpu::new(self.map(name, size_of::<u32>(), size_of::<V>())?, name, cpus))
    }

    /// A descriptor of the map, which keeps it alive on its own.
    fn map(&self, name: &str, key: usize, value: usize) -> Result<OwnedFd> {
        let missing = || KernelError::Mismatch(format!("no map {name}"));
        let data = match self.ebpf.map(name).ok_or_else(missing)? {
            Map::Array(data)
            | Map::HashMap(data)
            | Map::LpmTrie(data)
            | Map::LruHashMap(data)
            | Map::PerCpuArray(data)
            | Map::ProgramArray(data) => data,
            _ => return Err(KernelError::Mismatch(format!("map {name} is of another kind"))),
        };
        let info = data
            .info()
            .map_err(|error| KernelError::Mismatch(format!("map {name}: {}", one_line(&error))))?;
        if info.key_size() as usize != key || info.value_size() as usize != value {
            return Err(KernelError::Mismatch(format!(
                "map {name} has keys of {} and values of {} bytes, not {key} and {value}",
                info.key_size(),
                info.value_size()
            )));
        }
        data.fd()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| KernelError::Mismatch(format!("map {name}: {error}")))
    }

    /// The cost of each program.
    pub fn costs(&self) -> Vec<ProgramCost> {
        costs(&self.ebpf)
    }

    /// Runs the ingress program on `frame` (at least 14 bytes), `repeat` times, without an
    /// interface. Returns the XDP action and the mean time of a run.
    pub fn test_ingress(&mut self, frame: &[u8], repeat: u32) -> Result<(u32, Duration)> {
        let (action, time, _) = self.test_ingress_frame(frame, repeat)?;
        Ok((action, time))
    }

    /// Runs the program as [`Self::test_ingress`] does, and also returns the frame as the program left it.
    pub fn test_ingress_frame(
        &mut self,
        frame: &[u8],
        repeat: u32,
    ) -> Result<(u32, Duration, Vec<u8>)> {
        let mut out = vec![0; frame.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.repeat = repeat;
        match self.ebpf.program_mut(INGRESS) {
            Some(Program::Xdp(program)) => {
                let result = program.test_run(options).map_err(|error| test_failed(&error))?;
                let (action, time) = (result.return_value, result.duration);
                out.truncate(result.data_size_out as usize);
                Ok((action, time, out))
            }
            _ => Err(KernelError::Mismatch(format!("no XDP program {INGRESS}"))),
        }
    }

    /// A descriptor of the ingress program, for benchmarks that put something in front of it.
    pub fn ingress_fd(&self) -> Result<OwnedFd> {
        let missing = |reason: String| KernelError::Mismatch(format!("{INGRESS}: {reason}"));
        match self.ebpf.program(INGRESS) {
            Some(Program::Xdp(program)) => {
                let fd = program.fd().map_err(|error| missing(error.to_string()))?;
                fd.as_fd().try_clone_to_owned().map_err(|error| missing(error.to_string()))
            }
            _ => Err(missing("no XDP program".to_owned())),
        }
    }

    /// Runs the egress program on `frame`, as [`Self::test_ingress`] does the other.
    pub fn test_egress(&mut self, frame: &[u8]) -> Result<()> {
        match self.ebpf.program_mut(EGRESS) {
            Some(Program::SchedClassifier(program)) => test_classifier(program, frame, 1).map(drop),
            _ => Err(KernelError::Mismatch(format!("no classifier {EGRESS}"))),
        }
    }
}

/// Runs a tc program on `frame`, `repeat` times. Returns the mean time of a run.
pub(super) fn test_classifier(
    program: &mut SchedClassifier,
    frame: &[u8],
    repeat: u32,
) -> Result<Duration> {
    let mut out = vec![0; frame.len() + 256];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    options.repeat = repeat;
    Ok(program.test_run(options).map_err(|error| test_failed(&error))?.duration)
}

/// The cost of each program.
pub(super) fn costs(ebpf: &Ebpf) -> Vec<ProgramCost> {
    let cost = |(name, program): (&str, &Program)| {
        let info = program.info().ok();
        ProgramCost {
            name: name.to_owned(),
            verified: info.as_ref().and_then(|info| info.verified_instruction_count()),
            runs: info.as_ref().map_or(0, |info| info.run_count()),
            run_time: info.map_or(Duration::ZERO, |info| info.run_time()),
        }
    };
    ebpf.programs().map(cost).collect()
}

fn test_failed(error: &ProgramError) -> KernelError {
    KernelError::Mismatch(format!("a test run failed: {}", one_line(error)))
}

fn global(offsets: SocketOffsets) -> [u8; 44] {
    let fields = [
        offsets.family,
        offsets.num,
        offsets.daddr,
        offsets.rcv_saddr,
        offsets.v6_daddr,
        offsets.v6_rcv_saddr,
        offsets.net,
        offsets.net_cookie,
        offsets.dport,
        offsets.incoming,
        offsets.net_number,
    ];
    let mut bytes = [0; 44];
    for (place, field) in bytes.chunks_exact_mut(4).zip(fields) {
        place.copy_from_slice(&field.to_ne_bytes());
    }
    bytes
}

/// Loads an object. Only where the kernel refuses it, it is loaded once more for the verifier's log: of an
/// accepted program that would be megabytes.
pub(super) fn with_reason<T>(load: impl Fn(VerifierLogLevel) -> Result<T>) -> Result<T> {
    match load(VerifierLogLevel::STATS) {
        Err(KernelError::Refused { .. }) => load(VerifierLogLevel::DEBUG),
        loaded => loaded,
    }
}

pub(super) fn refused(program: &str, error: &EbpfError) -> KernelError {
    let says = |errno| {
        chain(error)
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.raw_os_error() == Some(errno))
    };
    if says(libc::ENOMEM) {
        return KernelError::Memory { what: program.to_owned() };
    }
    if says(libc::EPERM) {
        return KernelError::Permission {
            what: "BPF programs and maps".to_owned(),
            missing: missing_capabilities(),
        };
    }
    let release = kernel_release().unwrap_or_else(|_| "unknown".to_owned());
    KernelError::Refused { release, program: program.to_owned(), reason: one_line(error) }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The causes of an error on one line; of a verifier's log, the line that says why it refused.
pub(super) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let verdict = chain(error).find_map(|cause| match cause.downcast_ref() {
        Some(ProgramError::LoadError { io_error, verifier_log }) => {
            Some(verdict(io_error, &verifier_log.to_string()))
        }
        _ => None,
    });
    verdict.unwrap_or_else(|| {
        let words: Vec<String> = chain(error).map(ToString::to_string).collect();
        words.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// Returns the reason why a verifier refused: in its log the last line before the statistics, which are the
/// last lines.
fn verdict(error: &std::io::Error, log: &str) -> String {
    const STATISTICS: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    let is_statistics = |line: &str| STATISTICS.iter().any(|start| line.starts_with(start));
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    match lines.rfind(|line| !is_statistics(line)) {
        Some(line) => format!("{error}: {line}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_not_what_was_verified_before() {
        let log = "reg type unsupported for arg#0 function tcpguard_established#316\n\
                   ; if index < SIZE\n\
                   364: (71) r1 = *(u8 *)(r0 +0)\n\
                   R0 unbounded memory access, make sure to bounds check any such access\n\
                   verification time 4635 usec\nstack depth 168+0\n\
                   processed 201 insns (limit 1000000) max_states_per_insn 0\n\n";
        let error = std::io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(
            verdict(&error, log),
            "Permission denied (os error 13): R0 unbounded memory access, make sure to bounds check any \
             such access"
        );
        assert_eq!(verdict(&error, ""), "Permission denied (os error 13)");
    }
}
