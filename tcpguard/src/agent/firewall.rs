//! The host's packet filter, as far as SYN cookies depend on it: whether it has changed is asked every
//! second, its rules are read only where cookies are made or about to be.

use tcpguard_engine::ListenerKind;

use super::listeners::Followed;
use super::obstacles::Obstacle;
use crate::config::Config;
use crate::firewall::{FirewallChoice, Question, Way, offences};
use crate::host::netfilter::{self, Netfilter, RuleSet};
use crate::host::{Interface, Sysctls, interfaces};

/// Kinds of interfaces that show packets of other ones under their own name.
const STACKED: [&str; 10] =
    ["vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "vrf", "macsec", "hsr"];

/// What is known of it.
#[derive(Debug, Default)]
pub struct Firewall {
    netfilter: Netfilter,
    /// What was seen last, and what it was when the rules were read.
    seen: Option<Seen>,
    read: Option<Seen>,
    rules: RuleSet,
    /// Why it could not be asked, as it was said already.
    told: Option<String>,
}

/// Whatever makes another verdict possible.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Seen {
    generation: Option<u32>,
    strict: bool,
    legacy: Vec<String>,
    choice: FirewallChoice,
    mark: u32,
}

impl Firewall {
    /// Whether something has changed since the last call: a rule, `nf_conntrack_tcp_loose`, or what the
    /// configuration says of it.
    pub fn poll(&mut self, config: &Config) -> bool {
        let asked = self.netfilter.generation().and_then(|generation| {
            let strict = netfilter::is_strict(&Sysctls::default())?;
            Ok((generation, strict))
        });
        let (generation, strict) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                self.tell(error.to_string());
                return false;
            }
        };
        let seen = Seen {
            generation,
            strict,
            legacy: netfilter::legacy(),
            choice: config.cookie_firewall,
            mark: config.cookie_mark,
        };
        let changed = self.seen.as_ref() != Some(&seen);
        self.seen = Some(seen);
        changed
    }

    /// Reads the rules, if they have changed since they were read last; whether they had.
    pub fn refresh(&mut self) -> bool {
        if self.seen == self.read || self.seen.is_none() {
            return false;
        }
        match self.netfilter.read(&Sysctls::default()) {
            Ok(rules) => {
                self.rules = rules;
                self.told = None;
            }
            // What is not known is no obstacle: cookies that do not come back are given up anyway.
            Err(error) => {
                self.rules = RuleSet::default();
                self.tell(error.to_string());
            }
        }
        self.read.clone_from(&self.seen);
        true
    }

    fn tell(&mut self, why: String) {
        if self.told.as_ref() != Some(&why) {
            log::warn!("the packet filter's rules are not known: {why}");
            self.told = Some(why);
        }
    }

    /// What forbids cookies at a listener; `own`: of the guard's making, which can be marked.
    pub fn forbids(
        &self,
        followed: &Followed,
        own: bool,
        guarded: &[Interface],
    ) -> Option<Obstacle> {
        let seen = self.read.as_ref()?;
        if seen.choice == FirewallChoice::Allow || followed.kind != ListenerKind::Local {
            return None;
        }
        let addr = followed.listener.addr;
        let any = addr.is_unspecified();
        let question = Question {
            port: followed.listener.port,
            ipv4: addr.is_ipv4() || any,
            ipv6: addr.is_ipv6(),
            ways: &ways(guarded),
            mark: if own { seen.mark } else { 0 },
        };
        let offence = offences(&self.rules, &question).into_iter().next()?;
        Some(Obstacle::Firewall { offence: Box::new(offence), own, mark: seen.mark })
    }
}

/// The interfaces by which the packet filter sees packets come; none, which stands for any, where others
/// may be above those that are guarded.
fn ways(guarded: &[Interface]) -> Vec<Way> {
    let stacked = |one: &Interface| one.kind.as_deref().is_some_and(|kind| STACKED.contains(&kind));
    match interfaces::list() {
        Ok(all) if !all.iter().any(stacked) => {
            guarded.iter().map(|one| Way { name: one.name.clone(), index: one.index }).collect()
        }
        _ => Vec::new(),
    }
}
