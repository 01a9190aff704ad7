//! The events that alerts report, each with its message id.

/// Message ids by event, for `journalctl MESSAGE_ID=…` and the message catalog
/// (`packaging/tcpguard.catalog`). Never change or reuse one.
pub const MESSAGE_IDS: [(&str, &str); 38] = [
    ("attack_started", "2c148cbf00504400bdd7c0796b76735d"),
    ("attack_updated", "c43dd6257d4d41e4a86cb9b6ad7d8d90"),
    ("attack_ended", "8cab5c467a374584a5eb7da10182c002"),
    ("handshakes_degraded", "b35d64c2f55f4382868998dc01a9b01b"),
    ("handshakes_updated", "f0ad26ee92bf42778683a8014891a473"),
    ("handshakes_recovered", "981630f316fb428d87dc7a516724a154"),
    ("incident_started", "f5582d88cba347578d24b5fd90c8e7be"),
    ("incident_updated", "64d7a1ea424841f3a0a3c0b711f93c1d"),
    ("incident_ended", "7e28efc05295485fbc5be67546535f2a"),
    ("too_many_incidents", "e92725a20a2f41bb9cb384158db4fe0f"),
    ("rule_installed", "93fbec010f434a788a33543e1edb5ee8"),
    ("rule_removed", "1d65b51234894ef89453fa26fe2a036b"),
    ("rule_withdrawn", "169e0f6be4044ac4bb52a3528648a50c"),
    ("rule_failed", "b9c8bad10a144dcf9da0c34a8d2c68ef"),
    ("rules_imported", "239440cd0fbe4ffab613802a48b4fe94"),
    ("rule_confirmed", "dde4a9ed0bb94aeaac81c2cbbb917527"),
    ("rule_reverted", "c06fda072615407eaea2ad530b30665c"),
    ("mitigation_started", "401828aa83cc44ff95181da8d595e272"),
    ("mitigation_stopped", "9cc7d57fceac458dbcf3925adec1c41e"),
    ("mitigation_withdrawn", "89d33dcb58094bab8e0437f6472b9569"),
    ("mitigation_failed", "34c9c226d4b34b26ac0f91a8d5918664"),
    ("mitigation_ordered", "2421df63f27a40408bd75f08969d3d8a"),
    ("allow_added", "db6e627892d14132915d3bbc8e4f204f"),
    ("allow_removed", "2bc787c192064b2d92840d2281fa6902"),
    ("mode_changed", "a41937006d354c1e830025aba52e4d67"),
    ("config_reloaded", "dd20930af03146b7bc451ea2f244ee98"),
    ("config_refused", "7e170bf9119b49fb97f22d8fed047493"),
    ("interface_changed", "e0d5bd21441d4779b61fa36d252b48d1"),
    ("filter_detached", "35a96f10232e4cd29f301e6b30f4af55"),
    ("rule_drift", "093a15b0bcdc44ebbb0a4f6a8e138c22"),
    ("rule_drift_over", "da21572392994365bc860f1ab6977f71"),
    ("drift_repaired", "0daaa47439ba4b2698c5e62cdf20e502"),
    ("mode_reverted", "9505a4449d464f3f82b65259ff3983b3"),
    ("mode_confirmed", "a753463469c543fca107bb9cf69b37a3"),
    ("attach_failed", "92fcefcda50540d38ea3278c1eb4d552"),
    ("generic_fallback", "dc84d60585514f1f9605de7fbc5f903b"),
    ("dropped_before_xdp", "7950c8697f7e4e5eb2e4b8d48fd17c93"),
    ("dropped_before_xdp_over", "35301c94781b47eb8bffbcb22eed4a6e"),
];

/// The message id of an event.
pub fn message_id(event: &str) -> Option<&'static str> {
    MESSAGE_IDS.iter().find(|(name, _)| *name == event).map(|(_, id)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str = include_str!("../../../packaging/tcpguard.catalog");
    const MANUAL: &str = include_str!("../../../docs/journal.md");

    #[test]
    fn every_event_has_an_id_of_its_own() {
        for (position, (event, id)) in MESSAGE_IDS.iter().enumerate() {
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{event}");
            assert!(
                MESSAGE_IDS[..position].iter().all(|(name, other)| name != event && other != id)
            );
        }
    }

    #[test]
    fn the_catalog_explains_every_event_and_nothing_else() {
        let explained: Vec<_> =
            CATALOG.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let known: Vec<_> = MESSAGE_IDS.iter().map(|(_, id)| *id).collect();
        assert_eq!(explained, known);
    }

    #[test]
    fn the_manual_lists_every_event() {
        for (event, id) in MESSAGE_IDS {
            assert!(MANUAL.contains(&format!("\n| `{event}` | `{id}` | ")), "{event}");
        }
    }
}
