//! The next programs of the attached interfaces, kept in the kernel as the configuration names them.

use std::collections::BTreeMap;

use tcpguard_common::abi::maps::MAX_INTERFACES;
use tcpguard_host::hint::{Failure, Hint as _, on_one_line};

use super::Interfaces;
use crate::bpf::{Dataplane, KernelError, NextProgram, Pins};
use crate::documents::NextProgramFacts;

/// The next programs of all interfaces.
#[derive(Debug)]
pub(super) struct NextPrograms {
    /// Name of the pin by the configured name of the interface.
    wanted: BTreeMap<String, String>,
    /// The slots that may have a next program; `None`: one that an earlier agent may have left.
    slots: BTreeMap<u8, Option<NextProgramFacts>>,
}

impl NextPrograms {
    /// The next programs that the configuration names. The kernel keeps those of an earlier agent until [`Self::keep`].
    pub(super) fn new(wanted: BTreeMap<String, String>) -> Self {
        Self { wanted, slots: (1..MAX_INTERFACES as u8).map(|slot| (slot, None)).collect() }
    }

    /// Takes the names of another configuration, for the next [`Self::keep`].
    pub(super) fn set_wanted(&mut self, wanted: BTreeMap<String, String>) {
        self.wanted = wanted;
    }

    /// The next program of a slot; `None` where the configuration names none.
    pub(super) fn of(&self, slot: u8) -> Option<&NextProgramFacts> {
        self.slots.get(&slot)?.as_ref()
    }

    /// Brings the kernel in line with the configuration and with the pins. `interfaces`: the slot of each interface, and
    /// its configured name. A program that is in its slot stays there. One that cannot be had leaves its slot empty, so
    /// that packets go to the stack.
    pub(super) fn keep<'a>(
        &mut self,
        interfaces: impl Iterator<Item = (u8, &'a str)>,
        pins: &Pins,
        dataplane: &Dataplane,
    ) {
        let before = std::mem::take(&mut self.slots);
        for (slot, interface) in interfaces {
            let Some(name) = self.wanted.get(interface) else { continue };
            let now = NextProgramFacts { name: name.clone(), id: put(slot, name, pins, dataplane) };
            if before.get(&slot).and_then(Option::as_ref) != Some(&now) {
                report(interface, &now);
            }
            self.slots.insert(slot, Some(now));
        }
        for (slot, before) in before {
            if self.slots.contains_key(&slot) {
                continue;
            }
            match (dataplane.remove_next_program(slot), before) {
                (Ok(_), Some(NextProgramFacts { name, id: Ok(id) })) => {
                    log::info!("packets no longer handed on to {name} (id {id})");
                }
                (Ok(_), _) => {}
                (Err(error), before) => {
                    log::error!("next program not removed: {}", error.with_hint());
                    self.slots.insert(slot, before);
                }
            }
        }
    }
}

impl Interfaces {
    /// Takes the next programs of another configuration: their names, by those of the interfaces.
    pub fn set_next_programs(&mut self, next: BTreeMap<String, String>, dataplane: &Dataplane) {
        self.next.set_wanted(next);
        self.keep_next_programs(dataplane);
    }

    /// Ensures that each interface that the XDP program is attached to, or is about to be, has its next program.
    pub(super) fn keep_next_programs(&mut self, dataplane: &Dataplane) {
        let on = self.configured.iter().filter(|one| one.present.is_some() && !one.detached);
        self.next.keep(on.map(|one| (one.slot, one.wanted.as_str())), &self.pins, dataplane);
    }
}

/// Puts the program that is pinned under `name` into a slot, or leaves the slot empty. Returns the program's kernel id.
fn put(slot: u8, name: &str, pins: &Pins, dataplane: &Dataplane) -> Result<u32, Failure> {
    let put = || -> Result<u32, KernelError> {
        dataplane.require_tail_calls()?;
        let program = NextProgram::open(pins, name)?;
        if dataplane.next_program(slot)? != Some(program.id()) {
            dataplane.set_next_program(slot, &program)?;
        }
        Ok(program.id())
    };
    put().map_err(|error| {
        let error = dataplane.remove_next_program(slot).err().unwrap_or(error);
        Failure::new(error.to_string(), error.hint())
    })
}

fn report(interface: &str, next: &NextProgramFacts) {
    let name = &next.name;
    match &next.id {
        Ok(id) => log::info!("{interface}: packets that pass are handed on to {name} (id {id})"),
        Err(why) => {
            let why = on_one_line(why, &why.hint);
            log::warn!("{interface}: packets not handed on to {name}: {why}");
        }
    }
}
