//! The packages as an administrator meets them: installed, started, upgraded under a flood, removed
//! and purged. Needs root, systemd, dpkg, rpm, lintian, man and `TCPGUARD_DIST`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard_fleet_kit::bus;
use tcpguard_kit::daemon::machine::Machine;
use tcpguard_kit::daemon::package::Package;
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};
use tcpguard_support::contents::{AGENT, FLEET, Format, OF_HOSTS, PACKAGES};

const CONFIG: &str = "/etc/tcpguard/tcpguard.toml";
const ON_ETH0: &str = "[interfaces]\nnames = [\"eth0\"]\n";
const SECOND: Duration = Duration::from_secs(1);
/// Time without an agent after which the first mitigations end.
const HEARTBEAT: Duration = Duration::from_secs(6);
/// Time limit of `dpkg -i`, the start of the service included.
const INSTALLS: Duration = Duration::from_secs(60);

/// A machine without the package, on which services may be started.
fn machine(files: &[(&str, &str)]) -> Machine {
    let machine = Machine::bare(files).unwrap();
    // Images of containers forbid it so.
    machine.exec("rm -f /usr/sbin/policy-rc.d").unwrap();
    machine
}

fn cable(machine: &Machine) {
    machine.exec("ip link add eth0 type veth peer name wire").unwrap();
    machine.exec("ip link set eth0 up").unwrap();
    machine.exec("ip link set wire up").unwrap();
}

/// Installs it as a script would: an existing configuration is kept. Returns the output.
fn install(machine: &Machine, package: &Package) -> String {
    let path = package.put_on(machine).unwrap();
    let begun = Instant::now();
    let output = machine.output(&format!("dpkg --force-confold -i {path}")).unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(begun.elapsed() < INSTALLS, "{:?}: {said}", begun.elapsed());
    said
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn deb() -> Package {
    Package::made(&AGENT, Format::Deb).unwrap()
}

fn fleet_deb() -> Package {
    Package::made(&FLEET, Format::Deb).unwrap()
}

fn is_attached(machine: &Machine) -> bool {
    machine.exec("ip link show dev eth0").unwrap().contains("xdp")
}

fn status(machine: &Machine) -> Value {
    serde_json::from_str(&machine.exec("tcpguard status --json").unwrap()).unwrap()
}

/// A directory of this test that goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcpguard-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_package_holds_what_the_list_says_and_nothing_else() {
    for list in PACKAGES {
        for format in OF_HOSTS.iter().copied() {
            let package = Package::made(list, format).unwrap();
            let deviations = package.deviations().unwrap();
            assert!(deviations.is_empty(), "{} {format:?}: {deviations:#?}", list.name);
            let entries = package.entries().unwrap();
            let times: BTreeSet<_> = entries.iter().map(|entry| &entry.written).collect();
            assert_eq!(times.len(), 1, "everything is as old as the commit: {times:?}");
        }
    }
}

#[test]
fn lintian_finds_no_error() {
    let output = Command::new("lintian")
        .args(["--no-cfg", "--allow-root", "--fail-on", "error"])
        .args([deb().path, fleet_deb().path])
        .output()
        .expect("lintian: install it (`cargo xtask setup` says how)");
    println!("{}", said(&output));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn every_page_is_set_without_a_warning() {
    let scratch = Scratch::new("manual");
    deb().unpack(&scratch.0).unwrap();
    fleet_deb().unpack(&scratch.0).unwrap();
    let mut pages = Vec::new();
    for section in ["man5", "man8"] {
        let directory = scratch.0.join("usr/share/man").join(section);
        pages.extend(fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
    }
    assert!(pages.len() > 20, "{pages:?}");
    for page in pages {
        let set = Command::new("man")
            .args(["--warnings=w", "--local-file"])
            .arg(&page)
            .envs([("LC_ALL", "C.UTF-8"), ("MANWIDTH", "80")])
            .output()
            .expect("man: install it (`cargo xtask setup` says how)");
        let warnings = String::from_utf8_lossy(&set.stderr);
        assert!(set.status.success() && warnings.is_empty(), "{}: {warnings}", page.display());
        let text = String::from_utf8_lossy(&set.stdout);
        for heading in ["NAME", "SYNOPSIS", "SEE ALSO"] {
            assert!(text.lines().any(|line| line == heading), "{heading} in {text}");
        }
        let parsed = Command::new("lexgrog").arg(&page).output().unwrap();
        assert!(parsed.status.success(), "apropos finds {}: {}", page.display(), said(&parsed));
    }
}

#[test]
fn bash_completes_verbs_and_options() {
    let scratch = Scratch::new("completions");
    deb().unpack(&scratch.0).unwrap();
    let complete = |words: &str| {
        let file = scratch.0.join("usr/share/bash-completion/completions/tcpguard");
        let script = format!(
            ". {file}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _tcpguard tcpguard \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
             echo ${{COMPREPLY[@]}}",
            file = file.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("tcpguard stat").trim(), "status states");
    assert!(complete("tcpguard mode en").contains("enforce"));
    assert!(complete("tcpguard status --bri").contains("--brief"));
    for (shell, file) in [
        ("zsh", "usr/share/zsh/vendor-completions/_tcpguard"),
        ("fish", "usr/share/fish/vendor_completions.d/tcpguard.fish"),
    ] {
        // Neither is on every machine.
        if let Ok(parsed) = Command::new(shell).arg("-n").arg(scratch.0.join(file)).output() {
            assert!(parsed.status.success(), "{shell}: {}", said(&parsed));
        }
    }
}

/// Paths that bear the package's name, but for those of the package manager and of the machine.
fn traces(machine: &Machine) -> BTreeSet<String> {
    // Pages that were read are kept by man, which clears that up when it likes.
    let find = "find /etc /usr /var /run /sys/fs/bpf -path /var/cache/man -prune -o -name *tcpguard* -print";
    let output = machine.output(find).unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    found.lines().filter(|path| !path.contains("tcpguard-e2e")).map(str::to_owned).collect()
}

#[test]
fn it_is_installed_started_reinstalled_removed_and_purged() {
    let machine = machine(&[]);
    cable(&machine);
    let before = traces(&machine);
    let deb = deb();

    let begun = Instant::now();
    let said = install(&machine, &deb);
    assert!(said.contains("systemctl enable --now tcpguard"), "the next command: {said}");
    assert_eq!(machine.property("ActiveState").unwrap(), "inactive", "no interface is named");
    let pins = fs::metadata(machine.path("/sys/fs/bpf/tcpguard")).unwrap();
    assert_eq!(pins.permissions().mode() & 0o7777, 0o700);
    let owner = machine.exec("stat --format %U:%G /sys/fs/bpf/tcpguard").unwrap();
    assert_eq!(owner, "tcpguard:tcpguard\n");
    let catalog = machine.exec("journalctl --list-catalog").unwrap();
    for id in tcpguard::telemetry::events::descriptors().filter_map(|event| event.message_id) {
        assert!(catalog.contains(&format!("{id} tcpguard: ")), "{id} in {catalog}");
    }
    let verified = machine
        .output("systemd-analyze verify tcpguard.service tcpguard-selftest.service tcpguard-hook.service")
        .unwrap();
    let complaints = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !complaints.contains("tcpguard"), "{complaints}");

    // As the message said.
    let shipped = fs::read_to_string(machine.path(CONFIG)).unwrap();
    fs::write(machine.path(CONFIG), shipped.replace("#names = []", "names = [\"eth0\"]")).unwrap();
    machine.exec("systemctl enable --now tcpguard").unwrap();
    let first = machine.exec("tcpguard status").unwrap();
    println!("from dpkg -i to the first status: {:.1?}\n{first}", begun.elapsed());
    assert!(is_attached(&machine));
    assert_eq!(status(&machine)["daemon"]["state"], "observing");
    let documented = machine.exec("systemctl show tcpguard --property Documentation").unwrap();
    for page in ["man:tcpguard(8)", "man:tcpguard.toml(5)"] {
        assert!(documented.contains(page), "{documented}");
    }

    let pid = machine.main_pid().unwrap().expect("it runs");
    install(&machine, &deb);
    let again = machine.main_pid().unwrap().expect("it runs");
    assert_ne!(again, pid, "the new program runs");
    assert!(is_attached(&machine));

    // Mistakes: the running agent is left alone.
    let config = fs::read_to_string(machine.path(CONFIG)).unwrap();
    fs::write(machine.path(CONFIG), "mode = \"on\"\n").unwrap();
    let said = install(&machine, &deb);
    assert!(said.contains("tcpguard config check"), "{said}");
    assert_eq!(machine.main_pid().unwrap(), Some(again));
    fs::write(machine.path(CONFIG), config).unwrap();

    machine.exec("dpkg --remove tcpguard").unwrap();
    assert!(!is_attached(&machine), "the XDP program goes with the package");
    assert!(!machine.path("/usr/bin/tcpguard").exists());
    assert!(!machine.path("/sys/fs/bpf/tcpguard").exists());
    assert!(machine.path(CONFIG).is_file(), "until it is purged");
    assert!(machine.path("/var/lib/tcpguard/state.json").is_file(), "what it knew, too");
    assert!(!machine.output("pgrep -x tcpguard").unwrap().status.success());

    // A service that was enabled is enabled again.
    install(&machine, &deb);
    assert!(is_attached(&machine));

    machine.exec("dpkg --purge tcpguard").unwrap();
    assert!(!is_attached(&machine));
    let after = traces(&machine);
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    machine.exec("getent passwd tcpguard").expect("users stay, lest their numbers be used again");
}

#[test]
fn an_agent_that_does_not_start_fails_no_installation() {
    let fails = "[Service]\nExecStartPre=/bin/false\n";
    let machine =
        machine(&[(CONFIG, ON_ETH0), ("/etc/systemd/system/tcpguard.service.d/fails.conf", fails)]);
    cable(&machine);
    let said = install(&machine, &deb());
    println!("{said}");
    let state = machine.exec("dpkg-query --show --showformat ${db:Status-Status} tcpguard");
    assert_eq!(state.unwrap(), "installed");
    assert!(!is_attached(&machine));
    machine.exec("systemctl stop tcpguard").unwrap();
    machine.exec("dpkg --purge tcpguard").unwrap();
}

#[test]
fn an_upgrade_under_a_flood_opens_no_gap() {
    let config = format!("mode = \"enforce\"\n{ON_ETH0}");
    let machine = machine(&[(CONFIG, &config)]);
    let options = LabOptions { syncookies: 0, ..LabOptions::default() };
    let lab = Lab::around(|| machine.network(), options).unwrap();
    let deb = deb();
    install(&machine, &deb);
    let before = machine.main_pid().unwrap().expect("a named interface is attached at once");

    let service = Family::V4.service();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let load = Load::start(&lab.client, service, 50).unwrap();
    thread::sleep(2 * SECOND);
    let flood = Flood { rate: 5_000, ..Flood::random(service, 60 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    let begun = Instant::now();
    while status(&machine)["rules"]["in_kernel"].as_u64() < Some(1) {
        assert!(begun.elapsed() < 10 * SECOND, "no rule: {:#}", status(&machine)["rules"]);
    }
    thread::sleep(SECOND);

    let scratch = Scratch::new("upgrade");
    let newer = deb.with_version("99.0-1", &scratch.0).unwrap();
    let upgraded = AtomicBool::new(false);
    let from = boot_ns();
    let (looks, gaps) = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let (mut looks, mut gaps) = (0, 0);
            while !upgraded.load(Ordering::Relaxed) {
                let link = lab.edge.exec(&format!("ip link show dev {INTERFACE}")).unwrap();
                looks += 1;
                gaps += u32::from(!link.contains("xdp"));
            }
            (looks, gaps)
        });
        install(&machine, &newer);
        thread::sleep(2 * SECOND);
        upgraded.store(true, Ordering::Relaxed);
        sampler.join().unwrap()
    });
    let to = boot_ns();
    thread::sleep(4 * SECOND);
    let sent = flood.stop().unwrap().rate();
    let attempts = load.finish().unwrap().begun(from, to);
    println!(
        "upgraded under {sent:.0} SYN/s: {gaps} of {looks} looks without the XDP program, {}",
        attempts.summary()
    );
    assert_ne!(machine.main_pid().unwrap().expect("it runs"), before, "the new program runs");
    let at = |name: &str| -> u64 { machine.property(name).unwrap().parse().unwrap() };
    let away = at("ActiveEnterTimestampMonotonic") - at("ActiveExitTimestampMonotonic");
    let away = Duration::from_micros(away);
    println!("without an agent for {away:.2?}");
    assert!(away < HEARTBEAT, "tcpguard's own cookies end: {away:?}");
    let version = machine.exec("dpkg-query --show --showformat ${Version} tcpguard").unwrap();
    assert_eq!(version, "99.0-1");
    assert!(looks > 100 && gaps == 0, "{gaps} of {looks} looks found no XDP program");
    assert!(attempts.share_within(3 * SECOND) >= 1.0, "{}", attempts.summary());
    assert_eq!(status(&machine)["daemon"]["config"]["path"], CONFIG);
}

#[test]
fn the_fleets_package_is_installed_beside_the_agents_and_purged() {
    let machine = machine(&[]);
    cable(&machine);
    install(&machine, &deb());
    let printed = install(&machine, &fleet_deb());
    assert!(
        printed.contains("systemctl enable --now tcpguard-fleet"),
        "the next command: {printed}"
    );
    // The agent gets the group of the socket by the drop-in.
    fs::write(machine.path(CONFIG), format!("{ON_ETH0}[fleet]\nlisten = true\n")).unwrap();
    machine.exec("systemctl enable --now tcpguard").unwrap();
    let socket = machine.exec("stat --format %U:%G:%a /run/tcpguard/fleet.sock").unwrap();
    assert_eq!(socket.trim(), "tcpguard:tcpguard-fleet:660");
    let name = machine.exec("tcpguard fleet name").unwrap();
    assert_eq!(name.trim().len(), 32, "of the machine's id: {name}");
    machine.exec("dpkg --purge tcpguard").unwrap();
    assert!(machine.path("/etc/tcpguard/fleet.toml").is_file(), "it is of the other package");
    machine.exec("dpkg --purge tcpguard-fleet").unwrap();
    for path in [
        "/usr/bin/tcpguard-fleet",
        "/etc/tcpguard/fleet.toml",
        "/var/lib/tcpguard-fleet",
        "/var/lib/tcpguard-fleet-relief",
    ] {
        assert!(!machine.path(path).exists(), "{path}");
    }
}

/// Starts the server of the bus under the unit of the manual.
fn start_bus(machine: &Machine) {
    let page = include_str!("../../../../docs/fleet.md");
    let unit = page.split_once("```ini\n").and_then(|(_, rest)| rest.split_once("```"));
    let (unit, _) = unit.expect("a unit");
    let server = fs::read(bus::program().unwrap()).unwrap();
    fs::write(machine.path("/usr/local/bin/nats-server"), server).unwrap();
    machine.exec("chmod 755 /usr/local/bin/nats-server").unwrap();
    // The machine has the accounts of the host, where a package of NATS may have made this one.
    if !machine.output("id nats").unwrap().status.success() {
        machine.exec("useradd --system --no-create-home --shell /usr/sbin/nologin nats").unwrap();
    }
    fs::create_dir_all(machine.path("/etc/nats")).unwrap();
    let config = "listen: \"127.0.0.1:4222\"\njetstream { store_dir: \"/var/lib/nats\" }\n";
    fs::write(machine.path("/etc/nats/nats.conf"), config).unwrap();
    fs::write(machine.path("/etc/systemd/system/nats.service"), unit).unwrap();
    machine.exec("systemctl daemon-reload").unwrap();
    machine.exec("systemctl enable --now nats").unwrap();
    machine.exec("systemctl reload nats").unwrap();
}

/// The processes of a fleet under their units. The seccomp filters have to permit what the BGP speakers do, too.
#[test]
fn the_units_of_a_fleet_run_without_root_and_capabilities() {
    let machine = machine(&[]);
    cable(&machine);
    install(&machine, &deb());
    install(&machine, &fleet_deb());
    fs::write(machine.path(CONFIG), format!("{ON_ETH0}[fleet]\nlisten = true\n")).unwrap();
    machine.exec("systemctl enable --now tcpguard").unwrap();
    machine.exec("ip link set lo up").unwrap();
    start_bus(&machine);
    for (speaker, program) in [("gobgp", "gobgpd"), ("exabgp", "exabgp")] {
        let path = machine.exec(&format!("which {program}")).unwrap();
        let config = format!(
            "[bus]\nservers = [\"nats://127.0.0.1:4222\"]\n\
             [relief]\ndry_run = false\nspeaker = \"{speaker}\"\nprogram = \"{}\"\n\
             local_as = 65001\nrouter_id = \"127.0.0.1\"\nlocal_address = \"127.0.0.1\"\n\
             peer_as = 65000\nneighbor = \"127.0.0.2\"\n",
            path.trim()
        );
        fs::write(machine.path("/etc/tcpguard/fleet.toml"), config).unwrap();
        for part in ["", "-collect", "-relief"] {
            let unit = format!("tcpguard-fleet{part}");
            machine.exec(&format!("systemctl restart {unit}")).unwrap();
            let pid = machine.exec(&format!("systemctl show --value -p MainPID {unit}")).unwrap();
            let status = machine.exec(&format!("cat /proc/{}/status", pid.trim())).unwrap();
            let field = |name: &str| {
                let found = status.lines().find_map(|line| line.strip_prefix(name));
                found.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
            };
            assert_eq!(field("CapPrm:"), "0000000000000000", "{unit}");
            assert_eq!(field("Seccomp:"), "2", "{unit} has a filter");
            assert!(!field("Uid:").split_whitespace().any(|uid| uid == "0"), "{unit}: {status}");
        }
        let begun = Instant::now();
        loop {
            let output = machine.output("tcpguard-fleet status --local --json").unwrap();
            let lines = String::from_utf8_lossy(&output.stdout).into_owned();
            let states: Vec<Value> =
                lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if states.len() == 2
                && states.iter().all(|state| state["bus"]["connected"] == true)
                && states[0]["edge"]["agent"] == true
                && states[1]["controller"]["speaker"] == true
            {
                break;
            }
            if begun.elapsed() > 20 * SECOND {
                let log = machine.exec("journalctl --no-pager -u tcpguard-fleet-relief").unwrap();
                panic!("{speaker}: {states:#?}\n{log}");
            }
            thread::sleep(SECOND / 5);
        }
    }
    machine.exec("tcpguard-fleet status --json").unwrap();
}

#[test]
fn the_rpm_is_installed_started_and_removed() {
    let machine = machine(&[]);
    cable(&machine);
    let rpm = Package::made(&AGENT, Format::Rpm).unwrap().put_on(&machine).unwrap();
    // Debian's rpm asks for the first option. The dependencies are known to dpkg only.
    let rpm_of = |arguments: &str| {
        let output = machine.output(&format!("rpm --force-debian --nodeps {arguments}")).unwrap();
        assert!(output.status.success(), "{arguments}: {}", said(&output));
        said(&output)
    };
    let printed = rpm_of(&format!("--install {rpm}"));
    assert!(printed.contains("systemctl enable --now tcpguard"), "the next command: {printed}");
    assert!(machine.path("/etc/tcpguard/conf.d").is_dir());
    fs::write(machine.path(CONFIG), ON_ETH0).unwrap();
    machine.exec("systemctl enable --now tcpguard").unwrap();
    assert!(is_attached(&machine));
    rpm_of("--erase tcpguard");
    assert!(!is_attached(&machine), "the XDP program goes with the package");
    assert!(!machine.path("/usr/bin/tcpguard").exists());
    assert!(machine.path(&format!("{CONFIG}.rpmsave")).is_file(), "what was changed is kept");
}
