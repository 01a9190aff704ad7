//! `tcpguard unblock`

use tcpguard_engine::{RuleId, Which, Whose};

use super::args::UnblockArgs;
use super::session::Session;
use super::status::fetch;
use crate::control::proto::Change;
use crate::control::{Request, Response};
use crate::documents::{Rule, RuleList, Unblocked, place};
use crate::text;

pub(super) fn run(args: &UnblockArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let &UnblockArgs { ref prefixes, all, rule, origin, dry_run } = args;
    let whose = match origin {
        Some(origin) => origin.asked(),
        // An operator who clears away manual rules does not remove the rules against an attack.
        None if all => Whose::Operators,
        None => Whose::All,
    };
    let which: Vec<Which> = match (rule, prefixes.as_slice()) {
        (Some(rule), _) => vec![Which::Numbered(RuleId(rule))],
        (None, []) => vec![Which::All],
        (None, several) => several.iter().map(|prefix| Which::Within(*prefix)).collect(),
    };
    let (mut removed, mut refused) = (Vec::new(), None);
    for which in which {
        let change = Change::Unblock { which, whose };
        match session.client.ask(Request::Change { change, dry_run }, Response::try_as_unblocked) {
            Ok(unblocked) => removed.extend(unblocked.removed),
            // The rules that the other requests remove are reported first.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    if removed.is_empty()
        && let Some(error) = refused
    {
        return Err(error.into());
    }
    say_removed(args, whose, removed, session)?;
    refused.map_or(Ok(()), |error| Err(error.into()))
}

fn say_removed(
    args: &UnblockArgs,
    whose: Whose,
    removed: Vec<Rule>,
    session: &mut Session<'_>,
) -> anyhow::Result<()> {
    let &UnblockArgs { all, dry_run, .. } = args;
    if session.json {
        return session.print_document(&Unblocked { removed, dry_run });
    }
    session.render(|out, _| text::removed(out, &removed, dry_run))?;
    if dry_run {
        session.say("dry run, nothing was changed: repeat without --dry-run");
        return Ok(());
    }
    if all && whose == Whose::Operators {
        say_what_stays(session);
    }
    say_when_again(&removed, session);
    Ok(())
}

/// Says how many rules against attacks and of the fleet are not removed.
fn say_what_stays(session: &Session<'_>) {
    let Ok(Response::Rules(RuleList { rules, .. })) = session.client.call(Request::Rules) else {
        return;
    };
    let of_attacks = rules.iter().filter(|rule| rule.incident.is_some()).count();
    let of_fleet = rules.iter().filter(|rule| rule.is_of_fleet()).count();
    for (stay, kind, origin) in
        [(of_attacks, "against attacks", "auto"), (of_fleet, "of the fleet", "fleet")]
    {
        let stay = match stay {
            0 => continue,
            1 => format!("1 rule {kind} stays"),
            many => format!("{many} rules {kind} stay"),
        };
        session
            .say(&format!("{stay}; to remove those too: tcpguard unblock --all --origin {origin}"));
    }
}

/// Says when the removed rule of an ongoing attack is made again, and which command has it made at once.
fn say_when_again(removed: &[Rule], session: &Session<'_>) {
    let mut of_attacks = removed.iter().rev().filter_map(|rule| Some((rule, rule.incident?)));
    let Some((rule, attack)) = of_attacks.next() else { return };
    let at_once = match fetch(session) {
        Ok(status) => {
            let mut attacks = status.incidents.iter();
            // Mitigations are ordered for one listener.
            let open = attacks.find(|open| open.id == attack && open.port != 0);
            open.map(|open| place(open.dst, open.port))
        }
        Err(_) => None,
    };
    let mitigation = rule.kind.name();
    let at_once = at_once.map_or_else(String::new, |place| {
        format!(", or at once: tcpguard mitigation {place} {mitigation} auto")
    });
    session.say(&format!(
        "while incident #{attack} continues, rule {} is restored after 10m{at_once}; to stop dropping: \
         tcpguard mode observe",
        rule.id
    ));
}
