//! Services to which a kernel steers packets in a guest: IPVS, VRRP, VRF, ipvlan, netkit, a flowtable, IPsec. Each
//! handshake is counted once and where it belongs, and clients are served in a flood of copies of their SYNs.

mod script;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::guest::Job;
use super::kernel::Results;
use crate::debian;
use crate::libc::{Needs, SUITE};
use crate::platform::Platform;

/// Debian's packages with the [`TOOLS`].
const PACKAGES: [&str; 4] = ["iproute2", "nftables", "ipvsadm", "keepalived"];
/// Programs in these packages. In a guest they lie in the root: its shell prefers busybox's `ip` by name.
const TOOLS: [&str; 4] = ["usr/bin/ip", "usr/sbin/nft", "usr/sbin/ipvsadm", "usr/sbin/keepalived"];

/// A file without which keepalived does not start.
const BUILD_OPTIONS: &str = "etc/keepalived/keepalived.config-opts";

/// Prefix of a case, of `calm` or `flood`, of the number of clients served, and of the agent's status as JSON.
const CASE: &str = "guest: steered ";
/// Connections in calm, before which there are [`FIRST`].
const CONNECTIONS: u64 = 20;
/// Connections that show the agent a service that it cannot find by a socket.
const FIRST: u64 = 2;
/// Clients that connect for the first time in the flood.
const CLIENTS: u64 = 6;
/// The fewest of them that return a cookie. Another one may connect while its first SYN is waited for.
const WITH_COOKIES: u64 = 3;

/// The verdict on a service that is wanted of tcpguard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Service {
    /// Packets in transit: no listener, no incident.
    Transit,
    /// A forwarded listener, without cookies.
    Forwarded,
    /// A listener of this host, with cookies.
    Local,
    /// The same, at which every other handshake is another host's.
    Shared,
    /// A listener of this host, whose cookies are refused with a word in the reason.
    Refused(&'static str),
    /// A listener of this host, whose clients' packets are encrypted.
    Encrypted,
}

/// A case: its name in the script, its title, the address and port of the service, and the mode of the interface.
struct Case(&'static str, &'static str, (&'static str, u64), &'static str, Service);

const CASES: [Case; 14] = [
    Case("nat", "with IPVS NAT", ("192.0.2.1", 8001), "native", Service::Forwarded),
    Case("direct", "with IPVS direct routing", ("192.0.2.1", 8002), "native", Service::Transit),
    Case("tunnel", "with IPVS tunnelling", ("192.0.2.1", 8003), "native", Service::Transit),
    Case("itself", "with IPVS to itself too", ("::", 8004), "native", Service::Shared),
    Case("flowtable", "with a flowtable", ("10.1.0.2", 8005), "native", Service::Forwarded),
    Case("below", "below an ipvlan", ("192.0.2.50", 8006), "native", Service::Forwarded),
    Case("ipvlan", "on an ipvlan", ("::", 8006), "generic", Service::Local),
    Case("before", "before a netkit", ("10.3.0.2", 8007), "native", Service::Forwarded),
    Case("netkit", "on a netkit", ("::", 8007), "generic", Service::Local),
    Case("vrf", "on a port of a VRF", ("::", 8008), "native", Service::Refused("VRF")),
    Case("esp", "with IPsec", ("::", 8009), "native", Service::Encrypted),
    Case("esp-generic", "with IPsec, generic", ("::", 8009), "generic", Service::Encrypted),
    Case("vrrp", "with VRRP", ("::", 8010), "native", Service::Local),
    Case("vrrp-mac", "with a MAC address of VRRP", ("::", 8010), "native", Service::Local),
];

/// The job of a guest that tries all cases.
///
/// # Errors
/// When Debian's packages cannot be had.
pub fn job(store: &Path, platform: Platform) -> Result<Job> {
    let tools = store.join(format!("tools-{}", platform.debian()));
    let root = debian::complete(&tools, platform, &[SUITE.0], &PACKAGES)?;
    let modules = super::guest::MODULES.iter().chain(&script::MODULES).copied().collect();
    Ok(Job { script: script::all()?, modules, files: files(&root, platform)? })
}

/// The [`TOOLS`] below `root` and all libraries that they load, by their paths in a guest.
fn files(root: &Path, platform: Platform) -> Result<BTreeMap<String, PathBuf>> {
    let libraries = root.join("usr/lib").join(platform.multiarch());
    let mut files = BTreeMap::from([(BUILD_OPTIONS.to_owned(), root.join(BUILD_OPTIONS))]);
    let mut unread: Vec<(String, PathBuf)> = Vec::new();
    for tool in TOOLS {
        let (_, name) = tool.rsplit_once('/').context("a program without a folder")?;
        unread.push((name.to_owned(), root.join(tool)));
    }
    while let Some((path, file)) = unread.pop() {
        for name in Needs::of(&file)?.libraries {
            let path = format!("lib/{}/{name}", platform.multiarch());
            if !files.contains_key(&path) {
                unread.push((path, libraries.join(name)));
            }
        }
        files.insert(path, file);
    }
    Ok(files)
}

/// Reads the cases out of a guest's console. A case that is missing is wrong.
pub fn results(console: &str) -> Results {
    let found = |name: &str, phase: &str| -> Option<(u64, Value)> {
        let start = format!("{CASE}{name} {phase} ");
        let line = console.lines().find_map(|line| Some(line.split_once(&start)?.1))?;
        let (served, status) = line.split_once(' ')?;
        Some((served.parse().ok()?, serde_json::from_str(status).ok()?))
    };
    let result = |case: &Case| {
        let result = match (found(case.0, "calm"), found(case.0, "flood")) {
            (Some(calm), Some(flood)) => judge(case, calm, flood),
            _ => Err("it gave no status; see the console".to_owned()),
        };
        (format!("agent {}: SYN/completed/served", case.1), result)
    };
    CASES.iter().map(result).collect()
}

/// Judges a case by the clients that were served and the status, in calm and in the flood.
fn judge(
    &Case(_, _, (address, port), mode, service): &Case,
    (in_calm, calm): (u64, Value),
    (in_flood, flood): (u64, Value),
) -> Result<String, String> {
    let row = |status: &Value| listener(status, address, port);
    let count = |row: &Option<Value>, name: &str| {
        row.as_ref().map_or(0, |row| row["totals"][name].as_u64().unwrap_or(0))
    };
    let (before, during) = (row(&calm), row(&flood));
    let syn = count(&before, "syn");
    let completed = count(&before, "established").max(count(&before, "acknowledged"));
    let cell = format!("{syn}/{completed}/{in_flood}");
    let wrong = |why: &str| Err(format!("{cell}, {why}"));
    if in_calm != CONNECTIONS || in_flood != CLIENTS {
        return wrong(&format!("{in_calm} served in calm"));
    }
    if calm["interfaces"][0]["mode"] != mode {
        return wrong(&format!("the mode is {}", calm["interfaces"][0]["mode"]));
    }
    let (kind, syns, completions) = wanted(service, syn);
    if before.as_ref().map(|row| &row["kind"]) != kind.map(Value::from).as_ref() {
        return wrong(&format!("its listener is {before:?}"));
    }
    if !syns.contains(&syn) || !completions.contains(&completed) {
        return wrong(&format!("not {syns:?} SYNs and {completions:?} completed"));
    }
    let elsewhere = all_syns(&calm) - syn;
    if elsewhere > 0 {
        return wrong(&format!("{elsewhere} SYNs count elsewhere"));
    }
    let cookies = [count(&during, "cookies_sent"), count(&during, "cookies_redeemed")];
    if let Err(why) = means(service, during.as_ref(), cookies, &calm) {
        return wrong(&why);
    }
    let is_found = flood["incidents"].as_array().is_some_and(|all| !all.is_empty());
    match is_found == (service != Service::Transit) {
        true => Ok(cell),
        false => wrong(&format!("its incidents are {}", flood["incidents"])),
    }
}

/// The kind of the listener, and its SYNs and completions in calm, of which so many SYNs were seen. A SYN more in ten
/// may be a retransmission.
fn wanted(
    service: Service,
    syn: u64,
) -> (Option<&'static str>, RangeInclusive<u64>, RangeInclusive<u64>) {
    let all = CONNECTIONS..=CONNECTIONS + FIRST;
    let sent = CONNECTIONS..=CONNECTIONS + FIRST + CONNECTIONS / 10;
    match service {
        Service::Transit => (None, 0..=0, 0..=0),
        Service::Forwarded => (Some("forwarded"), sent, all),
        Service::Local | Service::Refused(_) => (Some("local"), sent, all),
        Service::Shared => (Some("local"), sent, syn / 2 - 1..=syn / 2 + 1),
        Service::Encrypted => (Some("local"), 0..=0, all),
    }
}

/// Judges the cookies in the flood, and what the status says about them.
fn means(
    service: Service,
    row: Option<&Value>,
    [sent, redeemed]: [u64; 2],
    calm: &Value,
) -> Result<(), String> {
    let as_wanted = match service {
        Service::Local | Service::Shared => redeemed >= WITH_COOKIES,
        Service::Encrypted => sent > 0,
        Service::Transit | Service::Forwarded | Service::Refused(_) => sent == 0,
    };
    if !as_wanted {
        return Err(format!("{sent} cookies sent, {redeemed} returned"));
    }
    let said = match service {
        Service::Refused(word) => row.is_some_and(|row| is_refused(row, word)),
        Service::Encrypted => calm["health"].to_string().contains("encrypted (IPsec)"),
        _ => true,
    };
    match said {
        true => Ok(()),
        false => Err(format!("the reason is not given: {row:?}, {}", calm["health"])),
    }
}

/// Returns whether the cookies of a listener are refused with this word.
fn is_refused(row: &Value, word: &str) -> bool {
    let mut mitigations = row["mitigations"].as_array().into_iter().flatten();
    mitigations.any(|one| {
        one["mitigation"] == "cookies" && one["state"] == "refused" && {
            one["why"].to_string().contains(word)
        }
    })
}

/// The listener at an address and port.
fn listener(status: &Value, address: &str, port: u64) -> Option<Value> {
    let mut listeners = status["listeners"].as_array()?.iter();
    listeners.find(|one| one["addr"] == address && one["port"] == port).cloned()
}

/// The SYNs of all listeners.
fn all_syns(status: &Value) -> u64 {
    let listeners = status["listeners"].as_array().into_iter().flatten();
    listeners.filter_map(|one| one["totals"]["syn"].as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::judge as judge_case;
    use super::*;

    fn case(name: &str) -> &'static Case {
        CASES.iter().find(|case| case.0 == name).unwrap()
    }

    /// A status with a listener of these SYNs, completions, and cookies sent and returned.
    fn status(case: &Case, kind: &str, counts: [u64; 4]) -> Value {
        let &Case(_, _, (addr, port), mode, _) = case;
        let [syn, established, cookies_sent, cookies_redeemed] = counts;
        let totals = json!({"syn": syn, "established": established, "cookies_sent": cookies_sent,
            "cookies_redeemed": cookies_redeemed});
        let listener = json!({"addr": addr, "port": port, "kind": kind, "totals": totals,
            "mitigations": []});
        json!({"interfaces": [{"mode": mode}], "listeners": [listener], "health": [],
            "incidents": [{"id": 1}]})
    }

    fn judged(name: &str, kind: &str, calm: [u64; 4], flood: [u64; 4]) -> Result<String, String> {
        let case = case(name);
        let [calm, flood] = [calm, flood].map(|counts| status(case, kind, counts));
        judge(case, (CONNECTIONS, calm), (CLIENTS, flood))
    }

    #[test]
    fn handshakes_count_once_at_the_listener_whose_service_it_is() {
        let flood = [4000, 28, 2900, 5];
        assert_eq!(judged("vrrp", "local", [22, 22, 0, 0], flood), Ok("22/22/6".to_owned()));
        assert_eq!(judged("itself", "local", [22, 11, 0, 0], flood), Ok("22/11/6".to_owned()));
        let without = [4000, 26, 0, 0];
        let behind = judged("nat", "forwarded", [20, 20, 0, 0], without);
        assert_eq!(behind, Ok("20/20/6".to_owned()));
        for wrong in [
            judged("vrrp", "local", [44, 22, 0, 0], flood),
            judged("vrrp", "local", [22, 19, 0, 0], flood),
            judged("vrrp", "forwarded", [22, 22, 0, 0], flood),
            judged("vrrp", "local", [22, 22, 0, 0], [4000, 28, 2900, 2]),
            judged("nat", "local", [20, 20, 0, 0], without),
            judged("nat", "forwarded", [20, 20, 0, 0], flood),
            judged("itself", "local", [22, 22, 0, 0], flood),
            judged("direct", "forwarded", [20, 20, 0, 0], without),
        ] {
            assert!(wrong.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_in_transit_is_no_matter_of_any_listener() {
        let direct = case("direct");
        let other = case("itself");
        let judge = |syn, incidents| {
            let mut status = status(other, "local", [syn, 0, 0, 0]);
            status["incidents"] = incidents;
            judge_case(direct, (CONNECTIONS, status.clone()), (CLIENTS, status))
        };
        assert_eq!(judge(0, json!([])), Ok("0/0/6".to_owned()));
        assert_eq!(judge(22, json!([])), Err("0/0/6, 22 SYNs count elsewhere".to_owned()));
        assert!(judge(0, json!([{"id": 1}])).is_err());
    }

    #[test]
    fn a_client_that_is_not_served_or_another_mode_is_wrong() {
        let case = case("vrrp");
        let calm = status(case, "local", [22, 22, 0, 0]);
        let flood = status(case, "local", [4000, 28, 2900, 5]);
        let judge = |in_calm, calm: &Value, in_flood| {
            judge_case(case, (in_calm, calm.clone()), (in_flood, flood.clone()))
        };
        assert!(judge(CONNECTIONS, &calm, CLIENTS).is_ok());
        assert!(judge(CONNECTIONS - 1, &calm, CLIENTS).is_err());
        assert!(judge(CONNECTIONS, &calm, CLIENTS - 1).is_err());
        let mut generic = calm.clone();
        generic["interfaces"][0]["mode"] = json!("generic");
        assert!(judge(CONNECTIONS, &generic, CLIENTS).is_err());
    }

    #[test]
    fn the_reason_why_there_are_no_cookies_has_to_be_the_true_one() {
        let vrf = case("vrf");
        let judge = |error: &str| {
            let mut flood = status(vrf, "local", [4000, 28, 0, 0]);
            flood["listeners"][0]["mitigations"] = json!([{"mitigation": "cookies",
                "state": "refused", "why": {"kind": "failed", "error": error}}]);
            judge_case(vrf, (CONNECTIONS, status(vrf, "local", [22, 22, 0, 0])), (CLIENTS, flood))
        };
        assert!(judge("red0 is a port of a VRF").is_ok());
        assert!(judge("no SYN-ACK of it is seen").is_err());
        let esp = case("esp");
        let judge = |text: &str| {
            let mut calm = status(esp, "local", [0, 22, 0, 0]);
            calm["health"] = json!([{"code": "ingress_unseen", "text": text}]);
            let flood = status(esp, "local", [4000, 28, 1000, 0]);
            judge_case(esp, (CONNECTIONS, calm), (CLIENTS, flood))
        };
        assert_eq!(judge("by another interface or encrypted (IPsec)"), Ok("0/22/6".to_owned()));
        assert!(judge("by another interface").is_err());
    }

    #[test]
    fn every_case_of_the_script_has_a_result() {
        let script = script::all().unwrap();
        let results = results("");
        assert_eq!(results.len(), CASES.len());
        assert!(results.values().all(Result::is_err));
        for Case(name, ..) in CASES {
            assert_eq!(script.matches(&format!("try {name} ")).count(), 1, "{name}");
        }
        assert_eq!(script.matches("\ntry ").count() + 1, CASES.len(), "one follows a test");
        assert!(script.contains(CASE));
        let calm = format!("connect{}\n", " 2".repeat(CONNECTIONS as usize));
        let first = format!("connect{}\n", " 2".repeat(FIRST as usize));
        assert!(script.contains(&calm) && script.contains(&first));
        let new: Vec<String> = (11..11 + CLIENTS).map(|n| n.to_string()).collect();
        assert!(script.contains(&format!("connect {}\n", new.join(" "))));
    }
}
