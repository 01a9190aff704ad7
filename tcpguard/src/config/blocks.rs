//! The blocks `[[interface]]` and `[[listener]]`: settings that differ at one of several interfaces or
//! listeners.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use tcpguard_engine::{Mitigation, Mode, Override, Place};

use super::reader::{Section, Written};
use super::value::{self, MODES, XDP_MODES};
use super::{Problem, mode_name};
use crate::bpf::XdpMode;

/// `[[interface]]` as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct InterfaceBlock {
    /// Key `name`
    pub name: Written<String>,
    /// Key `xdp_mode`
    pub xdp_mode: Option<Written<XdpMode>>,
    /// Key `next_program`
    pub next_program: Option<Written<String>>,
}

/// `[[listener]]` as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerBlock {
    /// Key `at`
    pub at: Written<Place>,
    /// Key `ignore`
    pub ignore: Option<Written<bool>>,
    /// Key `mode`
    pub mode: Option<Written<Mode>>,
    /// Each by its name: whether the mitigation may be started.
    pub mitigations: BTreeMap<Mitigation, Written<bool>>,
}

/// The settings that differ at one listener; a setting that is absent is as everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerConfig {
    /// Listeners to which the settings apply.
    pub at: Place,
    /// True if they are not monitored.
    pub ignore: Option<bool>,
    /// The mode there, if it is the milder one.
    pub mode: Option<Mode>,
    /// For each of these mitigations, true if it may be started.
    pub mitigations: BTreeMap<Mitigation, bool>,
}

impl InterfaceBlock {
    pub(super) fn read_all(root: &mut Section<'_>, problems: &mut Vec<Problem>) -> Vec<Self> {
        let mut blocks = Vec::new();
        for mut block in root.blocks("interface", problems) {
            let name = block.name("name", "\"eth0\"", problems, value::interface);
            let xdp_mode =
                block.value("xdp_mode", problems, |value| value::choice(value, &XDP_MODES));
            let next_program = block.value("next_program", problems, value::pin);
            block.finish(problems);
            blocks.extend(name.map(|name| Self { name, xdp_mode, next_program }));
        }
        check_distinct("interface", blocks.iter().map(|block| &block.name), problems);
        blocks
    }

    /// Merges the blocks of a later file.
    pub(super) fn merge(all: &mut Vec<Self>, later: Vec<Self>) {
        for block in later {
            match all.iter_mut().find(|known| known.name.value == block.name.value) {
                Some(known) => {
                    known.xdp_mode = block.xdp_mode.or(known.xdp_mode.take());
                    known.next_program = block.next_program.or(known.next_program.take());
                }
                None => all.push(block),
            }
        }
    }
}

impl ListenerBlock {
    pub(super) fn read_all(root: &mut Section<'_>, problems: &mut Vec<Problem>) -> Vec<Self> {
        let mut blocks = Vec::new();
        for mut block in root.blocks("listener", problems) {
            let at = block.name("at", "\":443\"", problems, value::place);
            let ignore = block.value("ignore", problems, value::boolean);
            let mode = block.value("mode", problems, |value| value::choice(value, &MODES));
            let mut mitigations = BTreeMap::new();
            for mitigation in Mitigation::ALL {
                let allowed = block.value(mitigation.name(), problems, value::boolean);
                mitigations.extend(allowed.map(|allowed| (mitigation, allowed)));
            }
            block.finish(problems);
            blocks.extend(at.map(|at| Self { at, ignore, mode, mitigations }));
        }
        check_distinct("listener", blocks.iter().map(|block| &block.at), problems);
        blocks
    }

    /// Merges the blocks of a later file.
    pub(super) fn merge(all: &mut Vec<Self>, later: Vec<Self>) {
        for block in later {
            match all.iter_mut().find(|known| known.at.value == block.at.value) {
                Some(known) => {
                    known.ignore = block.ignore.or(known.ignore.take());
                    known.mode = block.mode.or(known.mode.take());
                    known.mitigations.extend(block.mitigations);
                }
                None => all.push(block),
            }
        }
    }

    pub(super) fn resolve(&self) -> ListenerConfig {
        let value =
            |(mitigation, allowed): (&Mitigation, &Written<bool>)| (*mitigation, allowed.value);
        ListenerConfig {
            at: self.at.value,
            ignore: self.ignore.as_ref().map(|written| written.value),
            mode: self.mode.as_ref().map(|written| written.value),
            mitigations: self.mitigations.iter().map(value).collect(),
        }
    }
}

impl ListenerConfig {
    /// Its settings, by the names of the keys.
    pub(super) fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut settings = Vec::new();
        settings.extend(self.ignore.map(|ignore| ("ignore", json!(ignore))));
        settings.extend(self.mode.map(|mode| ("mode", json!(mode_name(mode)))));
        settings.extend(
            self.mitigations
                .iter()
                .map(|(mitigation, allowed)| (mitigation.name(), json!(allowed))),
        );
        settings
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
            let mut mitigations = port.map_or_else(BTreeMap::new, |port| port.mitigations.clone());
            mitigations.extend(&own.mitigations);
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

/// Reports blocks of one file that are about the same.
fn check_distinct<'a, T: fmt::Display + PartialEq + 'a>(
    kind: &str,
    names: impl Iterator<Item = &'a Written<T>>,
    problems: &mut Vec<Problem>,
) {
    let mut seen: Vec<&Written<T>> = Vec::new();
    for name in names {
        match seen.iter().find(|first| first.value == name.value) {
            Some(first) => problems.push(Problem {
                at: name.at.clone(),
                text: format!(
                    "{kind}[\"{}\"] stands on line {} already; put both together",
                    name.value, first.at.line
                ),
            }),
            None => seen.push(name),
        }
    }
}
