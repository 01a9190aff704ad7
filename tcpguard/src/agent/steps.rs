//! The steps beside rules, in the kernel: what is set for which listener, and what hangs where.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_common::abi::{ListenerEntry, ListenerKey};
use tcpguard_common::cookie;
use tcpguard_engine::{ListenerId, ListenerKind, Step, Timestamp};

use super::executor::Executor;
use super::listeners::Followed;
use crate::host::Interface;
use crate::kernel::{KernelError, Pins, Redeemer, Redemption};

/// What was answered last is taken for as long as it is good, and a little longer for the way.
const ACCEPT: Duration =
    Duration::from_nanos(cookie::LIFE_NS).saturating_add(Duration::from_secs(2));

/// Why a step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing on this host can take cookies back.
    #[error("{0}")]
    NoBackend(String),
    /// The listener is not of this network namespace.
    #[error("it is not a socket of this host: nobody here could take its cookies back")]
    NotLocal,
    /// It has not answered a SYN yet, so that it is not known how it does.
    #[error("it has not answered a SYN since it is followed, so that it is not known how it does")]
    NeverAnswered,
    /// The kernel refuses all cookies.
    #[error(
        "net.ipv4.tcp_syncookies is 0, with which the kernel takes no cookie back; set it to 1: \
         sysctl -w net.ipv4.tcp_syncookies=1"
    )]
    SyncookiesOff,
    /// It answers on an interface that is not guarded.
    #[error("its SYN-ACKs leave by no interface that is guarded")]
    Elsewhere,
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What is in the kernel for the steps.
#[derive(Default)]
pub struct Steps {
    redeemer: Option<Redeemer>,
    /// Why there is none.
    missing: Option<String>,
    redemptions: BTreeMap<u32, Redemption>,
    /// Until when cookies of a listener are taken that is no longer armed.
    accepting: BTreeMap<ListenerId, Timestamp>,
}

impl Steps {
    /// Loads what takes cookies back, over the maps pinned there.
    pub fn load(pins: &Pins) -> Self {
        match Redeemer::load(&pins.maps(), false) {
            Ok(redeemer) => Self { redeemer: Some(redeemer), ..Self::default() },
            Err(error) => Self { missing: Some(error.to_string()), ..Self::default() },
        }
    }

    /// Why the guard's own cookies are not to be had on this host.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Takes over what an earlier agent left in the kernel: the steps of each listener.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn adopt(
        &mut self,
        now: Timestamp,
        executor: &mut Executor,
        pins: &Pins,
        interfaces: &[Interface],
    ) -> Result<Vec<(ListenerId, Step)>, KernelError> {
        let found: Vec<(ListenerId, u8)> =
            executor.listeners.iter().map(|followed| (followed.id, followed.steps())).collect();
        let mut adopted = Vec::new();
        for (id, bits) in found {
            if bits & ListenerEntry::ACCEPT != 0 {
                self.accepting.insert(id, now + ACCEPT);
            }
            adopted.extend(steps_of(bits).map(|step| (id, step)));
        }
        if !self.accepting.is_empty()
            && let Err(error) = self.hang(pins, interfaces)
        {
            log::warn!("cookies of an earlier agent are not taken: {error}");
            for id in std::mem::take(&mut self.accepting).into_keys() {
                change(executor, id, 0, ListenerEntry::ANSWER | ListenerEntry::ACCEPT)?;
            }
            adopted.retain(|(_, step)| *step != Step::Cookies);
        }
        Ok(adopted)
    }

    /// Takes a step for a listener; `rate` is that of a budget.
    ///
    /// # Errors
    /// Why it cannot be taken. Then nothing of it is in the kernel.
    pub fn take(
        &mut self,
        id: ListenerId,
        step: Step,
        rate: u32,
        executor: &mut Executor,
        pins: &Pins,
        interfaces: &[Interface],
    ) -> Result<(), Refusal> {
        if step == Step::Budget {
            executor.listeners.set_budget(id, rate);
        }
        if step == Step::Cookies {
            self.check(id, executor, interfaces)?;
            // First somebody who takes them back, then the first cookie.
            self.hang(pins, interfaces)?;
            self.accepting.remove(&id);
        }
        Ok(change(executor, id, bits_of(step), 0)?)
    }

    /// Whether a listener's SYNs may be answered with cookies of the guard's own.
    fn check(
        &self,
        id: ListenerId,
        executor: &Executor,
        interfaces: &[Interface],
    ) -> Result<(), Refusal> {
        if let Some(missing) = &self.missing {
            return Err(Refusal::NoBackend(missing.clone()));
        }
        let Some(followed) = executor.listeners.get(id) else { return Err(Refusal::NotLocal) };
        if followed.kind != ListenerKind::Local {
            return Err(Refusal::NotLocal);
        }
        if syncookies() == Some(0) {
            return Err(Refusal::SyncookiesOff);
        }
        let records = executor.dataplane.syn_acks()?;
        let answers: Vec<u32> = records
            .iter()
            .filter(|(key, _)| is_of(followed, executor, key))
            .map(|(_, record)| record.ifindex)
            .collect();
        if answers.is_empty() {
            return Err(Refusal::NeverAnswered);
        }
        let guarded = |ifindex: &u32| interfaces.iter().any(|one| one.index == *ifindex);
        if answers.iter().any(guarded) { Ok(()) } else { Err(Refusal::Elsewhere) }
    }

    /// Leaves a step. Cookies that are out are taken for a while longer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        step: Step,
        executor: &mut Executor,
    ) -> Result<(), KernelError> {
        if step == Step::Cookies {
            self.accepting.insert(id, now + ACCEPT);
        }
        change(executor, id, 0, bits_of(step) & !ListenerEntry::ACCEPT)
    }

    /// No longer takes cookies that cannot be out any more, and takes those that may be where an
    /// interface came back.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn tend(
        &mut self,
        now: Timestamp,
        executor: &mut Executor,
        pins: &Pins,
        interfaces: &[Interface],
    ) -> Result<(), KernelError> {
        let over: Vec<ListenerId> = self
            .accepting
            .iter()
            .filter(|(id, until)| now >= **until || executor.listeners.get(**id).is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            change(executor, id, 0, ListenerEntry::ACCEPT)?;
            self.accepting.remove(&id);
        }
        let accepts = |followed: &Followed| followed.steps() & ListenerEntry::ACCEPT != 0;
        if executor.listeners.iter().any(accepts) {
            return self.hang(pins, interfaces);
        }
        self.take_off(|_| true);
        Ok(())
    }

    /// Hangs the program on every interface on which it does not hang.
    fn hang(&mut self, pins: &Pins, interfaces: &[Interface]) -> Result<(), KernelError> {
        let Some(redeemer) = &mut self.redeemer else { return Ok(()) };
        for interface in interfaces {
            if !self.redemptions.contains_key(&interface.index) {
                let redemption = redeemer.attach(pins, interface)?;
                self.redemptions.insert(interface.index, redemption);
            }
        }
        let there = |ifindex: u32| interfaces.iter().any(|one| one.index == ifindex);
        self.take_off(|ifindex| !there(ifindex));
        Ok(())
    }

    /// Takes the program off the interfaces that `which` names.
    pub fn take_off(&mut self, which: impl Fn(u32) -> bool) {
        let gone: Vec<u32> = self.redemptions.keys().copied().filter(|one| which(*one)).collect();
        for ifindex in gone {
            let Some(redemption) = self.redemptions.remove(&ifindex) else { continue };
            if let Err(error) = redemption.remove() {
                log::debug!("the program that takes cookies back is gone already: {error}");
            }
        }
    }
}

/// Whether a local address and port belong to a listener, found as the programs find it.
fn is_of(followed: &Followed, executor: &Executor, key: &ListenerKey) -> bool {
    let (addr, port) = (crate::kernel::ip(&key.addr), u16::from_be_bytes(key.port));
    executor.listeners.of(addr, port) == Some(followed.id)
}

fn change(executor: &mut Executor, id: ListenerId, set: u8, clear: u8) -> Result<(), KernelError> {
    executor.listeners.change_steps(id, set, clear, &executor.dataplane)
}

fn syncookies() -> Option<u64> {
    crate::host::Sysctls::default().read_number("net.ipv4.tcp_syncookies").ok().flatten()
}

/// The kernel's bits for a step.
const fn bits_of(step: Step) -> u8 {
    match step {
        Step::Strays => ListenerEntry::STRAYS,
        Step::Cookies => ListenerEntry::ANSWER | ListenerEntry::ACCEPT,
        Step::Overload => ListenerEntry::OVERLOAD,
        Step::Budget => ListenerEntry::BUDGET,
        Step::Source | Step::Signature => 0,
    }
}

/// The steps that the kernel's bits say are taken.
fn steps_of(bits: u8) -> impl Iterator<Item = Step> {
    let taken = [
        (Step::Strays, ListenerEntry::STRAYS),
        (Step::Cookies, ListenerEntry::ANSWER),
        (Step::Overload, ListenerEntry::OVERLOAD),
        (Step::Budget, ListenerEntry::BUDGET),
    ];
    taken.into_iter().filter(move |(_, bit)| bits & bit != 0).map(|(step, _)| step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_a_step_is_that_step() {
        for step in [Step::Strays, Step::Cookies, Step::Overload, Step::Budget] {
            assert_eq!(steps_of(bits_of(step)).collect::<Vec<_>>(), [step]);
        }
        assert_eq!(steps_of(ListenerEntry::ACCEPT).count(), 0, "only what is out is taken");
    }

    #[test]
    fn cookies_are_taken_as_long_as_any_may_be_good() {
        assert!(ACCEPT > Duration::from_secs(69) && ACCEPT < Duration::from_secs(72), "{ACCEPT:?}");
    }
}
