//! Bounds on the rules of a fleet, whatever its process sends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::input::{FleetName, Timestamp, constants};

constants! {
    /// Time between two changes of the fleet's rules in the long run.
    const FLEET_PACE: Duration = 250 Milliseconds in 10..=10_000,
        "A list of 4096 rules arrives within 17 minutes of the start. Each change is one search of \
         the clients.";

    /// Time that changes of the fleet's rules may use up in advance.
    const FLEET_BURST: Duration = 16 Seconds in 1..=600,
        "64 changes at once at FLEET_PACE, more than an operator makes by hand.";

    /// Names of rules that an operator of this host removed, and that are not made again.
    const OVERRULED: usize = 4096 Count in 64..=65_536,
        "As many as there may be rules of the fleet.";
}

/// The pace of changes, and the rules that operators of this host have removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct FleetBounds {
    /// Names of removed rules, each with the time until which it is not made again.
    overruled: BTreeMap<FleetName, Timestamp>,
    /// Time at which the changes so far are paid for.
    paid: Timestamp,
}

impl FleetBounds {
    /// Remembers until `until` that an operator of this host removed a rule. A full list forgets the one that ends
    /// first.
    pub fn overrule(&mut self, now: Timestamp, name: FleetName, until: Timestamp) {
        self.overruled.retain(|_, until| now < *until);
        self.overruled.insert(name, until);
        if self.overruled.len() > OVERRULED {
            let first = self.overruled.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.overruled.remove(&first);
            }
        }
    }

    /// Returns whether an operator of this host removed the rule with this name.
    pub fn is_overruled(&self, now: Timestamp, name: &FleetName) -> bool {
        self.overruled.get(name).is_some_and(|until| now < *until)
    }

    /// The removed rules, each with the time until which it is not made again.
    pub fn overruled(&self) -> impl Iterator<Item = (&FleetName, Timestamp)> {
        self.overruled.iter().map(|(name, until)| (name, *until))
    }

    /// Takes the price of a change. Returns `false` where changes are too fast.
    pub fn pay(&mut self, now: Timestamp) -> bool {
        let paid = self.paid.max(now) + FLEET_PACE;
        let affordable = paid.since(now) <= FLEET_BURST;
        if affordable {
            self.paid = paid;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(serial: u64) -> FleetName {
        FleetName { role: "ops".to_owned(), serial }
    }

    #[test]
    fn changes_have_a_pace() {
        let mut bounds = FleetBounds::default();
        let start = Timestamp::from_millis(1000);
        let paid = |bounds: &mut FleetBounds, at| (0..1000).filter(|_| bounds.pay(at)).count();
        assert_eq!(paid(&mut bounds, start), 64);
        assert_eq!(paid(&mut bounds, start + Duration::from_secs(1)), 4);
        assert_eq!(paid(&mut bounds, start + Duration::from_secs(3600)), 64);
    }

    #[test]
    fn a_removed_rule_stays_away_for_its_time() {
        let mut bounds = FleetBounds::default();
        let (start, until) = (Timestamp::default(), Timestamp::from_millis(1000));
        bounds.overrule(start, name(1), until);
        assert!(bounds.is_overruled(start, &name(1)));
        assert!(!bounds.is_overruled(start, &name(2)));
        assert!(!bounds.is_overruled(until, &name(1)));
        bounds.overrule(until, name(2), Timestamp::from_millis(2000));
        assert_eq!(bounds.overruled().map(|(name, _)| name.serial).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_full_list_forgets_the_one_that_ends_first() {
        let mut bounds = FleetBounds::default();
        let now = Timestamp::default();
        for serial in 0..=OVERRULED as u64 {
            bounds.overrule(now, name(serial), Timestamp::from_millis(1000 + serial));
        }
        assert_eq!(bounds.overruled().count(), OVERRULED);
        assert!(!bounds.is_overruled(now, &name(0)));
        assert!(bounds.is_overruled(now, &name(1)));
    }
}
