//! Bytes that one end of a connection has sent, as `ss` shows them.

use anyhow::{Context, Result};

use crate::net::netns::Netns;

/// The counters of one end at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SentBytes {
    /// Bytes sent, retransmissions included.
    pub all: u64,
    pub retransmitted: u64,
}

impl SentBytes {
    /// Reads the counters of the connection of `host` from `port`.
    ///
    /// # Errors
    /// When there is none, as when it was reset.
    pub fn of(host: &Netns, port: u16) -> Result<Self> {
        let text = host.exec(&format!("ss -tinH state established sport = :{port}"))?;
        Self::parse(&text)
            .with_context(|| format!("{} has no connection from {port}", host.label()))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok())
        };
        // `ss` leaves out what is 0; the congestion window is always there.
        value("cwnd:")?;
        let counter = |name| value(name).unwrap_or_default();
        Some(Self { all: counter("bytes_sent:"), retransmitted: counter("bytes_retrans:") })
    }

    /// Returns the bytes sent since an `earlier` reading.
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            all: self.all - earlier.all,
            retransmitted: self.retransmitted - earlier.retransmitted,
        }
    }

    /// Returns the share that was retransmitted, 0 to 1. An end that sent nothing waits for its next
    /// retransmission: all is lost.
    pub fn lost(self) -> f64 {
        if self.all == 0 { 1.0 } else { self.retransmitted as f64 / self.all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmitted_bytes_are_a_share_of_all_that_were_sent_since() {
        let calm = "0 0 10.79.0.1:40000 10.77.0.1:443\n\t cubic cwnd:10 bytes_sent:1000 \
                    bytes_acked:1001 segs_out:3\n";
        let flooded = "0 9 10.79.0.1:40000 10.77.0.1:443\n\t cubic cwnd:2 ssthresh:2 bytes_sent:3000 \
                       bytes_retrans:500 bytes_acked:1501 segs_out:9\n";
        let [calm, flooded] = [calm, flooded].map(|text| SentBytes::parse(text).unwrap());
        let since = flooded.since(calm);
        assert_eq!(since, SentBytes { all: 2000, retransmitted: 500 });
        assert!((since.lost() - 0.25).abs() < 1e-9);
        assert!((calm.since(calm).lost() - 1.0).abs() < 1e-9);
        assert_eq!(SentBytes::parse("").map(|_| ()), None);
    }
}
