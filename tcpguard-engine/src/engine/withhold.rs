//! Cookies that do harm to some clients only: to those of a family, or of a server address. The others keep theirs.

use super::Engine;
use crate::evidence::Severity;
use crate::incident::Event;
use crate::input::{Family, ListenerId, Mitigation, Timestamp, Withheld};
use crate::mitigation::{AddressReplies, Harm, MitigationReason};
use crate::output::Command;

impl Engine {
    /// Withholds cookies from those to whom they did harm, and tries them again later.
    pub(super) fn withhold_cookies(&mut self, now: Timestamp) {
        for monitor in self.monitors.values_mut() {
            let withheld: Vec<Withheld> = monitor.ladder.withheld(now).collect();
            let before = std::mem::replace(&mut monitor.withheld, withheld);
            if before == monitor.withheld {
                continue;
            }
            for family in Family::ALL {
                if before.contains(&Withheld::Family(family)) {
                    monitor.judge_anew(now, family);
                }
            }
            let (listener, from) = (monitor.id, monitor.withheld.clone());
            self.commands.push_back(Command::WithholdCookies { listener, from });
        }
    }

    /// Withholds cookies from the clients of those addresses of a listener to which none is returned, while cookies of
    /// its other addresses are.
    pub fn judge_addresses(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        addresses: &[AddressReplies],
    ) {
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        // Connections that the application does not accept are no fault of a mitigation.
        if !monitor.ladder.has(Mitigation::Cookies) || monitor.overloaded() {
            return;
        }
        let mut harmed = monitor.ladder.canary.poll_addresses(now, addresses);
        harmed.retain(|(addr, _)| {
            monitor.ladder.withheld(now).all(|whom| whom != Withheld::Address(*addr))
        });
        let Some(&(_, harm)) = harmed.first() else { return };
        let mut retry_s = None;
        for &(addr, harm) in &harmed {
            let (whom, why) = (Withheld::Address(addr), MitigationReason::Harmful { harm });
            retry_s = retry_s.max(Some(monitor.ladder.withhold_from(now, whom, why).as_secs()));
        }
        let event = Event::MitigationWithdrawn {
            listener: monitor.listener,
            mitigation: Mitigation::Cookies,
            family: None,
            addresses: harmed.into_iter().map(|(addr, _)| addr).collect(),
            harm,
            retry_s,
        };
        self.alert_at(now, id, Severity::Warning, event);
    }

    /// Withholds cookies from the clients of one family, where those of the other connect with them.
    pub(super) fn withhold_from(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        family: Family,
        harm: Harm,
    ) {
        let Some(monitor) = self.monitors.get_mut(&id) else { return };
        let (listener, mitigation) = (monitor.listener, Mitigation::Cookies);
        let why = MitigationReason::Harmful { harm };
        let retry_s =
            Some(monitor.ladder.withhold_from(now, Withheld::Family(family), why).as_secs());
        monitor.judge_anew(now, family);
        let (family, addresses) = (Some(family), Vec::new());
        let event =
            Event::MitigationWithdrawn { listener, mitigation, family, addresses, harm, retry_s };
        self.alert_at(now, id, Severity::Warning, event);
    }
}
