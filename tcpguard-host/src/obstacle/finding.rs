//! Obstacles as findings: one for each obstacle, however many listeners it is about.

use std::fmt::Display;

use super::Obstacle;
use crate::finding::Finding;

/// Listeners named in one finding.
const NAMED: usize = 4;

/// An obstacle, and the listeners that it is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Impeded<L> {
    pub obstacle: Obstacle,
    pub at: Vec<L>,
}

impl<L: Display> Impeded<L> {
    /// Puts the listeners together that have the same obstacle.
    pub fn group(found: impl IntoIterator<Item = (L, Obstacle)>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (listener, obstacle) in found {
            match all.iter_mut().find(|one| one.obstacle == obstacle) {
                Some(one) => one.at.push(listener),
                None => all.push(Self { obstacle, at: vec![listener] }),
            }
        }
        all
    }

    /// The finding, with the remedy as its hint.
    pub fn finding(&self) -> Finding {
        let Self { obstacle, at } = self;
        let effect = if obstacle.forbids() { "no SYN cookies" } else { "no own SYN cookies" };
        let at_them = if at.is_empty() { String::new() } else { format!(" at {}", named(at)) };
        let text = format!("{effect}{at_them}: {}", obstacle.sentence());
        let finding = Finding::new(obstacle.severity(), obstacle.code(), text);
        let finding = finding.hint(obstacle.remedy());
        match &at[..] {
            [one] => finding.about(one.to_string()),
            _ => finding,
        }
    }
}

/// The findings about obstacles at listeners.
pub fn findings<L: Display>(found: impl IntoIterator<Item = (L, Obstacle)>) -> Vec<Finding> {
    Impeded::group(found).iter().map(Impeded::finding).collect()
}

/// `:80, :443 and 3 more`
pub fn named<L: Display>(listeners: &[L]) -> String {
    let first: Vec<String> = listeners.iter().take(NAMED).map(L::to_string).collect();
    let more = match listeners.len().saturating_sub(NAMED) {
        0 => String::new(),
        some => format!(" and {some} more"),
    };
    first.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;
    use crate::finding::Severity;

    #[test]
    fn a_hundred_listeners_with_one_obstacle_are_one_finding() {
        let mptcp = || Obstacle::Mptcp { no_helper: None };
        let ports = (7000..7100).map(|port| (format!(":{port}"), mptcp()));
        let found = findings(ports.chain([(":80".to_owned(), Obstacle::Barred)]));
        assert_eq!(found.len(), 2, "{found:#?}");
        let text = &found[0].text;
        assert!(
            text.starts_with("no own SYN cookies at :7000, :7001, :7002, :7003 and 96 more: the"),
            "{text}"
        );
        assert_eq!((found[0].subject.as_deref(), found[1].subject.as_deref()), (None, Some(":80")));
    }

    #[test]
    fn every_finding_has_the_sentence_and_the_remedy_of_its_obstacle() {
        for obstacle in examples() {
            let found = findings([(":443", obstacle.clone())]).remove(0);
            assert!(found.text.ends_with(&obstacle.sentence()), "{found:?}");
            assert_eq!(found.hint, Some(obstacle.remedy()));
            assert_eq!((&*found.code, found.severity), (obstacle.code(), obstacle.severity()));
            assert!(Obstacle::CODES.contains(&obstacle.code()), "{found:?}");
            assert!(found.severity < Severity::Critical, "the agent works: {found:?}");
        }
    }
}
