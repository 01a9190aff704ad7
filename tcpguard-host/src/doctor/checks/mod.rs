//! The checks as functions of the facts.

mod firewall;
mod interface;
mod kernel;
mod privileges;
mod programs;
mod reports;
mod service;

pub use service::PROPERTIES;

use super::document::Checked;
use super::facts::Facts;

/// A check: its results on the facts.
pub type Check = fn(&Facts) -> Vec<Checked>;

/// Checks of the kernel, the privileges and the directory of the pins, on which every attachment depends.
pub const FIRST: [Check; 8] = [
    kernel::release,
    kernel::features,
    kernel::btf,
    kernel::lockdown,
    kernel::jit,
    privileges::capabilities,
    privileges::bpffs,
    privileges::pin_directory,
];

/// Check of the configuration.
pub const CONFIG: Check = service::config;

/// Checks of the interfaces, in the order in which an attachment would depend on their subjects.
pub const INTERFACES: [Check; 14] = [
    interface::exists,
    interface::ethernet,
    interface::up,
    interface::native_xdp,
    interface::other_end,
    interface::bulk_tcp,
    interface::mtu,
    interface::xdp_queues,
    interface::lro,
    interface::vlan_tags,
    interface::stacked,
    reports::queues,
    programs::xdp,
    programs::tc,
];

/// The other checks, in the order in which a start would depend on their subjects.
pub const THEN: [Check; 6] = [
    reports::sysctls,
    reports::listeners,
    reports::states,
    firewall::rules,
    firewall::cookies,
    service::unit,
];
