//! The checks: each is a function of the facts and returns findings with evidence and a remedy.

pub(super) mod agent;
pub(super) mod firewall;
pub(super) mod interface;
pub(super) mod kernel;
pub(super) mod load;
pub(super) mod privileges;
pub(super) mod programs;
pub(super) mod service;
pub(super) mod sysctls;

use super::document::Finding;
use super::facts::Facts;

/// A check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    /// True if it is about interfaces, and not about the host.
    pub(super) of_interfaces: bool,
    /// Returns its findings.
    pub(super) run: fn(&Facts) -> Vec<Finding>,
}

const fn host(run: fn(&Facts) -> Vec<Finding>) -> Check {
    Check { of_interfaces: false, run }
}

const fn interfaces(run: fn(&Facts) -> Vec<Finding>) -> Check {
    Check { of_interfaces: true, run }
}

/// All checks: whether the host is protected, and then in the order in which a start would depend on
/// their subjects.
pub(super) const CHECKS: [Check; 36] = [
    host(agent::running),
    host(kernel::release),
    host(kernel::features),
    host(kernel::btf),
    host(kernel::lockdown),
    host(kernel::jit),
    host(privileges::capabilities),
    host(privileges::bpffs),
    host(privileges::pin_directory),
    host(privileges::stale_pins),
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
    host(agent::version),
    host(agent::drift),
    host(agent::health),
    host(agent::selftest),
];
