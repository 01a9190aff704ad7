//! The verdict on a cohort of failed flows.

use ipnet::IpNet;

use super::class::IncidentClass;
use super::cohort::Cohort;
use super::failing_clients::FailingClients;
use super::gate::Gate;
use super::missing::Missing;
use super::novelty::Novelty;
use super::reach::Reach;
use super::report::Evidence;
use super::retransmissions::{RETRANSMIT_SHARE, retransmitted_share};
use super::signature::{Candidate, choose};
use super::sources::{Sources, top_network};
use super::surge::Surge;
use super::ttl::Ttls;
use super::verdict::{INDICATORS_ATTACK, VerdictLine, verdict};
use super::victims::Victims;
use crate::input::syn_filter;
use crate::listener::{KnownFingerprints, Moment};

/// The assessment of the failed flows.
#[derive(Clone, Debug)]
pub(crate) struct Assessment {
    /// The numbers, as far as flows give them.
    pub evidence: Evidence,
    /// The class: that of the last line.
    pub class: IncidentClass,
    /// The class list up to the line that fits.
    pub lines: Vec<VerdictLine>,
    /// Counters and signals, where there is a listener.
    pub moment: Option<Moment>,
    /// Number of indicators that hold and for which SYNs may be dropped.
    pub gate: u32,
    /// True if everything that can be known speaks for a flood from spoofed sources.
    pub unanimous: bool,
    /// True if the verdict rests on a fact that is not known yet: the retransmission of the SYNs.
    pub provisional: bool,
    /// True if SYNs of failed handshakes are retransmitted as often as real clients retransmit theirs.
    pub retransmitted: bool,
    /// Novelty of the failed sources: whether they have been here before.
    pub novelty: Novelty,
    /// Local addresses of the failed flows; none for a verdict that rests on counters.
    pub victims: Victims,
    /// The signature that a rule would drop.
    pub signature: Option<Candidate>,
    /// The network of the top source.
    pub top_source: Option<IpNet>,
    /// Its share of the failures beyond the expected ones.
    pub top_source_excess: f64,
    /// True if the SYNs from there are retransmitted as often as real clients retransmit theirs, whatever the
    /// others do.
    pub top_source_retransmitted: bool,
}

impl Assessment {
    /// A verdict that rests on counters and not on failed flows: the one line that fits.
    pub fn of_counters(line: VerdictLine, evidence: Evidence) -> Self {
        Self {
            evidence,
            class: line.class,
            lines: vec![line],
            moment: None,
            gate: 0,
            unanimous: false,
            provisional: false,
            retransmitted: false,
            novelty: Novelty::default(),
            victims: Victims::default(),
            signature: None,
            top_source: None,
            top_source_excess: 0.0,
            top_source_retransmitted: false,
        }
    }

    /// Adds a line that decides after all.
    pub fn overrule(&mut self, line: VerdictLine) {
        self.class = line.class;
        self.lines.push(line);
    }
}

/// The background of the flows: the counters, and the networks that have been here before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Background {
    /// Share of the attempts that fails anyway.
    pub natural_share: f64,
    /// Share of the attempts since the incident began that fails, once that is known: flows reach back before it.
    pub failed_share: Option<f64>,
    /// Novelty of the failed sources: whether they have been here before.
    pub novelty: Novelty,
    /// Surge of the failures: whether more fail than clients could begin.
    pub surge: Surge,
    /// Missing clients: whether as many completed handshakes are missing as fail.
    pub clients_missing: Missing,
    /// Validated clients: whether the failed sources are clients that were served a moment ago.
    pub failing_clients: FailingClients,
    /// Reach of replies: whether one would reach the failed sources.
    pub reach: Reach,
}

/// Judges a cohort.
pub(crate) fn assess(
    cohort: &Cohort,
    clients: &dyn KnownFingerprints,
    background: Background,
) -> Assessment {
    let completed: u64 = cohort.completed.iter().map(|(.., weight)| weight).sum();
    let all = cohort.weight() + completed;
    let sources = Sources::of(&cohort.failing, background.natural_share * all as f64);
    let ttls = Ttls::of(&cohort.failing);
    let (signature, signatures) = choose(cohort, clients).unzip();
    let of_clients = signatures.iter().flatten().next().is_none_or(|top| top.completed > 0);
    let gate = Gate::judge(cohort, signature.as_ref(), &sources, &ttls, &background);
    let top_source = sources.top.first().map(|top| top_network(&cohort.failing, top.addr));
    let lines = verdict(&gate, &sources, &background.failing_clients);
    let evidence = Evidence {
        failed_flows: cohort.weight(),
        singleton_share: sources.singletons,
        top_source_share: sources.top_share(),
        top_sources: sources.top.clone(),
        top_networks: sources.top_networks.clone(),
        k90_sources: sources.k90,
        k90_networks: sources.k90_networks,
        distinct_slash8: sources.slash8,
        signatures: signatures.unwrap_or_default(),
        signature_filter: signature
            .filter(|_| !of_clients)
            .map(|one| syn_filter(one.mask, &one.print)),
        top2_ttl_share: ttls.top2,
        ttls: ttls.top.clone(),
        retransmitted_share: gate.retransmissions.share,
        indicators: gate.indicators(signature.as_ref(), &sources, &ttls, &background),
        ..Evidence::default()
    };
    Assessment {
        evidence,
        class: lines.last().map_or(IncidentClass::HandshakeDegraded, |line| line.class),
        lines,
        moment: None,
        gate: gate.count(),
        unanimous: gate.unanimous(),
        provisional: gate.signs() >= INDICATORS_ATTACK
            && (gate.looks_like_a_path() || gate.may_be_clients())
            && gate.no_retransmission.is_none(),
        retransmitted: gate.no_retransmission == Some(false),
        novelty: background.novelty,
        victims: cohort.victims.clone(),
        signature,
        top_source,
        top_source_excess: sources.top_excess(),
        top_source_retransmitted: top_source.is_some_and(|net| {
            let from_there = cohort.failing.iter().filter(|flow| net.contains(&flow.addr));
            retransmitted_share(from_there).is_some_and(|share| share > RETRANSMIT_SHARE)
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::cohort::Failing;
    use super::*;
    use crate::listener::Clients;

    fn failing(addr: Ipv4Addr, retransmitted: bool) -> Failing {
        Failing {
            retransmitted: Some(retransmitted),
            unfinished: true,
            ..Failing::once(addr.into())
        }
    }

    /// Assesses 72 flows of one source and 28 of others. The SYNs of `of_top` and `of_others` of them are
    /// retransmitted.
    fn assessed(of_top: usize, of_others: usize) -> Assessment {
        let top = (0..72).map(|n| failing(Ipv4Addr::new(198, 51, 100, 7), n < of_top));
        let others = (0..28).map(|n| failing(Ipv4Addr::new(192, 0, 2, n as u8), n < of_others));
        let cohort = Cohort { failing: top.chain(others).collect(), ..Cohort::default() };
        assess(&cohort, &Clients::default(), Background::default())
    }

    #[test]
    fn retransmissions_of_the_top_source_are_judged_by_its_own_syns() {
        let diluted = assessed(30, 0);
        assert!(!diluted.retransmitted, "30 of all 100");
        assert!(diluted.top_source_retransmitted, "30 of its 72");

        let others = assessed(12, 28);
        assert!(others.retransmitted, "40 of all 100");
        assert!(!others.top_source_retransmitted, "12 of its 72");
    }
}
