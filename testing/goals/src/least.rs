//! Least number of trials of each promise in its full size: a row with fewer says nothing about it.
//!
//! Numbers that do not grow with the size, such as the number of programs, stand here as they were: a test that looks
//! at fewer of them than it did is noticed.

/// The least N of each row, by its test, in the unit that the row names.
const LEAST: &[(&str, u64)] = &[
    ("g1_kills_let_nothing_of_a_flood_in", 500),
    ("g1_kills_lose_no_client", 500),
    ("g2_a_kill_leaves_one_set_whole", 500),
    ("g3_upgrades_in_a_flood_let_nothing_in_and_no_handshake_fails", 200),
    ("g3_upgrades_while_cookies_are_active_leak_no_syn_and_fail_no_handshake", 200),
    ("g4_an_agent_that_hangs_is_replaced_and_the_xdp_program_stays", 5),
    ("g5_interfaces_that_come_and_go_are_protected_at_once_and_never_said_to_be_before", 200),
    ("g6_a_flood_evicts_no_validated_client", 20_000_000),
    ("g6_a_flood_from_everywhere_takes_no_memory", 10_000_000),
    ("g7_odd_syns_are_counted_if_they_get_a_reply", 111),
    ("g7_mutants_are_counted_if_they_get_a_reply", 1_000_000),
    ("g8_kernel_and_host_judge_and_count_alike", 10_000_000),
    ("g8_full_tables_drop_only_what_a_rule_matches", 100_000),
    ("g9_what_was_found_is_played_again", 1_000),
    ("g9_the_planted_bug_was_found_by_coverage_and_is_not_by_chance", 1),
    ("g10_no_program_takes_a_verifier_long", 7),
    ("g11_no_unprivileged_user_opens_a_pin", 22),
    ("g11_the_service_holds_three_capabilities", 3),
    ("g11_no_unprivileged_user_connects_to_a_socket", 2),
    ("g11_the_kernel_refuses_the_xdp_program_without_any_of_three_capabilities", 7),
    ("g12_a_thousand_hostile_clients_keep_no_other_client_from_the_agent", 4_000),
    ("g13_spoofed_syns_block_no_new_client_and_no_network", 12),
    ("g13_a_flood_spoofing_a_client_blocks_no_client_and_cuts_no_session", 30),
    ("g14_an_unconfirmed_mode_is_reverted", 10),
    ("g14_an_unconfirmed_risky_block_is_rolled_back", 10),
    ("g14_an_unconfirmed_risky_import_is_rolled_back", 10),
    ("g15_nothing_of_a_damaged_file_is_believed", 60_000),
    ("g15_a_damaged_configuration_is_understood_or_its_mistakes_have_a_place", 30_000),
    ("g15_a_disk_that_takes_nothing_lets_nothing_in_and_tears_no_file", 2),
    ("g15_what_another_version_pinned_is_taken_over", 20),
    ("g15_a_damaged_configuration_changes_nothing_of_a_running_agent", 500),
    ("g16_a_restart_ends_no_rule_early_or_late_whatever_the_clock_shows", 1_000_000),
    ("g16_over_a_month_of_polls_every_rule_ends_in_time_and_nothing_grows", 15_000),
    ("g17_the_numbers_add_up", 10_000_000),
    ("g17_a_journal_that_hangs_costs_alerts_and_no_poll", 10),
    ("g18_unsafe_code_stands_at_named_edges_only", 300),
    ("g18_dependencies_have_known_licences_and_sources", 100),
    ("g19_in_a_flood_no_packet_filter_locks_clients_out", 12),
    ("g20_programs_that_end_the_chain_lock_no_client_out", 6),
    ("g20_a_veth_without_xdp_tx_locks_no_client_out", 8),
    ("g20_connections_of_the_host_with_itself_hide_no_flood", 6),
    ("g21_half_open_health_checks_are_never_dropped", 12),
    ("g21_helpers_that_stop_take_no_rule_away", 4),
    ("g21_retransmitted_syns_withdraw_no_rule", 4),
    ("coexistence_an_earlier_program_is_named_and_left_alone", 3),
    ("coexistence_detach_removes_the_program", 3),
    ("coexistence_ours_is_not_knocked_off_by_accident", 7),
    ("audit_one_rule_deleted_and_one_added_is_repaired_although_their_number_is_the_same", 100),
    ("soak_attacks_and_changes_leak_nothing_and_each_is_reported_once", 140),
];

/// The tests with a least N for their rows.
pub fn tests() -> impl Iterator<Item = &'static str> {
    LEAST.iter().map(|(test, _)| *test)
}

/// The least N of the rows of `test` in their full size; modules may stand before its name.
pub fn of(test: &str) -> Option<u64> {
    let function = test.rsplit("::").next().unwrap_or(test);
    LEAST.iter().find(|(name, _)| *name == function).map(|(_, least)| *least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_whatever_modules_the_test_is_in() {
        let name = "g2_a_kill_leaves_one_set_whole";
        assert_eq!((of(name), of(&format!("rows::{name}"))), (Some(500), Some(500)));
        assert_eq!(of("g2_a_kill"), None);
    }
}
