//! The descriptor of each event, which the journal's message catalog has beside the explanation.

const CATALOG: &str = include_str!("../../../packaging/tcpguard.catalog");

/// Descriptor of an event of the engine or of the agent.
#[derive(Clone, Copy, Debug)]
pub struct EventDescriptor {
    /// The name in JSON and in the journal.
    pub name: &'static str,
    /// Cases in which it occurs.
    pub when: &'static str,
    /// Message id of its alert; `None`: it is an action of an incident and raises no alert.
    pub message_id: Option<&'static str>,
}

/// The descriptors of all events, in the order of the catalog.
pub fn descriptors() -> impl Iterator<Item = EventDescriptor> {
    CATALOG.split("\n# ").skip(1).filter_map(|entry| {
        let mut lines = entry.lines();
        let (name, when) = lines.next()?.split_once(" | ")?;
        let message_id = lines.next().and_then(|line| line.strip_prefix("-- "));
        Some(EventDescriptor { name, when, message_id })
    })
}

/// The message id of an event by its name.
pub fn message_id(name: &str) -> Option<&'static str> {
    descriptors().find(|event| event.name == name)?.message_id
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_event_has_a_name_and_every_alert_an_id_of_its_own() {
        let mut seen = BTreeSet::new();
        for EventDescriptor { name, message_id, .. } in descriptors() {
            assert!(seen.insert(name), "{name}");
            let is_id = |id: &str| id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit());
            assert!(message_id.is_none_or(|id| is_id(id) && seen.insert(id)), "{name}");
        }
    }
}
