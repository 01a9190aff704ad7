//! Usage errors, and output of help and version.

use clap::CommandFactory;
use tcpguard::cli::Args;

use super::documents::verbs;
use super::host::Host;

#[test]
fn a_line_that_makes_no_sense_has_code_2() {
    let host = Host::without_agent();
    for line in [
        &[][..],
        &["fly"],
        &["status", "--sideways"],
        &["block"],
        &["block", "192.0.2.1/24"],
        &["block", "192.0.2.1", "--for", "10"],
        &["unblock"],
        &["unblock", "192.0.2.1", "--all"],
        &["mode", "on"],
        &["detach"],
        &["run", "--mode", "on"],
        &["run", "--bpf-log", "loud"],
        &["status", "--timeout", "5s"],
    ] {
        let outcome = host.run(line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{outcome:#?}");
        assert!(!outcome.stderr.is_empty());
    }
}

#[test]
fn every_verb_refuses_what_it_does_not_know_and_names_its_help() {
    let host = Host::without_agent();
    let mut known = Vec::new();
    verbs(&Args::command(), "", &mut known);
    for verb in known {
        let outcome = host.run(&verb.split(' ').chain(["--sideways"]).collect::<Vec<_>>());
        // To monitoring a 2 would be an alarm.
        let code = if verb == "check" { 3 } else { 2 };
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{outcome:#?}");
        let help = format!("\nhint: tcpguard {verb} --help\n");
        assert!(outcome.stderr.contains("--sideways"), "{outcome:#?}");
        assert!(outcome.stderr.ends_with(&help), "{outcome:#?}");
    }
}

#[test]
fn help_and_version_are_data() {
    let host = Host::without_agent();
    let help = host.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let all = Args::command();
    let mut hidden = Vec::new();
    // The fleet is listed where it is installed.
    for verb in all.get_subcommands().filter(|verb| verb.get_name() != "fleet") {
        let listed = help.stdout.contains(&format!("\n  {} ", verb.get_name()));
        assert_eq!(listed, !verb.is_hide_set(), "{} in {}", verb.get_name(), help.stdout);
        hidden.extend(verb.is_hide_set().then(|| verb.get_name()));
    }
    assert_eq!(hidden, ["version", "restore-sysctls", "manual"]);
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "tcpguard {version} (kernel layout {}, control protocol {}, tcpguard.status/1)\n",
        tcpguard_common::abi::ABI_VERSION,
        tcpguard::control::proto::VERSION
    );
    host.run(&["version"]).is(0, &text, "");
    assert_eq!(host.run(&["version", "--json"]).json()["version"], version);
}
