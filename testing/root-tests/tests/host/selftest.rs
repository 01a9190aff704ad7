//! The self-test, which tries out the SYN cookies that work on a host. Needs root, and for tcpguard's own cookies a
//! kernel with `bpf_sk_assign_tcp_reqsk` (6.9).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tcpguard::documents::selftest::{CookieBackend, Hook, Host, SelfTest};
use tcpguard::selftest;
use tcpguard_host::linux::{functions, interfaces};
use tcpguard_kit::net::netns::Netns;
use tcpguard_support::schema::assert_documented;

/// Result of the self-test on a host with these sysctls.
fn probed(sysctls: &[(&str, &str)]) -> SelfTest {
    let host = Netns::new("host").unwrap();
    for (key, value) in sysctls {
        host.sysctl(&format!("net.ipv4.{key}"), value).unwrap();
    }
    host.run(|| {
        let links = || interfaces::list().map(|all| all.len());
        let (before, pins) = (links()?, fs::read_dir("/sys/fs/bpf")?.count());
        let begun = Instant::now();
        let selftest = selftest::run()?;
        println!("{:.2?}: {}", begun.elapsed(), tcpguard::text::selftest_in_a_line(&selftest));
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!((links()?, fs::read_dir("/sys/fs/bpf")?.count()), (before, pins));
        Ok(selftest)
    })
    .unwrap()
}

fn has_the_function() -> bool {
    functions(&["bpf_sk_assign_tcp_reqsk"]).unwrap().len() == 1
}

#[test]
fn own_cookies_work_where_the_kernel_can_take_them() {
    let selftest = probed(&[("tcp_syncookies", "1")]);
    assert_eq!(selftest.results.len(), 5, "{selftest:#?}");
    for hook in [Hook::Native, Hook::Generic] {
        let own = selftest.verdict(CookieBackend::Own, hook);
        match has_the_function() {
            true => assert_eq!(own, Ok(())),
            false => assert!(own.unwrap_err().contains("bpf_sk_assign_tcp_reqsk"), "{own:?}"),
        }
        for backend in [CookieBackend::KernelHelper, CookieBackend::Kernel] {
            assert_eq!(selftest.verdict(backend, hook), Ok(()));
        }
    }
}

#[test]
fn the_hosts_sysctls_decide() {
    let selftest = probed(&[("tcp_syncookies", "0")]);
    assert_eq!(selftest.best(Hook::Native), None);
    for one in &selftest.results {
        assert!(one.reason.as_ref().unwrap().contains("net.ipv4.tcp_syncookies=1"), "{one:?}");
    }
    let selftest = probed(&[("tcp_syncookies", "1"), ("tcp_timestamps", "2")]);
    assert_eq!(selftest.verdict(CookieBackend::KernelHelper, Hook::Native), Ok(()));
    if !has_the_function() {
        return;
    }
    let selftest = probed(&[("tcp_syncookies", "2"), ("tcp_timestamps", "0")]);
    assert_eq!(selftest.best(Hook::Native), Some(CookieBackend::Own));
}

/// The tables have no entry for such a client that scales, and none for its exact MSS (decision 7).
#[test]
fn what_own_cookies_round_is_no_failure() {
    if !has_the_function() {
        return;
    }
    let sysctls = [("tcp_syncookies", "2"), ("tcp_timestamps", "0"), ("tcp_sack", "0")];
    let selftest = probed(&sysctls);
    for hook in [Hook::Native, Hook::Generic] {
        assert_eq!(selftest.verdict(CookieBackend::Own, hook), Ok(()));
    }
}

fn tcpguard(host: &Netns, args: &[&str]) -> Output {
    let mut command = host.command(tcpguard_kit::daemon::agent::binary().unwrap()).unwrap();
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_verb_prints_keeps_and_repeats_nothing_that_is_known() {
    let host = Netns::new("host").unwrap();
    let dir = "/run/state";
    let output = tcpguard(&host, &["doctor", "--selftest", "--state-dir", dir, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_documented("selftest", &printed);

    let kept = host.read("/run/state/selftest.json").unwrap();
    let (_seal, kept) = kept.split_once('\n').unwrap();
    let kept: Value = serde_json::from_str(kept).unwrap();
    assert_eq!(kept, printed);
    let loaded = host.run(|| Ok(selftest::load(Path::new(dir), &Host::running()?))).unwrap();
    let mut content = printed;
    assert_eq!(content.as_object_mut().unwrap().remove("schema").unwrap(), "tcpguard.selftest/1");
    assert_eq!(serde_json::to_value(loaded.unwrap()).unwrap(), content);
    let begun = Instant::now();
    let output = tcpguard(&host, &["doctor", "--selftest", "--state-dir", dir, "--if-needed"]);
    println!("known after {:.2?}", begun.elapsed());
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");

    // Another value, another result.
    host.sysctl("net.ipv4.tcp_syncookies", "0").unwrap();
    let output = tcpguard(&host, &["doctor", "--selftest", "--state-dir", dir, "--if-needed"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no SYN cookies work"), "{said}");
    let now = host.run(|| Ok(selftest::load(Path::new(dir), &Host::running()?))).unwrap();
    assert_eq!(now.unwrap().best(Hook::Generic), None);
    let output = tcpguard(&host, &["doctor", "--selftest", "--state-dir", dir]);
    assert_eq!(output.status.code(), Some(1), "none works");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_user_without_namespaces_gets_that_reason() {
    let host = Netns::new("host").unwrap();
    let binary = tcpguard_kit::daemon::agent::binary().unwrap();
    // A path that every user can read.
    let copy = "/run/tcpguard-copy";
    host.exec(&format!("cp {} {copy}", binary.display())).unwrap();
    let mut command = host.command("setpriv").unwrap();
    command.args([
        "--reuid",
        "nobody",
        "--regid",
        "nogroup",
        "--clear-groups",
        copy,
        "doctor",
        "--selftest",
    ]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("sudo tcpguard doctor --selftest"), "{said}");
}

/// The number of a network that is held open.
fn number(network: &File) -> u64 {
    network.metadata().unwrap().ino()
}

/// The networks that threads of a process have made for themselves. As long as they are held, no other gets
/// the number of one.
fn networks(process: u32) -> Vec<File> {
    let of = |path: &Path| File::open(path.join("ns/net")).ok();
    let process = PathBuf::from(format!("/proc/{process}"));
    let threads = fs::read_dir(process.join("task")).unwrap().flatten();
    // The first thread stays where it was started.
    let first = of(&process).map(|network| number(&network));
    let networks = threads.filter_map(|thread| of(&thread.path()));
    networks.filter(|network| Some(number(network)) != first).collect()
}

/// Threads of whatever process that are in one of these networks.
fn threads_in(networks: &[File]) -> Vec<PathBuf> {
    let numbers: Vec<u64> = networks.iter().map(number).collect();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let threads = processes.filter_map(|process| fs::read_dir(process.path().join("task")).ok());
    let is_in = |thread: &PathBuf| {
        let network = fs::metadata(thread.join("ns/net"));
        network.is_ok_and(|network| numbers.contains(&network.ino()))
    };
    threads.flatten().flatten().map(|thread| thread.path()).filter(is_in).collect()
}

#[test]
fn one_that_is_interrupted_leaves_nothing_behind() {
    let host = Netns::new("host").unwrap();
    let pins = || host.run(|| Ok(fs::read_dir("/sys/fs/bpf")?.count())).unwrap();
    let (before, mut seen) = (pins(), 0);
    let dir = "/run/nowhere";
    for after in [30, 120, 300] {
        let mut child = host
            .command(tcpguard_kit::daemon::agent::binary().unwrap())
            .unwrap()
            .args(["doctor", "--selftest", "--state-dir", dir])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(after));
        let pid = Pid::from_child(&child);
        // It makes no more while it is looked at.
        kill_process(pid, Signal::STOP).unwrap();
        let (_, stopped) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(stopped.stopped(), "it was over after {after} ms");
        let networks = networks(child.id());
        seen += networks.len();
        kill_process(pid, Signal::INT).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success(), "it was over after {after} ms");
        let begun = Instant::now();
        loop {
            let left = (threads_in(&networks), pins());
            if left == (Vec::new(), before) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "{left:?}, and {before} pins before");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(seen > 0, "it had networks of its own");
    assert!(!host.run(|| Ok(Path::new(dir).exists())).unwrap());
}
