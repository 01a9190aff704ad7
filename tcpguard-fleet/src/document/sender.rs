//! A process that sends documents, and their order.

use tcpguard_host::time::{Clock, Time};

use super::envelope::Envelope;
use super::kind::Kind;
use super::names::{HostId, Label};

/// A process that sends documents. It numbers them over all kinds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sender {
    host: HostId,
    site: Option<Label>,
    boot: u64,
    seq: u64,
}

impl Sender {
    /// A process of this host at this site, with the number of its run.
    pub const fn new(host: HostId, site: Option<Label>, boot: u64) -> Self {
        Self { host, site, boot, seq: 0 }
    }

    /// Number of the next run, started now, where `last` is that of the last one. It rises even if the clock was set
    /// back, and needs no memory of the last one while the clock is right.
    pub fn boot(clock: Clock, last: u64) -> u64 {
        let started = u64::try_from(clock.wall.as_millisecond()).unwrap_or_default();
        started.max(last.saturating_add(1))
    }

    /// Name of the host.
    pub const fn host(&self) -> &HostId {
        &self.host
    }

    /// Site of the host.
    pub const fn site(&self) -> Option<&Label> {
        self.site.as_ref()
    }

    /// Envelope of the next document.
    pub fn envelope(&mut self, clock: Clock, kind: Kind) -> Envelope {
        self.seq += 1;
        Envelope {
            host: self.host.clone(),
            site: self.site.clone(),
            boot: self.boot,
            seq: self.seq,
            at: Time(clock.wall),
            ttl_s: u32::try_from(kind.max_ttl().as_secs()).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Timestamp;

    use super::*;
    use crate::document::tests::{AT, host, time};

    #[test]
    fn each_document_and_each_run_has_a_higher_number() {
        let clock = Clock { now: Timestamp::from_millis(0), wall: time(AT).0 };
        let boot = Sender::boot(clock, 0);
        assert_eq!(boot, 1_795_183_531_204, "date -d 2026-11-20T14:05:31.204Z +%s%3N");
        assert_eq!(Sender::boot(clock, boot + 5), boot + 6, "the clock was set back");
        let mut sender = Sender::new(host(7), None, boot);
        let first = sender.envelope(clock, Kind::Signature);
        let second = sender.envelope(clock, Kind::Host);
        assert_eq!((first.seq, first.ttl_s), (1, 60));
        assert_eq!((second.seq, second.ttl_s, second.boot), (2, 90, boot));
    }
}
