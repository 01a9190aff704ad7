//! The backend that makes cookies on this host, and whether a listener may be armed with them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use tcpguard_common::abi::{ListenerKey, NextHop, SynAckRecord};
use tcpguard_engine::{ListenerId, ListenerKind, Timestamp};
use tcpguard_host::firewall::Nat;
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{CookieSettings, Interface, Sysctls, Xdp, device, interfaces};

use super::Refusal;
use super::obstacles::{Obstacle, Situation, Way, obstacles, without_switched_off};
use super::syn_ack_records::{Read, SynAckEntry, SynAckRecords};
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
/// SYN-ACK formats that are remembered as tried.
const TRIED_SYN_ACKS: usize = 64;

/// The program that checks returned cookies on one interface.
struct Redemption {
    link: HeldLink,
    lead: Lead,
    /// Name of the interface.
    interface: String,
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
                 Test the whole host: tcpguard selftest"
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

    /// The backend that makes cookies for addresses with this NAT.
    ///
    /// # Errors
    /// The obstacle, if none can beside it.
    pub fn backend(&self, nat: Option<&Nat>) -> Result<CookieBackend, Obstacle> {
        beside(self.backend, nat, self.no_helper.as_deref())
    }

    /// Returns whether another backend than the best takes its place for addresses with this NAT.
    pub fn is_replaced(&self, nat: Option<&Nat>) -> bool {
        self.backend == CookieBackend::Own && nat.is_some()
    }

    /// Returns the reason for which no better backend is used for addresses with this NAT.
    pub fn reason(&self, nat: Option<&Nat>) -> Option<String> {
        let nat = nat.filter(|nat| self.is_replaced(Some(nat)));
        nat.map(Nat::why).or_else(|| self.reason.clone())
    }

    /// Tests that a listener may be answered for, by a trial where that is possible.
    pub fn check(
        &mut self,
        now: Timestamp,
        monitored: &MonitoredListener,
        backend: CookieBackend,
        executor: &Executor,
        object: &mut Object,
        interfaces: &[Interface],
    ) -> Result<(), Refusal> {
        if backend == CookieBackend::Kernel {
            let wanted = || "the configuration leaves cookies to the kernel".to_owned();
            return Err(Refusal::NoBackend(self.reason.clone().unwrap_or_else(wanted)));
        }
        let read = || {
            let (settings, dataplane) = (Sysctls::default().cookies()?, &executor.dataplane);
            let hops = dataplane.next_hops()?.into_iter().flat_map(|(_, hops)| hops.hops);
            let hops = hops.filter(|hop| hop.ifindex != 0).collect();
            Ok::<_, Refusal>(Read { settings, hops, records: dataplane.syn_acks()? })
        };
        self.syn_ack_records.update(now, read, |key| whose(executor, key))?;
        let settings = self.syn_ack_records.settings;
        let records: Vec<SynAckEntry> = self.syn_ack_records.of(monitored.id).to_vec();
        if records.is_empty() {
            return Err(first(monitored, interfaces, &settings));
        }
        // The format that the SYN-ACKs of all addresses have in common belongs to no address that could
        // be tested.
        let (common, records): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(key, _)| *key == key.of_all());
        let own: Vec<_> = records.iter().filter(|(_, record)| record.is_own()).collect();
        if own.is_empty() {
            return Err(foreign(&records, interfaces, &interfaces::list().unwrap_or_default()));
        }
        for syn_ack in &common {
            keep_promises(syn_ack, &settings, executor)?;
        }
        let mut refusal = None;
        let mut ready = 0;
        for syn_ack in own.into_iter().take(TRIED) {
            let record = keep_promises(syn_ack, &settings, executor)?;
            let hops = &self.syn_ack_records.hops;
            let found = situation(monitored, Some(&record), hops, interfaces, &settings);
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
                    Err(Refusal::Behind { interface: interface.to_owned(), program })
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

/// The backend that takes the place of the best one beside this NAT, unless there is a reason against the helper.
fn beside(
    best: CookieBackend,
    nat: Option<&Nat>,
    no_helper: Option<&str>,
) -> Result<CookieBackend, Obstacle> {
    match (best, nat, no_helper) {
        (CookieBackend::Own, Some(_), None) => Ok(CookieBackend::KernelHelper),
        (CookieBackend::Own, Some(nat), Some(why)) => {
            Err(Obstacle::Nat { nat: nat.clone(), no_helper: why.to_owned() })
        }
        (best, ..) => Ok(best),
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

/// The obstacle to cookies for a listener that has sent no SYN-ACK.
fn first(
    monitored: &MonitoredListener,
    interfaces: &[Interface],
    settings: &CookieSettings,
) -> Refusal {
    let found = situation(monitored, None, &[], interfaces, settings);
    Refusal::Obstacle(found.into_iter().next().unwrap_or(Obstacle::NeverAnswered))
}

/// The refusal where all SYN-ACKs are foreign: those of sockets in a VRF, or of services that are not of this host. They
/// left by some of the `attached` interfaces; `all` are those that exist.
fn foreign(records: &[SynAckEntry], attached: &[Interface], all: &[Interface]) -> Refusal {
    let left_by = |one: &&Interface| records.iter().any(|(_, it)| it.leaves_by(one.index, 0));
    match attached.iter().filter(left_by).find(|one| one.is_in_vrf(all)) {
        Some(port) => Refusal::Vrf { interface: port.name.clone() },
        None => Refusal::Shared,
    }
}

/// The obstacles to cookies for a listener with this SYN-ACK, given the next hops of all SYN-ACKs.
fn situation(
    monitored: &MonitoredListener,
    record: Option<&SynAckRecord>,
    hops: &[NextHop],
    interfaces: &[Interface],
    settings: &CookieSettings,
) -> Vec<Obstacle> {
    let is_of = |hop: &&NextHop| record.is_some_and(|it| it.leaves_by(hop.ifindex, hop.vlan));
    let left: BTreeSet<(u32, u32)> =
        hops.iter().filter(is_of).map(|hop| (hop.ifindex, hop.vlan)).collect();
    let way = |&(ifindex, vlan): &(u32, u32)| {
        let interface = interfaces.iter().find(|one| one.index == ifindex)?;
        // Missing information from the driver is no obstacle.
        Some(Way {
            name: &interface.name,
            vlan,
            native: interface.xdp == Xdp::Native,
            transmits: device::transmits_natively(interface.index).unwrap_or(None),
            received: device::is_received(interface),
            strips_vlan: device::strips_vlan_tags(&interface.name).unwrap_or(None),
        })
    };
    let ways: Vec<Way<'_>> = left.iter().filter_map(way).collect();
    let elsewhere = left.first().filter(|_| ways.is_empty()).map(|(ifindex, _)| *ifindex);
    let local = monitored.kind == ListenerKind::Local;
    obstacles(&Situation {
        kind: monitored.kind,
        mptcp: local && monitored.own.mptcp,
        record,
        ways: &ways,
        elsewhere,
        settings,
    })
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
    use crate::daemon::interfaces::interface;
    use tcpguard_host::firewall::nat;
    use tcpguard_host::firewall::recorded::{FIREWALLD, recorded};

    #[test]
    fn syn_acks_of_a_vrf_are_distinguished_from_those_of_other_hosts() {
        let all = [
            interface(2, None, Some(4)),
            interface(3, None, None),
            interface(4, Some("vrf"), None),
        ];
        let refusal = |ifindex| {
            let interfaces = SynAckRecord::interface(ifindex, 0);
            let record = SynAckRecord { interfaces, ..SynAckRecord::default() };
            foreign(&[(ListenerKey::default(), record)], &all[..2], &all)
        };
        assert!(matches!(refusal(2), Refusal::Vrf { interface } if interface == "eth2"));
        assert!(matches!(refusal(3), Refusal::Shared));
    }

    #[test]
    fn beside_nat_own_cookies_are_replaced_or_refused_and_others_stay() {
        use CookieBackend::{Kernel, KernelHelper, Own};
        let nat = nat(&recorded(FIREWALLD), true, true).expect("NAT");
        for (best, nat, no_helper, expected) in [
            (Own, None, None, Some(Own)),
            (Own, None, Some("old"), Some(Own)),
            (Own, Some(&nat), None, Some(KernelHelper)),
            (Own, Some(&nat), Some("old"), None),
            (KernelHelper, Some(&nat), Some("old"), Some(KernelHelper)),
            (Kernel, Some(&nat), None, Some(Kernel)),
        ] {
            assert_eq!(beside(best, nat, no_helper).ok(), expected, "{best:?} {no_helper:?}");
        }
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
