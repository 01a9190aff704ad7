//! The backend that makes cookies on this host, and whether a listener may be armed with them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use tcpguard_common::abi::{ListenerKey, NextHop, SynAckRecord};
use tcpguard_engine::{ListenerId, ListenerKind, Timestamp};
use tcpguard_host::firewall::{Nat, Offence};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{CookieSettings, Interface, Sysctls, Xdp, interfaces as links};
use tcpguard_host::obstacle::Obstacle;

use super::Refusal;
use super::obstacles::{Situation, Way, obstacles, without_switched_off};
use super::syn_ack_records::{Device, Read, SynAckEntry, SynAckRecords};
use super::syncookies::{Returned, SYSCTL, SyncookiesLease};
use crate::bpf::{HeldLink, KernelError, Lead, Object, Pins, ProgramCost, Redeemer, self_test};
use crate::config::CookieChoice;
use crate::daemon::executor::Executor;
use crate::daemon::interfaces::in_words;
use crate::daemon::listeners::MonitoredListener;
use crate::documents::Drift;
use crate::documents::selftest::{CookieBackend, Hook, Host, SelfTest};
use crate::selftest;

/// SYN-ACK formats of one listener, which may reply from many addresses, that are tried before it is armed.
const TRIED: usize = 4;
/// Completed handshakes from which on the lack of a SYN-ACK is a contradiction.
const COMPLETES: u64 = 8;
/// SYN-ACK formats that are remembered as tried.
const TRIED_SYN_ACKS: usize = 64;

/// The program that checks returned cookies on one interface.
struct Redemption {
    link: HeldLink,
    lead: Lead,
    /// Name of the interface.
    interface: String,
}

/// A listener that may get cookies.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    pub monitored: &'a MonitoredListener,
    pub backend: CookieBackend,
    pub executor: &'a Executor,
    /// The attached interfaces.
    pub interfaces: &'a [Interface],
    /// A rule that translates the port that clients use to or from that of the listener, on this host.
    pub redirect: Option<&'a Offence>,
}

/// The programs that make cookies and check returned ones.
pub struct Cookies {
    backend: CookieBackend,
    /// Reason for which no better backend is used.
    reason: Option<String>,
    /// Reason for which the kernel's helper cannot make cookies in place of [`CookieBackend::Own`].
    no_helper: Option<String>,
    redeemer: Option<Redeemer>,
    redemptions: BTreeMap<u32, Redemption>,
    /// Changes that other processes made to these programs on interfaces, and that were repaired.
    repaired: Vec<Drift>,
    lease: SyncookiesLease,
    /// True if it has been said that it cannot be given back.
    reported: bool,
    /// The SYN-ACKs of listeners in this poll.
    syn_ack_records: SynAckRecords,
    /// The SYN-ACK formats that passed a test, by whether they are of IPv4. Those of listeners of one
    /// host are mostly alike. A test for each would request more replies for the test's addresses than
    /// the reply limits allow.
    tried: VecDeque<(bool, SynAckRecord)>,
}

impl Cookies {
    /// Determines the backend of cookies, and gives back the sysctl that an earlier agent borrowed for it.
    pub fn load(
        pins: &Pins,
        state_dir: &Path,
        choice: CookieChoice,
        interfaces: &[Interface],
    ) -> anyhow::Result<Self> {
        let mut lease = SyncookiesLease::open(state_dir)?;
        match lease.give_back() {
            Ok(Returned::Nothing) => {}
            Ok(returned) => log::info!("{returned}"),
            Err(error) => log::error!("{SYSCTL} not restored: {}", error.with_hint()),
        }
        let selftest = Host::running().ok().and_then(|host| selftest::load(state_dir, &host));
        if selftest.is_none() {
            log::info!(
                "no self-test of SYN cookies on record: each listener is tested before its first cookie. \
                 Test the whole host: tcpguard doctor --selftest"
            );
        }
        let loaded = Redeemer::load(&pins.maps(), false);
        let missing = loaded.as_ref().err().map(ToString::to_string);
        let own = missing.map_or_else(|| tried(&selftest, CookieBackend::Own, interfaces), Err);
        let helper = tried(&selftest, CookieBackend::KernelHelper, interfaces);
        let no_helper = match choice {
            CookieChoice::Own => Some(format!("{}; \"auto\" allows it", configured("own"))),
            _ => helper.clone().err(),
        };
        let (backend, reason) = choose(choice, own, helper);
        Ok(Self {
            backend,
            reason,
            no_helper,
            redeemer: loaded.ok(),
            redemptions: BTreeMap::new(),
            repaired: Vec::new(),
            lease,
            reported: false,
            syn_ack_records: SynAckRecords::default(),
            tried: VecDeque::new(),
        })
    }

    /// The cost of the program that checks returned cookies, if it is loaded.
    pub fn costs(&self) -> Vec<ProgramCost> {
        self.redeemer.as_ref().map_or_else(Vec::new, Redeemer::costs)
    }

    /// The backend that makes cookies at a listener with this NAT, which may use MPTCP.
    ///
    /// # Errors
    /// The obstacle, if none can beside it.
    pub fn backend(&self, nat: Option<&Nat>, mptcp: bool) -> Result<CookieBackend, Obstacle> {
        beside(self.backend, self.in_place_of_own(nat, mptcp))
    }

    /// The obstacle to own cookies at a listener with this NAT, which may use MPTCP. None where they are not the best
    /// backend anyway.
    pub fn in_place_of_own(&self, nat: Option<&Nat>, mptcp: bool) -> Option<Obstacle> {
        in_place_of_own(self.backend, nat, mptcp, self.no_helper.clone())
    }

    /// Returns the reason for which no better backend is used.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Tests that a listener may be answered for, by a trial where that is possible.
    pub fn check(
        &mut self,
        now: Timestamp,
        candidate: &Candidate<'_>,
        object: &mut Object,
    ) -> Result<(), Refusal> {
        let mut own = self.records_of_own(now, candidate)?;
        let Candidate { monitored, backend, executor, .. } = *candidate;
        executor.count_replies_anew(&mut own)?;
        let settings = self.syn_ack_records.settings;
        let mut refusal = None;
        let mut ready = 0;
        for syn_ack in own.into_iter().take(TRIED) {
            let record = keep_promises(&syn_ack, &settings, executor)?;
            let found = self.situation(monitored, Some(&record), None);
            let outcome = match found.into_iter().next() {
                Some(obstacle) => Err(Refusal::Obstacle(obstacle)),
                None if backend != CookieBackend::Own => Ok(()),
                None => self.try_syn_ack(now, &syn_ack.0, &record, executor, object),
            };
            match outcome {
                Ok(()) => ready += 1,
                Err(error) => refusal = Some(error),
            }
        }
        match refusal {
            Some(refusal) if ready == 0 => Err(refusal),
            _ => Ok(()),
        }
    }

    /// The obstacle to cookies of this backend at a listener, as far as it is known without a trial.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn foresee(
        &mut self,
        now: Timestamp,
        candidate: &Candidate<'_>,
    ) -> Result<Option<Obstacle>, Refusal> {
        let own = self.records_of_own(now, candidate);
        let own = match own {
            Ok(own) => own,
            Err(Refusal::Obstacle(obstacle)) => return Ok(Some(obstacle)),
            Err(refusal) => return Err(refusal),
        };
        let mut found = own.iter().take(TRIED).map(|(_, record)| {
            let kept = without_switched_off(record, &self.syn_ack_records.settings);
            self.situation(candidate.monitored, Some(&kept), None).into_iter().next()
        });
        let first = found.next().flatten();
        Ok(first.filter(|_| found.all(|other| other.is_some())))
    }

    /// The SYN-ACKs that the host's own sockets sent for a listener.
    fn records_of_own(
        &mut self,
        now: Timestamp,
        candidate: &Candidate<'_>,
    ) -> Result<Vec<SynAckEntry>, Refusal> {
        let Candidate { monitored, backend, executor, interfaces, redirect } = *candidate;
        let is_local = monitored.kind == ListenerKind::Local;
        let read = || {
            let (settings, dataplane) = (Sysctls::default().cookies()?, &executor.dataplane);
            let hops = dataplane.next_hops()?.into_iter().flat_map(|(_, hops)| hops.hops);
            let hops = hops.filter(|hop| hop.ifindex != 0).collect();
            let all = links::list().unwrap_or_default();
            let devices = interfaces.iter().map(|one| Device::of(one, &all)).collect();
            Ok::<_, Refusal>(Read { settings, hops, records: dataplane.syn_acks()?, devices })
        };
        self.syn_ack_records.update(now, read, |key| whose(executor, key))?;
        let settings = self.syn_ack_records.settings;
        if backend == CookieBackend::Kernel && is_local {
            return Err(Refusal::Obstacle(self.no_backend()));
        }
        let records: Vec<SynAckEntry> = self.syn_ack_records.of(monitored.id).to_vec();
        if records.is_empty() || !is_local {
            let found = self.situation(monitored, None, Some((executor, redirect)));
            let first = found.into_iter().next().unwrap_or(Obstacle::NeverAnswered);
            return Err(Refusal::Obstacle(first));
        }
        // The format that the SYN-ACKs of all addresses have in common belongs to no address that could
        // be tested.
        let (common, records): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(key, _)| *key == key.of_all());
        let is_own = |(_, record): &SynAckEntry| record.is_own();
        if !records.iter().any(is_own) {
            return Err(Refusal::Obstacle(Obstacle::Shared));
        }
        for syn_ack in &common {
            keep_promises(syn_ack, &settings, executor)?;
        }
        Ok(records.into_iter().filter(is_own).collect())
    }

    /// The obstacle where only the kernel itself makes cookies.
    fn no_backend(&self) -> Obstacle {
        match self.syn_ack_records.settings.syncookies {
            Some(0) => Obstacle::NoCookies { switched_off: true },
            None => Obstacle::NoCookies { switched_off: false },
            Some(_) => {
                let wanted = || "the configuration leaves cookies to the kernel".to_owned();
                Obstacle::NoBackend(self.reason.clone().unwrap_or_else(wanted))
            }
        }
    }

    /// The obstacles to cookies for a listener with SYN-ACKs of this format. For one without, `unseen` holds the means to
    /// tell why, and a rule that translates to or from its port.
    fn situation(
        &self,
        monitored: &MonitoredListener,
        record: Option<&SynAckRecord>,
        unseen: Option<(&Executor, Option<&Offence>)>,
    ) -> Vec<Obstacle> {
        let SynAckRecords { hops, devices, .. } = &self.syn_ack_records;
        let (ways, elsewhere) = ways(record, hops, devices);
        obstacles(&Situation {
            kind: monitored.kind,
            port: monitored.listener.port,
            record,
            completes: unseen.is_some_and(|(executor, _)| completes(monitored, executor)),
            redirect: unseen.and_then(|(_, redirect)| redirect),
            ways: &ways,
            elsewhere,
            settings: &self.syn_ack_records.settings,
            lent: self.lease.is_borrowed(),
        })
    }

    /// Drops the SYN-ACKs of a poll that is over.
    pub fn forget_syn_acks_read(&mut self) {
        self.syn_ack_records = SynAckRecords::default();
    }

    /// A test run with this SYN-ACK format, unless it has passed before.
    fn try_syn_ack(
        &mut self,
        now: Timestamp,
        key: &ListenerKey,
        record: &SynAckRecord,
        executor: &Executor,
        object: &mut Object,
    ) -> Result<(), Refusal> {
        let Some(redeemer) = self.redeemer.as_mut() else { return Ok(()) };
        let syn_ack = (key.addr.as_v4().is_some(), record.looks());
        if !self.tried.contains(&syn_ack) {
            self_test(object, redeemer, &executor.dataplane, key, now.as_nanos())?;
            self.tried.truncate(TRIED_SYN_ACKS - 1);
            self.tried.push_front(syn_ack);
        }
        Ok(())
    }

    /// Sees to it that cookies are taken back, before the first is made.
    pub fn accept(
        &mut self,
        backend: CookieBackend,
        pins: &Pins,
        interfaces: &[Interface],
    ) -> Result<(), Refusal> {
        match backend {
            CookieBackend::Own => {
                self.hang(pins, interfaces)?;
                self.behind().map_or(Ok(()), |(interface, program)| {
                    let interface = interface.to_owned();
                    Err(Refusal::Obstacle(Obstacle::Behind { interface, program }))
                })
            }
            CookieBackend::KernelHelper => Ok(self.lease.borrow()?),
            CookieBackend::Kernel => Ok(()),
        }
    }

    /// Hangs the program that takes cookies back on every interface on which it does not hang, before
    /// all others there.
    pub fn hang(&mut self, pins: &Pins, interfaces: &[Interface]) -> Result<(), KernelError> {
        let Some(redeemer) = &mut self.redeemer else { return Ok(()) };
        for interface in interfaces {
            let index = interface.index;
            let hangs = |one: &Redemption| one.link.is_on(index) && one.link.keep_pinned().is_ok();
            let lost = self.redemptions.get(&index).is_some_and(|one| !hangs(one));
            if lost {
                self.redemptions.remove(&index);
            }
            let redemption = match self.redemptions.entry(index) {
                Entry::Occupied(place) => place.into_mut(),
                Entry::Vacant(place) => place.insert(Redemption {
                    link: redeemer.attach(pins, interface)?,
                    lead: Lead::default(),
                    interface: interface.name.clone(),
                }),
            };
            if lost {
                self.repaired.push(Drift::CookieProgram { interface: interface.name.clone() });
            }
            let Redemption { link, lead, .. } = redemption;
            let passed = redeemer.keep_first(link, lead, index)?;
            if !passed.is_empty() {
                let interface = interface.name.clone();
                self.repaired.push(Drift::CookieOrder { interface, behind: in_words(&passed) });
            }
        }
        self.detach(|ifindex| !interfaces.iter().any(|one| one.index == ifindex));
        Ok(())
    }

    /// The interface on which another program runs before the one that checks returned cookies and could
    /// not be passed, and the name of that program.
    pub fn behind(&self) -> Option<(&str, String)> {
        let mut all = self.redemptions.values();
        all.find_map(|one| Some((one.interface.as_str(), one.lead.ahead().first()?.to_string())))
    }

    /// Takes the changes that other processes made to these programs, and that were repaired.
    pub fn take_repaired(&mut self) -> Vec<Drift> {
        std::mem::take(&mut self.repaired)
    }

    /// Takes that program off the interfaces that `which` names.
    pub fn detach(&mut self, which: impl Fn(u32) -> bool) {
        let gone: Vec<u32> = self.redemptions.keys().copied().filter(|one| which(*one)).collect();
        for ifindex in gone {
            let Some(redemption) = self.redemptions.remove(&ifindex) else { continue };
            if let Err(error) = redemption.link.remove() {
                log::debug!("SYN cookie validation already detached: {error}");
            }
        }
    }

    /// Gives the borrowed sysctl back, once no listener's cookies need it. If that fails, each call tries again.
    pub fn give_back(&mut self) {
        if !self.lease.is_held() {
            return;
        }
        match self.lease.give_back() {
            Ok(Returned::Nothing) => {}
            Ok(returned) => log::info!("{returned}"),
            Err(error) if self.reported => log::debug!("{error}"),
            Err(error) => log::error!("{SYSCTL} not restored, retried: {}", error.with_hint()),
        }
        self.reported = self.lease.is_held();
    }

    /// Returns whether the borrowed sysctl still has its value; `false`: an administrator has changed it.
    pub fn is_kept(&mut self) -> bool {
        self.lease.check().unwrap_or_else(|error| {
            log::warn!("{SYSCTL} not checked: {}", error.with_hint());
            true
        })
    }
}

/// The self-test's result on this host for a backend at the hooks in use. Without a self-test the backend
/// may be tried: each listener has its own test.
fn tried(
    selftest: &Option<SelfTest>,
    backend: CookieBackend,
    interfaces: &[Interface],
) -> Result<(), String> {
    let Some(selftest) = selftest else { return Ok(()) };
    let hook = |interface: &Interface| match interface.xdp {
        Xdp::Generic => Hook::Generic,
        Xdp::None | Xdp::Native => Hook::Native,
    };
    let mut verdicts =
        interfaces.iter().map(|interface| selftest.verdict(backend, hook(interface)));
    verdicts.try_for_each(|verdict| verdict.map_err(str::to_owned))
}

/// The obstacle to own cookies, where they are the `best`; `no_helper` is the reason for which the kernel's helper cannot
/// make them either.
fn in_place_of_own(
    best: CookieBackend,
    nat: Option<&Nat>,
    mptcp: bool,
    no_helper: Option<String>,
) -> Option<Obstacle> {
    match (best, nat) {
        (CookieBackend::Own, Some(nat)) => Some(Obstacle::Nat { nat: nat.clone(), no_helper }),
        (CookieBackend::Own, None) if mptcp => Some(Obstacle::Mptcp { no_helper }),
        _ => None,
    }
}

/// The backend beside this obstacle to own cookies.
fn beside(best: CookieBackend, obstacle: Option<Obstacle>) -> Result<CookieBackend, Obstacle> {
    match obstacle {
        None => Ok(best),
        Some(obstacle) if obstacle.forbids() => Err(obstacle),
        Some(_) => Ok(CookieBackend::KernelHelper),
    }
}

/// The reason where the configuration names this backend.
fn configured(backend: &str) -> String {
    format!("cookies.backend = \"{backend}\" in the configuration")
}

/// Returns the best backend that works, and the reason for which no better one is used.
fn choose(
    choice: CookieChoice,
    own: Result<(), String>,
    helper: Result<(), String>,
) -> (CookieBackend, Option<String>) {
    match choice {
        CookieChoice::Kernel => (CookieBackend::Kernel, Some(configured("kernel"))),
        CookieChoice::KernelHelper => match helper {
            Ok(()) => (CookieBackend::KernelHelper, Some(configured("kernel_helper"))),
            Err(why) => (CookieBackend::Kernel, Some(why)),
        },
        CookieChoice::Own => match own {
            Ok(()) => (CookieBackend::Own, None),
            Err(why) => (CookieBackend::Kernel, Some(why)),
        },
        CookieChoice::Auto => match (own, helper) {
            (Ok(()), _) => (CookieBackend::Own, None),
            (Err(why), Ok(())) => (CookieBackend::KernelHelper, Some(why)),
            (Err(why), Err(also)) if why == also => (CookieBackend::Kernel, Some(why)),
            (Err(why), Err(also)) => (CookieBackend::Kernel, Some(format!("{why}; {also}"))),
        },
    }
}

/// The interfaces by which SYN-ACKs of this format leave, of those that are attached, and one that is not, if they
/// leave by no other. Without a format, all that are attached.
fn ways<'a>(
    record: Option<&SynAckRecord>,
    hops: &[NextHop],
    attached: &'a [Device],
) -> (Vec<Way<'a>>, Option<u32>) {
    let left: BTreeSet<(u32, u32)> = match record {
        Some(record) => {
            let is_of = |hop: &&NextHop| record.leaves_by(hop.ifindex, hop.vlan);
            hops.iter().filter(is_of).map(|hop| (hop.ifindex, hop.vlan)).collect()
        }
        None => attached.iter().map(|one| (one.index, 0)).collect(),
    };
    let way = |&(ifindex, vlan): &(u32, u32)| {
        let device = attached.iter().find(|one| one.index == ifindex)?;
        let &Device { ref name, native, transmits, received, strips_vlan, in_vrf, .. } = device;
        Some(Way { name, vlan, native, transmits, received, strips_vlan, in_vrf })
    };
    let ways: Vec<Way<'_>> = left.iter().filter_map(way).collect();
    let elsewhere = left.first().filter(|_| ways.is_empty()).map(|(ifindex, _)| *ifindex);
    (ways, elsewhere)
}

/// Returns whether clients complete handshakes at a listener, and not by chance one that an earlier program answered.
fn completes(monitored: &MonitoredListener, executor: &Executor) -> bool {
    let counters = executor.dataplane.listener_counters(monitored.slot()).unwrap_or_default();
    counters.established.max(counters.acknowledged) >= COMPLETES
}

/// The listener that a local address and port belong to, found as the programs find it.
fn whose(executor: &Executor, key: &ListenerKey) -> Option<ListenerId> {
    executor.listeners.of(crate::bpf::ip(&key.addr), u16::from_be_bytes(key.port))
}

/// A record without the options that were switched off since: they are no longer promised.
fn keep_promises(
    (key, record): &SynAckEntry,
    settings: &CookieSettings,
    executor: &Executor,
) -> Result<SynAckRecord, KernelError> {
    let kept = without_switched_off(record, settings);
    if kept != *record {
        executor.dataplane.set_syn_ack(key, &kept)?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_host::firewall::nat;
    use tcpguard_host::firewall::recorded::{FIREWALLD, recorded};

    #[test]
    fn own_cookies_are_replaced_or_refused_beside_nat_and_mptcp_and_others_stay() {
        use CookieBackend::{Kernel, KernelHelper, Own};
        let nat = nat(&recorded(FIREWALLD)).expect("NAT");
        for (nat, mptcp) in [(Some(&nat), false), (None, true), (Some(&nat), true)] {
            for (best, no_helper, expected) in [
                (Own, None, Some(KernelHelper)),
                (Own, Some("old"), None),
                (KernelHelper, Some("old"), Some(KernelHelper)),
                (Kernel, Some("old"), Some(Kernel)),
            ] {
                let found = in_place_of_own(best, nat, mptcp, no_helper.map(str::to_owned));
                assert_eq!(beside(best, found).ok(), expected, "{best:?} {no_helper:?}");
            }
        }
        assert_eq!(in_place_of_own(Own, None, false, Some("old".to_owned())), None);
    }

    #[test]
    fn the_best_that_works_is_chosen_and_why_not_a_better_one_is_said() {
        let (works, fails) = (|| Ok(()), |why: &str| Err(why.to_owned()));
        let auto = |own, helper| choose(CookieChoice::Auto, own, helper);
        assert_eq!(auto(works(), works()), (CookieBackend::Own, None));
        assert_eq!(
            auto(fails("old kernel"), works()),
            (CookieBackend::KernelHelper, Some("old kernel".into()))
        );
        let (backend, reason) = auto(fails("old kernel"), fails("no helper"));
        assert_eq!(
            (backend, reason.as_deref()),
            (CookieBackend::Kernel, Some("old kernel; no helper"))
        );
        let (_, reason) = auto(fails("no SYN cookies"), fails("no SYN cookies"));
        assert_eq!(reason.as_deref(), Some("no SYN cookies"));
        let (backend, reason) = choose(CookieChoice::Own, fails("old kernel"), works());
        assert_eq!((backend, reason.as_deref()), (CookieBackend::Kernel, Some("old kernel")));
        assert_eq!(choose(CookieChoice::Kernel, works(), works()).0, CookieBackend::Kernel);
        assert_eq!(
            choose(CookieChoice::KernelHelper, works(), works()).0,
            CookieBackend::KernelHelper
        );
    }
}
