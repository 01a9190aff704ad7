//! What is typed wrong, and what explains itself.

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
fn help_and_version_are_data() {
    let host = Host::without_agent();
    let help = host.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for verb in [
        "run", "status", "block", "unblock", "rules", "mode", "reload", "detach", "config",
        "version",
    ] {
        assert!(help.stdout.contains(&format!("\n  {verb} ")), "{verb} in {}", help.stdout);
    }
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "tcpguard {version} (kernel layout {}, control protocol 1, tcpguard.status/1)\n",
        tcpguard_common::ABI_VERSION
    );
    host.run(&["version"]).is(0, &text, "");
    assert_eq!(host.run(&["version", "--json"]).json()["version"], version);
}
