//! Without an agent, without the right to ask it, or with one of another version.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::host::{Host, Outcome};
use super::support::{calm, status};

#[test]
fn without_an_agent_the_code_is_3_and_the_way_out_is_named() {
    let host = Host::without_agent();
    for (line, socket) in [
        (&["status"][..], "status.sock"),
        (&["rules", "list"], "status.sock"),
        (&["mode"], "status.sock"),
        (&["mode", "enforce"], "control.sock"),
        (&["block", "192.0.2.1"], "control.sock"),
        (&["unblock", "--all"], "control.sock"),
    ] {
        let socket = host.path().join(socket);
        let stderr = format!(
            "error: agent not running: no process listens on {}\nhint: systemctl start tcpguard\n",
            socket.display()
        );
        host.run(line).is(3, "", &stderr);
    }
}

#[test]
fn a_filter_without_an_agent_is_pointed_out() {
    let host = Host::without_agent();
    let namespace = tcpguard_host::linux::netns::cookie().unwrap();
    let links = host.path().join(format!("pins/v1-{namespace}/links"));
    std::fs::create_dir_all(&links).unwrap();
    for link in ["2-eth0", "3-eth1", "2-eth0"] {
        std::fs::write(links.join(link), "").unwrap();
    }
    let stderr = format!(
        "error: agent not running: no process listens on {} (XDP program still attached to eth0, eth1)\n\
         hint: systemctl start tcpguard, or: tcpguard detach --all\n",
        host.path().join("status.sock").display()
    );
    host.run(&["status"]).is(3, "", &stderr);
}

#[test]
fn without_permission_the_code_is_4() {
    let host = Host::with(status(calm()));
    let socket = host.path().join("control.sock");
    let line = ["mode", "off"];
    let output = if rustix::process::geteuid().is_root() {
        // As the user 65534, which may reach the directory and the binary but not the socket.
        use std::os::unix::fs::PermissionsExt;
        let binary = host.path().join("tcpguard");
        std::fs::copy(env!("CARGO_BIN_EXE_tcpguard"), &binary).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(host.path(), open).unwrap();
        let mut command = Command::new(binary);
        command.env_clear().env("LC_ALL", "C.UTF-8").uid(65_534).gid(65_534);
        command.arg("--runtime-dir").arg(host.path()).args(line).output().unwrap()
    } else {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
        host.command(&line).output().unwrap()
    };
    let stderr = format!("error: permission denied on {}\nhint: use sudo\n", socket.display());
    Outcome::of(&line, output).is(4, "", &stderr);
}

#[test]
fn an_agent_of_another_version_is_distinguished_from_a_broken_one() {
    let old = "{\"refused\":{\"kind\":\"version\",\"message\":\"protocol 2, agent 1\",\"hint\":\
               \"systemctl restart tcpguard\"}}\0";
    let new = "{\"forecast\":{}}\0";
    for (answer, said) in [
        (old, "error: protocol 2, agent 1\n"),
        (new, "error: version mismatch between command and agent: unknown variant `forecast`"),
    ] {
        let host = Host::without_agent();
        let listener = UnixListener::bind(host.path().join("status.sock")).unwrap();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_until(0, &mut Vec::new()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let outcome = host.run(&["status"]);
        agent.join().unwrap();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:#?}");
        assert!(outcome.stderr.starts_with(said), "{outcome:#?}");
        assert!(outcome.stderr.ends_with("systemctl restart tcpguard\n"), "{outcome:#?}");
    }
}

#[test]
fn detaching_needs_no_agent_and_asks_nothing() {
    let host = Host::without_agent();
    host.run(&["detach", "--all"]).is(0, "", "nothing was attached; see: tcpguard status\n");
    host.run(&["detach", "--all", "--json"]).is(
        0,
        "{\"schema\":\"tcpguard.detach/1\",\"detached\":[]}\n",
        "",
    );
    let stderr = format!(
        "error: no XDP program of tcpguard is pinned for eth9\nhint: ls {}\n",
        host.path().join("pins").display()
    );
    host.run(&["detach", "-i", "eth9"]).is(5, "", &stderr);
}
