//! The mitigations beside rules, in the kernel: the bits of each listener, and the programs on each
//! interface.

mod answers;
mod cookies;
mod effort;
pub mod firewall;
mod obstacles;
mod refusal;
mod syn_ack_records;
pub mod syncookies;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use answers::Answers;
use effort::Effort;
use tcpguard_common::abi::ListenerEntry;
use tcpguard_common::cookie;
use tcpguard_engine::{
    Listener, ListenerId, ListenerKind, ListenerSample, Mitigation, Setback, Timestamp,
};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{Interface, Sysctls};
use tcpguard_host::obstacle::{Impeded, Obstacle};

use self::firewall::Firewall;
use super::executor::Executor;
use super::listeners::{COOKIES, MonitoredListener, is_armed};
use super::reading::pace::Pace;
use crate::bpf::{KernelError, Object, Pins};
use crate::documents::selftest::CookieBackend;
use cookies::Candidate;
pub use cookies::Cookies;
pub use refusal::Refusal;

/// A cookie is accepted for its lifetime after the last SYN-ACK, and a little longer for the path.
const ACCEPT: Duration =
    Duration::from_nanos(cookie::LIFE_NS).saturating_add(Duration::from_secs(2));

/// The means by which mitigations are carried out.
pub struct MitigationContext<'a> {
    pub executor: &'a mut Executor,
    pub object: &'a mut Object,
    pub pins: &'a Pins,
    pub interfaces: &'a [Interface],
}

/// Terms on which the packet filter suits cookies at a listener.
#[derive(Clone, Copy, Debug)]
struct Admission {
    /// The backend that makes them.
    backend: CookieBackend,
    /// The MSS to which the rules lower that of clients.
    mss_limit: Option<u16>,
}

/// The state of the mitigations in the kernel.
pub struct Mitigations {
    pub cookies: Cookies,
    pub firewall: Firewall,
    /// The obstacles to cookies that are known, and the pace at which they are looked for.
    pub obstacles: Vec<Impeded<Listener>>,
    pub foreseeing: Pace,
    /// The CPU time that they have taken in this poll.
    pub effort: Effort,
    /// Time until which cookies are accepted at a listener that is no longer armed.
    accepting: BTreeMap<ListenerId, Timestamp>,
    /// Listeners at which the engine asked for `out_of_state`, as opposed to those that check
    /// out-of-state segments only because of cookies: without that mitigation the invalid ones would not
    /// be counted.
    out_of_state: BTreeSet<ListenerId>,
    answers: Answers,
}

impl Mitigations {
    /// Creates the state without an active mitigation.
    pub fn new(cookies: Cookies, firewall: Firewall) -> Self {
        Self {
            cookies,
            firewall,
            obstacles: Vec::new(),
            foreseeing: Pace::default(),
            effort: Effort::new(),
            accepting: BTreeMap::new(),
            out_of_state: BTreeSet::new(),
            answers: Answers::default(),
        }
    }

    /// Takes over the mitigations of each listener that an earlier agent left in the kernel.
    pub fn adopt(
        &mut self,
        now: Timestamp,
        context: &mut MitigationContext<'_>,
    ) -> Result<Vec<(ListenerId, Mitigation)>, KernelError> {
        let listeners = context.executor.listeners.iter();
        let found: Vec<(ListenerId, u8)> =
            listeners.map(|monitored| (monitored.id, monitored.mitigations)).collect();
        let mut adopted = Vec::new();
        for (id, bits) in found {
            if bits & ListenerEntry::ACCEPT != 0 {
                self.accepting.insert(id, now + ACCEPT);
            }
            if bits & ListenerEntry::OUT_OF_STATE != 0 {
                self.out_of_state.insert(id);
            }
            // This agent does not know yet whether there is a flood, and will say so at its first poll.
            if bits & ListenerEntry::PASS_EXCESS != 0 {
                context.executor.change_mitigations(id, 0, ListenerEntry::PASS_EXCESS)?;
            }
            if bits & COOKIES != 0
                && let Err(refusal) = self.resume(now, id, bits, context)
            {
                let at = context.executor.listeners.get(id).map(|monitored| monitored.listener);
                let at = at.map_or_else(String::new, |at| format!(" at {}:{}", at.addr, at.port));
                log::warn!("SYN cookies{at} of the previous agent stopped: {refusal}");
                let clear = COOKIES;
                context.executor.change_mitigations(id, 0, clear)?;
                adopted.extend(mitigations_of(bits & !clear).map(|mitigation| (id, mitigation)));
                continue;
            }
            adopted.extend(mitigations_of(bits).map(|mitigation| (id, mitigation)));
        }
        // An agent of another layout could not leave it in the configuration record.
        self.write_out_of_state(context.executor)?;
        Ok(adopted)
    }

    /// Goes on with cookies that an earlier agent made.
    fn resume(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        bits: u8,
        context: &mut MitigationContext<'_>,
    ) -> Result<(), Refusal> {
        let made_by = match bits & ListenerEntry::OWN_COOKIES {
            0 => CookieBackend::KernelHelper,
            _ => CookieBackend::Own,
        };
        let Admission { backend, mss_limit } = self.admitted(now, id, context)?;
        if made_by != backend {
            let others = "another back end makes them now".to_owned();
            return Err(Refusal::Obstacle(Obstacle::NoBackend(others)));
        }
        context.executor.limit_mss(id, mss_limit)?;
        // This agent knows of none.
        context.executor.withhold_cookies(id, &[])?;
        self.accept(id, made_by, context)
    }

    /// The backend that makes the cookies of a listener.
    fn backend(
        &self,
        id: ListenerId,
        context: &MitigationContext<'_>,
    ) -> Result<CookieBackend, Refusal> {
        let monitored = context.executor.listeners.get(id).ok_or(Refusal::Gone)?;
        let nat = self.firewall.nat(monitored.listener.addr);
        self.cookies.backend(nat, monitored.own.mptcp).map_err(Refusal::Obstacle)
    }

    /// Tests that the host's packet filter suits cookies at a listener, and determines their backend beside it.
    fn admitted(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        context: &mut MitigationContext<'_>,
    ) -> Result<Admission, Refusal> {
        let backend = self.backend(id, context)?;
        let monitored = context.executor.listeners.get(id).ok_or(Refusal::Gone)?;
        let own = backend == CookieBackend::Own;
        let admitted = self.firewall.admits(now, monitored, own, context.interfaces);
        let mss_limit = admitted.map_err(Refusal::Obstacle)?;
        Ok(Admission { backend, mss_limit })
    }

    /// Tests that this backend may answer for a listener.
    fn check(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        backend: CookieBackend,
        context: &mut MitigationContext<'_>,
    ) -> Result<(), Refusal> {
        let MitigationContext { executor, object, interfaces, .. } = context;
        let monitored = executor.listeners.get(id).ok_or(Refusal::Gone)?;
        let redirect = self.firewall.redirect(now, monitored, interfaces);
        let redirect = redirect.as_ref();
        let candidate = Candidate { monitored, backend, executor, interfaces, redirect };
        self.cookies.check(now, &candidate, object)
    }

    /// Has returned cookies of this backend accepted.
    fn accept(
        &mut self,
        id: ListenerId,
        backend: CookieBackend,
        context: &mut MitigationContext<'_>,
    ) -> Result<(), Refusal> {
        let accepted = self.cookies.accept(backend, context.pins, context.interfaces);
        let monitored = context.executor.listeners.get(id).ok_or(Refusal::Gone)?;
        let nat = self.firewall.nat(monitored.listener.addr);
        match (accepted, self.cookies.in_place_of_own(nat, monitored.own.mptcp)) {
            // It is not the backend of choice.
            (Err(Refusal::Lease(error)), Some(obstacle)) => {
                let no_helper = error.with_hint();
                return Err(Refusal::Obstacle(obstacle.without_helper(no_helper)));
            }
            (accepted, _) => accepted?,
        }
        if backend == CookieBackend::KernelHelper {
            write_kernel_timestamps(context.executor)?;
        }
        Ok(())
    }

    /// Goes on with cookies at a listener on these terms. Those that are out of another backend are still accepted,
    /// as far as the packet filter lets them.
    fn go_on(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        admission: Admission,
        context: &mut MitigationContext<'_>,
    ) -> Result<(), Refusal> {
        let Admission { backend, mss_limit } = admission;
        let monitored = context.executor.listeners.get(id).ok_or(Refusal::Gone)?;
        let (bits, at) = (monitored.mitigations & COOKIES, monitored.listener);
        let mptcp = monitored.own.mptcp;
        if bits & bits_of_backend(backend) == 0 {
            self.check(now, id, backend, context)?;
            self.accept(id, backend, context)?;
            let nat = self.firewall.nat(at.addr);
            let why = self.cookies.in_place_of_own(nat, mptcp);
            let why = why.map(|obstacle| obstacle.sentence());
            let why = why.or_else(|| self.cookies.reason().map(str::to_owned));
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            log::info!("SYN cookies at {}:{} are now {}{why}", at.addr, at.port, backend.name());
            self.accepting.insert(id, now + ACCEPT);
        }
        context.executor.limit_mss(id, mss_limit)?;
        context.executor.change_mitigations(id, bits_of_backend(backend), bits)?;
        Ok(())
    }

    /// Returns whether any listener's SYNs are answered.
    pub fn answer(executor: &Executor) -> bool {
        answers(executor)
    }

    /// Looks again whether the packet filter suits the cookies that are made. Returns the listeners at which it no
    /// longer does, and why.
    pub fn judge(
        &mut self,
        now: Timestamp,
        context: &mut MitigationContext<'_>,
    ) -> Vec<(ListenerId, Setback)> {
        let armed = context.executor.listeners.iter().filter(|monitored| is_armed(monitored));
        let armed: Vec<ListenerId> = armed.map(|monitored| monitored.id).collect();
        let refusal = |id| {
            let admission = self.admitted(now, id, context);
            let goes_on = admission.and_then(|admission| self.go_on(now, id, admission, context));
            goes_on.err().map(|refusal| (id, refusal.setback()))
        };
        armed.into_iter().filter_map(refusal).collect()
    }

    /// Starts a mitigation for a listener; `rate` is that of a budget.
    ///
    /// # Errors
    /// The reason why it cannot be started. Then nothing of it is in the kernel, unless the kernel refuses the removal
    /// as well, which is logged.
    pub fn take(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        rate: u32,
        context: &mut MitigationContext<'_>,
    ) -> Result<(), Refusal> {
        let taken = self.set(now, id, mitigation, rate, context);
        let of_it = |monitored: &MonitoredListener| {
            mitigations_of(monitored.mitigations).any(|one| one == mitigation)
        };
        // A budget may have been active before, at another rate. A change that the kernel refused now
        // would go along with the next one.
        if taken.is_err()
            && context.executor.listeners.get(id).is_some_and(of_it)
            && let Err(error) = self.leave(now, id, mitigation, context)
        {
            log::warn!(
                "mitigation {} not started and not removed: {}",
                mitigation.name(),
                error.with_hint()
            );
        }
        taken
    }

    fn set(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        rate: u32,
        context: &mut MitigationContext<'_>,
    ) -> Result<(), Refusal> {
        let mut bits = bits_of(mitigation);
        match mitigation {
            Mitigation::Budget => {
                context.executor.listeners.set_budget(id, rate);
                context.executor.dataplane.reset_budget(crate::driver::listeners::slot(id))?;
            }
            Mitigation::OutOfState => {
                self.out_of_state.insert(id);
            }
            Mitigation::Cookies => {
                let backend = self.backend(id, context)?;
                self.check(now, id, backend, context)?;
                let Admission { mss_limit, .. } = self.admitted(now, id, context)?;
                // First the program that checks returned cookies, then the first cookie.
                self.accept(id, backend, context)?;
                self.accepting.remove(&id);
                context.executor.limit_mss(id, mss_limit)?;
                bits = bits_of_backend(backend);
            }
            Mitigation::Source | Mitigation::Signature => {}
        }
        context.executor.change_mitigations(id, bits, 0)?;
        Ok(self.write_out_of_state(context.executor)?)
    }

    /// Stops a mitigation. Cookies in flight are accepted for a while longer.
    pub fn leave(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        mitigation: Mitigation,
        context: &mut MitigationContext<'_>,
    ) -> Result<(), KernelError> {
        let mut clear = bits_of(mitigation);
        match mitigation {
            Mitigation::Cookies => {
                clear = COOKIES;
                self.accepting.insert(id, now + ACCEPT);
            }
            Mitigation::OutOfState => {
                self.out_of_state.remove(&id);
                // The bit is cleared when no cookie can be in flight any longer.
                clear = if self.brings_cookies(id, context.executor) { 0 } else { clear };
            }
            Mitigation::Source | Mitigation::Signature | Mitigation::Budget => {}
        }
        context.executor.change_mitigations(id, 0, clear)?;
        if mitigation == Mitigation::Cookies && !is_helped(context.executor) {
            self.cookies.give_back();
        }
        self.write_out_of_state(context.executor)
    }

    fn brings_cookies(&self, id: ListenerId, executor: &Executor) -> bool {
        let answers = ListenerEntry::ACCEPT | ListenerEntry::KERNEL_COOKIES;
        let armed = executor.listeners.get(id).is_some_and(|one| one.mitigations & answers != 0);
        armed || self.accepting.contains_key(&id)
    }

    /// Stops accepting cookies that can no longer be in flight, and accepts those that may be where an interface has
    /// returned. Returns the listeners with cookies that would no longer be accepted.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn tend(
        &mut self,
        now: Timestamp,
        context: &mut MitigationContext<'_>,
    ) -> Result<Vec<ListenerId>, KernelError> {
        self.cookies.forget_syn_acks_read();
        let over: Vec<ListenerId> = self
            .accepting
            .iter()
            .filter(|(id, until)| now >= **until || context.executor.listeners.get(**id).is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.accepting.remove(&id);
            let bits = context.executor.listeners.get(id).map_or(0, |one| one.mitigations);
            if bits & ListenerEntry::OWN_COOKIES != 0 {
                continue;
            }
            let stays = bits & COOKIES != 0 || self.out_of_state.contains(&id);
            let out_of_state = if stays { 0 } else { ListenerEntry::OUT_OF_STATE };
            context.executor.change_mitigations(id, 0, ListenerEntry::ACCEPT | out_of_state)?;
            self.write_out_of_state(context.executor)?;
        }
        if !is_helped(context.executor) {
            self.cookies.give_back();
        }
        let accepts =
            |monitored: &MonitoredListener| monitored.mitigations & ListenerEntry::ACCEPT != 0;
        let accepts = context.executor.listeners.iter().any(accepts);
        context.executor.mark_segments(accepts)?;
        if accepts {
            self.cookies.hang(context.pins, context.interfaces)?;
        } else {
            self.cookies.detach(|_| true);
        }
        if self.cookies.is_kept() {
            return Ok(Vec::new());
        }
        let helped = |monitored: &&MonitoredListener| {
            monitored.mitigations & ListenerEntry::KERNEL_COOKIES != 0
        };
        Ok(context.executor.listeners.iter().filter(helped).map(|monitored| monitored.id).collect())
    }

    /// Returns the listeners at which cookies are sent, but no SYN has got one for a while, and the obstacle, given the
    /// readings of this poll.
    ///
    /// # Errors
    /// When the counters of the host cannot be read.
    pub fn without_answers(
        &mut self,
        now: Timestamp,
        executor: &Executor,
        listeners: &[ListenerSample],
    ) -> Result<Vec<(ListenerId, Obstacle)>, KernelError> {
        let is_armed = |id| executor.listeners.get(id).is_some_and(is_armed);
        self.answers.retain(is_armed);
        if !answers(executor) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let reasons = executor.dataplane.host_counters()?.unanswered;
        for &ListenerSample { id, ref counters, .. } in
            listeners.iter().filter(|one| is_armed(one.id))
        {
            let obstacle = self.answers.note(now, id, counters, reasons);
            found.extend(obstacle.map(|obstacle| (id, obstacle)));
        }
        Ok(found)
    }

    /// The obstacle to cookies at a listener, as far as it is known before they are needed. `None` too where only a
    /// client's connection can tell.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn foresee(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        context: &mut MitigationContext<'_>,
    ) -> Result<Option<Obstacle>, Refusal> {
        let Some(monitored) = context.executor.listeners.get(id) else { return Ok(None) };
        let is_local = monitored.kind == ListenerKind::Local;
        let admission = match self.admitted(now, id, context) {
            Err(Refusal::Obstacle(obstacle)) if is_local => return Ok(Some(obstacle)),
            Err(Refusal::Obstacle(_)) => Admission { backend: CookieBackend::Own, mss_limit: None },
            admitted => admitted?,
        };
        let MitigationContext { executor, interfaces, .. } = context;
        let Some(monitored) = executor.listeners.get(id) else { return Ok(None) };
        let redirect = self.firewall.redirect(now, monitored, interfaces);
        let (cookies, backend) = (&mut self.cookies, admission.backend);
        let redirect = redirect.as_ref();
        let candidate = Candidate { monitored, backend, executor, interfaces, redirect };
        let found = cookies.foresee(now, &candidate)?;
        let found = found.filter(|obstacle| !obstacle.is_passing());
        let nat = self.firewall.nat(monitored.listener.addr);
        let in_place = || cookies.in_place_of_own(nat, monitored.own.mptcp).filter(|_| is_local);
        Ok(found.or_else(in_place))
    }

    /// Writes to the programs' configuration whether any listener's out-of-state segments are checked.
    fn write_out_of_state(&self, executor: &mut Executor) -> Result<(), KernelError> {
        let filters = |monitored: &MonitoredListener| {
            monitored.mitigations & ListenerEntry::OUT_OF_STATE != 0
        };
        let out_of_state = u8::from(executor.listeners.iter().any(filters));
        if executor.config.out_of_state != out_of_state {
            executor.config.out_of_state = out_of_state;
            executor.dataplane.set_config(&executor.config)?;
        }
        Ok(())
    }
}

/// Writes to the programs' configuration which options the kernel's cookies can hold: at any other value of the sysctl
/// the kernel would decode the options wrong.
fn write_kernel_timestamps(executor: &mut Executor) -> Result<(), Refusal> {
    let timestamps = Sysctls::default().cookies()?.timestamps;
    executor.config.kernel_timestamps = u8::from(timestamps == Some(2));
    Ok(executor.dataplane.set_config(&executor.config)?)
}

/// Returns whether any listener's SYNs are answered.
fn answers(executor: &Executor) -> bool {
    executor.listeners.iter().any(is_armed)
}

/// Returns whether any listener's SYNs are answered with cookies of the kernel's making.
fn is_helped(executor: &Executor) -> bool {
    executor.listeners.iter().any(|one| one.mitigations & ListenerEntry::KERNEL_COOKIES != 0)
}

/// The kernel's bits for cookies of a backend.
const fn bits_of_backend(backend: CookieBackend) -> u8 {
    match backend {
        CookieBackend::KernelHelper => ListenerEntry::KERNEL_COOKIES | ListenerEntry::OUT_OF_STATE,
        _ => ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT | ListenerEntry::OUT_OF_STATE,
    }
}

/// The kernel's bits for a mitigation; those of cookies depend on their backend.
const fn bits_of(mitigation: Mitigation) -> u8 {
    match mitigation {
        Mitigation::OutOfState => ListenerEntry::OUT_OF_STATE,
        Mitigation::Budget => ListenerEntry::BUDGET,
        Mitigation::Cookies | Mitigation::Source | Mitigation::Signature => 0,
    }
}

/// The active mitigations according to the kernel's bits.
fn mitigations_of(bits: u8) -> impl Iterator<Item = Mitigation> {
    let taken = [
        (Mitigation::OutOfState, ListenerEntry::OUT_OF_STATE),
        (Mitigation::Cookies, COOKIES),
        (Mitigation::Budget, ListenerEntry::BUDGET),
    ];
    taken.into_iter().filter(move |(_, bit)| bits & bit != 0).map(|(mitigation, _)| mitigation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_mitigation_are_that_mitigation() {
        for mitigation in [Mitigation::OutOfState, Mitigation::Budget] {
            assert_eq!(mitigations_of(bits_of(mitigation)).collect::<Vec<_>>(), [mitigation]);
        }
        for bit in [ListenerEntry::OWN_COOKIES, ListenerEntry::KERNEL_COOKIES] {
            assert_eq!(mitigations_of(bit).collect::<Vec<_>>(), [Mitigation::Cookies]);
        }
        assert_eq!(mitigations_of(ListenerEntry::ACCEPT).count(), 0, "only what is out is taken");
    }

    #[test]
    fn cookies_are_taken_as_long_as_any_may_be_good() {
        assert!(ACCEPT > Duration::from_secs(69) && ACCEPT < Duration::from_secs(72), "{ACCEPT:?}");
    }
}
