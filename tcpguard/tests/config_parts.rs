//! Configurations of several files, and settings of single listeners and interfaces.

use std::net::IpAddr;
use std::path::PathBuf;

use tcpguard::bpf::XdpMode;
use tcpguard::config::{self, Loaded, Overrides};
use tcpguard_engine::{Listener, Mitigation, Mode};

/// A directory with the main file and those beside it.
struct Etc(tempfile::TempDir);

impl Etc {
    fn new(main: &str, parts: &[(&str, &str)]) -> Self {
        let etc = Self(tempfile::tempdir().unwrap());
        std::fs::write(etc.main(), main).unwrap();
        std::fs::create_dir(etc.0.path().join("conf.d")).unwrap();
        for (name, text) in parts {
            std::fs::write(etc.part(name), text).unwrap();
        }
        etc
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("tcpguard.toml")
    }

    fn part(&self, name: &str) -> PathBuf {
        self.0.path().join("conf.d").join(name)
    }

    fn read(&self) -> Result<Loaded, String> {
        let read = config::read(Some(&self.main()), Overrides::default());
        let directory = format!("{}/", self.0.path().display());
        read.map_err(|error| error.to_string().replace(&directory, ""))
    }

    fn origin(&self, loaded: &Loaded, key: &str) -> String {
        let directory = format!("{}/", self.0.path().display());
        loaded.origins.get(key).to_string().replace(&directory, "")
    }
}

#[test]
fn later_files_stand_over_earlier_ones_key_by_key() {
    let etc = Etc::new(
        "mode = \"observe\"\n[detection]\nfast_min = 100\nclear_s = 60\n\
         [protect]\nprefixes = [\"192.0.2.0/24\", \"198.51.100.0/24\"]\n",
        &[
            ("20-late.toml", "[detection]\nfast_min = 300\n[states]\nsyn_recv = 99\n"),
            ("10-early.toml", "mode = \"enforce\"\n[detection]\nfast_min = 200\n"),
            ("30-net.toml", "[protect]\nprefixes = [\"203.0.113.0/24\"]\n"),
            ("README", "this is not TOML"),
        ],
    );
    let loaded = etc.read().unwrap();
    let config = &loaded.config;
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!((config.settings.fast_failures, config.settings.quiet.as_secs()), (300, 60));
    assert_eq!(config.states.syn_recv, 99);
    let prefixes: Vec<_> = config.protect.prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["203.0.113.0/24"], "a list is one value");
    let parts = ["10-early.toml", "20-late.toml", "30-net.toml"].map(|name| etc.part(name));
    assert_eq!(loaded.files, [vec![etc.main()], parts.to_vec()].concat());
    assert_eq!(config.path, Some(etc.main()));
    for (key, origin) in [
        ("mode", "conf.d/10-early.toml:1"),
        ("detection.fast_min", "conf.d/20-late.toml:2"),
        ("detection.clear_s", "tcpguard.toml:4"),
        ("protect.prefixes", "conf.d/30-net.toml:2"),
        ("policy.rules", "default"),
    ] {
        assert_eq!(etc.origin(&loaded, key), origin, "{key}");
    }
}

#[test]
fn blocks_about_the_same_listener_are_one_with_the_later_keys_on_top() {
    let etc = Etc::new(
        "[[listener]]\nat = \":443\"\ncookies = false\nmode = \"off\"\n\
         [[interface]]\nname = \"eth0\"\nxdp_mode = \"native\"\nnext_program = \"balancer\"\n",
        &[(
            "50-web.toml",
            "[[listener]]\nat = \":443\"\nmode = \"observe\"\n\
             [[listener]]\nat = \":25\"\nignore = true\n\
             [[interface]]\nname = \"eth0\"\nxdp_mode = \"generic\"\n",
        )],
    );
    let loaded = etc.read().unwrap();
    assert_eq!(loaded.config.xdp_mode_of("eth0"), XdpMode::Generic);
    assert_eq!(loaded.config.next_programs().get("eth0").map(String::as_str), Some("balancer"));
    let places: Vec<_> = loaded.config.listener.iter().map(|own| own.at.to_string()).collect();
    assert_eq!(places, [":443", ":25"]);
    let own = &loaded.config.tuning().overrides[0];
    assert_eq!(
        (own.mode, own.barred.as_slice()),
        (Some(Mode::Observe), &[Mitigation::Cookies][..])
    );
    for (key, origin) in [
        ("listener[\":443\"].cookies", "tcpguard.toml:3"),
        ("listener[\":443\"].mode", "conf.d/50-web.toml:3"),
        ("interface[\"eth0\"].xdp_mode", "conf.d/50-web.toml:9"),
        ("interface[\"eth0\"].next_program", "tcpguard.toml:8"),
    ] {
        assert_eq!(etc.origin(&loaded, key), origin, "{key}");
    }
}

#[test]
fn mistakes_name_their_own_file_and_near_keys_wherever_those_belong() {
    let etc = Etc::new(
        "mode = \"on\"\n[detection]\nclear_s = 1\n",
        &[
            ("10-a.toml", "[detecton]\n"),
            ("20-b.toml", "\n[policy]\nfast_min = 1\n  failure_floor = 0.1\n"),
        ],
    );
    assert_eq!(
        etc.read().unwrap_err(),
        "tcpguard.toml:1:8: mode: unknown value `on`, expected one of `off`, `observe`, `enforce`\n\
         tcpguard.toml:3:11: detection.clear_s: 1 does not fit; write a whole number of seconds from 5 to \
         3600\n\
         conf.d/10-a.toml:1:2: unknown key detecton; did you mean detection?\n\
         conf.d/20-b.toml:3:1: unknown key policy.fast_min; did you mean detection.fast_min?\n\
         conf.d/20-b.toml:4:3: unknown key policy.failure_floor; did you mean detection.failure_floor?"
    );
}

#[test]
fn a_part_that_cannot_be_read_is_named() {
    let etc = Etc::new("", &[]);
    std::os::unix::fs::symlink("nowhere", etc.part("10-gone.toml")).unwrap();
    assert_eq!(
        etc.read().unwrap_err(),
        "cannot read the configuration conf.d/10-gone.toml: No such file or directory (os error 2)"
    );
}

fn listener(addr: &str, port: u16) -> Listener {
    Listener { addr: addr.parse::<IpAddr>().unwrap(), port }
}

#[test]
fn a_listener_is_ignored_by_its_address_before_its_port_before_the_list_of_ports() {
    let etc = Etc::new(
        "[listeners]\nignore_ports = [80, 8080]\n\
         [[listener]]\nat = \":443\"\nignore = true\n\
         [[listener]]\nat = \"203.0.113.10:443\"\nignore = false\n\
         [[listener]]\nat = \"203.0.113.10:8080\"\nignore = false\n\
         [[listener]]\nat = \":80\"\nmode = \"off\"\n",
        &[],
    );
    let config = etc.read().unwrap().config;
    for (addr, port, ignored) in [
        ("0.0.0.0", 443, true),
        ("2001:db8::1", 443, true),
        ("203.0.113.10", 443, false),
        ("0.0.0.0", 8080, true),
        ("203.0.113.10", 8080, false),
        ("0.0.0.0", 80, true),
        ("0.0.0.0", 22, false),
    ] {
        assert_eq!(config.ignores(&listener(addr, port)), ignored, "{addr} {port}");
    }
}

#[test]
fn what_is_said_of_a_port_holds_for_its_addresses_but_for_what_is_said_of_them() {
    let etc = Etc::new(
        "[[listener]]\nat = \":443\"\nmode = \"observe\"\ncookies = false\nbudget = false\n\
         [[listener]]\nat = \"203.0.113.10:443\"\ncookies = true\n",
        &[],
    );
    let tuning = etc.read().unwrap().config.tuning();
    let own = &tuning.overrides[1];
    assert_eq!(own.at.to_string(), "203.0.113.10:443");
    assert_eq!((own.mode, own.barred.as_slice()), (Some(Mode::Observe), &[Mitigation::Budget][..]));
}
