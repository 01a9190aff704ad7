//! Rules and the allowlist.

use tcpguard_engine as engine;

use super::host::Host;
use super::support::{calm, flooded, status};

#[test]
fn blocking_says_what_was_done_and_how_to_take_it_back() {
    let host = Host::with(status(calm()));
    host.run(&["block", "192.0.2.0/24", "--for", "90m"]).is(
        0,
        "blocked 192.0.2.0/24 for 1h30m, until 15:35:31 (rule 12)\n",
        "to remove it: tcpguard unblock 192.0.2.0/24\n",
    );
    host.run(&["block", "192.0.2.0/24", "--quiet"]).is(
        0,
        "blocked 192.0.2.0/24 for 1h, until 15:05:31 (rule 12)\n",
        "",
    );
    host.run(&["block", "192.0.2.0/24", "--dry-run"]).is(
        0,
        "would block 192.0.2.0/24 for 1h, until 15:05:31\n",
        "dry run, nothing was changed: repeat without --dry-run\n",
    );
    host.run(&["block", "192.0.2.0/24", "--port", "443"]).is(
        0,
        "blocked 192.0.2.0/24 to port 443 for 1h, until 15:05:31 (rule 12)\n",
        "to remove it: tcpguard unblock 192.0.2.0/24\n",
    );
    let four = ["--port", "587", "--port", "25", "--port", "465", "--port", "143", "--port", "25"];
    let line = [&["block", "192.0.2.0/24", "--dry-run"][..], &four].concat();
    host.run(&line).is(
        0,
        "would block 192.0.2.0/24 to ports 25, 143, 465, 587 for 1h, until 15:05:31\n",
        "dry run, nothing was changed: repeat without --dry-run\n",
    );
    let json = host.run(&[&line[..], &["--json"]].concat()).json();
    assert_eq!(json["rule"]["ports"], serde_json::json!([25, 143, 465, 587]));
    let json = host.run(&["block", "2001:db8::7", "--reason", "scan", "--json"]).json();
    assert_eq!(json["rule"]["ports"], serde_json::json!([]), "every port");
    assert_eq!(json["rule"]["matches"], "2001:db8::7/128");
    assert_eq!(json["rule"]["reason"]["text"], "scan");
    assert_eq!(json["dry_run"], false);
}

#[test]
fn ports_that_cannot_be_are_refused_before_the_agent_is_asked() {
    let host = Host::without_agent();
    let five: Vec<&str> = "1 2 3 4 5".split(' ').flat_map(|port| ["--port", port]).collect();
    host.run(&[&["block", "192.0.2.1"][..], &five].concat()).is(
        2,
        "",
        "error: a rule has at most 4 ports\nhint: tcpguard block --help\n",
    );
    for port in ["0", "65536", "https"] {
        let outcome = host.run(&["block", "192.0.2.1", "--port", port]);
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(outcome.stderr.contains("--port") && outcome.stderr.contains(port), "{outcome:#?}");
    }
}

#[test]
fn blocking_in_observe_mode_says_that_nothing_is_dropped() {
    let host = Host::with(status(flooded(engine::Mode::Observe)));
    host.run(&["block", "192.0.2.1"]).is(
        0,
        "blocked 192.0.2.1/32 for 1h, until 15:05:31 (rule 12)\n",
        "to remove it: tcpguard unblock 192.0.2.1/32\n\
         warning: mode observe: rules drop nothing\n\
         hint: tcpguard mode enforce --rollback-after 60s\n",
    );
}

#[test]
fn no_operator_blocks_himself_by_accident() {
    let host = Host::with(status(calm()));
    host.run(&["block", "203.0.113.0/24"]).is(
        1,
        "",
        "error: 203.0.113.0/24 contains 203.0.113.5, the address of your SSH session\n\
         hint: use a smaller prefix, or --force\n",
    );
    host.run(&["block", "203.0.113.0/24", "--force"]).is(
        0,
        "blocked 203.0.113.0/24 for 1m, until 14:06:31 unless confirmed (rule 12)\n",
        "to keep it until 15:05:31: tcpguard confirm 203.0.113.0/24\n\
         to remove it: tcpguard unblock 203.0.113.0/24\n",
    );
    host.run(&["block", "203.0.113.0/24", "--force", "--rollback-after", "5m", "--dry-run"]).is(
        0,
        "would block 203.0.113.0/24 for 5m, until 14:10:31 unless confirmed\n",
        "dry run, nothing was changed: repeat without --dry-run\n",
    );
    host.run(&["block", "203.0.113.0/24", "--force", "--rollback-after", "never", "--quiet"]).is(
        0,
        "blocked 203.0.113.0/24 for 1h, until 15:05:31 (rule 12)\n",
        "",
    );
    for wrong in [&["--rollback-after", "60s"][..], &["--rollback-after", "never"]] {
        let outcome = host.run(&[&["block", "192.0.2.1"], wrong].concat());
        assert_eq!(outcome.code, Some(2), "without --force there is nothing to confirm");
    }
    assert_eq!(host.run(&["block", "203.0.113.64/26"]).code, Some(0));
    host.run(&["block", "10.0.0.0/8"]).is(1, "", "error: too wide\nhint: use --force\n");
}

#[test]
fn a_confirmed_rule_is_named_with_its_end() {
    let host = Host::with(status(calm()));
    host.run(&["confirm", "203.0.113.0/24"]).is(
        0,
        "confirmed 203.0.113.0/24 for 1h, until 15:05:31 (rule 12)\n",
        "",
    );
    let json = host.run(&["confirm", "203.0.113.0/24", "--json"]).json();
    assert_eq!(json["rules"][0]["confirmed_until"], serde_json::Value::Null);
    assert_eq!(host.run(&["confirm"]).code, Some(5), "none waits");
}

#[test]
fn unblocking_prints_what_was_removed() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    host.run(&["unblock", "--all", "--origin", "auto"]).is(
        0,
        "removed rule 7 on opts=none win=512 ttl=64 at :443 (attack #3; 19.7M hits; it had 54s left)\n",
        "while incident #3 continues, rule 7 is restored after 10m, or at once: tcpguard mitigation :443 \
         signature auto; to stop dropping: tcpguard mode observe\n",
    );
    assert_eq!(host.run(&["unblock", "--all", "--json"]).json()["removed"][0]["id"], 7);
    host.run(&["unblock", "192.0.2.0/24"]).is(
        5,
        "",
        "error: no rule within 192.0.2.0/24\nhint: tcpguard rules list\n",
    );
}

#[test]
fn rules_are_listed() {
    let attacked = Host::with(status(flooded(engine::Mode::Enforce)));
    let listed = attacked.run(&["rules", "list"]);
    assert_eq!(listed.code, Some(0));
    assert!(listed.stdout.starts_with("RULE  KIND "), "{listed:#?}");
    assert_eq!(attacked.run(&["rules", "list", "--json"]).json()["rules"][0]["id"], 7);

    let quiet = Host::with(status(calm()));
    quiet.run(&["rules", "list"]).is(0, "", "no rules; to make one: tcpguard block PREFIX\n");
    assert_eq!(
        quiet.run(&["rules", "list", "--json"]).stdout,
        "{\"schema\":\"tcpguard.rule-list/1\",\"rules\":[],\"allowed\":[]}\n"
    );
}

#[test]
fn allowing_and_taking_it_back() {
    let host = Host::with(status(calm()));
    let allowed = host.run(&["allow", "203.0.113.0/24", "--reason", "our monitoring"]);
    assert_eq!(allowed.code, Some(0), "{allowed:#?}");
    assert!(allowed.stdout.starts_with("allowed 203.0.113.0/24 for 30d, until "), "{allowed:#?}");
    assert!(allowed.stderr.contains("tcpguard disallow 203.0.113.0/24"), "{allowed:#?}");
    assert!(allowed.stderr.contains("without an end: [protect] prefixes"), "{allowed:#?}");
    host.run(&["disallow", "192.0.2.0/24"]).is(
        5,
        "",
        "error: no exemption within 192.0.2.0/24\nhint: tcpguard rules list\n",
    );
}
