//! Bonds and VLANs in a guest: each handshake is counted once, and on a bond SYNs get cookies.

use serde_json::Value;

use super::kernel::Results;

/// Modules in the order in which they are loaded, below the kernel's modules. The kernels for clouds have none of them.
pub const MODULES: [&str; 7] = [
    "net/tls/tls.ko",
    "drivers/net/bonding/bonding.ko",
    "net/llc/llc.ko",
    "net/802/stp.ko",
    "net/802/garp.ko",
    "net/802/mrp.ko",
    "net/8021q/8021q.ko",
];

/// Prefix of a case and the agent's status after it, as JSON on one line.
const CASE: &str = "guest: stacked ";
/// Connections of the client without cookies, and as many more with cookies.
const CONNECTIONS: u64 = 40;

/// A case: its name in the script, its title, and whether cookies are sent.
const CASES: [(&str, &str, bool); 4] = [
    ("bond", "on a bond", true),
    ("members", "on its members", true),
    ("below", "below a VLAN", false),
    ("vlan", "on the VLAN", false),
];

/// The cases, after the script that makes the peer's network namespace, the interfaces `uplink` and `veth0` between them,
/// and the service. The two bonds hash alike, and have their members in opposite orders: each SYN-ACK leaves by the other
/// member than the one by which its SYN came. The peer's members need a native program to receive what XDP sends. No state is left
/// of agents before.
pub const SCRIPT: &str = r#"rm -rf /var/lib/tcpguard
insmod /tls.ko
insmod /bonding.ko max_bonds=0
for module in llc stp garp mrp 8021q; do insmod /$module.ko; done
at_peer() { nsenter -t $peer -n "$@"; }
for member in 0 1; do
    ip link add b$member type veth
    ip link set veth0 name c$member
    ip link set c$member netns $peer
    ip link set b$member up
    at_peer ip link set c$member up
done
at_peer /tcpguard run --interface c0 --interface c1 --xdp-mode native --mode observe \
    --runtime-dir /run/peer --state-dir /var/lib/peer &
receiver=$!
timeout 60 /tcpguard status --runtime-dir /run/peer --wait healthy --brief
bond='mount -t sysfs sys /sys
echo +bond0 > /sys/class/net/bonding_masters
cd /sys/class/net/bond0/bonding
echo balance-xor > mode
echo layer3+4 > xmit_hash_policy
for member in "$@"; do ip link set $member down; echo +$member > slaves; done
ip link set bond0 up'
unshare -m sh -c "$bond" bond b0 b1
at_peer unshare -m sh -c "$bond" bond c1 c0
ip addr add 192.0.4.1/24 dev bond0
at_peer ip addr add 192.0.4.2/24 dev bond0
connect() {
    at_peer sh -c "for n in \$(seq 40); do timeout 10 nc $1 443 < /dev/null; done" > /dev/null
}
run_on() {
    name=$1
    address=$2
    shift 2
    /tcpguard run --mode enforce "$@" &
    agent=$!
    timeout 60 /tcpguard status --wait healthy --brief
    connect $address
    case $name in bond|members)
        /tcpguard mitigation :443 cookies on
        sleep 2
        connect $address
    esac
    sleep 1
    echo "guest: stacked $name $(/tcpguard status --json | tr -d '\n')"
    kill $agent
    wait $agent
    /tcpguard detach --all
}
run_on bond 192.0.4.1 --interface bond0
run_on members 192.0.4.1 --interface b0 --interface b1
kill $receiver
wait $receiver
ip link add link uplink name uplink.7 type vlan id 7
at_peer ip link add link veth0 name veth0.7 type vlan id 7
ip addr add 192.0.7.1/24 dev uplink.7
at_peer ip addr add 192.0.7.2/24 dev veth0.7
ip link set uplink.7 up
at_peer ip link set veth0.7 up
run_on below 192.0.7.1 --interface uplink
run_on vlan 192.0.7.1 --interface uplink.7 --xdp-mode generic
"#;

/// Reads the cases out of a guest's console. A case that is missing is wrong.
pub fn results(console: &str) -> Results {
    let result = |(name, title, cookies): (&str, &str, bool)| {
        let start = format!("{CASE}{name} ");
        let status = console.lines().find_map(|line| Some(line.split_once(&start)?.1));
        let result = match status.map(serde_json::from_str::<Value>) {
            Some(Ok(status)) => judge(&status, cookies),
            _ => Err("it gave no status; see the console".to_owned()),
        };
        (format!("agent {title}: SYN/completed/cookies"), result)
    };
    CASES.map(result).into()
}

/// Judges the counters of the listener. A SYN more in ten may be a retransmission, since programs start slowly in a guest.
/// And a cookie less in ten: each second, the SYN-ACK to one SYN shows the present way back.
fn judge(status: &Value, cookies: bool) -> Result<String, String> {
    let totals = &status["listeners"][0]["totals"];
    let count = |name: &str| totals[name].as_u64().unwrap_or(0);
    let [syn, completed, redeemed] = ["syn", "established", "cookies_redeemed"].map(count);
    let counts = format!("{syn}/{completed}/{redeemed}");
    let with_cookies = if cookies { CONNECTIONS } else { 0 };
    let wanted = CONNECTIONS + with_cookies;
    let once = (wanted..=wanted + wanted / 10).contains(&syn);
    let answered = (with_cookies - with_cookies / 10..=with_cookies).contains(&redeemed);
    if !once || completed != wanted || !answered {
        return Err(format!(
            "{counts} of {wanted} handshakes, {with_cookies} of them with cookies"
        ));
    }
    let mode = &status["interfaces"][0]["mode"];
    if cookies && *mode != "native" {
        return Err(format!("{counts}, but the mode is {mode}"));
    }
    Ok(counts)
}
