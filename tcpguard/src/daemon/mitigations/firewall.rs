//! The host's packet filter, as far as SYN cookies depend on it: whether it has changed is asked every
//! second, and its rules are read after each change, as often as that may cost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_engine::{Listener, ListenerKind, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::firewall::{
    FirewallChoice, Nat, Offence, Question, Way, judge, nat_of, redirection, unread,
};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::local_routes::all_addresses;
use tcpguard_host::linux::netfilter::legacy::{self, Tables};
use tcpguard_host::linux::netfilter::{self, Family, Netfilter, RuleSet};
use tcpguard_host::linux::{Interface, Sysctls, cpu_time, interfaces};
use tcpguard_host::obstacle::Obstacle;

use crate::config::Config;
use crate::daemon::listeners::MonitoredListener;
use crate::daemon::reading::pace::Pace;

/// Kinds of interfaces that show packets of other ones under their own name.
const STACKED: [&str; 10] =
    ["vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "vrf", "macsec", "hsr"];

/// Pace at which the rules are read while no cookie depends on them.
const SELDOM: Duration = Duration::from_secs(10);

/// State of the packet filter.
#[derive(Debug, Default)]
pub struct Firewall {
    netfilter: Netfilter,
    /// The conditions as they were seen last, and as they were when the rules were read.
    seen: Option<Seen>,
    read: Option<Seen>,
    rules: RuleSet,
    /// NAT of IPv4 and of IPv6.
    nat: [Option<Nat>; 2],
    /// Pace at which the rules are read again, and the time at which they were read last.
    reading: Pace,
    read_at: Option<Timestamp>,
    /// Pace at which the rules of iptables-legacy are compared again, and the time of the last comparison.
    comparing: Pace,
    compared: Option<Timestamp>,
    /// Interfaces and addresses at which packets arrive, and the poll in which they were determined.
    ways: Vec<Way>,
    own: Vec<IpAddr>,
    looked: Option<Timestamp>,
    /// Verdicts of the rules on listeners that are reached there.
    verdicts: BTreeMap<Asked, Verdict>,
    /// Reason for which the rules are not known, as it was logged last.
    reported: Option<String>,
}

/// Conditions on which the verdicts depend.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    generation: Option<u32>,
    strict: bool,
    /// The tables of iptables-legacy, which have no generation, and the digest of their rules.
    legacy: Tables,
    digest: Option<u64>,
    choice: FirewallChoice,
    mark: u32,
}

/// Degree to which cookies depend on the rules at present.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// No dependence: cookies are neither made nor refused.
    None,
    /// Cookies are made or refused.
    Cookies,
    /// Cookies are about to be made.
    Now,
}

/// Inputs of a verdict beside the rules and the interfaces; see [`Question`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Asked {
    addr: IpAddr,
    port: u16,
    mark: u32,
}

/// Verdict of the rules on cookies at a listener.
#[derive(Clone, Debug)]
struct Verdict {
    /// The first rule that forbids them.
    offence: Option<Offence>,
    /// The least MSS to which rules lower that of its clients.
    mss_limit: Option<u16>,
}

impl Firewall {
    /// The packet filter as it is now.
    pub fn of(now: Timestamp, config: &Config) -> Self {
        let mut firewall = Self::default();
        firewall.poll(now, config, Need::Now);
        firewall.refresh(now, Need::Now);
        firewall
    }

    /// Returns whether something has changed since the rules were read: a rule, or an element of a set,
    /// `nf_conntrack_tcp_loose`, or the configuration of the firewall. The rules of iptables-legacy are compared only
    /// where there is a need.
    pub fn poll(&mut self, now: Timestamp, config: &Config, need: Need) -> bool {
        let asked = self.netfilter.generation().and_then(|generation| {
            let strict = netfilter::is_strict(&Sysctls::default())?;
            Ok((generation, strict))
        });
        match asked {
            Ok((generation, strict)) => {
                let legacy = legacy::tables();
                let digest = self.digest(now, &legacy, need);
                if self.seen.as_ref().is_none_or(|seen| seen.legacy.unread != legacy.unread) {
                    self.rules.legacy.clone_from(&legacy.unread);
                }
                self.seen = Some(Seen {
                    generation,
                    strict,
                    legacy,
                    digest,
                    choice: config.cookies.firewall,
                    mark: config.cookies.mark,
                });
            }
            Err(error) => self.report(error.with_hint()),
        }
        self.seen != self.read
    }

    /// The digest of the rules of iptables-legacy. It is computed anew where there is a need, once a poll at
    /// most, and is the last one otherwise.
    fn digest(&mut self, now: Timestamp, tables: &Tables, need: Need) -> Option<u64> {
        let due = match need {
            Need::None => false,
            Need::Cookies => self.comparing.is_due(now),
            Need::Now => self.compared != Some(now),
        };
        if tables.is_empty() || !due {
            let last = self.seen.as_ref().filter(|seen| seen.legacy == *tables);
            return last.and_then(|seen| seen.digest);
        }
        let begun = cpu_time();
        let digest = legacy::digest(tables);
        self.compared = Some(now);
        self.comparing.took(now, cpu_time().saturating_sub(begun));
        Some(digest)
    }

    /// Reads the rules after a change. Returns whether they differ now: many changes are of addresses in sets, which
    /// are not read. A process that can cause changes may do so as often as it likes. So unless the rules are needed
    /// now, they are read no more often than that may cost, and seldom where no cookie depends on them.
    pub fn refresh(&mut self, now: Timestamp, need: Need) -> bool {
        let due = match need {
            Need::Now => true,
            Need::Cookies => self.reading.is_due(now),
            Need::None => self.read_at.is_none_or(|read| now.since(read) >= SELDOM),
        };
        if !due || self.seen == self.read {
            return false;
        }
        let begun = cpu_time();
        let rules = match self.netfilter.read(&Sysctls::default()) {
            Ok(rules) => {
                self.reported = None;
                rules
            }
            // Unknown rules are no obstacle: the agent stops cookies anyway where they are not redeemed.
            Err(error) => {
                self.report(error.with_hint());
                RuleSet::default()
            }
        };
        let differs = self.take(rules);
        self.read_at = Some(now);
        self.reading.took(now, cpu_time().saturating_sub(begun));
        differs
    }

    /// Uses these rules from now on. Returns whether they, or their configuration, differ from before.
    fn take(&mut self, rules: RuleSet) -> bool {
        let configured = |seen: &Seen| (seen.choice, seen.mark);
        let differs = self.rules != rules
            || self.read.as_ref().map(configured) != self.seen.as_ref().map(configured);
        self.read.clone_from(&self.seen);
        if differs {
            self.nat = [Family::IPV4, Family::IPV6].map(|family| nat_of(&rules, family));
            self.rules = rules;
            self.verdicts.clear();
        }
        differs
    }

    fn report(&mut self, why: String) {
        if self.reported.as_ref() != Some(&why) {
            log::warn!("packet filter rules unreadable: {why}");
            self.reported = Some(why);
        }
    }

    /// The part of the rules that cannot be read, where cookies depend on them.
    pub fn health(&self) -> Option<Finding> {
        let refuses = |seen: &Seen| seen.choice == FirewallChoice::Refuse;
        let what = unread(&self.rules).filter(|_| self.seen.as_ref().is_some_and(refuses))?;
        let text =
            format!("{what}: SYN cookies may bypass rules that deny SYNs, or lock clients out");
        let hint = "systemctl restart tcpguard; if the finding stays: sudo tcpguard doctor";
        Some(Finding::warning("firewall_unread", text).hint(hint))
    }

    /// The NAT that packets for this address pass, as far as the rules are known.
    pub fn nat(&self, addr: IpAddr) -> Option<&Nat> {
        let [ipv4, ipv6] = families(addr);
        let [nat4, nat6] = &self.nat;
        nat4.as_ref().filter(|_| ipv4).or(nat6.as_ref().filter(|_| ipv6))
    }

    /// Returns the NAT of a family.
    pub fn nat_of(&self, family: tcpguard_engine::Family) -> Option<&Nat> {
        self.nat[family as usize].as_ref()
    }

    /// Returns the MSS to which the rules lower that of a listener's clients, in the poll of `now`. `own`: its cookies
    /// are made by the XDP program, which can mark them.
    ///
    /// # Errors
    /// The obstacle that forbids cookies there.
    pub fn admits(
        &mut self,
        now: Timestamp,
        monitored: &MonitoredListener,
        own: bool,
        attached: &[Interface],
    ) -> Result<Option<u16>, Obstacle> {
        let Some(Seen { choice, mark, .. }) = self.read else { return Ok(None) };
        if monitored.kind != ListenerKind::Local {
            return Ok(None);
        }
        self.look(now, attached);
        let verdict = self.verdict(Asked {
            addr: monitored.listener.addr,
            port: monitored.listener.port,
            mark: if own { mark } else { 0 },
        });
        match verdict.offence.filter(|_| choice == FirewallChoice::Refuse) {
            Some(offence) => Err(Obstacle::Firewall { offence: Box::new(offence), own, mark }),
            None => Ok(verdict.mss_limit),
        }
    }

    /// The rule that translates the port of a listener to another one of this host, or that of clients to it.
    pub fn redirect(
        &mut self,
        now: Timestamp,
        monitored: &MonitoredListener,
        attached: &[Interface],
    ) -> Option<Offence> {
        self.read.as_ref()?;
        self.look(now, attached);
        let Listener { addr, port } = monitored.listener;
        match monitored.kind {
            ListenerKind::Local => redirection(&self.rules, &self.own, port),
            ListenerKind::Forwarded => {
                let offence = self.verdict(Asked { addr, port, mark: 0 }).offence;
                offence.filter(|offence| offence.is_redirect(&self.own))
            }
        }
    }

    /// Determines the interfaces and addresses at which packets come, once in a poll.
    fn look(&mut self, now: Timestamp, attached: &[Interface]) {
        if self.looked != Some(now) {
            self.looked = Some(now);
            self.come_by(ways(attached), all_addresses().unwrap_or_default());
        }
    }

    /// Takes note of the interfaces and addresses at which packets come.
    fn come_by(&mut self, ways: Vec<Way>, own: Vec<IpAddr>) {
        if ways != self.ways || own != self.own {
            (self.ways, self.own) = (ways, own);
            self.verdicts.clear();
        }
    }

    /// Returns the verdict of the rules, found once for all listeners that are alike to them.
    fn verdict(&mut self, asked: Asked) -> Verdict {
        let (rules, ways, own) = (&self.rules, &self.ways, &self.own);
        let verdict = || {
            let Asked { addr, port, mark } = asked;
            let [ipv4, ipv6] = families(addr);
            let to = if addr.is_unspecified() { &own[..] } else { std::slice::from_ref(&addr) };
            let judged = judge(rules, &Question { port, to, ipv4, ipv6, ways, mark });
            Verdict { offence: judged.offences.into_iter().next(), mss_limit: judged.mss_limit }
        };
        self.verdicts.entry(asked).or_insert_with(verdict).clone()
    }
}

/// Returns whether a listener at this address takes IPv4, and whether IPv6.
fn families(addr: IpAddr) -> [bool; 2] {
    [addr.is_ipv4() || addr.is_unspecified(), addr.is_ipv6()]
}

/// The interfaces by which the packet filter sees packets arrive; none, which stands for any, where others may be above
/// the attached ones.
fn ways(attached: &[Interface]) -> Vec<Way> {
    let stacked = |one: &Interface| one.kind.as_deref().is_some_and(|kind| STACKED.contains(&kind));
    match interfaces::list() {
        Ok(all) if !all.iter().any(stacked) => {
            attached.iter().map(|one| Way { name: one.name.clone(), index: one.index }).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_host::firewall::Kind;
    use tcpguard_host::firewall::recorded::{DOCKER, NEW_NOT_SYN, UFW, recorded};
    use tcpguard_host::linux::netfilter::Family;
    use tcpguard_support::hint_check;

    const HTTPS: Asked =
        Asked { addr: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port: 443, mark: 0 };

    fn seen(generation: u32, mark: u32) -> Option<Seen> {
        let (legacy, choice) = (Tables::default(), FirewallChoice::Refuse);
        let generation = Some(generation);
        Some(Seen { generation, strict: false, legacy, digest: None, choice, mark })
    }

    #[test]
    fn only_other_rules_and_another_configuration_are_a_change() {
        let mut firewall = Firewall { seen: seen(1, 0), ..Firewall::default() };
        assert!(firewall.take(recorded(UFW)), "read for the first time");
        firewall.seen = seen(2, 0);
        assert!(!firewall.take(recorded(UFW)), "an address was banned");
        assert_eq!(firewall.read, firewall.seen);
        firewall.seen = seen(3, 0);
        assert!(firewall.take(recorded(NEW_NOT_SYN)));
        firewall.seen = seen(3, 0x100);
        assert!(firewall.take(recorded(NEW_NOT_SYN)), "a mark is set");
    }

    #[test]
    fn rules_that_cannot_be_read_are_noted_unless_cookies_are_allowed_anyway() {
        let mut firewall = Firewall { seen: seen(1, 0), ..Firewall::default() };
        firewall.take(recorded(UFW));
        assert_eq!(firewall.health().map(|note| note.code), None);
        let legacy = vec!["ip filter: Permission denied (os error 13)".to_owned()];
        firewall.take(RuleSet { legacy, ..recorded(UFW) });
        let note = firewall.health().expect("a note");
        assert_eq!(note.code, "firewall_unread");
        assert!(note.text.contains("(ip filter: Permission denied"), "{}", note.text);
        assert!(note.hint.as_deref().is_some_and(hint_check::is_named), "{note:?}");
        firewall.seen = Some(Seen { choice: FirewallChoice::Allow, ..seen(1, 0).expect("seen") });
        assert!(firewall.health().is_none(), "the operator allows cookies regardless of rules");
    }

    #[test]
    fn nat_is_known_for_the_addresses_of_a_listener_and_follows_the_rules() {
        let (v4, v6) = (IpAddr::from([10, 9, 0, 2]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]));
        let any = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        let mut firewall = Firewall { seen: seen(1, 0), ..Firewall::default() };
        let found = |firewall: &Firewall| [v4, v6, any].map(|addr| firewall.nat(addr).is_some());
        firewall.take(recorded(UFW));
        assert_eq!(found(&firewall), [false, false, false]);
        let mut ipv4_only = recorded(DOCKER);
        ipv4_only.chains.retain(|chain| chain.family == Family::IPV4);
        firewall.take(ipv4_only);
        assert_eq!(found(&firewall), [true, false, true]);
        firewall.take(recorded(DOCKER));
        assert_eq!(found(&firewall), [true, true, true]);
        firewall.take(recorded(UFW));
        assert_eq!(found(&firewall), [false, false, false]);
    }

    #[test]
    fn a_verdict_holds_until_the_rules_or_the_interfaces_are_others() {
        let mut firewall = Firewall { seen: seen(1, 0), ..Firewall::default() };
        firewall.take(recorded(NEW_NOT_SYN));
        let kind = |firewall: &mut Firewall| firewall.verdict(HTTPS).offence.map(|one| one.kind);
        assert_eq!(kind(&mut firewall), Some(Kind::NotSyn));
        // Found again without the rules.
        let rules = std::mem::take(&mut firewall.rules);
        firewall.come_by(Vec::new(), Vec::new());
        assert_eq!(kind(&mut firewall), Some(Kind::NotSyn));
        firewall.come_by(vec![Way { name: "eth0".to_owned(), index: 2 }], Vec::new());
        assert_eq!(kind(&mut firewall), None);
        firewall.take(rules);
        assert_eq!(kind(&mut firewall), Some(Kind::NotSyn));
        firewall.take(recorded(UFW));
        assert_eq!(kind(&mut firewall), None);
    }
}
