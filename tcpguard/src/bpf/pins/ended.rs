//! Pins of network namespaces that have ended, as those of containers do. They keep some 30 MiB of maps each.

use std::fs;
use std::path::Path;

use super::layouts::{Kind, MAPS, TRACEPOINTS, directory, layouts, links};
use super::{KernelError, Pins, lock, remove_all};

impl Pins {
    /// Removes the pins of network namespaces that have ended. Returns the number of these, and the errors of pins that
    /// could not be removed.
    ///
    /// A namespace has ended if agents left links there, all of them are now on no interface, and no agent holds
    /// its lock. (That of a live agent without any interface is held. A dead agent's clients have no interface to come
    /// by.)
    pub fn remove_ended(&self) -> (usize, Vec<KernelError>) {
        let (mut removed, mut left) = (0, Vec::new());
        for layout in layouts(&self.dir).iter().filter(|layout| layout.netns != self.netns) {
            let path = directory(&self.dir, layout.version, layout.netns);
            let links = links(&path);
            if links.is_empty() || !links.iter().all(|pin| pin.is_off()) {
                continue;
            }
            let Ok(_lock) = lock(&path) else { continue };
            match remove(&path) {
                Ok(()) => removed += 1,
                Err(error) => left.push(error),
            }
        }
        (removed, left)
    }
}

/// Removes a layout's directory with all its pins.
fn remove(layout: &Path) -> Result<(), KernelError> {
    let kinds = Kind::ALL.iter().map(|kind| kind.directory());
    for name in kinds.chain([TRACEPOINTS, MAPS]) {
        remove_directory(&layout.join(name))?;
    }
    remove_directory(layout)
}

fn remove_directory(path: &Path) -> Result<(), KernelError> {
    if !path.exists() {
        return Ok(());
    }
    remove_all(path)?;
    let failed = |error| KernelError::Pin { what: "remove", path: path.to_owned(), error };
    fs::remove_dir(path).map_err(failed)
}
