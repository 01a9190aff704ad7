//! Setting sysctls as advised and taking that back, on a host of its own. Needs root and
//! `TCPGUARD_BIN`.

use std::process::Output;

use serde_json::Value;
use tcpguard_host::durable::seal;
use tcpguard_host::linux::{boot_id, netns};
use tcpguard_kit::daemon::agent::{self, STATE_DIR};
use tcpguard_kit::net::netns::Netns;

const FILE: &str = "/etc/sysctl.d/90-tcpguard.conf";
const RECORD: &str = "/run/tcpguard-tune.json";

/// Sysctls as an operator may set them after reading too many forums.
const ODD: [(&str, &str); 5] = [
    ("net.core.somaxconn", "128"),
    ("net.ipv4.tcp_abort_on_overflow", "1"),
    ("net.ipv4.tcp_synack_retries", "1"),
    ("net.ipv4.tcp_tw_reuse", "1"),
    ("net.ipv4.ip_local_port_range", "50000 50100"),
];

/// A file as the agent writes it.
fn sealed(content: &str) -> String {
    String::from_utf8(seal::sealed(content.as_bytes())).unwrap()
}

/// A host with such sysctls, and an empty `/etc/sysctl.d` that goes with it.
fn host() -> Netns {
    let host = Netns::new("host").unwrap();
    host.exec("mount -t tmpfs tmpfs /etc/sysctl.d").unwrap();
    // As it is on every host: only root makes files there.
    host.exec("chmod 0755 /run").unwrap();
    for (key, value) in ODD {
        host.sysctl(key, value).unwrap();
    }
    host
}

fn values(host: &Netns) -> Vec<String> {
    let path = |key: &str| format!("/proc/sys/{}", key.replace('.', "/"));
    ODD.iter().map(|(key, _)| host.read(&path(key)).unwrap().trim().replace('\t', " ")).collect()
}

#[track_caller]
fn tune(host: &Netns, arguments: &[&str]) -> Output {
    let output = agent::cli(host, &[&["tune"], arguments].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    output
}

fn row(host: &Netns, arguments: &[&str], name: &str) -> Value {
    let output = tune(host, &[&["--json"], arguments].concat());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = document["settings"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap().clone()
}

fn exists(host: &Netns, path: &str) -> bool {
    host.exec(&format!("ls {path}")).is_ok()
}

#[test]
fn advice_alone_changes_nothing() {
    let host = host();
    let before = values(&host);
    for arguments in [&[][..], &["--json"], &["--sysctl"]] {
        tune(&host, arguments);
    }
    assert_eq!(values(&host), before);
    assert!(!exists(&host, FILE) && !exists(&host, RECORD));
    let retries = row(&host, &[], "net.ipv4.tcp_synack_retries");
    assert_eq!((&retries["verdict"], &retries["to"]), (&"harmful".into(), &"5".into()));
}

#[test]
fn a_change_is_reverted_and_its_file_for_each_boot_is_accepted() {
    let host = host();
    let before = values(&host);
    tune(&host, &["--apply"]);
    assert_eq!(values(&host), ["4096", "0", "5", "2", "32768 60999"]);
    let file = tune(&host, &["--sysctl"]);
    host.write(FILE, &String::from_utf8(file.stdout).unwrap()).unwrap();
    // systemd and sysctl(8) accept the file.
    host.sysctl("net.core.somaxconn", "128").unwrap();
    host.exec(&format!("sysctl --load {FILE}")).unwrap();
    assert_eq!(values(&host)[0], "4096");
    let again = tune(&host, &["--apply"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("as advised"), "{again:?}");
    tune(&host, &["--undo"]);
    assert_eq!(values(&host), before);
    assert!(!exists(&host, RECORD));
}

#[test]
fn what_an_administrator_sets_meanwhile_stays() {
    let host = host();
    tune(&host, &["--apply"]);
    assert!(!exists(&host, FILE));
    host.sysctl("net.core.somaxconn", "20000").unwrap();
    let undone = tune(&host, &["--undo"]);
    assert!(String::from_utf8_lossy(&undone.stdout).contains("left alone"), "{undone:?}");
    assert_eq!(values(&host)[..3], ["20000", "1", "1"]);
}

#[test]
fn another_namespace_with_the_same_files_is_left_alone() {
    let host = host();
    tune(&host, &["--apply"]);
    let record = host.read(RECORD).unwrap();
    let (_seal, record) = record.split_once('\n').unwrap();
    let cookie = host.run(|| Ok(netns::cookie()?)).unwrap();
    let other = record.replace(&format!("\"netns\":{cookie}"), "\"netns\":1");
    assert_ne!(record, other);
    host.write(RECORD, &sealed(&other)).unwrap();
    let applied = values(&host);
    for arguments in [&["tune", "--undo"][..], &["tune", "--apply"]] {
        let output = agent::cli(&host, arguments).unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("another network namespace"), "{said}");
    }
    assert_eq!(values(&host), applied);
}

#[test]
fn a_sysctl_that_the_agent_has_borrowed_is_left_to_it() {
    let host = host();
    host.sysctl("net.ipv4.tcp_syncookies", "2").unwrap();
    let name = "net.ipv4.tcp_syncookies";
    let state = ["--state-dir", STATE_DIR];
    assert_eq!(row(&host, &state, name)["verdict"], "harmful", "nobody has borrowed it");
    let saved = serde_json::json!({
        "schema": "tcpguard.syncookies/1",
        "boot": boot_id(),
        "netns": host.run(|| Ok(netns::cookie()?)).unwrap(),
        "value": 1,
    });
    host.exec(&format!("mkdir {STATE_DIR}")).unwrap();
    host.write(&format!("{STATE_DIR}/syncookies.json"), &sealed(&saved.to_string())).unwrap();
    let borrowed = row(&host, &state, name);
    assert_eq!(borrowed["verdict"], "leave_alone", "{borrowed}");
    assert!(borrowed["why"].as_str().unwrap().contains("restores 1"), "{borrowed}");
    tune(&host, &["--apply", "--state-dir", STATE_DIR]);
    assert_eq!(host.read("/proc/sys/net/ipv4/tcp_syncookies").unwrap().trim(), "2");
}

#[test]
fn without_root_nothing_is_set_and_the_way_is_named() {
    let host = host();
    let before = values(&host);
    let copy = "/run/tcpguard-copy";
    host.exec(&format!("cp {} {copy}", agent::binary().unwrap().display())).unwrap();
    let mut command = host.command("setpriv").unwrap();
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", copy]);
    let output = command.args(["tune", "--apply"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("use sudo"), "{said}");
    assert_eq!(values(&host), before);
}
