//! The signature that a rule should drop: one that most SYNs of failed handshakes share and no
//! client has.

use tcpguard_common::abi::{Fingerprint, Mask};

use super::cohort::Cohort;
use super::measured::{Measured, Quantity};
use super::report::SignatureShare;
use crate::input::{constants, describe};
use crate::listener::{Admitted, KnownFingerprints};

constants! {
    /// Share of the failed handshakes that one signature must cover to be a tool's.
    pub(crate) const FINGERPRINT_SHARE: f64 = 0.5 Share in 0.1..=1.0,
        "More than half, so that there is one such tool at most. Weighed against floods of \
         two tools.";

    /// Share of the handshakes with that signature that may complete.
    pub(crate) const FINGERPRINT_COMPLETION: f64 = 0.05 Share in 0.0..=0.5,
        "Weighed against tools that share a signature with a few clients. A rule requires that no \
         handshake completes.";

    /// Share of the failed handshakes that a signature must cover to be dropped.
    pub(crate) const SIGNATURE_COVERAGE: f64 = 0.5 Share in 0.1..=1.0,
        "As FINGERPRINT_SHARE. Weighed against floods of two tools: the second rule is judged by \
         the remaining handshakes.";

    /// Coverage that a more specific signature may lose against the best one.
    pub(crate) const SIGNATURE_TOLERANCE: f64 = 0.02 Share in 0.0..=0.1,
        "Weighed against rules wider than they need be, which hit more clients, and against \
         the clients' normal failures among a flood's, 2 %.";

    /// Completed handshakes on record from which it is certain that no client has a signature.
    pub(crate) const CLIENTS_KNOWN: u64 = 200 Count in 10..=100_000,
        "If one client in a hundred had it, 200 would all miss it with a probability of 13 %, and \
         with 0.004 % if one in twenty had it. Weighed against listeners with few clients. A \
         client that loses its SYN retransmits it and connects.";

    /// Answered SYNs of a signature without a completed handshake, which prove the same if there are
    /// few clients on record.
    pub(crate) const REPLIED_UNFINISHED: u64 = 1000 Count in 50..=1_000_000,
        "Five times CLIENTS_KNOWN, since lost clients leave them too. Weighed against \
         dropping within six seconds at 300 SYN/s.";

    /// Signature rules that a listener may have at most.
    pub(crate) const SIGNATURES_PER_LISTENER: usize = 4 Count in 1..=16,
        "Weighed against floods of two tools, and against the look-ups that each mask costs a \
         packet.";
}

/// Number of signatures reported.
const TOP: usize = 4;
/// Share of the failed flows from which a fingerprint that is not the most frequent belongs to a tool of its
/// own: about that of each of six tools that send at the same rate.
const TOOL: f64 = 0.15;
/// Share of the failed flows that a few tools cover together. It is more than a single one must, because
/// fingerprints that no client has are found more easily among several.
const TOGETHER: f64 = 0.8;
/// The masks, the most specific first. A mask that holds the IP identification constant says more than
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

/// A signature and its statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Mask of the fields that count.
    pub mask: Mask,
    /// Values of these fields, reduced to `mask`.
    pub print: Fingerprint,
    /// Share of the failed flows that it covers.
    pub coverage: f64,
    /// Share of the flows with it that completed.
    pub completion: f64,
    /// Completed flows with it in the window.
    pub completed: u64,
    /// True if a flow with it completed earlier in the incident.
    pub admitted: bool,
    /// Completions with it among the recorded clients.
    pub recorded: u64,
    /// Its share of the recorded clients' completions.
    pub recorded_share: f64,
    /// Flows with it that were answered more than four round trips ago, to no effect.
    pub unfinished: u64,
    /// Share of the failed flows that a few fingerprints cover together, this one among them. No client is known
    /// to have any of these.
    pub together: f64,
}

impl Candidate {
    /// Returns whether it is one of a few tools that make the flood together.
    pub fn is_one_of_few(&self) -> bool {
        self.together >= TOGETHER && self.coverage >= TOOL && !self.is_of_clients()
    }

    /// Returns whether it covers enough of the failed flows for a rule.
    pub fn covers_enough(&self) -> bool {
        self.coverage >= SIGNATURE_COVERAGE || self.is_one_of_few()
    }

    /// Returns whether any client is known to have this fingerprint.
    pub fn is_of_clients(&self) -> bool {
        self.completed > 0 || self.admitted || self.recorded > 0
    }

    /// Returns whether this may be dropped: it covers enough and no client has this fingerprint, which is known from
    /// the recorded clients or from SYN-ACKs that led to no handshake.
    pub fn may_be_dropped(&self, clients: &dyn KnownFingerprints) -> bool {
        self.may_be_tried()
            && (clients.completions() >= CLIENTS_KNOWN || self.unfinished >= REPLIED_UNFINISHED)
    }

    /// Returns whether this may be dropped tentatively: where a full queue sends no SYN-ACK, nothing more can be known,
    /// and a real client that is hit retransmits and is let in.
    pub fn may_be_tried(&self) -> bool {
        self.covers_enough() && !self.is_of_clients() && !self.print.is_cut()
    }

    /// Returns whether the fingerprints of failed and completing handshakes differ enough to speak of a tool.
    pub fn is_a_tools(&self) -> bool {
        self.coverage >= FINGERPRINT_SHARE
            // The SYNs of many systems differ in their options only.
            && !self.print.is_cut()
            && self.completion <= FINGERPRINT_COMPLETION
            && self.recorded_share <= FINGERPRINT_COMPLETION
    }

    /// Its share of the failed handshakes, and of the flows with it that complete, with the limits of a tool's.
    pub fn measured(&self) -> Vec<Measured> {
        vec![
            Quantity::SignatureShare.is(self.coverage).at_least(FINGERPRINT_SHARE),
            Quantity::SignatureCompletion.is(self.completion).at_most(FINGERPRINT_COMPLETION),
        ]
    }

    fn of(
        top: &Alike,
        mask: Mask,
        fingerprints: &Fingerprints<'_>,
        clients: &dyn KnownFingerprints,
    ) -> Self {
        let Alike { print, weight, unfinished } = *top;
        let completed =
            fingerprints.completed.iter().filter(|(other, _)| other.masked(mask) == print);
        let completed: u64 = completed.map(|(_, weight)| weight).sum();
        Self {
            mask,
            print,
            coverage: weight as f64 / fingerprints.weight as f64,
            completion: completed as f64 / (completed + weight) as f64,
            completed,
            admitted: fingerprints.admitted.has(mask, &print),
            recorded: clients.with_signature(mask, &print),
            recorded_share: clients.share(mask, &print),
            unfinished,
            together: 0.0,
        }
    }
}

/// Failed flows with the same fingerprint under a mask.
#[derive(Clone, Copy, Debug)]
struct Alike {
    print: Fingerprint,
    weight: u64,
    /// Number of these flows that were answered more than four round trips ago, to no effect.
    unfinished: u64,
}

/// The fingerprints of a cohort's flows under one mask, each once. Those under a mask that compares no other
/// field can be derived from these, which are few where a tool made them.
struct Fingerprints<'a> {
    failing: Vec<Alike>,
    completed: Vec<(Fingerprint, u64)>,
    /// Number of all flows that failed.
    weight: u64,
    admitted: &'a Admitted,
}

impl<'a> Fingerprints<'a> {
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

    /// The fingerprints of failed flows under `mask`, the most frequent first.
    fn ranked(&self, mask: Mask) -> Vec<Alike> {
        let masked = |alike: &Alike| Alike { print: alike.print.masked(mask), ..*alike };
        let mut fingerprints = merged(self.failing.iter().map(masked).collect());
        fingerprints.sort_by_key(|alike| std::cmp::Reverse(alike.weight));
        fingerprints
    }
}

/// Adds up the entries with the same fingerprint, in the order of the fingerprints.
fn merged(mut fingerprints: Vec<Alike>) -> Vec<Alike> {
    fingerprints.sort_unstable_by_key(|alike| alike.print);
    fingerprints.dedup_by(|next, kept| {
        let same = next.print == kept.print;
        if same {
            kept.weight += next.weight;
            kept.unfinished += next.unfinished;
        }
        same
    });
    fingerprints
}

/// The signature that a rule would use, and the most frequent ones under its mask for the report, that one
/// first.
///
/// Of the masks with a top signature that covers (nearly) as much as any, the most specific one is taken that
/// no client shares. Failing that, it is the most specific one that is a tool's, and else the most specific
/// one. Where none of them covers enough for a rule, the signature of one of a few tools goes before.
pub(crate) fn choose(
    cohort: &Cohort,
    clients: &dyn KnownFingerprints,
) -> Option<(Candidate, Vec<SignatureShare>)> {
    // Every mask but one compares a part of the fields of the full one.
    let (full, ip_id) =
        (Fingerprints::of(cohort, Mask::Full), Fingerprints::of(cohort, Mask::IpId));
    let fingerprints = |mask| if mask == Mask::IpId { &ip_id } else { &full };
    let tops: Vec<Candidate> = MASKS
        .into_iter()
        .filter_map(|mask| {
            let top = *fingerprints(mask).ranked(mask).first()?;
            // IPv6 has no identification, and a stack that does not use it sends zero.
            let telling = mask != Mask::IpId || top.print.ip_id != 0;
            telling.then(|| Candidate::of(&top, mask, fingerprints(mask), clients))
        })
        .collect();
    let best = tops.iter().map(|top| top.coverage).max_by(f64::total_cmp)?;
    let good = || tops.iter().filter(|top| top.coverage >= best - SIGNATURE_TOLERANCE);
    let one = *good()
        .find(|top| !top.is_of_clients())
        .or_else(|| good().find(|top| top.is_a_tools()))
        .or_else(|| good().next())?;
    let few = match best < SIGNATURE_COVERAGE {
        true => a_few(&full, &ip_id, clients),
        false => None,
    };
    let chosen = few.unwrap_or(one);
    let fingerprints = fingerprints(chosen.mask);
    let shares = fingerprints
        .ranked(chosen.mask)
        .iter()
        .take(TOP)
        .map(|top| Candidate::of(top, chosen.mask, fingerprints, clients))
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

/// The signature of the tool that sends most, where a few tools make the flood together. Enough clients must be
/// known, none of which has the fingerprint of such a tool. The mask is the most specific one under which the
/// tools cover (nearly) as much as under any.
fn a_few<'a>(
    full: &'a Fingerprints<'a>,
    ip_id: &'a Fingerprints<'a>,
    clients: &dyn KnownFingerprints,
) -> Option<Candidate> {
    if clients.completions() < CLIENTS_KNOWN {
        return None;
    }
    let first = |mask| {
        let fingerprints = if mask == Mask::IpId { ip_id } else { full };
        let ranked = fingerprints.ranked(mask);
        let often = ranked.iter().take(SIGNATURES_PER_LISTENER);
        let candidates = often.map(|alike| Candidate::of(alike, mask, fingerprints, clients));
        let telling = |tool: &Candidate| mask != Mask::IpId || tool.print.ip_id != 0;
        let tools = candidates
            .filter(|tool| tool.coverage >= TOOL && !tool.is_of_clients() && telling(tool))
            .filter(|tool| !tool.print.is_cut());
        let tools: Vec<Candidate> = tools.collect();
        let together = tools.iter().map(|tool| tool.coverage).sum();
        Some(Candidate { together, ..*tools.first()? })
    };
    let firsts: Vec<Candidate> = MASKS.into_iter().filter_map(first).collect();
    let best = firsts.iter().map(|first| first.together).max_by(f64::total_cmp)?;
    let good = |first: &&Candidate| first.together >= best - SIGNATURE_TOLERANCE;
    firsts.iter().find(good).copied().filter(Candidate::is_one_of_few)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cohort::Failing;
    use super::*;
    use crate::input::{Flow, FlowState, ListenerId, Timestamp};
    use crate::listener::{Clients, JoinedClients};

    fn failing(print: Fingerprint) -> Failing {
        Failing { print, unfinished: true, ..Failing::once([192, 0, 2, 1].into()) }
    }

    fn cohort(prints: impl IntoIterator<Item = Fingerprint>) -> Cohort {
        Cohort { failing: prints.into_iter().map(failing).collect(), ..Cohort::default() }
    }

    fn bare(window: u16, ttl: u8, ip_id: u16) -> Fingerprint {
        Fingerprint { window, ttl, ip_id, wscale: 255, ..Fingerprint::default() }
    }

    fn chosen(cohort: &Cohort, clients: &dyn KnownFingerprints) -> Candidate {
        choose(cohort, clients).expect("a signature").0
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

    /// The SYNs of a capture that holds 68 bytes of each.
    #[test]
    fn syns_that_were_cut_in_their_options_are_no_tools_and_get_no_rule() {
        let (all, none) = ((0..2000).map(|n| bare(512, 64, n)), Clients::default());
        let whole = chosen(&cohort(all.clone()), &none);
        assert!(whole.may_be_dropped(&none) && whole.is_a_tools());
        let cut = chosen(&cohort(all.map(Fingerprint::without_options)), &none);
        assert!(cut.covers_enough() && !cut.may_be_dropped(&none) && !cut.is_a_tools());
        assert_eq!(describe(cut.mask, &cut.print), "opts=unknown win=512 ttl=64 cut");
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
        assert!(choose(&flood, &near).is_some_and(|(c, _)| c.is_of_clients()));
    }

    #[test]
    fn a_client_in_the_window_counts_as_one_in_the_record() {
        let mut flood = cohort((0..100).map(|n| bare(512, 64, n)));
        flood.completed.push(([198, 51, 100, 1].into(), bare(512, 64, 3), 1));
        let chosen = chosen(&flood, &Clients::default());
        assert_eq!(chosen.completed, 1);
        assert!(!chosen.may_be_tried());
    }

    #[test]
    fn a_fingerprint_of_no_client_is_established_by_clients_or_by_unused_replies() {
        let none = Clients::default();
        let few = chosen(&cohort((0..999).map(|n| bare(512, 64, n))), &none);
        assert!(!few.may_be_dropped(&none));
        assert!(few.may_be_tried());
        let many = chosen(&cohort((0..1000).map(|n| bare(512, 64, n))), &none);
        assert!(many.may_be_dropped(&none));
    }

    /// Returns the flows of three tools in equal shares, of which one draws its window, among failed flows
    /// of clients.
    fn three_tools(of_clients: u16) -> Cohort {
        let tool = |n: u16| match n % 3 {
            0 => bare(512, 64, n),
            1 => Fingerprint { options: 1, ..bare(1024, 128, n) },
            _ => Fingerprint { options: 2, ..bare(n, 255, n) },
        };
        let other = |n: u16| Fingerprint { options: 1000 + u64::from(n), ..bare(n, 50, n) };
        cohort((0..300).map(tool).chain((0..of_clients).map(other)))
    }

    /// Returns the clients of `count` listeners, each with a fingerprint of its own.
    fn many_clients(count: u16) -> Vec<Clients> {
        (0..count).map(|n| clients(bare(40_000 + n, 57, 9))).collect()
    }

    #[test]
    fn three_tools_in_equal_shares_are_known_by_their_looks_together_where_clients_are_known() {
        let known = JoinedClients::of(many_clients(200).iter());
        let first = chosen(&three_tools(0), &known);
        assert!(first.is_one_of_few() && first.may_be_dropped(&known), "{first:?}");
        assert!(!first.is_a_tools(), "it is not the only one");
        assert_eq!((first.mask, first.together), (Mask::NoWindow, 1.0));
        assert!((first.coverage - 1.0 / 3.0).abs() < 1e-9);
        assert!(chosen(&three_tools(60), &known).is_one_of_few(), "a sixth fails anyway");
        assert!(!chosen(&three_tools(90), &known).is_one_of_few(), "too much else fails");
        let few_known = JoinedClients::of(many_clients(199).iter());
        assert!(!chosen(&three_tools(0), &few_known).is_one_of_few(), "nobody knows the clients");
    }

    #[test]
    fn a_look_of_clients_is_none_of_a_few_tools() {
        let mut all = many_clients(200);
        all.push(clients(bare(512, 64, 1)));
        let known = JoinedClients::of(all.iter());
        assert!(!chosen(&three_tools(0), &known).is_one_of_few());
    }

    #[test]
    fn the_chosen_signature_leads_the_list() {
        let mix = (0..100).map(|n| bare(if n % 4 == 0 { 1024 } else { 512 }, n as u8, n));
        let (_, shares) = choose(&cohort(mix), &Clients::default()).expect("a signature");
        assert_eq!(shares[0].text, "opts=none win=* ttl=*");
        assert_eq!(shares[0].share, 1.0);
    }
}
