//! `tcpguard doctor` on hosts that are broken on purpose, each in one way. Needs root and
//! `TCPGUARD_BIN`, and systemd for the service.
#![expect(
    unsafe_code,
    reason = "what a child gives up before it becomes the program, and sockets as nobody makes them"
)]

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard_host::linux::netns;
use tcpguard_kit::daemon::agent::{self, Agent, CONFIG, Mode};
use tcpguard_kit::daemon::machine::Machine;
use tcpguard_kit::net::foreign::{ForeignTc, ForeignXdp, Place, Verdict, attach_by_netlink};
use tcpguard_kit::net::netns::Netns;

const ON_ETH0: &str = "[interfaces]\nnames = [\"eth0\"]\n";
const PINS: &str = "/sys/fs/bpf/tcpguard";

/// A host with an Ethernet interface and a configuration that names it.
fn host() -> Netns {
    let host = Netns::new("host").unwrap();
    host.ip(&["link add eth0 type veth peer name wire", "link set eth0 up", "link set wire up"])
        .unwrap();
    host.write(CONFIG, ON_ETH0).unwrap();
    host
}

/// A doctor's findings and exit code.
struct Said {
    code: Option<i32>,
    document: Value,
}

impl Said {
    fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let document = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        Self { code: output.status.code(), document }
    }

    /// The results of a check: `passed`, `unknown` or the severity of a finding, and the finding.
    fn of_check(&self, code: &str) -> Vec<(&str, &Value)> {
        let list = |name: &str| self.document[name].as_array().unwrap().iter();
        let found = list("findings").map(|it| (it["severity"].as_str().unwrap(), it));
        let unknown = list("unknown").map(|it| ("unknown", it));
        let passed = list("passed").map(|it| ("passed", it));
        found.chain(unknown).chain(passed).filter(|(_, it)| it["code"] == code).collect()
    }

    /// The one result of a check, which must be this one; its text and hint.
    #[track_caller]
    fn is(&self, code: &str, expected: &str) -> (String, String) {
        let [(result, found)] = self.of_check(code)[..] else {
            panic!("{code}: {:#}", self.document)
        };
        assert_eq!(result, expected, "{found:#}");
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("text"), text("hint"))
    }
}

fn command(host: &Netns, arguments: &[&str]) -> Command {
    let mut command = host.command(agent::binary().unwrap()).unwrap();
    command.args(["doctor", "--json", "-c", CONFIG, "--runtime-dir", agent::RUNTIME_DIR]);
    command.args(["--state-dir", agent::STATE_DIR]).args(arguments);
    command
}

fn doctor(host: &Netns, arguments: &[&str]) -> Said {
    Said::of(command(host, arguments))
}

#[test]
fn an_attached_host_has_no_critical_finding_and_nothing_is_changed() {
    let host = host();
    let agent = Agent::start_with(&host, Mode::Observe, ON_ETH0, &[]).unwrap();
    let look = || {
        let links = host.exec("ip -details link").unwrap();
        let pins = host.exec("find /sys/fs/bpf").unwrap();
        (links, pins, host.read("/proc/sys/net/ipv4/tcp_syncookies").unwrap())
    };
    let before = look();
    let said = doctor(&host, &[]);
    assert_eq!(look(), before);
    assert!(matches!(said.code, Some(0 | 1)), "{:#}", said.document);
    assert_eq!(said.document["complete"], true);
    for id in ["kernel_release", "kernel_features", "btf", "capabilities", "bpffs", "configuration"]
    {
        said.is(id, "passed");
    }
    let (text, _) = said.is("xdp_program", "passed");
    assert!(text.contains("tcpguard_ingres"), "{text}");
    for id in ["agent", "agent_version", "stale_pins", "tc_programs"] {
        said.is(id, "passed");
    }
    drop(agent);
}

#[test]
fn an_xdp_program_without_an_agent_is_reported() {
    let host = host();
    let mut agent = Agent::start_with(&host, Mode::Observe, ON_ETH0, &[]).unwrap();
    agent.stop().unwrap();
    let said = doctor(&host, &[]);
    let (text, hint) = said.is("stale_pins", "warning");
    assert!(
        text.contains("still attached to eth0") && hint == "systemctl start tcpguard",
        "{text}"
    );
    said.is("agent", "critical");
    assert_eq!((said.code, &said.document["findings"][0]["code"]), (Some(3), &"agent".into()));
}

#[test]
fn a_foreign_xdp_program_is_named() {
    let host = host();
    let _foreign = ForeignXdp::attach(&host, "eth0", Verdict::Pass).unwrap();
    let said = doctor(&host, &["-i", "eth0"]);
    assert_eq!(said.code, Some(3));
    let (text, hint) = said.is("xdp_program", "critical");
    assert!(text.contains("native XDP") && text.contains("EBUSY"), "{text}");
    assert!(hint.contains("bpftool net show dev eth0"), "{hint}");
}

#[test]
fn a_foreign_xdp_program_on_the_bridge_above_is_named() {
    let host = host();
    host.ip(&["link add br0 type bridge", "link set eth0 master br0", "link set br0 up"]).unwrap();
    attach_by_netlink(&host, "br0", Verdict::Pass).unwrap();
    let said = doctor(&host, &["-i", "eth0"]);
    assert_eq!(said.code, Some(3));
    let (text, hint) = said.is("xdp_program", "critical");
    assert!(text.contains("attached to br0, which is above") && text.contains("EEXIST"), "{text}");
    assert!(hint.contains("ip link set dev br0 xdp off"), "{hint}");
}

#[test]
fn programs_at_tc_are_named_with_their_order() {
    let host = host();
    host.exec("tc qdisc add dev eth0 clsact").unwrap();
    host.exec("tc filter add dev eth0 egress protocol ip u32 match u32 0 0").unwrap();
    let (result, words) = match has_tcx(&host) {
        true => ("passed", "tcpguard's programs run before the others: u32 (clsact egress)"),
        false => ("notice", "u32 (clsact egress): programs that may run first."),
    };
    let (text, _) = doctor(&host, &["-i", "eth0"]).is("tc_programs", result);
    assert!(text.starts_with(words), "{text}");
}

/// Returns whether the kernel has TCX, where tcpguard's programs run before all filters.
fn has_tcx(host: &Netns) -> bool {
    ForeignTc::attach(host, "eth0", Place::First).is_ok()
}

#[test]
fn the_xdp_program_belongs_on_the_members_of_a_bridge() {
    let host = host();
    host.ip(&["link add br0 type bridge", "link set eth0 master br0", "link set br0 up"]).unwrap();
    let (text, hint) = doctor(&host, &["-i", "br0"]).is("stacked", "warning");
    assert!(text.contains("a bridge of \"eth0\"") && hint.contains("[\"eth0\"]"), "{hint}");
    let (text, _) = doctor(&host, &["-i", "eth0"]).is("stacked", "notice");
    assert!(text.contains("a member of br0 (bridge)"), "{text}");
}

#[test]
fn the_xdp_program_belongs_below_a_vlan() {
    let host = host();
    if let Err(error) = host.ip(&["link add link eth0 name eth0.7 type vlan id 7"]) {
        println!("skipped: this kernel has no VLANs: {error:#}");
        return;
    }
    let (text, hint) = doctor(&host, &["eth0.7"]).is("stacked", "warning");
    assert!(text.contains("a vlan upon eth0") && hint.contains("[\"eth0\"]"), "{hint}");
}

/// The doctor's finding about a large MTU agrees with the result of an attach.
#[test]
fn a_large_mtu_is_judged_as_the_driver_does() {
    let host = host();
    host.ip(&["link set eth0 mtu 9000", "link set wire mtu 9000"]).unwrap();
    let said = doctor(&host, &["-i", "eth0"]);
    let result = said.of_check("mtu")[0].0.to_owned();
    let agent = Agent::start_with(&host, Mode::Observe, ON_ETH0, &["--xdp-mode", "native"]);
    assert_eq!(result, if agent.is_ok() { "passed" } else { "warning" });
}

#[test]
fn an_interface_that_is_down_is_reported_with_the_command_that_sets_it_up() {
    let host = host();
    host.ip(&["link set eth0 down"]).unwrap();
    let (_, hint) = doctor(&host, &["-i", "eth0"]).is("link_down", "warning");
    host.exec(&hint).unwrap();
    // The kernel notices the cable a moment later.
    let begun = Instant::now();
    while !doctor(&host, &["-i", "eth0"]).of_check("link_down").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "still down after {hint}");
    }
}

#[test]
fn an_interface_without_ethernet_is_reported() {
    let host = host();
    host.ip(&["tuntap add dev tun1 mode tun"]).unwrap();
    let said = doctor(&host, &["-i", "tun1"]);
    said.is("ethernet", "critical");
    assert_eq!(said.code, Some(3));
}

#[test]
fn without_a_bpf_file_system_the_fix_mounts_one() {
    let host = host();
    host.exec("umount /sys/fs/bpf").unwrap();
    let (_, hint) = doctor(&host, &[]).is("bpffs", "critical");
    host.exec(&hint).unwrap();
    doctor(&host, &[]).is("bpffs", "passed");
    host.exec("mount -o remount,ro /sys/fs/bpf").unwrap();
    let (text, hint) = doctor(&host, &[]).is("bpffs", "critical");
    assert!(text.contains("read-only"), "{text}");
    host.exec(&hint).unwrap();
    doctor(&host, &[]).is("bpffs", "passed");
}

#[test]
fn pins_of_others_and_of_other_versions_are_reported() {
    let host = host();
    let cookie = host.run(|| Ok(netns::cookie()?)).unwrap();
    host.exec(&format!("mkdir -p {PINS}/v0-{cookie}/links/2-eth0 {PINS}/v0-1/links/9-eth9"))
        .unwrap();
    host.exec(&format!("chmod 0700 {PINS}")).unwrap();
    host.exec(&format!("chown 4242 {PINS}")).unwrap();
    let said = doctor(&host, &[]);
    let (text, hint) = said.is("pin_directory", "warning");
    assert!(text.contains("user 4242") && hint.starts_with("chown -R "), "{text}");
    let stale = said.of_check("stale_pins");
    let reported: Vec<(&str, &str)> =
        stale.iter().map(|(result, it)| (it["subject"].as_str().unwrap(), *result)).collect();
    let (here, elsewhere) = (format!("{PINS}/v0-{cookie}"), format!("{PINS}/v0-1"));
    assert!(
        reported.contains(&(here.as_str(), "warning"))
            && reported.contains(&(elsewhere.as_str(), "notice")),
        "{reported:?}"
    );
}

#[test]
fn a_missing_capability_is_named() {
    let host = host();
    let mut limited = host.command("setpriv").unwrap();
    // CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN, by their numbers.
    limited.args(["--bounding-set", "-cap_39,-cap_38,-cap_21"]);
    limited.arg(agent::binary().unwrap()).args(["doctor", "--json", "-c", CONFIG]);
    let said = Said::of(limited);
    assert_eq!(said.code, Some(3));
    let (text, _) = said.is("capabilities", "critical");
    assert!(text.contains("CAP_PERFMON, CAP_BPF"), "{text}");
}

/// A sandbox forgets bpf(2).
#[test]
fn a_forbidden_system_call_is_recognised() {
    let host = host();
    let mut sandboxed = command(&host, &[]);
    // SAFETY: the closure makes system calls only; the filter lives on its stack meanwhile.
    unsafe { sandboxed.pre_exec(forbid_bpf) };
    let said = Said::of(sandboxed);
    assert_eq!(said.code, Some(3));
    let refused = said.of_check("kernel_features");
    assert!(refused.iter().any(|(result, _)| *result == "critical"), "{refused:#?}");
    for (_, finding) in refused {
        assert!(finding["text"].as_str().unwrap().contains("seccomp"), "{finding:#}");
    }
}

fn forbid_bpf() -> std::io::Result<()> {
    let instruction =
        |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // The number of the system call is the first word of `struct seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_bpf as u32),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and the filter that it points to outlive both calls.
    let result = unsafe {
        let [no, yes]: [libc::c_ulong; 2] = [0, 1];
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, no, no, no);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_harmful_sysctl_is_reported_with_the_command_that_corrects_it() {
    let host = host();
    host.sysctl("net.ipv4.tcp_syncookies", "0").unwrap();
    let said = doctor(&host, &[]);
    let mut results = said.of_check("sysctls").into_iter();
    let (_, cookies) = results.find(|(result, _)| *result == "warning").unwrap();
    assert_eq!(cookies["subject"], "net.ipv4.tcp_syncookies");
    host.exec(cookies["hint"].as_str().unwrap()).unwrap();
    let again = doctor(&host, &[]);
    assert!(again.of_check("sysctls").iter().all(|(result, _)| *result != "warning"));
}

#[test]
fn a_listener_with_a_tiny_backlog_is_reported_and_one_on_loopback_is_not() {
    let host = host();
    let listen = |address: &str| {
        let listener = host.run(|| Ok(TcpListener::bind(address)?)).unwrap();
        // SAFETY: a descriptor that this holds; listening again only sets the backlog.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 1) }, 0);
        listener
    };
    let _listeners = [listen("0.0.0.0:8080"), listen("127.0.0.1:8081")];
    let said = doctor(&host, &[]);
    let (text, hint) = said.is("small_backlog", "warning");
    assert!(
        text.contains("a backlog of 1 ") && hint.contains("listen(2) (now 1;"),
        "{text} {hint}"
    );
    assert_eq!(said.of_check("small_backlog")[0].1["subject"], "0.0.0.0:8080");
}

#[test]
fn mistakes_in_the_configuration_are_reported_with_their_lines() {
    let host = host();
    host.write(CONFIG, "mode = \"odd\"\n").unwrap();
    let said = doctor(&host, &[]);
    assert_eq!(said.code, Some(3));
    let (text, hint) = said.is("configuration", "critical");
    let place = format!("{CONFIG}:1:8: mode: ");
    assert!(text.starts_with(&place) && hint.contains(CONFIG), "{text} {hint}");
}

#[test]
fn a_drop_in_that_breaks_the_service_is_named() {
    let drop_in = "/etc/systemd/system/tcpguard.service.d/site.conf";
    let machine = Machine::boot(&[
        (drop_in, "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n"),
        ("/etc/tcpguard/tcpguard.toml", ON_ETH0),
    ])
    .unwrap();
    machine.exec("ip link add eth0 type veth peer name wire").unwrap();
    let output = machine.output("tcpguard doctor --json").unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = Said { code: output.status.code(), document };
    assert_eq!(said.code, Some(3), "{:#}", said.document);
    let (text, hint) = said.is("unit", "critical");
    assert!(text.contains("RestrictAddressFamilies=AF_UNIX") && text.contains(drop_in));
    assert!(hint.contains("RestrictAddressFamilies=AF_UNIX AF_NETLINK"), "{hint}");
}
