//! Maps as typed tables.
#![expect(unsafe_code, reason = "keys and values cross to the kernel as bytes")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use tcpguard_common::abi;

use super::KernelError;
use super::syscall::{self, ENOTSUPP};

/// A type that a map may hold: any bit pattern is a value of it, and it has no padding.
///
/// # Safety
/// Implement it only for such types.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),+ $(,)?) => { $(
        // SAFETY: `repr(C)` of integers with explicit padding, by the rules of `abi` that
        // `tcpguard-common/tests/layout.rs` checks; or an integer or array of them.
        unsafe impl Plain for $type {}
    )+ };
}

plain!(
    u32,
    u64,
    abi::Addr,
    abi::Client,
    abi::Config,
    abi::CookieSecret,
    abi::ExemptEntry,
    abi::ReturnedCookies,
    abi::Flow,
    abi::FlowKey,
    abi::FlowSet,
    abi::HostCounters,
    abi::Late,
    abi::ListenerCounters,
    abi::ListenerEntry,
    abi::ListenerKey,
    abi::NextHop,
    abi::NextHops,
    abi::PacketCounters,
    abi::PrefixV4,
    abi::PrefixV6,
    abi::ClosedPortSource,
    abi::RuleReturns,
    abi::RuleRef,
    abi::DropCacheSet,
    abi::SignatureKey,
    abi::SourceCounters,
    abi::SourceHost,
    abi::SourceKey<abi::SourceV4>,
    abi::SourceKey<abi::SourceV6>,
    abi::SourceSet,
    abi::SynAckRecord,
    abi::SynSamples,
    abi::Bucket,
    [u8; abi::maps::HLL_REGISTERS],
    [u8; abi::maps::EXEMPT_FILTER_BYTES],
    [u8; 65_536],
    [u32; abi::maps::REPLY_LIMIT_PART],
    [u32; abi::maps::MAX_INTERFACES as usize],
    tcpguard_common::fastpath::clients::Marks,
    [abi::PortEntry; 65_536],
);

fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` has no padding, so each byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

fn from_bytes<T: Plain>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: as long as a `T`, and any bit pattern is one.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

/// The sum of the counters of all CPUs, which consist of 64-bit words.
pub fn sum<V: Plain>(cpus: &[V]) -> V {
    let mut sum = vec![0; size_of::<V>()];
    for cpu in cpus {
        for (sum, word) in sum.as_chunks_mut().0.iter_mut().zip(bytes(cpu).as_chunks().0) {
            *sum = (u64::from_ne_bytes(*sum) + u64::from_ne_bytes(*word)).to_ne_bytes();
        }
    }
    from_bytes(&sum)
}

/// Number of elements that one batch reads of a hash map. A batch is one system call, and on a kernel without
/// preemption the thread that receives packets (threaded NAPI) waits for its end: at half a microsecond an
/// element this is less than a ring of 256 frames holds at a million a second.
pub const BATCH: usize = 256;

/// Position up to which a map has been read; by default its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position(Option<u32>);

impl Position {
    /// The position before an element of an array.
    pub const fn before(index: u32) -> Self {
        Self(index.checked_sub(1))
    }
}

/// A map with one value per key.
#[derive(Debug)]
pub struct Table<K, V> {
    fd: OwnedFd,
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    pub(super) fn new(fd: OwnedFd, name: &'static str) -> Self {
        Self { fd, name, types: PhantomData }
    }

    fn error(&self, what: &'static str) -> impl FnOnce(io::Error) -> KernelError {
        let map = self.name;
        move |error| KernelError::Map { what, map, error }
    }

    /// The map that is pinned in `dir` under its name.
    pub(super) fn pinned(dir: &Path, map: &'static str) -> Result<Self, KernelError> {
        let opened = syscall::open_pin(&dir.join(map));
        let fd = opened.map_err(|error| KernelError::Map { what: "open", map, error })?;
        Ok(Self::new(fd, map))
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Result<Option<V>, KernelError> {
        let mut value = vec![0; size_of::<V>()];
        let found =
            syscall::lookup(self.fd.as_fd(), bytes(key), &mut value).map_err(self.error("read"))?;
        Ok(found.then(|| from_bytes(&value)))
    }

    /// Returns the value as [`Self::get`] does, for one that is too large for the stack of a thread.
    pub fn get_boxed(&self, key: &K) -> Result<Option<Box<V>>, KernelError> {
        // SAFETY: any bit pattern is a value.
        let mut value = unsafe { Box::<V>::new_zeroed().assume_init() };
        // SAFETY: all of the value and no more, and whatever is written is one.
        let bytes_of = unsafe {
            std::slice::from_raw_parts_mut((&raw mut *value).cast::<u8>(), size_of::<V>())
        };
        let found =
            syscall::lookup(self.fd.as_fd(), bytes(key), bytes_of).map_err(self.error("read"))?;
        Ok(found.then_some(value))
    }

    /// Creates or overwrites `key`.
    pub fn set(&self, key: &K, value: &V) -> Result<(), KernelError> {
        syscall::update(self.fd.as_fd(), bytes(key), bytes(value)).map_err(self.error("write"))
    }

    /// Removes `key`; `false` when it was not there.
    pub fn remove(&self, key: &K) -> Result<bool, KernelError> {
        syscall::delete(self.fd.as_fd(), bytes(key)).map_err(self.error("write"))
    }

    /// Every element of a map. Elements of a hash map that change meanwhile may be missed or appear twice.
    pub fn entries(&self) -> Result<Vec<(K, V)>, KernelError> {
        let mut entries = Vec::new();
        let mut position = Position::default();
        while self.batch(&mut position, |key, value| entries.push((key, value)))? {}
        Ok(entries)
    }

    /// Gives the next [`BATCH`] elements of a map from `position` on to `each`, and moves `position` behind
    /// them. Returns whether there are more.
    pub fn batch(
        &self,
        position: &mut Position,
        each: impl FnMut(K, V),
    ) -> Result<bool, KernelError> {
        self.batch_of(BATCH, position, each)
    }

    /// Reads as [`Self::batch`] does, but `count` elements.
    pub fn batch_of(
        &self,
        count: usize,
        position: &mut Position,
        mut each: impl FnMut(K, V),
    ) -> Result<bool, KernelError> {
        let mut keys = vec![0; count * size_of::<K>()];
        let mut values = vec![0; count * size_of::<V>()];
        let (read, more) = syscall::lookup_batch(
            self.fd.as_fd(),
            &mut position.0,
            &mut keys,
            &mut values,
            count as u32,
        )
        .map_err(self.error("read"))?;
        let keys = keys.chunks_exact(size_of::<K>());
        let values = values.chunks_exact(size_of::<V>());
        for (key, value) in keys.zip(values).take(read as usize) {
            each(from_bytes(key), from_bytes(value));
        }
        Ok(more)
    }

    /// Every key, one by one: for tries, which have no batches. No more than the `limit` of the map:
    /// where the last key that was read is removed meanwhile, the kernel begins again.
    pub fn keys(&self, limit: u32) -> Result<Vec<K>, KernelError> {
        let mut keys: Vec<K> = Vec::new();
        while keys.len() < limit as usize
            && let Some(next) = self.next_key(keys.last())?
        {
            keys.push(next);
        }
        Ok(keys)
    }

    /// The key after `key`, or the first one; `None` at the end.
    pub fn next_key(&self, key: Option<&K>) -> Result<Option<K>, KernelError> {
        let mut next = vec![0; size_of::<K>()];
        let more = syscall::next_key(self.fd.as_fd(), key.map(bytes), &mut next)
            .map_err(self.error("read"))?;
        Ok(more.then(|| from_bytes(&next)))
    }
}

#[derive(Debug)]
pub struct PerCpu<V> {
    fd: OwnedFd,
    name: &'static str,
    cpus: usize,
    types: PhantomData<fn() -> V>,
}

impl<V: Plain> PerCpu<V> {
    pub(super) fn new(fd: OwnedFd, name: &'static str, cpus: usize) -> Self {
        const { assert!(size_of::<V>().is_multiple_of(8), "the kernel pads per-CPU values to 8") };
        Self { fd, name, cpus, types: PhantomData }
    }

    fn unread(&self, error: io::Error) -> KernelError {
        KernelError::Map { what: "read", map: self.name, error }
    }

    /// The values of all CPUs; none behind the end of the array.
    pub fn get(&self, index: u32) -> Result<Vec<V>, KernelError> {
        let mut values = vec![0; size_of::<V>() * self.cpus];
        let found = syscall::lookup(self.fd.as_fd(), bytes(&index), &mut values)
            .map_err(|error| self.unread(error))?;
        values.truncate(if found { values.len() } else { 0 });
        Ok(values.chunks_exact(size_of::<V>()).map(from_bytes).collect())
    }

    /// Gives the values of all CPUs of the next [`BATCH`] elements from `position` on to `each`, and moves
    /// `position` behind them. Returns whether there are more.
    pub fn batch(
        &self,
        position: &mut Position,
        mut each: impl FnMut(&[V]),
    ) -> Result<bool, KernelError> {
        let mut keys = vec![0; BATCH * size_of::<u32>()];
        let mut values = vec![0; BATCH * size_of::<V>() * self.cpus];
        let fd = self.fd.as_fd();
        let batch =
            syscall::lookup_batch(fd, &mut position.0, &mut keys, &mut values, BATCH as u32);
        let (read, more) = match batch {
            // Kernels before 5.13 read no batches of such arrays.
            Err(error) if error.raw_os_error() == Some(ENOTSUPP) => {
                return self.one_by_one(position, each);
            }
            batch => batch.map_err(|error| self.unread(error))?,
        };
        let values: Vec<V> = values.chunks_exact(size_of::<V>()).map(from_bytes).collect();
        values.chunks_exact(self.cpus).take(read as usize).for_each(&mut each);
        Ok(more)
    }

    /// Reads as [`Self::batch`] does, by a look-up of each element.
    fn one_by_one(
        &self,
        position: &mut Position,
        mut each: impl FnMut(&[V]),
    ) -> Result<bool, KernelError> {
        let first = position.0.unwrap_or(0);
        let end = first + BATCH as u32;
        for index in first..end {
            let values = self.get(index)?;
            if values.is_empty() {
                return Ok(false);
            }
            each(&values);
        }
        position.0 = Some(end);
        Ok(true)
    }

    /// Sets the values of all CPUs.
    pub fn fill(&self, index: u32, value: &V) -> Result<(), KernelError> {
        let values = bytes(value).repeat(self.cpus);
        syscall::update(self.fd.as_fd(), bytes(&index), &values).map_err(|error| KernelError::Map {
            what: "write",
            map: self.name,
            error,
        })
    }
}
