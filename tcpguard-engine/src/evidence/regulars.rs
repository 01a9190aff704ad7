//! Whether those who fail are clients that were served a moment ago, and fail instead of completing.
//!
//! Applications with a connect timeout below a second open a new connection where others retransmit a
//! SYN. Behind a path that breaks, such clients leave first SYNs only, as a flood does. But they completed
//! handshakes minutes ago and look as they did then, they come at a few times their usual rate at most, and
//! as many completions are missing as there are clients behind that path. A flood in their names takes no
//! completions away, until the queue is full, and then it needs a defence whoever sends it.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use tcpguard_common::fastpath::Mask;

use super::cohort::Cohort;
use crate::KnownClients;
use crate::learned::Clients;
use crate::window::Sums;
use crate::words::{percent, short};

/// Sources of which it is asked whether they are known: each question may be one to the kernel.
const ASKED: usize = 64;
/// Share of the sources, and of the failing flows, that clients make.
const MOST: f64 = 0.8;
/// Clients without an answer come this many times as often as they usually do: a timeout of a few hundred
/// milliseconds, a few tries, and a pause.
const PERSISTENCE: f64 = 4.0;
/// What is usual is a mean: so far from it, as a share of it and in standard deviations of what a count
/// varies, nothing is missing.
const SLACK: (f64, f64) = (0.05, 2.0);

/// Who fails, and at what rate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regulars {
    /// They are clients, by all that is known.
    pub hold: bool,
    /// Share of the sources that completed a handshake lately.
    known: f64,
    /// Failing handshakes per second.
    failing: f64,
    /// Completed ones per second.
    completing: f64,
    /// SYNs per second that are usual.
    usual: f64,
}

impl Regulars {
    /// Judges failing flows by who is `known` and what `clients` look like, and a span's `sums` by the
    /// `usual` rate of SYNs per second; `None` where that is not known.
    pub fn of(
        cohort: &Cohort,
        clients: &Clients,
        known: &dyn KnownClients,
        sums: &Sums,
        usual: Option<f64>,
    ) -> Self {
        let Some(usual) = usual else { return Self::default() };
        let failing = sums.per_second(sums.failures());
        let completing = sums.per_second(sums.completed);
        let seconds = sums.span.as_secs_f64();
        let chance = if seconds > 0.0 { (usual / seconds).sqrt() } else { 0.0 };
        let explained =
            PERSISTENCE * (usual - completing).max(0.0) + SLACK.0 * usual + SLACK.1 * chance;
        let rare = failing + completing < PERSISTENCE * usual
            && failing <= explained
            && !sums.is_unanswered();
        if !rare || !look_alike(cohort, clients) {
            return Self { failing, completing, usual, ..Self::default() };
        }
        let known = known_share(cohort, known);
        Self { hold: known >= MOST, known, failing, completing, usual }
    }

    /// The numbers, in words.
    pub fn in_words(&self) -> String {
        format!(
            "{} of the sources completed handshakes in the last ten minutes and look as clients do, \
             {}/s fail, {}/s complete, {} are usual",
            percent(self.known),
            short(self.failing),
            short(self.completing),
            short(self.usual)
        )
    }
}

/// Whether most failing SYNs look like those of clients of this listener.
fn look_alike(cohort: &Cohort, clients: &Clients) -> bool {
    let alike = cohort.failing.iter().filter(|flow| {
        let print = flow.print.masked(Mask::Full);
        clients.with_signature(Mask::Full, &print) > 0
    });
    let alike: u64 = alike.map(|flow| flow.weight).sum();
    cohort.weight() > 0 && alike as f64 >= MOST * cohort.weight() as f64
}

/// Share of the failing sources, of which a draw is asked, that completed a handshake lately.
fn known_share(cohort: &Cohort, known: &dyn KnownClients) -> f64 {
    let mut sources: Vec<IpAddr> = cohort.failing.iter().map(|flow| flow.source).collect();
    sources.sort_unstable();
    sources.dedup();
    let step = sources.len().div_ceil(ASKED).max(1);
    let asked: Vec<IpAddr> = sources.into_iter().step_by(step).collect();
    let is_known = |source: &&IpAddr| known.completed_within(&client(**source));
    asked.iter().filter(is_known).count() as f64 / asked.len().max(1) as f64
}

/// The network that stands for a source.
fn client(source: IpAddr) -> IpNet {
    match source {
        IpAddr::V4(_) => source.into(),
        IpAddr::V6(addr) => Ipv6Net::new_assert(addr, 64).into(),
    }
}
