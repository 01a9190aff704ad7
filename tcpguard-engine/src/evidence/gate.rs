//! The evidence gate: handshakes fail, but is it an attack?
//!
//! Each item is a way in which the makers of forged SYNs differ from clients whose path is broken.
//! Without the gate every short outage of a group of clients would be an alarm.

use super::assess::Background;
use super::cohort::{Cohort, Failing};
use super::signature::Candidate;
use super::sources::Sources;
use super::ttl::Ttls;
use crate::{GateItem, Settings};

/// Flows from which the share that repeats its SYN means anything.
const JUDGED_MIN: usize = 16;

/// What holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// One fingerprint, and not the clients'.
    pub fingerprint: bool,
    /// TTLs of one machine, or of none.
    pub ttl: bool,
    /// The fingerprint of a tool, or TTLs of no real host: a broken path has neither.
    pub forged: bool,
    /// Few sources or networks.
    pub few_sources: bool,
    /// Sources that are seen once.
    pub singletons: bool,
    /// Whether SYNs are not repeated; `None` while it is too early to say.
    pub not_repeated: Option<bool>,
    /// Whether networks fail from which nobody came before, while those that complete are known, and
    /// no path is broken to them; `Some(false)` where those that fail are known, which speaks against
    /// an attack.
    pub novel: Option<bool>,
    /// They are clients that were served a moment ago, by all that is known.
    pub regulars: bool,
    /// Most were answered and said no, so that their path is sound.
    pub refused: bool,
    /// Hardly any handshake completes, or the same sources fail again and again, and next to no SYN is
    /// repeated, though nothing marks them: no path breaks like that. It makes an attack of them, but
    /// nothing that may be dropped.
    pub silent: bool,
    /// Far more fail than clients could begin, and it is not known that they repeat their SYNs. It
    /// makes an attack of them before that is known, but nothing that may be dropped.
    pub surge: bool,
    /// Failing flows as a share of all.
    pub failing_share: f64,
    /// Share of the judged flows whose SYN was repeated.
    pub repeated_share: Option<f64>,
}

impl Gate {
    pub fn judge(
        cohort: &Cohort,
        signature: Option<&Candidate>,
        sources: &Sources,
        ttls: &Ttls,
        background: &Background,
        settings: &Settings,
    ) -> Self {
        let enough = sources.flows >= settings.distinct_min;
        let few = sources.k90_networks <= settings.few_networks
            || (sources.k90 <= settings.few_sources && sources.per_source() >= 2.0);
        let repeated_share = repeated_share(&cohort.failing);
        let failing_share = cohort.failing_share().max(background.failing_share.unwrap_or(0.0));
        // Of a closed port, of whose resets nothing is seen, the clients fall silent as well.
        let is_open =
            !cohort.completed.is_empty() || cohort.failing.iter().any(|flow| flow.unfinished);
        let unheard = repeated_share.is_some_and(|share| share <= settings.silent_repeated);
        let fingerprint = signature.is_some_and(|signature| signature.is_a_tools(settings));
        let impossible = enough && ttls.impossible >= settings.ttl_impossible_share;
        let ttl = impossible || enough && ttls.top2 >= settings.ttl_share;
        let few_sources = enough && few;
        let silent_share = match sources.come_round() {
            true => settings.scattered_share,
            false => settings.silent_share,
        };
        let marked = fingerprint || ttl || few_sources;
        let not_repeated = repeated_share.map(|share| share <= settings.retransmit_share);
        let refused = 2 * cohort.failing.iter().filter(|flow| flow.reset).count() > sources.flows;
        // The path to clients who are new may be broken as well.
        let novel =
            background.novelty.novel.filter(|new| !new || refused || not_repeated == Some(true));
        Self {
            fingerprint,
            ttl,
            forged: fingerprint || impossible,
            few_sources,
            singletons: sources.distinct >= settings.distinct_min
                && sources.singletons >= settings.singleton_share
                && !sources.come_round(),
            novel,
            regulars: background.regulars.hold && !refused,
            refused,
            not_repeated,
            silent: enough && !marked && is_open && unheard && failing_share >= silent_share,
            surge: background.surge.holds && not_repeated != Some(false),
            failing_share,
            repeated_share,
        }
    }

    /// Number of items that hold.
    pub fn count(&self) -> u32 {
        self.signs() - u32::from(self.silent) - u32::from(self.surge)
    }

    /// Number of signs of an attack: the items that hold, silence and a surge.
    pub fn signs(&self) -> u32 {
        self.names().len() as u32
    }

    /// What speaks for an attack: the items that hold, silence and a surge.
    pub fn names(&self) -> Vec<&'static str> {
        let signs = [
            (self.fingerprint, "fingerprint"),
            (self.ttl, "ttl"),
            (self.few_sources, "few_sources"),
            (self.singletons, "singletons"),
            (self.not_repeated == Some(true), "no_retransmission"),
            (self.novel == Some(true), "novel"),
            (self.silent, "silence"),
            (self.surge, "surge"),
        ];
        signs.into_iter().filter(|(holds, _)| *holds).map(|(_, name)| name).collect()
    }

    /// Whether clients behind a broken path explain it, as far as is known: they were served a moment ago
    /// and are no more than then; or they have been here before, and may repeat their SYNs.
    pub fn may_be_clients(&self) -> bool {
        self.regulars
            || self.novel == Some(false) && self.not_repeated != Some(true) && !self.refused
    }

    /// Whether the clients behind one broken path may look like this, as far as is known: they come from
    /// one place or provider, at one distance and once each, and repeat their SYNs. Who resets an
    /// answer has received it.
    pub fn looks_like_a_path(&self) -> bool {
        !self.forged && !self.refused && self.not_repeated != Some(true)
    }

    /// Whether they may be such clients: they look like them, and are not too many.
    pub fn may_be_a_path(&self) -> bool {
        self.looks_like_a_path() && !self.surge
    }

    /// Everything that can be known of a flood from random sources speaks for one.
    pub fn unanimous(&self) -> bool {
        self.fingerprint && self.ttl && self.singletons && self.not_repeated != Some(false)
    }

    /// The items with their numbers, for people.
    pub fn items(
        &self,
        signature: Option<&Candidate>,
        sources: &Sources,
        ttls: &Ttls,
        background: &Background,
    ) -> Vec<GateItem> {
        let Background { novelty, surge, .. } = background;
        let item = |name: &str, holds, detail| GateItem { name: name.to_owned(), holds, detail };
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        vec![
            item(
                "fingerprint",
                self.fingerprint,
                signature.map_or_else(
                    || "no failing flow".to_owned(),
                    |top| {
                        format!(
                            "one covers {} of the failing SYNs, {} of the flows with it complete",
                            percent(top.coverage),
                            percent(top.completion)
                        )
                    },
                ),
            ),
            item(
                "ttl",
                self.ttl,
                format!(
                    "two TTLs cover {}, {} are impossible for real hosts",
                    percent(ttls.top2),
                    percent(ttls.impossible)
                ),
            ),
            item(
                "few_sources",
                self.few_sources,
                format!(
                    "90 % come from {} sources in {} networks",
                    sources.k90, sources.k90_networks
                ),
            ),
            item(
                "singletons",
                self.singletons,
                format!(
                    "{} come from sources seen once, {}",
                    percent(sources.singletons),
                    sources.again_in_words()
                ),
            ),
            item(
                "no_retransmission",
                self.not_repeated == Some(true),
                self.repeated_share.map_or_else(
                    || "too early to say".to_owned(),
                    |share| format!("{} were repeated after 1.5 s", percent(share)),
                ),
            ),
            item(
                "novel",
                self.novel == Some(true),
                match novelty.novel == self.novel {
                    true => novelty.in_words(),
                    false => format!(
                        "{}; it counts where their SYNs are known not to be repeated",
                        novelty.in_words()
                    ),
                },
            ),
            item(
                "silence",
                self.silent,
                format!("{} of the handshakes fail", percent(self.failing_share)),
            ),
            item("surge", self.surge, surge.in_words()),
        ]
    }
}

/// Share of the judged flows whose SYN was repeated; `None` while those are too few.
pub(crate) fn repeated_share<'a>(failing: impl IntoIterator<Item = &'a Failing>) -> Option<f64> {
    let judged: Vec<(bool, u64)> = failing
        .into_iter()
        .filter_map(|flow| flow.repeated.map(|repeated| (repeated, flow.weight)))
        .collect();
    if judged.len() < JUDGED_MIN {
        return None;
    }
    let all: u64 = judged.iter().map(|(_, weight)| weight).sum();
    let repeated: u64 = judged.iter().filter(|(repeated, _)| *repeated).map(|(_, w)| w).sum();
    Some(repeated as f64 / all as f64)
}
