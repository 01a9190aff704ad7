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
pub mod sysctl_files;

pub use advice::{Advice, Verdict};
pub use catalogue::{CATALOGUE, Setting};
pub use document::{Kind, Row, Summary, Tune, Word};
pub use facts::{Device, HostFacts, Listening, Load, Span};

use std::collections::BTreeMap;

use crate::time::Time;
use sysctl_files::Assignment;

/// The values to judge, beside the host's own facts.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Every setting of the catalogue that this kernel has, by its name.
    pub sysctls: BTreeMap<String, String>,
    /// The assignments in the files of sysctl.d(5), in the order in which they are applied.
    pub files: Vec<Assignment>,
}

pub fn judge(host: &HostFacts, values: &Values, at: Time) -> Tune {
    let mut rows: Vec<Row> =
        CATALOGUE.iter().flat_map(|setting| of_sysctl(setting, host, values)).collect();
    rows.extend(host.devices.iter().flat_map(|device| advice::device::rows(host, device)));
    Tune {
        generated_at: at,
        host: Summary {
            kernel: host.kernel.clone(),
            memory_bytes: host.memory,
            cpus: host.cpus,
            tcp_hash_entries: host.hash_entries,
        },
        settings: rows,
    }
}

/// The row of a sysctl, and one of the value that a file sets at the next boot, if that is another one and should be
/// changed.
fn of_sysctl(setting: &Setting, host: &HostFacts, values: &Values) -> Vec<Row> {
    let value = values.sysctls.get(setting.name);
    let advice = value.map(|value| setting.advise(host, value));
    let mut row = Row::of_sysctl(setting, value.map(String::as_str), advice);
    // The last line of a name holds.
    let Some(line) = values.files.iter().rfind(|line| line.name == setting.name) else {
        return vec![row];
    };
    let at_boot = Row::of_file(setting, line, setting.advise(host, &line.value));
    if !at_boot.is_to_change() {
        return vec![row];
    }
    if row.value == at_boot.value {
        row.place = at_boot.place;
        return vec![row];
    }
    vec![row, at_boot]
}

#[cfg(test)]
mod tests;
