//! Which look-ups of source rules a SYN cannot skip.

use tcpguard_common::abi::Config;
use tcpguard_engine::Matcher;

/// How many rules there are on sources.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Lookups {
    /// For every port.
    every_port: u32,
    /// For certain ports.
    certain_ports: u32,
}

impl Lookups {
    /// Those of some rules.
    pub fn of<'a>(matchers: impl Iterator<Item = &'a Matcher>) -> Self {
        let mut lookups = Self::default();
        matchers.for_each(|matcher| lookups.add(matcher));
        lookups
    }

    /// Counts one more rule.
    pub fn add(&mut self, matcher: &Matcher) {
        if let Some(count) = self.count_of(matcher) {
            *count += 1;
        }
    }

    /// Counts a rule less.
    pub fn take(&mut self, matcher: &Matcher) {
        if let Some(count) = self.count_of(matcher) {
            *count -= 1;
        }
    }

    /// What two rule sets need that are in the kernel at a time.
    pub fn with(self, other: Self) -> Self {
        Self {
            every_port: self.every_port.max(other.every_port),
            certain_ports: self.certain_ports.max(other.certain_ports),
        }
    }

    /// Says it in a configuration record; whether that is news.
    pub fn write_to(self, config: &mut Config) -> bool {
        let port_rules = u8::from(self.certain_ports > 0);
        let before = std::mem::replace(&mut config.source_rules, self.every_port);
        let had_ports = std::mem::replace(&mut config.port_rules, port_rules);
        (before, had_ports) != (self.every_port, port_rules)
    }

    fn count_of(&mut self, matcher: &Matcher) -> Option<&mut u32> {
        match matcher {
            Matcher::Source(_, ports) if ports.is_every() => Some(&mut self.every_port),
            Matcher::Source(..) => Some(&mut self.certain_ports),
            Matcher::Signature { .. } => None,
        }
    }
}
