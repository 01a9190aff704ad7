//! Comparison of the SYNs of attached interfaces with the handshakes that complete.

use std::collections::VecDeque;
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::finding::{Finding, Severity};
use tcpguard_host::units::short;

/// With fewer handshakes nothing is said.
const ENOUGH: u64 = 20;
/// With so many within the window they are of clients, one a second. Monitoring connects a few times a minute, which may be
/// all that a standby is for.
const OF_CLIENTS: u64 = 600;
/// Time over which arrivals are compared.
const WINDOW: Duration = Duration::from_secs(600);
/// Time between two readings that are remembered.
const STEP: Duration = Duration::from_secs(30);

/// Counters since the maps were made. Those of a listener disappear with it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Arrived {
    /// SYNs that arrived by attached interfaces, of any port.
    pub syns: u64,
    /// Handshakes of listeners that are not known to have come by another interface.
    pub completed: u64,
    /// SYN-ACKs of listeners behind this host that left by attached interfaces. The kernel completes none of their
    /// handshakes.
    pub forwarded: u64,
    /// Handshakes that came by another interface, other than loopback.
    pub elsewhere: u64,
}

impl Arrived {
    /// The growth since an earlier reading. A counter that has shrunk has not grown.
    const fn since(self, earlier: Self) -> Self {
        Self {
            syns: self.syns.saturating_sub(earlier.syns),
            completed: self.completed.saturating_sub(earlier.completed),
            forwarded: self.forwarded.saturating_sub(earlier.forwarded),
            elsewhere: self.elsewhere.saturating_sub(earlier.elsewhere),
        }
    }

    fn add(&mut self, more: Self) {
        self.syns += more.syns;
        self.completed += more.completed;
        self.forwarded += more.forwarded;
        self.elsewhere += more.elsewhere;
    }
}

/// Handshakes of one CPU that came by an interface that is not attached, loopback aside.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Elsewhere {
    /// Their number.
    pub count: u64,
    /// Index of the interface of the last one; 0: there was none.
    pub by: u32,
}

/// Arrivals since the agent started.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The last reading; `None` before the first one.
    last: Option<(Arrived, Vec<Elsewhere>)>,
    /// Growth since the first reading.
    total: Arrived,
    /// `total` at times within the window, oldest first.
    history: VecDeque<(Timestamp, Arrived)>,
    /// Index of the interface of one of the latest handshakes elsewhere; 0: there was none.
    by: u32,
}

impl Arrivals {
    /// Takes a reading: the counters without those of handshakes elsewhere, and these by CPU. Handshakes by an interface
    /// of which `is_left_out` is true do not count.
    pub fn note(
        &mut self,
        now: Timestamp,
        arrived: Arrived,
        elsewhere: Vec<Elsewhere>,
        is_left_out: impl Fn(u32) -> bool,
    ) {
        if let Some((last, cpus)) = &self.last {
            let mut grown = arrived.since(*last);
            for (cpu, before) in elsewhere.iter().zip(cpus) {
                let more = cpu.count.saturating_sub(before.count);
                if more > 0 && !is_left_out(cpu.by) {
                    grown.elsewhere += more;
                    self.by = cpu.by;
                }
            }
            self.total.add(grown);
        }
        self.last = Some((arrived, elsewhere));
        if self.history.back().is_none_or(|(at, _)| now.since(*at) >= STEP) {
            self.history.push_back((now, self.total));
        }
        while self.history.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            self.history.pop_front();
        }
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
        let (_, begun) = self.history.front().filter(|_| !attached.is_empty())?;
        let (all, recent) = (self.total, self.total.since(*begun));
        let by = (all.elsewhere > 0).then(|| name(self.by)).flatten();
        let by = by.unwrap_or_else(|| "another interface".to_owned());
        let attached = attached.join(", ");
        let count = |number: u64| short(number as f64);
        if all.syns == 0 && all.completed + all.elsewhere >= ENOUGH {
            // Their SYNs may have come by the attached interface, where they cannot be read.
            let by = by + if all.elsewhere == 0 { " or encrypted (IPsec)" } else { "" };
            let text = format!(
                "{attached}: no SYN seen, but {} handshakes completed. Clients arrive by {by}, unprotected",
                count(all.completed + all.elsewhere)
            );
            return Some(Finding::critical(CODE, text).hint(HINT));
        }
        if recent.elsewhere < ENOUGH {
            return None;
        }
        // SYNs alone are no clients: scans and floods send them to every interface.
        if recent.completed == 0 && recent.forwarded == 0 {
            let text = format!(
                "{attached}: no handshake completed in 10m, but {} came by {by}. Clients arrive there, \
                 unprotected",
                count(recent.elsewhere)
            );
            let severity = match recent.elsewhere >= OF_CLIENTS {
                true => Severity::Critical,
                false => Severity::Warning,
            };
            return Some(Finding::new(severity, CODE, text).hint(HINT));
        }
        (recent.elsewhere >= recent.syns).then(|| {
            let text = format!(
                "{} handshakes came by {by} in 10m, without tcpguard, and {} SYNs by {attached}",
                count(recent.elsewhere),
                count(recent.syns)
            );
            Finding::warning(CODE, text).hint(HINT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Index of the interface that is not attached, and of a bridge of containers.
    const OTHER: u32 = 3;
    const CONTAINERS: u32 = 9;

    /// Readings of one CPU, to which counters are added.
    #[derive(Default)]
    struct Host {
        arrivals: Arrivals,
        second: u64,
        counters: Arrived,
    }

    impl Host {
        fn new() -> Self {
            let counters = Arrived { syns: 7, completed: 7, forwarded: 7, elsewhere: 7 };
            let mut host = Self { counters, ..Self::default() };
            host.after(0, Arrived::default(), OTHER);
            host
        }

        /// Adds `more` after that many seconds, the last elsewhere by this interface.
        fn after(&mut self, seconds: u64, more: Arrived, by: u32) -> &mut Self {
            self.second += seconds;
            self.counters.add(more);
            let now = Timestamp::from_millis(self.second * 1000);
            let elsewhere = vec![Elsewhere { count: self.counters.elsewhere, by }];
            let arrived = Arrived { elsewhere: 0, ..self.counters };
            self.arrivals.note(now, arrived, elsewhere, |index| index == CONTAINERS);
            self
        }

        fn found(&self) -> Option<(Severity, String)> {
            let name = |index| (index == OTHER).then(|| "eth1".to_owned());
            let finding = self.arrivals.finding(&["eth0".to_owned()], name)?;
            Some((finding.severity, finding.text))
        }
    }

    fn arrived(syns: u64, completed: u64, elsewhere: u64) -> Arrived {
        Arrived { syns, completed, forwarded: 0, elsewhere }
    }

    fn found(syns: u64, completed: u64, elsewhere: u64) -> Option<(Severity, String)> {
        Host::new().after(1, arrived(syns, completed, elsewhere), OTHER).found()
    }

    #[test]
    fn handshakes_without_a_syn_show_that_the_wrong_interface_is_attached() {
        for (completed, elsewhere) in [(2_000, 0), (0, 20)] {
            let (severity, text) = found(0, completed, elsewhere).unwrap();
            assert_eq!(severity, Severity::Critical, "{text}");
        }
        let (_, text) = found(0, 0, 2_000).unwrap();
        assert!(text.contains("eth0: no SYN seen") && text.contains("by eth1,"), "{text}");
        let (_, text) = found(0, 2_000, 0).unwrap();
        assert!(text.contains("by another interface or encrypted (IPsec), unprotected"), "{text}");
        assert_eq!(found(0, 0, 19), None, "too few to tell");
    }

    #[test]
    fn syns_of_scans_and_floods_do_not_hide_that_no_handshake_completes() {
        for syns in [1, 1_000_000] {
            let (severity, text) = found(syns, 0, 600).unwrap();
            assert_eq!(severity, Severity::Critical, "{text}");
            assert!(text.contains("eth0: no handshake") && text.contains("by eth1"), "{text}");
            let (severity, _) = found(syns, 0, 20).unwrap();
            assert_eq!(severity, Severity::Warning, "it may be monitoring");
        }
        assert_eq!(found(1, 0, 19), None, "too few to tell");
    }

    #[test]
    fn clients_that_move_are_noticed_within_minutes_whatever_came_before() {
        let mut host = Host::new();
        for _ in 0..1_000 {
            host.after(60, arrived(1_000, 900, 0), OTHER);
        }
        assert_eq!(host.found(), None);
        for minute in 0..10 {
            let found = host.after(60, arrived(1, 0, 100), OTHER).found();
            assert!(
                minute < 9 || found.is_some_and(|(severity, _)| severity == Severity::Critical)
            );
        }
        // They are back.
        host.after(30, arrived(500, 450, 0), OTHER);
        assert_eq!(host.found().map(|(severity, _)| severity), Some(Severity::Warning));
        host.after(600, arrived(1_000, 900, 0), OTHER);
        assert_eq!(host.found(), None);
    }

    #[test]
    fn clients_of_containers_are_no_fault_while_others_arrive() {
        assert_eq!(found(1_000, 900, 300), None);
        assert_eq!(found(1_000, 900, 0), None);
        let (severity, text) = found(10, 9, 300).unwrap();
        assert_eq!(severity, Severity::Warning, "{text}");
    }

    #[test]
    fn clients_by_a_bridge_of_containers_alone_do_not_count() {
        let mut host = Host::new();
        host.after(60, arrived(1, 0, 2_000), CONTAINERS);
        assert_eq!(host.found(), None);
        host.after(60, arrived(0, 0, 20), OTHER);
        assert!(host.found().is_some_and(|(_, text)| text.contains("20 came by eth1")));
    }

    #[test]
    fn clients_of_services_behind_the_host_are_clients() {
        let mut host = Host::new();
        host.after(60, Arrived { forwarded: 500, ..arrived(500, 0, 40) }, OTHER);
        assert_eq!(host.found(), None);
    }

    #[test]
    fn a_listener_that_goes_takes_no_completion_back() {
        let mut host = Host::new();
        host.counters.completed = 1_000_000;
        host.after(1, arrived(100, 0, 0), OTHER);
        host.counters.completed = 0;
        host.after(1, Arrived::default(), OTHER);
        host.after(1, arrived(100, 90, 30), OTHER);
        assert_eq!(host.found(), None);
    }

    #[test]
    fn nothing_is_said_before_the_first_poll_and_with_nothing_attached() {
        let attached = ["eth0".to_owned()];
        assert!(Arrivals::default().finding(&attached, |_| None).is_none());
        let mut host = Host::new();
        host.after(1, arrived(0, 2_000, 0), OTHER);
        assert!(host.arrivals.finding(&attached, |_| None).is_some());
        assert!(host.arrivals.finding(&[], |_| None).is_none());
    }
}
