//! Facts behind a verdict: measured quantities, each with the limit that it is compared with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A measured quantity. The agent's text room has a label for each.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Measured {
    /// The quantity.
    pub what: Quantity,
    /// Its value; `null` while it is not known. Shares are 0 to 1.
    pub value: Option<f64>,
    /// The limit that the indicator or the criterion needs; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// A limit of a measured quantity.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The quantity must be as large, or larger.
    AtLeast(f64),
    /// The quantity must be as small, or smaller.
    AtMost(f64),
    /// The quantity must be larger.
    Above(f64),
    /// The quantity must be smaller.
    Below(f64),
}

/// Measured quantity.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Number of indicators that hold.
    Indicators,
    /// Number of failed flows that were inspected.
    FailedFlows,
    /// Failed handshakes as a share of all.
    FailedShare,
    /// Failed handshakes per second, without retransmissions.
    FailedRate,
    /// Completed handshakes per second.
    CompletedRate,
    /// Completed handshakes as a share of the attempted ones.
    CompletedShare,
    /// SYNs per second.
    SynRate,
    /// Baseline of SYNs per second.
    BaselineSynRate,
    /// Share of the failed handshakes with the top signature.
    SignatureShare,
    /// Share of the flows with the top signature that complete.
    SignatureCompletion,
    /// Number of completed handshakes of the listener whose fingerprint is on record.
    RecordedHandshakes,
    /// Number of answered SYNs with the top signature that led to no handshake.
    UnfinishedHandshakes,
    /// Share of the two most frequent TTLs.
    TopTtlsShare,
    /// Share of TTLs with which no packet of a real host arrives.
    ImpossibleTtlsShare,
    /// Fewest sources that send 90 % of the failed handshakes.
    SourcesOfMost,
    /// Fewest networks that send 90 % of the failed handshakes.
    NetworksOfMost,
    /// Number of distinct sources.
    Sources,
    /// SYNs of half-open handshakes per source.
    SynsPerSource,
    /// Share of the top source beyond the failures to be expected.
    TopSourceShare,
    /// Share of the failed handshakes from sources seen once.
    SeenOnceShare,
    /// Number of sources that are seen again.
    SourcesSeenAgain,
    /// Number of distinct /8 (IPv6: /16) networks.
    WideNetworks,
    /// Share of the failed handshakes that are retransmitted.
    RetransmittedShare,
    /// Handshakes per second that are not continued as a client would continue them.
    AbandonedRate,
    /// Approximate number of known networks of clients.
    KnownNetworks,
    /// Share of the failed networks that are new.
    NewNetworksShare,
    /// Share of the failed handshakes from known networks.
    KnownNetworksShare,
    /// Share of the completing networks that were known before.
    CompletingKnownShare,
    /// Share of the failed handshakes from addresses that no host has.
    MartianShare,
    /// Share of the failed sources that no reply reaches.
    UnreachableShare,
    /// Share of the failed handshakes from sources that completed a handshake within ten minutes.
    ValidatedShare,
    /// Reset handshakes per second, where no source is faster than a health check.
    HealthCheckRate,
    /// Number of handshakes attempted in the judged polls.
    AttemptedHandshakes,
    /// Number of handshakes that failed in the judged polls.
    FailedHandshakes,
    /// Number of consecutive polls.
    Polls,
    /// Cumulative sum of the failures beyond those to be expected.
    CumulativeSum,
    /// Share of the attempts that fail without an incident.
    NaturalShare,
    /// Attempts per second that fail without an incident.
    NaturalRate,
    /// Variance of the failures as a multiple of the variance by chance.
    Dispersion,
    /// Number of slots of the SYN queue that failed handshakes hold.
    SynQueueSlots,
    /// Number of connections in the accept queue.
    AcceptQueue,
    /// Number of ports without a listener that the source tried.
    PortsTried,
    /// Number of local addresses that the source tried.
    AddressesTried,
    /// Unsolicited replies per second.
    UnsolicitedRate,
    /// Share of all replies that are unsolicited.
    UnsolicitedShare,
    /// SYNs per second to closed ports.
    ClosedPortRate,
    /// SYNs per second in unreadable frames that reached the stack.
    UnreadableRate,
    /// Unreadable frames per second that were dropped.
    UnreadableDroppedRate,
    /// Number of tracked flows that fail and that no rule covers.
    UncoveredFlows,
    /// Share of the failed handshakes that no rule covers.
    UncoveredShare,
}

impl Quantity {
    /// The quantity with a value.
    pub(crate) const fn is(self, value: f64) -> Measured {
        Measured { what: self, value: Some(value), limit: None }
    }

    /// The quantity with a number as its value.
    pub(crate) const fn counts(self, number: u64) -> Measured {
        self.is(number as f64)
    }

    /// The quantity with a value that may not be known yet.
    pub(crate) const fn maybe(self, value: Option<f64>) -> Measured {
        Measured { what: self, value, limit: None }
    }
}

impl Measured {
    /// The same with a lower limit.
    pub(crate) const fn at_least(self, limit: f64) -> Self {
        Self { limit: Some(Limit::AtLeast(limit)), ..self }
    }

    /// The same with an upper limit.
    pub(crate) const fn at_most(self, limit: f64) -> Self {
        Self { limit: Some(Limit::AtMost(limit)), ..self }
    }

    /// The same with a limit that must be exceeded.
    pub(crate) const fn above(self, limit: f64) -> Self {
        Self { limit: Some(Limit::Above(limit)), ..self }
    }

    /// The same with a limit that must not be reached.
    pub(crate) const fn below(self, limit: f64) -> Self {
        Self { limit: Some(Limit::Below(limit)), ..self }
    }
}
