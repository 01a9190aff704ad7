//! The checks as functions of the facts.

mod firewall;
mod interface;
mod kernel;
mod load;
mod privileges;
mod programs;
pub(super) mod service;
mod sysctls;

use super::document::Checked;
use super::facts::Facts;

#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// True if it is about interfaces, and not about the host.
    pub of_interfaces: bool,
    pub run: fn(&Facts) -> Vec<Checked>,
}

const fn host(run: fn(&Facts) -> Vec<Checked>) -> Check {
    Check { of_interfaces: false, run }
}

const fn interfaces(run: fn(&Facts) -> Vec<Checked>) -> Check {
    Check { of_interfaces: true, run }
}

/// Checks of the kernel, the privileges and the directory of the pins.
pub const FIRST: [Check; 8] = [
    host(kernel::release),
    host(kernel::features),
    host(kernel::btf),
    host(kernel::lockdown),
    host(kernel::jit),
    host(privileges::capabilities),
    host(privileges::bpffs),
    host(privileges::pin_directory),
];

/// The other checks, in the order in which a start would depend on their subjects.
pub const THEN: [Check; 22] = [
    host(service::config),
    interfaces(interface::exists),
    interfaces(interface::ethernet),
    interfaces(interface::up),
    interfaces(interface::native_xdp),
    interfaces(interface::other_end),
    interfaces(interface::mtu),
    interfaces(interface::lro),
    interfaces(interface::vlan_tags),
    interfaces(interface::stacked),
    interfaces(interface::queues),
    interfaces(interface::losses),
    interfaces(programs::xdp),
    interfaces(programs::tc),
    host(sysctls::settings),
    host(sysctls::listeners),
    host(firewall::rules),
    host(load::losses),
    host(load::skew),
    host(service::unit),
    host(service::journald),
    host(service::clock),
];
