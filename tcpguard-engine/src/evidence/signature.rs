//! Which signature a rule should drop: what most failing SYNs share and no client does.

use tcpguard_common::fastpath::{Fingerprint, Mask};

use super::cohort::Cohort;
use super::describe::describe;
use crate::learned::{Admitted, Clients};
use crate::{Settings, SignatureShare};

/// Signatures reported.
const TOP: usize = 4;
/// The masks, the most telling first. One that holds the IP identification constant says more than
/// the shape alone.
const MASKS: [Mask; 8] = [
    Mask::Full,
    Mask::NoTtl,
    Mask::NoWindow,
    Mask::NoWindowTtl,
    Mask::NoWindowMss,
    Mask::NoWindowMssTtl,
    Mask::IpId,
    Mask::Shape,
];

/// A signature and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Which fields count.
    pub mask: Mask,
    /// Their values, reduced to `mask`.
    pub print: Fingerprint,
    /// Share of the failing flows that it covers.
    pub coverage: f64,
    /// Share of the flows with it that completed.
    pub completion: f64,
    /// Completed flows with it in the window.
    pub completed: u64,
    /// Whether a flow with it completed earlier in the incident.
    pub admitted: bool,
    /// Completions with it among the recorded clients.
    pub recorded: u64,
    /// Its share of the recorded clients' completions.
    pub recorded_share: f64,
    /// Flows with it that were answered more than four round trips ago, to no effect.
    pub unfinished: u64,
}

impl Candidate {
    /// Whether any client is known to look like this.
    pub fn is_of_clients(&self) -> bool {
        self.completed > 0 || self.admitted || self.recorded > 0
    }

    /// Whether this may be dropped: it covers enough, no client looks like it, and that nobody
    /// does is known from the recorded clients or from answers that nobody took up.
    pub fn may_be_dropped(&self, clients: &Clients, settings: &Settings) -> bool {
        self.may_be_tried(settings)
            && (clients.completions() >= settings.clients_known
                || self.unfinished >= settings.answered_unfinished)
    }

    /// Whether this may be dropped on trial: where a full queue answers nobody, nothing more can
    /// be known, and a real client that is hit comes back and is let in.
    pub fn may_be_tried(&self, settings: &Settings) -> bool {
        self.coverage >= settings.signature_coverage && !self.is_of_clients()
    }

    /// Whether failing and completing handshakes look different enough to speak of a tool.
    pub fn is_a_tools(&self, settings: &Settings) -> bool {
        self.coverage >= settings.fingerprint_share
            && self.completion <= settings.fingerprint_completion
            && self.recorded_share <= settings.fingerprint_completion
    }

    fn of(top: &Alike, mask: Mask, looks: &Looks<'_>, clients: &Clients) -> Self {
        let Alike { print, weight, unfinished } = *top;
        let completed = looks.completed.iter().filter(|(other, _)| other.masked(mask) == print);
        let completed: u64 = completed.map(|(_, weight)| weight).sum();
        Self {
            mask,
            print,
            coverage: weight as f64 / looks.weight as f64,
            completion: completed as f64 / (completed + weight) as f64,
            completed,
            admitted: looks.admitted.has(mask, &print),
            recorded: clients.with_signature(mask, &print),
            recorded_share: clients.share(mask, &print),
            unfinished,
        }
    }
}

/// Failing flows that look alike under a mask.
#[derive(Clone, Copy, Debug)]
struct Alike {
    print: Fingerprint,
    weight: u64,
    /// Of these, answered more than four round trips ago.
    unfinished: u64,
}

/// What the flows of a cohort look like under one mask, each look once. Under a mask that compares no
/// other field the same can be told from these, which are few where a tool made them.
struct Looks<'a> {
    failing: Vec<Alike>,
    completed: Vec<(Fingerprint, u64)>,
    /// Of all that failed.
    weight: u64,
    admitted: &'a Admitted,
}

impl<'a> Looks<'a> {
    fn of(cohort: &'a Cohort, mask: Mask) -> Self {
        let failing = cohort.failing.iter().map(|flow| Alike {
            print: flow.print.masked(mask),
            weight: flow.weight,
            unfinished: if flow.unfinished { flow.weight } else { 0 },
        });
        let completed = cohort.completed.iter().map(|(_, print, weight)| Alike {
            print: print.masked(mask),
            weight: *weight,
            unfinished: 0,
        });
        let completed = merged(completed.collect()).into_iter();
        Self {
            failing: merged(failing.collect()),
            completed: completed.map(|alike| (alike.print, alike.weight)).collect(),
            weight: cohort.weight(),
            admitted: &cohort.admitted,
        }
    }

    /// The looks of failing flows under `mask`, the most frequent first.
    fn ranked(&self, mask: Mask) -> Vec<Alike> {
        let masked = |alike: &Alike| Alike { print: alike.print.masked(mask), ..*alike };
        let mut looks = merged(self.failing.iter().map(masked).collect());
        looks.sort_by_key(|alike| std::cmp::Reverse(alike.weight));
        looks
    }
}

/// Those that look alike, added up, in the order of their looks.
fn merged(mut looks: Vec<Alike>) -> Vec<Alike> {
    looks.sort_unstable_by_key(|alike| alike.print);
    looks.dedup_by(|next, kept| {
        let same = next.print == kept.print;
        if same {
            kept.weight += next.weight;
            kept.unfinished += next.unfinished;
        }
        same
    });
    looks
}

/// The signature that a rule would use, and the most frequent ones under its mask for people to
/// see, that one first.
///
/// Of the masks whose top signature covers (nearly) as much as any, the most telling one is taken
/// that no client shares; failing that, the most telling one.
pub(crate) fn choose(
    cohort: &Cohort,
    clients: &Clients,
    settings: &Settings,
) -> Option<(Candidate, Vec<SignatureShare>)> {
    // Every mask but one compares a part of what the full one does.
    let (full, ip_id) = (Looks::of(cohort, Mask::Full), Looks::of(cohort, Mask::IpId));
    let looks = |mask| if mask == Mask::IpId { &ip_id } else { &full };
    let tops: Vec<Candidate> = MASKS
        .into_iter()
        .filter_map(|mask| {
            let top = *looks(mask).ranked(mask).first()?;
            // IPv6 has no identification, and zero is what a stack sends that does not use it.
            let telling = mask != Mask::IpId || top.print.ip_id != 0;
            telling.then(|| Candidate::of(&top, mask, looks(mask), clients))
        })
        .collect();
    let best = tops.iter().map(|top| top.coverage).max_by(f64::total_cmp)?;
    let good = || tops.iter().filter(|top| top.coverage >= best - settings.signature_tolerance);
    let chosen = *good()
        .find(|top| !top.is_of_clients())
        .or_else(|| good().find(|top| top.is_a_tools(settings)))
        .or_else(|| good().next())?;
    let looks = looks(chosen.mask);
    let shares = looks
        .ranked(chosen.mask)
        .iter()
        .take(TOP)
        .map(|top| Candidate::of(top, chosen.mask, looks, clients))
        .map(|candidate| SignatureShare {
            text: describe(candidate.mask, &candidate.print),
            mask: candidate.mask.name().to_owned(),
            share: candidate.coverage,
            completed: candidate.completed + candidate.recorded,
            completion: candidate.completion,
        })
        .collect();
    Some((chosen, shares))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::evidence::Failing;
    use crate::{Flow, FlowState, ListenerId, Timestamp};

    fn failing(print: Fingerprint) -> Failing {
        let addr = [192, 0, 2, 1].into();
        Failing {
            addr,
            source: addr,
            print,
            weight: 1,
            repeated: None,
            unfinished: true,
            reset: false,
        }
    }

    fn cohort(prints: impl IntoIterator<Item = Fingerprint>) -> Cohort {
        Cohort { failing: prints.into_iter().map(failing).collect(), ..Cohort::default() }
    }

    fn bare(window: u16, ttl: u8, ip_id: u16) -> Fingerprint {
        Fingerprint { window, ttl, ip_id, wscale: 255, ..Fingerprint::default() }
    }

    fn chosen(cohort: &Cohort, clients: &Clients) -> Candidate {
        choose(cohort, clients, &Settings::default()).expect("a signature").0
    }

    fn clients(print: Fingerprint) -> Clients {
        let at = Timestamp::from_millis(1000);
        let flow = Flow {
            listener: ListenerId(0),
            client: [198, 51, 100, 1].into(),
            server: [203, 0, 113, 10].into(),
            syn_at: at - Duration::from_millis(10),
            syn_ack_at: Some(at),
            done_at: Some(at),
            state: FlowState::Completed,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: print,
        };
        let mut clients = Clients::default();
        clients.learn(at, [flow].into_iter());
        clients
    }

    #[test]
    fn the_mask_leaves_out_what_the_tool_draws() {
        let none = Clients::default();
        let mask = |cohort: &Cohort| chosen(cohort, &none).mask;
        assert_eq!(mask(&cohort((0..100).map(|n| bare(512, 64, n)))), Mask::Full);
        assert_eq!(mask(&cohort((0..100).map(|n| bare(512, n as u8, n)))), Mask::NoTtl);
        assert_eq!(mask(&cohort((0..100).map(|n| bare(n, 64, n)))), Mask::NoWindow);
        assert_eq!(mask(&cohort((0..100).map(|n| bare(n, n as u8, n)))), Mask::NoWindowTtl);
        let drawn = |n: u16| Fingerprint { mss: n, ..bare(n, n as u8, n) };
        assert_eq!(mask(&cohort((0..100).map(drawn))), Mask::NoWindowMssTtl);
        let scaled = |n: u16| Fingerprint { wscale: n as u8, ..drawn(n) };
        assert_eq!(mask(&cohort((0..100).map(scaled))), Mask::Shape);
        let constant_id = |n: u16| Fingerprint { ip_id: 54321, ..scaled(n) };
        assert_eq!(mask(&cohort((0..100).map(constant_id))), Mask::IpId);
    }

    #[test]
    fn two_ttls_are_one_signature_without_ttl() {
        let chosen = chosen(
            &cohort((0..100).map(|n| bare(0, if n % 2 == 0 { 242 } else { 244 }, n))),
            &Clients::default(),
        );
        assert_eq!((chosen.mask, chosen.coverage), (Mask::NoTtl, 1.0));
    }

    #[test]
    fn a_signature_that_clients_share_is_passed_over_for_one_that_they_do_not() {
        let flood = cohort((0..100).map(|n| bare(512, 64, n)));
        let elsewhere = clients(bare(512, 60, 9));
        let chosen = chosen(&flood, &elsewhere);
        assert_eq!(chosen.mask, Mask::Full);
        assert!(!chosen.is_of_clients());
        let near = clients(bare(512, 64, 9));
        assert!(
            choose(&flood, &near, &Settings::default()).is_some_and(|(c, _)| c.is_of_clients())
        );
    }

    #[test]
    fn a_client_in_the_window_counts_as_one_in_the_record() {
        let mut flood = cohort((0..100).map(|n| bare(512, 64, n)));
        flood.completed.push(([198, 51, 100, 1].into(), bare(512, 64, 3), 1));
        let chosen = chosen(&flood, &Clients::default());
        assert_eq!(chosen.completed, 1);
        assert!(!chosen.may_be_tried(&Settings::default()));
    }

    #[test]
    fn that_nobody_looks_like_it_must_be_known_from_clients_or_from_unused_answers() {
        let (settings, none) = (Settings::default(), Clients::default());
        let few = chosen(&cohort((0..999).map(|n| bare(512, 64, n))), &none);
        assert!(!few.may_be_dropped(&none, &settings));
        assert!(few.may_be_tried(&settings));
        let many = chosen(&cohort((0..1000).map(|n| bare(512, 64, n))), &none);
        assert!(many.may_be_dropped(&none, &settings));
    }

    #[test]
    fn the_chosen_signature_leads_the_list() {
        let mix = (0..100).map(|n| bare(if n % 4 == 0 { 1024 } else { 512 }, n as u8, n));
        let (_, shares) =
            choose(&cohort(mix), &Clients::default(), &Settings::default()).expect("a signature");
        assert_eq!(shares[0].text, "opts=none win=* ttl=*");
        assert_eq!(shares[0].share, 1.0);
    }
}
