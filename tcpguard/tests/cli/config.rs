//! Configuration and mode.

use serde_json::Value;

use super::host::Host;
use super::support::{calm, status};

#[test]
fn a_configuration_is_written_once_and_shown() {
    let host = Host::without_agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/tcpguard.toml");
    let file = file.to_str().unwrap();
    let written = host.run(&["config", "init", file]);
    assert_eq!((written.code, written.stdout), (Some(0), format!("wrote {file}\n")));
    let again = host.run(&["config", "init", file]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("exists already"), "{again:#?}");
    assert_eq!(host.run(&["config", "check", file]).code, Some(0));
    let shown = host.run(&["config", "show", file]);
    assert!(shown.stdout.contains("detection.fast_min = 64 "), "{shown:#?}");
    assert!(shown.stdout.lines().all(|line| line.ends_with("# default")), "{shown:#?}");
}

#[test]
fn a_valid_configuration_without_interfaces_is_warned_of() {
    let host = Host::without_agent();
    let file = host.path().join("guard.toml");
    let path = file.to_str().unwrap();
    for (text, interfaces, warning) in [
        ("", "none", "no interface is named, so a start or reload is refused"),
        (
            "[interfaces]\nnames = [\"nowhere0\"]\n",
            "nowhere0",
            "no interface nowhere0 (this host has: ",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let checked = host.run(&["config", "check", path]);
        let valid = format!("{path}: valid; mode observe, interfaces: {interfaces}\n");
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), valid.as_str()));
        assert!(checked.stderr.starts_with(&format!("warning: {warning}")), "{checked:#?}");
        let json = host.run(&["config", "check", path, "--json"]).json();
        assert_eq!(json["valid"], true);
        assert!(json["warnings"][0].as_str().unwrap().starts_with(warning), "{json:#}");
    }
    let host = Host::with(status(calm()));
    std::fs::write(&file, "[interfaces]\nnames = [\"lo\"]\n").unwrap();
    assert_eq!(host.run(&["config", "check", path]).stderr, "to apply it: tcpguard reload\n");
}

#[test]
fn a_configuration_is_checked_with_all_its_mistakes() {
    let host = Host::without_agent();
    let file = host.path().join("guard.toml");
    let path = file.to_str().unwrap();

    std::fs::write(&file, "mode = \"enforce\"\n[interfaces]\nnames = [\"lo\"]\n").unwrap();
    let valid = format!("{path}: valid; mode enforce, interfaces: lo\n");
    let start = "to start with it: systemctl start tcpguard\n";
    host.run(&["config", "check", path]).is(0, &valid, start);
    host.run(&["config", "check", "-c", path]).is(0, &valid, start);
    assert_eq!(host.run(&["config", "check", path, "--json"]).json()["valid"], true);

    std::fs::write(&file, "mode = \"on\"\n[detection]\nclear = 60\n").unwrap();
    let mistakes = format!(
        "error: {path}:1:8: mode: unknown value `on`, expected one of `off`, `observe`, `enforce`\n\
         error: {path}:3:1: unknown key detection.clear; did you mean detection.clear_s?\n\
         hint: edit {path}, then: tcpguard config check {path}\n"
    );
    host.run(&["config", "check", path]).is(2, "", &mistakes);
    let json = host.run(&["config", "check", path, "--json"]);
    assert_eq!(json.code, Some(2));
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&json["problems"][1]["line"], &json["problems"][1]["column"]),
        (&3.into(), &1.into())
    );
    assert_eq!(json["problems"][1]["path"], path);

    let run = host.run(&["run", "-c", path, "-i", "lo"]);
    run.is(2, "", &mistakes);
    assert!(!host.path().join("status.sock").exists());
}

#[test]
fn files_beside_the_main_one_are_checked_and_shown_with_it() {
    let host = Host::without_agent();
    let file = host.path().join("guard.toml");
    let parts = host.path().join("conf.d");
    let (path, directory) = (file.to_str().unwrap(), parts.to_str().unwrap());
    std::fs::write(&file, "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n").unwrap();
    std::fs::create_dir(&parts).unwrap();
    std::fs::write(parts.join("10-clear.toml"), "[detection]\nclear_s = 60\n").unwrap();
    std::fs::write(
        parts.join("20-mail.toml"),
        "mode = \"observe\"\n[[listener]]\nat = \":25\"\ncookies = false\n",
    )
    .unwrap();
    host.run(&["config", "check", path]).is(
        0,
        &format!("{path} and 2 files of {directory}: valid; mode observe, interfaces: eth0\n"),
        "to start with it: systemctl start tcpguard\n",
    );
    let shown = host.run(&["config", "show", path, "--origin"]).stdout;
    for (setting, origin) in [
        ("mode = \"observe\"", format!("{directory}/20-mail.toml:1")),
        ("interfaces.names = [\"eth0\"]", format!("{path}:3")),
        ("detection.clear_s = 60", format!("{directory}/10-clear.toml:2")),
        ("detection.fast_min = 64", "default".to_owned()),
        ("listener[\":25\"].cookies = false", format!("{directory}/20-mail.toml:4")),
    ] {
        let line = format!("{setting:<40} # {origin}");
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in {shown}");
    }
    let json = host.run(&["config", "show", path, "--json"]).json();
    assert_eq!(json["files"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["settings"]["detection.clear_s"]["origin"]["line"], 2);

    std::fs::write(parts.join("20-mail.toml"), "\n[[listener]]\nat = \"25\"\nmod = \"off\"\n")
        .unwrap();
    let wrong = host.run(&["config", "check", path]);
    assert_eq!(wrong.code, Some(2));
    let mistakes = format!(
        "error: {directory}/20-mail.toml:3:6: listener[\"25\"].at: \"25\" is no address with a port; write \
         one such as \":443\", \"203.0.113.10:443\" or \"[2001:db8::1]:443\"\n\
         error: {directory}/20-mail.toml:4:1: unknown key listener[\"25\"].mod; did you mean \
         listener[\"25\"].mode?\n\
         hint: edit {directory}/20-mail.toml, then: tcpguard config check {path}\n"
    );
    assert_eq!(wrong.stderr, mistakes);
}

#[test]
fn what_the_agent_holds_is_shown_with_its_origins() {
    let host = Host::with(status(calm()));
    host.run(&["config", "show", "--effective"]).is(
        0,
        "mode = \"enforce\"                         # tcpguard mode\n\
         interfaces.names = [\"eth0\"]              # command line\n\
         detection.fast_min = 64                  # default\n\
         detection.clear_s = 60                   # file\n\
         listener[\":443\"].mode = \"observe\"        # file\n",
        "settings of the files, which may be newer: tcpguard config show\n",
    );
    let exact = host.run(&["config", "show", "--effective", "--origin"]).stdout;
    let origins: Vec<_> = exact.lines().filter_map(|line| line.split_once(" # ")).collect();
    let origins: Vec<_> = origins.into_iter().map(|(_, origin)| origin).collect();
    assert_eq!(
        origins,
        [
            "tcpguard mode",
            "tcpguard run -i",
            "default",
            "/etc/tcpguard/tcpguard.toml:12",
            "/etc/tcpguard/conf.d/10-web.toml:3",
        ]
    );
    let json = host.run(&["config", "show", "--effective", "--json"]).json();
    assert_eq!(json["effective"], true);
    assert_eq!(json["settings"]["mode"]["origin"]["kind"], "mode_command");
    assert_eq!(host.run(&["config", "show", "x.toml", "--effective"]).code, Some(2));
    assert_eq!(Host::without_agent().run(&["config", "show", "--effective"]).code, Some(3));
}

#[test]
fn the_mode_is_shown_and_set() {
    let host = Host::with(status(calm()));
    host.run(&["mode"]).is(0, "enforce\n", "");
    host.run(&["mode", "--json"]).is(
        0,
        "{\"schema\":\"tcpguard.mode/1\",\"mode\":\"enforce\",\"ends\":null}\n",
        "",
    );
    host.run(&["mode", "observe"]).is(
        0,
        "mode observe (was enforce)\n",
        "rules only count now; see what they would drop: tcpguard status\n",
    );
    host.run(&["mode", "off", "--json", "-q"]).is(
        0,
        "{\"schema\":\"tcpguard.mode/1\",\"mode\":\"off\",\"was\":\"enforce\",\"ends\":null}\n",
        "",
    );
}

#[test]
fn reload_says_what_holds_and_what_waits() {
    let host = Host::with(status(calm()));
    host.run(&["reload"]).is(
        0,
        "applied detection, protect.prefixes\n",
        "warning: Restart required for interfaces.names\nhint: systemctl restart tcpguard\n",
    );
    let json = host.run(&["reload", "--json"]).json();
    assert_eq!(json["applied"][1], "protect.prefixes");
    assert_eq!(json["waiting"][0], "interfaces.names");
}

#[test]
fn running_without_an_interface_is_a_usage_error() {
    let host = Host::without_agent();
    let file = host.path().join("empty.toml");
    std::fs::write(&file, "").unwrap();
    let stderr = format!(
        "error: no interface to protect\nhint: name one with -i, or in {} ([interfaces] names = [\"eth0\"])\n",
        file.display()
    );
    host.run(&["run", "-c", file.to_str().unwrap()]).is(2, "", &stderr);
}
