//! What happens to the SYNs of an address, and why.

use serde::{Deserialize, Serialize};

use super::{Allowed, Mode, Rule, Source, Time};

/// Everything that decides about an address or prefix.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Explanation {
    /// What was asked about.
    pub prefix: String,
    /// What happens when a rule matches.
    pub mode: Mode,
    /// Rules on sources that have an address in common with it.
    pub rules: Vec<Rule>,
    /// Rules on signatures, which match SYNs from anywhere.
    pub signatures: Vec<Rule>,
    /// Exemptions by an operator.
    pub allowed: Vec<Allowed>,
    /// Why no rule of the guard's own may touch it; `null` when one may.
    pub exempt: Option<String>,
    /// When it last completed a handshake, for a single address; `null`: never, as far as is known.
    pub completed_at: Option<Time>,
    /// What it sent, for a single address.
    pub source: Option<Source>,
}

impl Explanation {
    /// What becomes of its SYNs, in one sentence. The order is that of the kernel's decision.
    pub fn verdict(&self) -> String {
        let would = match self.mode {
            Mode::Off => return "the guard is off: its SYNs pass".to_owned(),
            Mode::Observe => "would be dropped in enforce mode",
            Mode::Enforce => "are dropped",
        };
        let by_operator = |rule: &&Rule| rule.attack.is_none();
        if let Some(rule) = self.rules.iter().find(by_operator) {
            return format!(
                "its SYNs {would}: rule {} on {}, by an operator: {}",
                rule.id, rule.matches, rule.reason
            );
        }
        if let Some(why) = &self.exempt {
            return format!("no rule of the guard's own drops its SYNs: {why}");
        }
        if self.completed_at.is_some() {
            return "rules of the guard's own spare it, because it completed a handshake (up to 20 SYN/s)"
                .to_owned();
        }
        if let Some(rule) = self.rules.first() {
            return format!(
                "its SYNs {would}: rule {} on {}: {}",
                rule.id, rule.matches, rule.reason
            );
        }
        match self.signatures.len() {
            0 => "no rule concerns it: its SYNs pass".to_owned(),
            count => format!(
                "no rule names it; SYNs that look like a flood's {would}, whoever sends them ({count} \
                 rule{}), unless they are sent again as a real client does",
                if count == 1 { "" } else { "s" }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: u32, kind: &str, attack: Option<u64>) -> Rule {
        let time = Time("2026-01-02T03:04:05Z".parse().unwrap());
        Rule {
            id,
            kind: kind.to_owned(),
            matches: "203.0.113.0/24".to_owned(),
            origin: String::new(),
            attack,
            reason: "why not".to_owned(),
            created_at: time,
            expires_at: time,
            expires_in_s: 0,
            hits: 0,
            returned: 0,
        }
    }

    fn nothing() -> Explanation {
        Explanation {
            prefix: "203.0.113.7/32".to_owned(),
            mode: Mode::Enforce,
            rules: Vec::new(),
            signatures: Vec::new(),
            allowed: Vec::new(),
            exempt: None,
            completed_at: None,
            source: None,
        }
    }

    #[test]
    fn the_first_that_applies_decides() {
        let mut about = nothing();
        let mut expect = |change: &dyn Fn(&mut Explanation), words: &str| {
            change(&mut about);
            let verdict = about.verdict();
            assert!(verdict.contains(words), "{words}: {verdict}");
        };
        expect(&|_| (), "no rule concerns it");
        expect(&|about| about.signatures.push(rule(1, "signature", Some(7))), "(1 rule)");
        expect(&|about| about.rules.push(rule(2, "source", Some(7))), "are dropped: rule 2");
        let time = Time("2026-01-02T03:04:05Z".parse().unwrap());
        expect(&|about| about.completed_at = Some(time), "completed a handshake");
        expect(&|about| about.exempt = Some("default gateway".to_owned()), "default gateway");
        expect(&|about| about.rules.push(rule(3, "source", None)), "by an operator");
        expect(&|about| about.mode = Mode::Observe, "would be dropped in enforce mode: rule 3");
        expect(&|about| about.mode = Mode::Off, "the guard is off");
    }
}
