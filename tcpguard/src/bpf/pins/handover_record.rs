//! The handover record that an agent leaves to the next one, regardless of that one's layout: bytes, pinned
//! beside the layouts at `<pin dir>/handover-<netns cookie>`. The meaning of the bytes is the agent's business.
//!
//! The record is the only value of a map, because it contains a secret: only the pins' owner may open the map,
//! it is on no disk, and it is gone with the boot that its content is valid for. Each record has a map of its
//! own, as large as it is. The new map replaces the old one by a rename, as files do, so that a reader finds
//! the old record or the new.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::maps::{MapData, MapType};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;

use super::layouts::{self, Kind, links_of};
use super::{KernelError, Pins};
use crate::bpf::object::one_line;
use crate::bpf::syscall;

/// Name of the map.
const NAME: &str = "handover";
const KEY: [u8; 4] = [0; 4];
/// A longer record is none of an agent's; no kernel makes a larger value (`KMALLOC_MAX_SIZE`).
const MAX_BYTES: u32 = 4 << 20;

/// Removes the record of a network namespace.
pub(super) fn remove(dir: &Path, netns: u64) -> Result<(), KernelError> {
    remove_pin(&path(dir, netns))
}

fn remove_pin(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::Pin { what: "remove", path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Returns the path of the record of a network namespace.
pub(super) fn path(dir: &Path, netns: u64) -> PathBuf {
    dir.join(format!("{NAME}-{netns}"))
}

impl Pins {
    /// Leaves `record` to the next agent. It replaces the previous record.
    ///
    /// # Errors
    /// When the kernel refuses; then the old one is there.
    pub fn leave(&self, record: &[u8]) -> Result<(), KernelError> {
        let path = path(&self.dir, self.netns);
        let new = self.dir.join(format!("{NAME}-{}-new", self.netns));
        let failed = |what| {
            let path = new.clone();
            move |error| KernelError::Pin { what, path, error }
        };
        // A crash may have left one.
        remove_pin(&new)?;
        let size = u32::try_from(record.len()).ok().filter(|size| *size <= MAX_BYTES);
        let size = size.ok_or_else(|| refused("make", io::ErrorKind::FileTooLarge.into()))?;
        let definition =
            aya_obj::Map::new_from_params(BPF_MAP_TYPE_ARRAY as u32, KEY.len() as u32, size, 1, 0);
        let map = MapData::create(definition, NAME, None)
            .map_err(|error| refused("make", io::Error::other(one_line(&error))))?;
        syscall::update(map.fd().as_fd(), &KEY, record).map_err(|error| refused("write", error))?;
        syscall::pin(map.fd().as_fd(), &new).map_err(failed("pin a map at"))?;
        fs::rename(&new, &path).map_err(failed("give its name to"))
    }

    /// Returns whether anything is left.
    pub fn has_left(&self) -> bool {
        path(&self.dir, self.netns).exists()
    }

    /// The record of the last agent, if there is one.
    ///
    /// # Errors
    /// When the kernel refuses, or the pin holds no such record.
    pub fn left(&self) -> Result<Option<Vec<u8>>, KernelError> {
        if !self.has_left() {
            return Ok(None);
        }
        let path = path(&self.dir, self.netns);
        let unread =
            |error: &dyn std::error::Error| refused("read", io::Error::other(error.to_string()));
        let map = MapData::from_pin(&path).map_err(|error| unread(&error))?;
        let info = map.info().map_err(|error| unread(&error))?;
        let is_array = info.map_type().is_ok_and(|kind| kind == MapType::Array);
        let size = info.value_size();
        if !is_array || info.key_size() as usize != KEY.len() || size > MAX_BYTES {
            return Err(refused("read", io::ErrorKind::InvalidData.into()));
        }
        let mut record = vec![0; size as usize];
        syscall::lookup(map.fd().as_fd(), &KEY, &mut record)
            .map_err(|error| refused("read", error))?;
        Ok(Some(record))
    }

    /// Returns whether an XDP program of an agent with this layout is attached: whether such an agent was
    /// the last one that started.
    pub fn has_program_of(&self, version: u32) -> bool {
        let layout = layouts::directory(&self.dir, version, self.netns);
        links_of(&layout, Kind::Ingress).iter().any(|pin| pin.hangs_on().is_some())
    }
}

fn refused(what: &'static str, error: io::Error) -> KernelError {
    KernelError::Map { what, map: NAME, error }
}
