//! Longer blocks for sources that return.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use crate::input::{Timestamp, constants};
use crate::settings::Settings;

constants! {
    /// Lifetime of a rule without hits, and of the first rule against a source.
    pub(crate) const RULE_TTL: Duration = 60 Seconds in 5..=86_400,
        "Weighed against the pauses of pulsed floods (clear_s, twice), and against blocking \
         sources that have stopped.";
}

/// Sources remembered. When they are too many, the source with the oldest last block is forgotten.
const SOURCES: usize = 1024;

/// The last block of each source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recurrence(BTreeMap<IpNet, (Duration, Timestamp)>);

impl Recurrence {
    /// The lifetime of a new block of `net`: twice the last one when that is not longer ago than the
    /// longest there is.
    pub fn ttl(&self, now: Timestamp, net: &IpNet, settings: &Settings) -> Duration {
        match self.0.get(net) {
            Some((ttl, at)) if now.since(*at) <= settings.rule_ttl_max => {
                (*ttl * 2).min(settings.rule_ttl_max)
            }
            _ => RULE_TTL,
        }
    }

    /// Notes that a block of `net` has ended.
    pub fn ended(&mut self, now: Timestamp, net: IpNet, ttl: Duration) {
        self.0.insert(net, (ttl, now));
        if self.0.len() > SOURCES {
            let oldest = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(net, _)| *net);
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_return_doubles_the_time_up_to_an_hour() {
        let settings = Settings::default();
        let net: IpNet = "192.0.2.1/32".parse().expect("prefix");
        let mut recurrence = Recurrence::default();
        let now = Timestamp::from_millis(1000);
        let mut times = Vec::new();
        for _ in 0..8 {
            let ttl = recurrence.ttl(now, &net, &settings);
            times.push(ttl.as_secs());
            recurrence.ended(now, net, ttl);
        }
        assert_eq!(times, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        let later = now + Duration::from_secs(3601);
        assert_eq!(recurrence.ttl(later, &net, &settings).as_secs(), 60);
    }
}
