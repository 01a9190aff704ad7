//! A router that takes routes from one BGP speaker, with the filters and limits that its owner should set: BIRD on a
//! machine of its own, connected to the controller's. GoBGP or FRR can take its place, without them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::net::netns::Netns;

use crate::{end, pause, resume, wait_for};

/// AS numbers of the router and of the speaker.
pub const ROUTER_AS: u32 = 65_000;
pub const SPEAKER_AS: u32 = 65_001;
/// Most routes of each kind that the router accepts.
pub const LIMIT: u32 = 12;
/// The router's files.
const CONFIG: &str = "/run/bird.conf";
const SOCKET: &str = "/run/bird.ctl";
const LOG: &str = "/run/bird.log";
/// The API of GoBGP in its place.
const GOBGP: &str = "unix:///run/router-gobgp.sock";
/// The folder of FRR's socket in its place.
const FRR: &str = "/run/router-frr";

/// A router. It ends when dropped.
#[derive(Debug)]
pub struct Router {
    host: Netns,
    number: u8,
    daemon: Child,
}

/// Prefixes in which the router accepts routes to single addresses.
#[derive(Clone, Copy, Debug)]
pub struct Prefixes {
    /// The prefix of IPv4.
    pub v4: &'static str,
    /// The prefix of IPv6.
    pub v6: &'static str,
}

impl Router {
    /// Starts router `number`, connected to `controller`, for routes to addresses in these prefixes.
    ///
    /// # Errors
    /// Without bird, or when it does not reply within 10 s.
    pub fn start(controller: &Netns, number: u8, prefixes: Prefixes) -> Result<Self> {
        let host = Netns::new(&format!("router {number}"))?;
        let path = controller.path();
        let link = format!("link add bgp{number} type veth peer name bgp{number} netns {path}");
        host.ip(&[&link])?;
        for (end, family_end) in [(&host, End::Router), (controller, End::Speaker)] {
            let address = |family| address(number, family, family_end);
            end.ip(&[
                &format!("link set bgp{number} up"),
                &format!("address add {}/24 dev bgp{number}", address(Family::V4)),
                &format!("address add {}/64 dev bgp{number} nodad", address(Family::V6)),
            ])?;
        }
        host.write(CONFIG, &configuration(number, prefixes))?;
        let daemon = host
            .command("bird")?
            .args(["-f", "-c", CONFIG, "-s", SOCKET])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start bird: `cargo xtask test` installs it")?;
        let mut router = Self { host, number, daemon };
        wait_for("a reply of the router", Duration::from_secs(10), || {
            if let Some(status) = router.daemon.try_wait()? {
                bail!("bird ended with {status}: {}", router.log());
            }
            Ok(router.ask("show status").ok())
        })?;
        Ok(router)
    }

    /// Address of the router, for the speaker.
    pub const fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.number, 2)
    }

    /// Address of the speaker.
    pub const fn speaker(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.number, 1)
    }

    /// The section `[relief]` of a controller before this router, with this speaker. More keys may follow.
    pub fn relief(&self, speaker: &str) -> String {
        let (own, other) = (self.speaker(), self.address());
        let next_hop = address(self.number, Family::V6, End::Speaker);
        format!(
            "[relief]\n\
             dry_run = false\n\
             speaker = \"{speaker}\"\n\
             local_as = {SPEAKER_AS}\n\
             router_id = \"{own}\"\n\
             local_address = \"{own}\"\n\
             peer_as = {ROUTER_AS}\n\
             neighbor = \"{other}\"\n\
             blackhole_next_hops = [\"{own}\", \"{next_hop}\"]\n"
        )
    }

    /// The FlowSpec rules that it has, as it shows them: `flow4 { dst 192.0.2.10/32; proto 6; … }`.
    pub fn rules(&self, family: Family) -> Result<Vec<String>> {
        let (table, word) = match family {
            Family::V4 => ("flow4tab", "flow4 {"),
            Family::V6 => ("flow6tab", "flow6 {"),
        };
        Ok(rules(&self.ask(&format!("show route table {table}"))?, word))
    }

    /// The FlowSpec rules with all of their attributes, as it shows them.
    pub fn rules_in_full(&self, family: Family) -> Result<String> {
        let table = if family == Family::V4 { "flow4tab" } else { "flow6tab" };
        self.ask(&format!("show route all table {table}"))
    }

    /// The addresses to which its kernel drops every packet.
    pub fn blackholes(&self, family: Family) -> Result<Vec<IpAddr>> {
        let option = if family == Family::V4 { "-4" } else { "-6" };
        let routes = self.host.exec(&format!("ip {option} route show type blackhole"))?;
        let address = |word: &str| word.split('/').next()?.parse().ok();
        Ok(routes.lines().filter_map(|line| line.split_whitespace().find_map(address)).collect())
    }

    /// Number of all routes that it has of the speaker.
    pub fn routes(&self) -> Result<usize> {
        let each = Family::BOTH.map(|family| -> Result<usize> {
            Ok(self.rules(family)?.len() + self.blackholes(family)?.len())
        });
        each.into_iter().sum()
    }

    /// Waits until it has so many routes of the speaker.
    pub fn wait_for_routes(&self, routes: usize, limit: Duration) -> Result<()> {
        wait_for(&format!("{routes} routes at the router"), limit, || {
            Ok((self.routes()? == routes).then_some(()))
        })
    }

    /// Returns whether the session to the speaker is established.
    pub fn is_established(&self) -> Result<bool> {
        Ok(self.ask("show protocols speaker")?.contains("Established"))
    }

    /// Waits until the session is established.
    pub fn wait_for_session(&self, limit: Duration) -> Result<()> {
        wait_for("a BGP session", limit, || Ok(self.is_established()?.then_some(())))
    }

    /// Stops the router with SIGSTOP, as one that hangs.
    pub fn pause(&self) -> Result<()> {
        pause(&self.daemon)
    }

    /// Lets the router go on after [`Self::pause`].
    pub fn resume(&self) -> Result<()> {
        resume(&self.daemon)
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.host.read(LOG).unwrap_or_default()
    }

    /// Ends BIRD and has GoBGP take its place.
    ///
    /// # Errors
    /// Without gobgpd, or when it does not reply within 10 s.
    pub fn become_gobgp(&mut self) -> Result<()> {
        let families: String = ["ipv4-unicast", "ipv6-unicast", "ipv4-flowspec", "ipv6-flowspec"]
            .map(|name| {
                format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{name}\"\n")
            })
            .concat();
        let (own, other) = (self.address(), self.speaker());
        let config = format!(
            "[global.config]\nas = {ROUTER_AS}\nrouter-id = \"{own}\"\n[[neighbors]]\n[neighbors.config]\n\
             neighbor-address = \"{other}\"\npeer-as = {SPEAKER_AS}\n[neighbors.transport.config]\n\
             passive-mode = true\n[neighbors.timers.config]\nhold-time = 9\n{families}"
        );
        self.host.write("/run/router-gobgp.toml", &config)?;
        let mut gobgp = self.host.command("gobgpd")?;
        gobgp.args(["-f", "/run/router-gobgp.toml", "--api-hosts", GOBGP, "--pprof-disable"]);
        self.replace_by(gobgp, Self::gobgp_routes)
    }

    /// The routes that GoBGP has in place of BIRD, as it shows them.
    pub fn gobgp_routes(&self) -> Result<String> {
        let of = |family| self.host.exec(&format!("gobgp --target {GOBGP} global rib -a {family}"));
        let shown: Result<Vec<String>> =
            ["ipv4", "ipv6", "ipv4-flowspec", "ipv6-flowspec"].into_iter().map(of).collect();
        Ok(shown?.concat())
    }

    /// Ends BIRD and has FRR's bgpd take its place, without zebra, so that no route gets into the kernel.
    ///
    /// # Errors
    /// Without FRR, or when it does not reply within 10 s.
    pub fn become_frr(&mut self) -> Result<()> {
        let other = self.speaker();
        let families: String = ["ipv4 unicast", "ipv6 unicast", "ipv4 flowspec", "ipv6 flowspec"]
            .map(|name| {
                format!(
                    " address-family {name}\n  neighbor {other} activate\n exit-address-family\n"
                )
            })
            .concat();
        let config = format!(
            "router bgp {ROUTER_AS}\n bgp router-id {}\n no bgp ebgp-requires-policy\n \
             neighbor {other} remote-as {SPEAKER_AS}\n neighbor {other} passive\n \
             neighbor {other} timers 3 9\n{families}",
            self.address()
        );
        self.host.exec(&format!("mkdir -p {FRR}"))?;
        self.host.write("/run/router-frr.conf", &config)?;
        let mut frr = self.host.command("/usr/lib/frr/bgpd")?;
        frr.args([
            "-Z",
            "-S",
            "-P",
            "0",
            "-f",
            "/run/router-frr.conf",
            "-i",
            "/run/router-frr.pid",
        ]);
        frr.args(["--vty_socket", FRR]);
        self.replace_by(frr, Self::frr_routes)
    }

    /// The routes that FRR has in place of BIRD, as it shows them.
    pub fn frr_routes(&self) -> Result<String> {
        let questions = [
            "show bgp ipv4 unicast",
            "show bgp ipv6 unicast",
            "show bgp ipv4 flowspec detail",
            "show bgp ipv6 flowspec detail",
        ];
        let of = |question| {
            let mut vtysh = self.host.command("vtysh")?;
            let output = vtysh.args(["--vty_socket", FRR, "-c", question]).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let shown: Result<Vec<String>> = questions.into_iter().map(of).collect();
        Ok(shown?.concat())
    }

    fn replace_by(
        &mut self,
        mut daemon: Command,
        routes: impl Fn(&Self) -> Result<String>,
    ) -> Result<()> {
        end(&mut self.daemon);
        self.daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let limit = Duration::from_secs(10);
        wait_for("a reply of the other router", limit, || Ok(routes(self).ok())).map(drop)
    }

    /// Types a command of its operator.
    pub fn ask(&self, command: &str) -> Result<String> {
        self.host.exec(&format!("birdc -r -s {SOCKET} {command}"))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of router {}\n{}---", self.number, self.log());
        }
        end(&mut self.daemon);
    }
}

/// One end of the link between router and speaker.
#[derive(Clone, Copy)]
enum End {
    Speaker = 1,
    Router = 2,
}

fn address(number: u8, family: Family, end: End) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 99, number, end as u8).into(),
        Family::V6 => Ipv6Addr::new(0xfd99, number.into(), 0, 0, 0, 0, 0, end as u16).into(),
    }
}

/// The configuration: filters for own addresses only, limits, and blackholes in the kernel.
fn configuration(number: u8, Prefixes { v4, v6 }: Prefixes) -> String {
    let (own, other) =
        (address(number, Family::V4, End::Router), address(number, Family::V4, End::Speaker));
    let blackholes = |name: &str, prefix: &str, length: u8| {
        format!(
            "filter {name} {{\n  if net ~ [ {prefix}{{{length},{length}}} ] && (65535, 666) ~ bgp_community then {{\n    \
             bgp_community.add((65535, 65281));\n    dest = RTD_BLACKHOLE;\n    accept;\n  }}\n  reject;\n}}\n"
        )
    };
    let rules = |name: &str, prefix: &str, length: u8| {
        format!(
            "filter {name} {{\n  if net.dst ~ [ {prefix}{{{length},{length}}} ] then accept;\n  reject;\n}}\n"
        )
    };
    let limit = format!("import limit {LIMIT} action block; export none;");
    [
        format!("log \"{LOG}\" all;\nrouter id {own};\nflow4 table flow4tab;\nflow6 table flow6tab;\n"),
        "protocol device { scan time 1; }\n".to_owned(),
        "protocol kernel kernel4 { ipv4 { import none; export where source = RTS_BGP; }; }\n"
            .to_owned(),
        "protocol kernel kernel6 { ipv6 { import none; export where source = RTS_BGP; }; }\n"
            .to_owned(),
        blackholes("blackholes4", v4, 32),
        blackholes("blackholes6", v6, 128),
        rules("rules4", v4, 32),
        rules("rules6", v6, 128),
        format!(
            "protocol bgp speaker {{\n  local {own} as {ROUTER_AS};\n  neighbor {other} as {SPEAKER_AS};\n  \
             passive on;\n  hold time 9;\n  graceful restart off;\n  error wait time 2, 10;\n  \
             ipv4 {{ import filter blackholes4; {limit} }};\n  \
             ipv6 {{ import filter blackholes6; {limit} }};\n  \
             flow4 {{ table flow4tab; import filter rules4; {limit} }};\n  \
             flow6 {{ table flow6tab; import filter rules6; {limit} }};\n}}\n"
        ),
    ]
    .concat()
}

/// The rules in a table as BIRD shows it.
fn rules(shown: &str, word: &str) -> Vec<String> {
    let rule = |line: &str| {
        let begin = line.find(word)?;
        let end = begin + line[begin..].find('}')?;
        Some(line[begin..=end].to_owned())
    };
    shown.lines().filter_map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_shown() {
        let shown = "BIRD 2.0.12 ready.\nTable flow4tab:\n\
                     flow4 { dst 192.0.2.10/32; proto 6; dport 443; tcp flags 0x2/0x2 && 0x0/0x10; length 40; } \
                     [speaker 12:00:00.000] * (100) [AS65001i]\n";
        let found = rules(shown, "flow4 {");
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("length 40; }"), "{found:?}");
        assert!(rules(shown, "flow6 {").is_empty());
    }

    #[test]
    fn the_router_accepts_single_addresses_of_its_prefixes() {
        let prefixes = Prefixes { v4: "192.0.2.0/24", v6: "2001:db8::/32" };
        let text = configuration(3, prefixes);
        for part in [
            "net ~ [ 192.0.2.0/24{32,32} ]",
            "net.dst ~ [ 2001:db8::/32{128,128} ]",
            "neighbor 10.99.3.1 as 65001;",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
