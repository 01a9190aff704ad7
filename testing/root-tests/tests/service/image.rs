//! The OCI image, unpacked and run as a container runtime does by the command of
//! `packaging/container/tcpguard-container.service`: its capabilities and mounts and no others, a read-only root,
//! no new privileges. Needs root, capsh, `TCPGUARD_DIST` and `TCPGUARD_BIN`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tcpguard_kit::daemon::agent;
use tcpguard_kit::daemon::package::Package;
use tcpguard_kit::net::netns::Netns;
use tcpguard_support::contents::{AGENT, Format};

/// Time limit of a start on a busy machine.
const STARTS: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// Mounts as a runtime makes them, then the program in place of the shell: ROOT, then each volume as
/// HOST:INSIDE or HOST:INSIDE:ro, `--`, and the arguments of capsh.
const RUNTIME: &str = r#"
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs dev "$root/dev"
for device in full null random urandom zero; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
while [ "$1" != -- ]; do
    host=${1%%:*}; inside=${1#*:}
    mkdir -p "$root/${inside%:ro}"
    mount --bind "$host" "$root/${inside%:ro}"
    if [ "$inside" != "${inside%:ro}" ]; then
        mount -o remount,bind,ro "$root/${inside%:ro}"
    fi
    shift
done
shift
mount -o remount,bind,ro "$root"
exec capsh --chroot="$root" "$@"
"#;

/// A host with the image unpacked, and an interface `eth0`.
struct Host {
    network: Netns,
    directory: PathBuf,
    /// The document about the image that runtimes read.
    configuration: Value,
    /// The arguments of podman in the unit.
    arguments: Vec<String>,
}

/// A container that runs.
struct Container {
    program: Child,
}

impl Host {
    fn new(label: &str) -> Self {
        let network = Netns::new("host").unwrap();
        network
            .ip(&["link add eth0 type veth peer name wire", "link set eth0 up", "link set wire up"])
            .unwrap();
        let directory =
            std::env::temp_dir().join(format!("tcpguard-{label}-{}", std::process::id()));
        let blobs = directory.join("blobs");
        let root = directory.join("root");
        for path in ["root", "blobs", "etc", "run", "sessions", "state"] {
            fs::create_dir_all(directory.join(path)).unwrap();
        }
        let image = Package::made(&AGENT, Format::Image).unwrap().path;
        tar(&["--extract", "--file"], &image, &blobs);
        let index = read(&blobs.join("index.json"));
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            blobs.join("blobs").join(digest.replace(':', "/"))
        };
        let manifest = read(&blob(&index["manifests"][0]));
        for layer in manifest["layers"].as_array().unwrap() {
            tar(&["--extract", "--gzip", "--file"], &blob(layer), &root);
        }
        for mount_point in ["dev", "proc", "sys"] {
            fs::create_dir_all(root.join(mount_point)).unwrap();
        }
        fs::write(directory.join("etc/tcpguard.toml"), "[interfaces]\nnames = [\"eth0\"]\n")
            .unwrap();
        let configuration = read(&blob(&manifest["config"]));
        Self { network, directory, configuration, arguments: of_unit() }
    }

    /// Runs the image with arguments in place of its own.
    fn run(&self, capabilities: &[&str], arguments: &[&str]) -> Container {
        let volume = |host: &str, rest: &str| match host {
            "/sys/fs/bpf" => format!("{host}:{rest}"),
            "/etc/tcpguard" => format!("{}/etc:{rest}", self.directory.display()),
            "/run/tcpguard" => format!("{}/run:{rest}", self.directory.display()),
            "/run/systemd/sessions" => format!("{}/sessions:{rest}", self.directory.display()),
            "/var/lib/tcpguard" => format!("{}/state:{rest}", self.directory.display()),
            other => panic!("a volume of {other}"),
        };
        let volumes = self.values("--volume=").map(|value| {
            let (host, rest) = value.split_once(':').unwrap();
            volume(host, rest)
        });
        let entry = self.configuration["config"]["Entrypoint"][0].as_str().unwrap();
        let mut command = self.network.command("unshare").unwrap();
        command.args(["--mount", "sh", "-e", "-c", RUNTIME, "runtime"]);
        command.arg(self.directory.join("root")).args(volumes).arg("--");
        command.arg(format!("--drop={}", all_but(capabilities))).arg("--no-new-privs");
        command.arg(format!("--shell={entry}")).arg("--").args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.spawn().expect("unshare: install util-linux");
        Container { program }
    }

    /// The values of an option in the unit.
    fn values(&self, option: &str) -> impl Iterator<Item = &str> {
        self.arguments.iter().filter_map(move |argument| argument.strip_prefix(option))
    }

    fn capabilities(&self) -> Vec<&str> {
        self.values("--cap-add=").collect()
    }

    /// The arguments of the image itself.
    fn command(&self) -> Vec<&str> {
        let words = self.configuration["config"]["Cmd"].as_array().unwrap();
        words.iter().map(|word| word.as_str().unwrap()).collect()
    }

    fn is_attached(&self) -> bool {
        self.network.exec("ip link show dev eth0").unwrap().contains("xdp")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Container {
    /// Waits for its end, and returns its output.
    fn wait(mut self) -> (ExitStatus, String) {
        let ended = self.program.wait().unwrap();
        (ended, self.said())
    }

    fn stop(self) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.program), Signal::TERM).unwrap();
        self.wait()
    }

    /// All of its output. It must have ended.
    fn said(&mut self) -> String {
        let mut text = String::new();
        self.program.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.program.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

/// The arguments of podman in the unit.
fn of_unit() -> Vec<String> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging/container/tcpguard-container.service");
    let unit = fs::read_to_string(unit).unwrap().replace("\\\n", " ");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// The names of all capabilities but these.
fn all_but(kept: &[&str]) -> String {
    let list = Command::new("capsh").arg("--decode=1ffffffffff").output();
    let list = list.expect("capsh: install it (`cargo xtask setup` says how)");
    let list = String::from_utf8(list.stdout).unwrap();
    let (_, names) = list.trim().split_once('=').unwrap();
    let kept: Vec<_> = kept.iter().map(|name| format!("cap_{}", name.to_lowercase())).collect();
    let dropped = names.split(',').filter(|name| !kept.iter().any(|it| it == name));
    let dropped: Vec<&str> = dropped.collect();
    assert_eq!(dropped.len() + kept.len(), names.split(',').count(), "{kept:?} in {names}");
    dropped.join(",")
}

fn tar(arguments: &[&str], archive: &Path, to: &Path) {
    let mut command = Command::new("tar");
    command.args(arguments).arg(archive).arg("--directory").arg(to);
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_image_runs_with_the_capabilities_and_mounts_of_its_unit() {
    let host = Host::new("image");
    let own = Command::new(agent::binary().unwrap()).arg("version").output().unwrap();
    let (ended, version) = host.run(&[], &["version"]).wait();
    assert!(ended.success(), "{version}");
    assert_eq!(version, String::from_utf8(own.stdout).unwrap());

    let mut container = host.run(&host.capabilities(), &host.command());
    let begun = Instant::now();
    let status = loop {
        let asked = Command::new(agent::binary().unwrap())
            .args(["status", "--json", "--runtime-dir"])
            .arg(host.directory.join("run"))
            .output()
            .unwrap();
        if asked.status.success() {
            break serde_json::from_slice::<Value>(&asked.stdout).unwrap();
        }
        if let Some(ended) = container.program.try_wait().unwrap() {
            panic!("{ended}: {}", container.said());
        }
        assert!(begun.elapsed() < STARTS, "no agent after {STARTS:?}");
        sleep(POLL);
    };
    assert_eq!(status["daemon"]["state"], "observing", "{status:#}");
    assert!(host.is_attached());

    let (ended, log) = container.stop();
    assert!(ended.success(), "{ended}: {log}");
    assert!(host.is_attached(), "the XDP program stays for the next container: {log}");
    assert!(host.directory.join("state/state.json").is_file(), "so does the state: {log}");
}

#[test]
fn the_image_needs_each_of_its_capabilities_and_names_the_missing_one() {
    let host = Host::new("capabilities");
    let all = host.capabilities();
    for missing in &all {
        let kept: Vec<&str> = all.iter().copied().filter(|name| name != missing).collect();
        let (ended, log) = host.run(&kept, &host.command()).wait();
        assert_eq!(ended.code(), Some(4), "without {missing}: {log}");
        assert!(log.contains(&format!("CAP_{missing}")), "without {missing}: {log}");
    }
}
