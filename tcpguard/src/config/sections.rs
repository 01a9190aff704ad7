//! The sections of a configuration file, each a struct of its keys. What is absent has its default. Their
//! meaning: `packaging/tcpguard.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{Mitigation, Mode, Override, Place};
use tcpguard_host::firewall::FirewallChoice;
use tcpguard_host::states::Limits;
use tcpguard_host::toml_value::{Prefix, list, one, ports, some, some_whole, whole};

use super::value::{Group, Interface, ListenerPlace, Loopback, Pin, number};
use crate::bpf::XdpMode;

const MANY: u64 = 100_000_000;

/// Section `[interfaces]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interfaces {
    /// Interfaces to protect, in the operator's order, none twice. May be empty in a valid file;
    /// `tcpguard run` refuses that.
    #[serde(deserialize_with = "list::<Interface, _>")]
    pub names: Vec<String>,
    /// Mode in which the XDP program is attached to them.
    pub xdp_mode: XdpMode,
}

/// `[detection]`. The engine's list of thresholds has their defaults and ranges.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    #[serde(deserialize_with = "number")]
    fast_min: Option<f64>,
    #[serde(deserialize_with = "number")]
    failure_floor: Option<f64>,
    #[serde(deserialize_with = "number")]
    health_check_rate: Option<f64>,
    #[serde(deserialize_with = "number")]
    closed_port_rate: Option<f64>,
    #[serde(deserialize_with = "number")]
    clear_s: Option<f64>,
}

/// Section `[policy]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// True if segments with flag combinations that no TCP sends are dropped, in enforce mode.
    pub drop_illegal_flags: bool,
    /// True if out-of-state segments are dropped, in enforce mode and while they are searched for.
    pub drop_out_of_state: bool,
    /// Treatment of frames with headers beyond the parser's bounds.
    pub beyond_bounds: BeyondBounds,
    // Thresholds, as those of `[detection]`.
    #[serde(deserialize_with = "number")]
    pub(super) rule_ttl_max_s: Option<f64>,
    #[serde(deserialize_with = "number")]
    pub(super) rules: Option<f64>,
}

/// Treatment of a frame with headers beyond the parser's bounds. Frames are dropped only in enforce mode,
/// and each is counted by the bound.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BeyondBounds {
    /// First fragments that end before the TCP flags are dropped, because no stack sends them. The other
    /// frames, except those with too many VLAN tags, are dropped while a flood of SYNs that complete no
    /// handshake arrives in them.
    #[default]
    Auto,
    Pass,
    /// The frame is dropped.
    Drop,
}

/// Section `[cookies]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cookies {
    /// The maker of cookies.
    pub backend: CookieChoice,
    /// Treatment of a host packet filter that does not suit cookies.
    pub firewall: FirewallChoice,
    /// Bits that mark the segments that bring back a cookie; 0: none.
    #[serde(deserialize_with = "whole::<u32, 0, { u32::MAX as u64 }, _>")]
    pub mark: u32,
    /// SYNs a second that are answered with cookies to one network (IPv4 /24, IPv6 /48).
    #[serde(deserialize_with = "whole::<u64, 1, 1_000_000, _>")]
    pub replies_per_network: u64,
    /// SYNs a second that are answered with cookies in all.
    #[serde(deserialize_with = "whole::<u64, 1000, MANY, _>")]
    pub replies_total: u64,
}

/// The maker of cookies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CookieChoice {
    /// The best maker that works on this host.
    #[default]
    Auto,
    /// The XDP program. The kernel by itself where that does not work.
    Own,
    /// The kernel on behalf of the XDP program. The kernel by itself where that does not work.
    KernelHelper,
    /// The kernel by itself.
    Kernel,
}

/// Section `[protect]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protect {
    /// Prefixes whose SYNs no source or signature rule may drop.
    #[serde(deserialize_with = "list::<Prefix, _>")]
    pub prefixes: Vec<IpNet>,
    /// Local ports whose connected peers are protected like `prefixes`.
    #[serde(deserialize_with = "ports")]
    pub ssh_ports: Vec<u16>,
}

/// Section `[listeners]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listeners {
    /// Ports on which listeners are not monitored.
    #[serde(deserialize_with = "ports")]
    pub ignore_ports: Vec<u16>,
}

/// `[states]`: numbers of connections from which on they count as unusual.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateLimits {
    /// Half-open connections up to which nothing is unusual. A host has as many if its clients answer
    /// within a tenth of a second and open 150 new connections a second.
    #[serde(deserialize_with = "whole::<u64, 1, MANY, _>")]
    pub syn_recv: u64,
    /// Open connections from which on it is a warning; `None`: their number alone is not judged, but the
    /// resources that they use up are.
    #[serde(deserialize_with = "some_whole::<u64, 1, MANY, _>")]
    pub established_warning: Option<u64>,
    /// Open connections from which on it is critical; `None`: as above.
    #[serde(deserialize_with = "some_whole::<u64, 1, MANY, _>")]
    pub established_critical: Option<u64>,
}

/// Section `[control]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Unix group (name or number) that may read the status; `None`: root only.
    #[serde(deserialize_with = "some::<Group, _>")]
    pub group: Option<String>,
}

/// Section `[metrics]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Loopback address on which metrics are served over TCP; `None`: on none.
    #[serde(deserialize_with = "some::<Loopback, _>")]
    pub listen: Option<SocketAddr>,
}

/// Section `[fleet]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// True if the fleet process may connect.
    pub listen: bool,
    /// Unix group (name or number) of the socket for it.
    #[serde(deserialize_with = "one::<Group, _>")]
    pub group: String,
}

/// `[[interface]]`: the settings that differ at one interface. A setting that is absent is as everywhere.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceConfig {
    #[serde(deserialize_with = "one::<Interface, _>")]
    pub name: String,
    pub xdp_mode: Option<XdpMode>,
    /// Name under which its next program is pinned.
    #[serde(default, deserialize_with = "some::<Pin, _>")]
    pub next_program: Option<String>,
}

/// `[[listener]]`: the settings that differ at one listener. A setting that is absent is as everywhere.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Listeners to which the settings apply.
    #[serde(deserialize_with = "one::<ListenerPlace, _>", serialize_with = "super::value::place")]
    pub at: Place,
    /// True if they are not monitored.
    pub ignore: Option<bool>,
    /// The mode there, if it is the milder one.
    pub mode: Option<Mode>,
    // Whether a mitigation may be started.
    signature: Option<bool>,
    source: Option<bool>,
    cookies: Option<bool>,
    budget: Option<bool>,
    out_of_state: Option<bool>,
}

impl Default for Cookies {
    fn default() -> Self {
        Self {
            backend: CookieChoice::Auto,
            firewall: FirewallChoice::Refuse,
            mark: 0,
            replies_per_network: 4096,
            replies_total: 15_000_000,
        }
    }
}

impl Default for Protect {
    fn default() -> Self {
        Self { prefixes: Vec::new(), ssh_ports: vec![22] }
    }
}

impl Default for StateLimits {
    fn default() -> Self {
        let Limits { syn_recv, established_warning, established_critical, .. } = Limits::default();
        Self { syn_recv, established_warning, established_critical }
    }
}

impl From<StateLimits> for Limits {
    /// Takes the limits that can be configured, with the rest as it is.
    fn from(limits: StateLimits) -> Self {
        let StateLimits { syn_recv, established_warning, established_critical } = limits;
        Self { syn_recv, established_warning, established_critical, ..Self::default() }
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self { listen: false, group: super::DEFAULT_FLEET_GROUP.to_owned() }
    }
}

impl InterfaceConfig {
    /// The settings in `new`, with the modes as they were `before`.
    pub fn with_modes_of(before: Vec<Self>, new: Vec<Self>) -> Vec<Self> {
        let of = |name: &str| before.iter().find(|own| own.name == name);
        let kept = |own: Self| Self { xdp_mode: of(&own.name).and_then(|own| own.xdp_mode), ..own };
        let mut merged: Vec<_> = new.into_iter().map(kept).collect();
        let is_new = |name: &str| merged.iter().any(|own| own.name == name);
        let gone = before.iter().filter(|own| own.xdp_mode.is_some() && !is_new(&own.name));
        let gone: Vec<_> = gone.map(|own| Self { next_program: None, ..own.clone() }).collect();
        merged.extend(gone);
        merged
    }
}

impl ListenerConfig {
    /// For each mitigation that the block has, true if it may be started.
    pub fn mitigations(&self) -> BTreeMap<Mitigation, bool> {
        let all = [
            (Mitigation::OutOfState, self.out_of_state),
            (Mitigation::Source, self.source),
            (Mitigation::Signature, self.signature),
            (Mitigation::Cookies, self.cookies),
            (Mitigation::Budget, self.budget),
        ];
        all.into_iter().filter_map(|(mitigation, allowed)| Some((mitigation, allowed?))).collect()
    }

    /// The overrides for the engine. A listener that is named by its address also gets the settings of
    /// its port, unless those of the address replace them.
    pub(super) fn overrides(all: &[Self]) -> Vec<Override> {
        let of_port = |at: Place| {
            let port = Place { addr: None, ..at };
            all.iter().find(|other| at != port && other.at == port)
        };
        let one = |own: &Self| {
            let port = of_port(own.at);
            let mut mitigations = port.map_or_else(BTreeMap::new, Self::mitigations);
            mitigations.extend(own.mitigations());
            let barred = mitigations.into_iter().filter(|(_, allowed)| !allowed);
            Override {
                at: own.at,
                mode: own.mode.or(port.and_then(|port| port.mode)),
                barred: barred.map(|(mitigation, _)| mitigation).collect(),
            }
        };
        all.iter().map(one).collect()
    }
}
