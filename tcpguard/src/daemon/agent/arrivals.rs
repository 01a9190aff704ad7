//! Comparison of the SYNs of attached interfaces with the handshakes that complete.

use tcpguard_host::finding::Finding;
use tcpguard_host::units::short;

/// With fewer handshakes nothing is said.
const ENOUGH: u64 = 20;

/// Counters since the maps were made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Arrived {
    /// SYNs that arrived by attached interfaces, of any port.
    pub syns: u64,
    /// Handshakes of listeners that are not known to have come by another interface.
    pub completed: u64,
    /// Handshakes that came by another interface, other than loopback.
    pub elsewhere: u64,
    /// Index of one such interface; 0: there is none.
    pub by: u32,
}

/// Arrivals since the agent started.
#[derive(Debug, Default)]
pub struct Arrivals {
    first: Option<Arrived>,
    last: Arrived,
}

impl Arrivals {
    pub fn note(&mut self, arrived: Arrived) {
        self.first.get_or_insert(arrived);
        self.last = arrived;
    }

    /// The finding that clients arrive where tcpguard is not attached. `name` gives the name of an interface.
    pub fn finding(
        &self,
        attached: &[String],
        name: impl Fn(u32) -> Option<String>,
    ) -> Option<Finding> {
        const CODE: &str = "ingress_unseen";
        const HINT: &str = "name it under [interfaces] (see: ip route)";
        // With nothing attached no SYN can be seen, and the status says that already.
        let first = self.first.filter(|_| !attached.is_empty())?;
        let grown = |of: fn(&Arrived) -> u64| of(&self.last).saturating_sub(of(&first));
        let [syns, completed, elsewhere] =
            [grown(|it| it.syns), grown(|it| it.completed), grown(|it| it.elsewhere)];
        let by = (elsewhere > 0).then(|| name(self.last.by)).flatten();
        let by = by.unwrap_or_else(|| "another interface".to_owned());
        let attached = attached.join(", ");
        if syns == 0 && completed + elsewhere >= ENOUGH {
            let text = format!(
                "{attached}: no SYN seen, but {} handshakes completed. Clients arrive by {by}, unprotected",
                short((completed + elsewhere) as f64)
            );
            return Some(Finding::critical(CODE, text).hint(HINT));
        }
        (elsewhere >= ENOUGH && elsewhere >= syns).then(|| {
            let text = format!(
                "{} handshakes came by {by}, without tcpguard, and {} SYNs by {attached}",
                short(elsewhere as f64),
                short(syns as f64)
            );
            Finding::notice(CODE, text).hint(HINT)
        })
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_host::finding::Severity;

    use super::*;

    fn found(syns: u64, completed: u64, elsewhere: u64) -> Option<(Severity, String)> {
        let mut arrivals = Arrivals::default();
        let before = Arrived { syns: 7, completed: 7, elsewhere: 7, by: 0 };
        arrivals.note(before);
        arrivals.note(Arrived {
            syns: 7 + syns,
            completed: 7 + completed,
            elsewhere: 7 + elsewhere,
            by: 3,
        });
        let name = |index| (index == 3).then(|| "eth1".to_owned());
        let finding = arrivals.finding(&["eth0".to_owned()], name)?;
        Some((finding.severity, finding.text))
    }

    #[test]
    fn handshakes_without_a_syn_show_that_the_wrong_interface_is_attached() {
        for (completed, elsewhere) in [(2_000, 0), (0, 20)] {
            let (severity, text) = found(0, completed, elsewhere).unwrap();
            assert_eq!(severity, Severity::Critical, "{text}");
        }
        let (_, text) = found(0, 0, 2_000).unwrap();
        assert!(text.contains("eth0: no SYN seen") && text.contains("by eth1"), "{text}");
        assert_eq!(found(0, 0, 19), None, "too few to tell");
    }

    #[test]
    fn clients_of_containers_are_no_fault_while_others_arrive() {
        assert_eq!(found(1_000, 900, 300), None);
        assert_eq!(found(1_000, 900, 0), None);
        let (severity, text) = found(10, 9, 300).unwrap();
        assert_eq!(severity, Severity::Notice, "{text}");
    }

    #[test]
    fn nothing_is_said_before_the_first_poll_and_with_nothing_attached() {
        let attached = ["eth0".to_owned()];
        let mut arrivals = Arrivals::default();
        assert!(arrivals.finding(&attached, |_| None).is_none());
        arrivals.note(Arrived::default());
        arrivals.note(Arrived { completed: 2_000, ..Arrived::default() });
        assert!(arrivals.finding(&attached, |_| None).is_some());
        assert!(arrivals.finding(&[], |_| None).is_none());
    }
}
