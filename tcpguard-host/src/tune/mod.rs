//! Settings of this host that help under a SYN flood, that do not, and that do harm.
//!
//! Each setting has its value, an advice for this host's memory, CPUs and load, the reason, the risk and
//! the way back. Nothing is changed unless the operator asks for it ([`change`]), and then only sysctls:
//! a change at a network card may take its link down, so that is a command to be typed.

mod advice;
mod catalogue;
pub mod change;
mod document;
pub mod facts;
mod folklore;
pub mod sysctl_files;

pub use advice::{Advice, Verdict};
pub use catalogue::{CATALOGUE, Setting};
pub use document::{Kind, Refused, Row, Summary, Tune, Word};
pub use facts::{Device, HostFacts, Listening, Load, Span};
pub use folklore::{Folklore, REFUSED};

use std::collections::BTreeMap;

use crate::time::Time;
use sysctl_files::Assignment;

/// The values to judge, beside the host's own facts.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Every setting of the catalogue and of the folklore that this kernel has, by its name.
    pub sysctls: BTreeMap<String, String>,
    /// The assignments in the files of sysctl.d(5), in the order in which they are applied.
    pub files: Vec<Assignment>,
}

pub fn judge(host: &HostFacts, values: &Values, at: Time) -> Tune {
    let mut rows: Vec<Row> = CATALOGUE
        .iter()
        .map(|setting| {
            let value = values.sysctls.get(setting.name);
            let advice = value.map(|value| setting.advise(host, value));
            Row::of_sysctl(setting, value.map(String::as_str), advice)
        })
        .collect();
    rows.extend(host.devices.iter().flat_map(|device| advice::device::rows(host, device)));
    let refused = REFUSED.iter().map(|recipe| recipe.found_in(host, values)).collect();
    Tune {
        generated_at: at,
        host: Summary {
            kernel: host.kernel.clone(),
            memory_bytes: host.memory,
            cpus: host.cpus,
            tcp_hash_entries: host.hash_entries,
        },
        settings: rows,
        refused,
    }
}

#[cfg(test)]
mod tests;
