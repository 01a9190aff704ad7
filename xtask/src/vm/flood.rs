//! A flood in a guest: it is an incident and is mitigated, new clients connect meanwhile, and nothing is left of
//! tcpguard when it is detached.

use serde_json::Value;

use super::kernel::Results;

/// Prefix of the clients that were served during the flood, and of the agent's status then as JSON on the same line.
const DURING: &str = "guest: mitigated ";
/// Prefix of the programs and pins that are left, as `guest attached` prints them.
const RELEASED: &str = "guest: released ";

/// Least number of SYNs of the incident until then.
const LEAST: u64 = 4000;
/// Clients that connect for the first time during the flood, one after another.
const CLIENTS: u64 = 6;
/// Number of these that connect after cookies were ordered, in case that rules suffice.
const WITH_COOKIES: u64 = 3;
/// Classes of a flood from random sources.
const CLASSES: [&str; 2] = ["random_spoofed", "distributed"];
/// Least share of the flood's SYNs of the last second that may not reach the stack.
const MITIGATED: f64 = 0.9;

/// The flood and the release, after the script that makes the peer's network namespace and the interfaces `uplink` and
/// `veth0` between them, and leaves an agent and a service. The peer needs a native program to receive what XDP sends.
pub const SCRIPT: &str = r#"nsenter -t $peer -n /tcpguard run --interface veth0 --xdp-mode native --mode observe \
    --runtime-dir /run/peer --state-dir /var/lib/peer &
receiver=$!
timeout 60 /tcpguard status --runtime-dir /run/peer --wait healthy --brief
ip route add default via 192.0.2.2
nsenter -t $peer -n /guest flood bare veth0 $(cat /sys/class/net/uplink/address) 192.0.2.1:443 2000 180 &
flood=$!
until /tcpguard status --json > /status; grep -q attack_mitigated /status || ! kill -0 $flood; do usleep 500000; done
served=0
connect_from() {
    nsenter -t $peer -n ip addr add 192.0.2.$1/32 dev veth0
    nsenter -t $peer -n ip route replace 192.0.2.0/24 dev veth0 src 192.0.2.$1
    if nsenter -t $peer -n timeout 10 nc 192.0.2.1 443 < /dev/null | grep -q served && kill -0 $flood; then
        served=$((served + 1))
    fi
}
for client in 11 12 13; do connect_from $client; done
/tcpguard mitigation :443 cookies on
sleep 2
for client in 14 15 16; do connect_from $client; done
sleep 1
echo "guest: mitigated $served $(/tcpguard status --json | tr -d '\n')"
kill $flood
wait $flood
kill $agent
wait $agent
/tcpguard detach --all
kill $receiver
wait $receiver
nsenter -t $peer -n /tcpguard detach --all --runtime-dir /run/peer
sleep 1
echo "guest: released $(/guest attached /sys/fs/bpf)"
"#;

/// Reads the flood and the release out of a guest's console. Each is a row by its title.
pub fn results(console: &str) -> Results {
    let after = |what: &str| console.lines().find_map(|line| Some(line.split_once(what)?.1));
    let json = |text: Option<&str>| -> Option<Value> { serde_json::from_str(text?).ok() };
    let unknown = |what: &str| Err(format!("it gave no {what}; see the console"));
    let (served, status) = after(DURING).and_then(|line| line.split_once(' ')).unzip();
    let served = served.and_then(|served| served.parse::<u64>().ok());
    let status = json(status);
    let [class, syns, share, cookies] = [class, syns, share, cookies].map(|judge| match &status {
        Some(status) => open_incident(status).and_then(judge),
        None => unknown("status"),
    });
    let served = match served {
        Some(CLIENTS) => Ok(format!("{CLIENTS}/{CLIENTS}")),
        Some(served) => Err(format!("{served} of {CLIENTS} clients were served")),
        None => unknown("number of clients"),
    };
    let released = match json(after(RELEASED)) {
        Some(left) => nothing(&left),
        None => unknown("programs and pins"),
    };
    let rows = [
        ("flood: SYNs", syns),
        ("flood: class", class),
        ("flood: mitigated share of SYNs", share),
        ("flood: cookies redeemed", cookies),
        ("flood: new clients served", served),
        ("detached: programs/pins left", released),
    ];
    rows.map(|(title, result)| (title.to_owned(), result)).into()
}

/// Returns the first incident of a status that is open.
fn open_incident(status: &Value) -> Result<&Value, String> {
    let mut incidents = status["incidents"].as_array().into_iter().flatten();
    incidents
        .find(|incident| incident["ended_at"].is_null())
        .ok_or_else(|| "no incident is open".to_owned())
}

fn class(incident: &Value) -> Result<String, String> {
    let class = incident["class"].as_str().unwrap_or_default();
    match CLASSES.contains(&class) {
        true => Ok(class.to_owned()),
        false => Err(format!("the incident is of class \"{class}\"")),
    }
}

/// Judges the mitigated share of the last second.
fn share(incident: &Value) -> Result<String, String> {
    let count = |name: &str| incident[name].as_u64().unwrap_or(0);
    let (dropped, cookies) = (count("dropped"), count("cookies_sent"));
    let share = incident["mitigated_ratio"].as_f64();
    let cell = share.map_or("an unknown share".to_owned(), |it| format!("{:.0} %", 100.0 * it));
    match share {
        Some(share) if share >= MITIGATED && dropped + cookies > 0 => Ok(cell),
        _ => Err(format!(
            "{cell} of the last second, {dropped} dropped and {cookies} answered with a cookie so far"
        )),
    }
}

/// Judges the clients that returned a valid cookie.
fn cookies(incident: &Value) -> Result<String, String> {
    let redeemed = incident["cookies_redeemed"].as_u64().unwrap_or(0);
    match redeemed >= WITH_COOKIES {
        true => Ok(redeemed.to_string()),
        false => Err(format!("{redeemed} of {WITH_COOKIES} clients returned a valid cookie")),
    }
}

/// A flood that the guest was too slow to send is none.
fn syns(incident: &Value) -> Result<String, String> {
    let syns = incident["syns"].as_u64().unwrap_or(0);
    match syns >= LEAST {
        true => Ok(syns.to_string()),
        false => Err(format!("{syns} SYNs, and {LEAST} are a flood")),
    }
}

fn nothing(left: &Value) -> Result<String, String> {
    let [programs, pins] = ["programs", "pins"].map(|name| left[name].as_array());
    match (programs, pins) {
        (Some(programs), Some(pins)) if programs.is_empty() && pins.is_empty() => {
            Ok("0/0".to_owned())
        }
        _ => Err(format!("{left} is left")),
    }
}
