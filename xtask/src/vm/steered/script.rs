//! The script of the guest: each part makes some services, and tries them.

use anyhow::{Context, Result};

/// Modules in the order in which they are loaded, below the kernel's modules. netkit is no module.
pub const MODULES: [&str; 27] = [
    "crypto/crc32c_generic.ko",
    "lib/libcrc32c.ko",
    "net/ipv4/netfilter/nf_defrag_ipv4.ko",
    "net/ipv6/netfilter/nf_defrag_ipv6.ko",
    "net/netfilter/nf_conntrack.ko",
    "net/netfilter/ipvs/ip_vs.ko",
    "net/netfilter/ipvs/ip_vs_rr.ko",
    "net/ipv4/tunnel4.ko",
    "net/ipv4/ip_tunnel.ko",
    "net/ipv4/ipip.ko",
    "drivers/net/vrf.ko",
    "drivers/net/macvlan.ko",
    "drivers/net/ipvlan/ipvlan.ko",
    "net/netfilter/nfnetlink.ko",
    "net/netfilter/nf_tables.ko",
    "net/netfilter/nf_flow_table.ko",
    "net/netfilter/nf_flow_table_inet.ko",
    "net/netfilter/nft_flow_offload.ko",
    "net/xfrm/xfrm_algo.ko",
    "net/xfrm/xfrm_user.ko",
    "net/ipv4/esp4.ko",
    "crypto/crypto_null.ko",
    "crypto/geniv.ko",
    "crypto/seqiv.ko",
    "lib/crypto/gf128mul.ko",
    "crypto/ghash-generic.ko",
    "crypto/gcm.ko",
];

/// The client, in a network namespace of its own, and a server behind the host. One program receives on all of the
/// client's interfaces what XDP sends. `try NAME ADDRESS PORT OPTIONS` starts an agent in the network namespace that the
/// command `in` enters. Clients connect from addresses in `net` by the route `way`. The flood goes through `wire` to the
/// Ethernet address `mac`. No state is left of agents before.
const BEGIN: &str = r#"for module in sch_ingress cls_bpf inet_diag tcp_diag; do insmod /$module.ko; done
mkdir -p /run/netns /sys/fs/cgroup /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
at() { namespace=$1; shift; nsenter --net=/run/netns/$namespace "$@"; }
add() { /ip netns add $1; at $1 /ip link set lo up; }
cable() {
    /ip link add $1 type veth peer name $3 netns $2
    /ip link set $1 up
    at $2 /ip link set $3 up
}
ip_of_client() { for n in 2 11 12 13 14 15 16; do at client /ip addr add $1.$n/$3 dev $2; done; }
serve() { nc -ll -p $1 -e echo served & }
serve_at() { nsenter --net=/run/netns/$1 nc -ll -p $2 -e echo served & }
/ip link set lo up
/ip link set uplink up
/ip netns attach host $$
add client
/ip link set veth0 netns client
at client /ip link set veth0 up
/ip addr add 192.0.2.1/24 dev uplink
ip_of_client 192.0.2 veth0 24
/ip route add default via 192.0.2.2
echo 1 > /proc/sys/net/ipv4/ip_forward
add behind
cable back0 behind eth0
/ip addr add 10.1.0.1/24 dev back0
at behind /ip addr add 10.1.0.2/24 dev eth0
at behind /ip route add default via 10.1.0.1
/ip link add red type vrf table 10
/ip link set red up
cable red0 client red1
/ip link set red0 master red
/ip addr add 192.0.6.1/24 dev red0
ip_of_client 192.0.6 red1 24
/ip route add default via 192.0.6.2 table 10
at client /tcpguard run --interface veth0 --interface red1 --xdp-mode native --mode observe \
    --runtime-dir /run/peer --state-dir /var/lib/peer &
timeout 60 /tcpguard status --runtime-dir /run/peer --wait healthy --brief

connect() {
    served=0
    for source in "$@"; do
        at client /ip route replace $address/32 $way src $net.$source
        if at client timeout 10 nc $address $port < /dev/null | grep -q served; then
            served=$((served + 1))
        fi
    done
}
status() { $in /tcpguard status --json | tr -d '\n'; }
try() {
    name=$1 address=$2 port=$3
    shift 3
    rm -rf /var/lib/tcpguard
    $in /tcpguard run --mode enforce "$@" &
    agent=$!
    timeout 60 /tcpguard status --wait healthy --brief
    connect 2 2
    sleep 3
    connect 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2
    sleep 2
    echo "guest: steered $name calm $served $(status)"
    nsenter --net=/run/netns/client /guest flood linux $wire $mac $address:$port 500 120 > /dev/null &
    flood=$!
    for second in 1 2 3 4 5 6 7 8; do sleep 1; status | grep -q '"since"' && break; done
    sleep 4
    connect 11 12 13 14 15 16
    sleep 1
    echo "guest: steered $name flood $served $(status)"
    kill $flood
    wait $flood
    kill $agent
    wait $agent
    $in /tcpguard detach --all
}
in= net=192.0.2 way="dev veth0" wire=veth0 mac=$(cat /sys/class/net/uplink/address)
"#;

/// The director is the host. The second server replies by a cable of its own, and has the service's address on its
/// loopback interface.
const IPVS: &str = r#"add direct
cable leg1 client leg0
/ip link set leg1 netns direct
at direct /ip link set leg1 up
at direct /ip addr add 10.2.0.2/24 dev leg1
at client /ip addr add 10.2.0.1/24 dev leg0
cable back1 direct eth0
/ip addr add 10.1.1.1/24 dev back1
at direct /ip addr add 10.1.1.2/24 dev eth0
at direct /ip addr add 192.0.2.1/32 dev lo
at direct /ip link set tunl0 up
at direct /ip route add default via 10.2.0.1
balance() {
    /ipvsadm --add-service --tcp-service 192.0.2.1:$1 --scheduler rr
    /ipvsadm --add-server --tcp-service 192.0.2.1:$1 --real-server $2:$1 $3
}
balance 8001 10.1.0.2 --masquerading
balance 8002 10.1.1.2 --gatewaying
balance 8003 10.1.1.2 --ipip
balance 8004 10.1.1.2 --gatewaying
/ipvsadm --add-server --tcp-service 192.0.2.1:8004 --real-server 192.0.2.1:8004 --gatewaying
serve_at behind 8001
for port in 8002 8003 8004; do serve_at direct $port; done
serve 8004
try nat 192.0.2.1 8001 --interface uplink
try direct 192.0.2.1 8002 --interface uplink
try tunnel 192.0.2.1 8003 --interface uplink
try itself 192.0.2.1 8004 --interface uplink
/ipvsadm --clear
"#;

/// The flowtable's case is skipped, and so fails, unless a connection that goes on for some seconds is handed over to
/// it.
const BEHIND: &str = r#"way="via 192.0.2.1"
echo 'table ip fast {
    flowtable fast { hook ingress priority 0; devices = { uplink, back0 }; }
    chain forward { type filter hook forward priority 0; ip protocol tcp flow add @fast; }
}' > /fast.nft
/nft -f /fast.nft
serve_at behind 8005
nsenter --net=/run/netns/behind nc -ll -p 9005 -e cat &
at client /ip route add 10.1.0.2/32 $way
(for second in 1 2 3 4; do echo $second; sleep 1; done) | at client timeout 6 nc 10.1.0.2 9005 &
sleep 3
grep -q OFFLOAD /proc/net/nf_conntrack && try flowtable 10.1.0.2 8005 --interface uplink
/nft delete table ip fast
add box
/ip link add nk0 type netkit peer name nk1 netns box
/ip link set nk0 up
/ip addr add 10.3.0.1/24 dev nk0
at box /ip link set nk1 up
at box /ip addr add 10.3.0.2/24 dev nk1
at box /ip route add default via 10.3.0.1
serve_at box 8007
try before 10.3.0.2 8007 --interface uplink
in="nsenter --net=/run/netns/box"
try netkit 10.3.0.2 8007 --interface nk1 --xdp-mode generic
way="dev veth0"
add inner
/ip link add iv0 link uplink netns inner type ipvlan mode l2
at inner /ip link set iv0 up
at inner /ip addr add 192.0.2.50/24 dev iv0
at inner /ip route add default via 192.0.2.2
serve_at inner 8006
in=
try below 192.0.2.50 8006 --interface uplink
in="nsenter --net=/run/netns/inner"
try ipvlan 192.0.2.50 8006 --interface iv0 --xdp-mode generic
in=
at inner /ip link del iv0
"#;

/// keepalived finds no other router and becomes the master of both addresses.
const ADDRESSES: &str = r#"/ip vrf exec red nc -ll -p 8008 -e echo served &
net=192.0.6 way="dev red1" wire=red1 mac=$(cat /sys/class/net/red0/address)
try vrf 192.0.6.1 8008 --interface red0
instance() {
    echo "vrrp_instance $1 {
    interface uplink
    virtual_router_id $1
    state MASTER
    advert_int 1
    virtual_ipaddress {
        192.0.2.$1/24
    }
    $2
}"
}
(instance 100; instance 101 "use_vmac vmac") > /keepalived.conf
/keepalived --vrrp --dont-fork --use-file /keepalived.conf --pid /run/keepalived.pid \
    --vrrp_pid /run/vrrp.pid > /dev/null 2>&1 &
keepalived=$!
for second in 1 2 3 4 5 6 7 8 9 10; do /ip addr | grep -q 192.0.2.101 && break; sleep 1; done
serve 8010
net=192.0.2 way="dev veth0" wire=veth0 mac=$(cat /sys/class/net/uplink/address)
try vrrp 192.0.2.100 8010 --interface uplink
mac=$(cat /sys/class/net/vmac/address)
try vrrp-mac 192.0.2.101 8010 --interface uplink
kill $keepalived
wait $keepalived
mac=$(cat /sys/class/net/uplink/address)
"#;

/// A tunnel between two networks, by policies. The flood is not encrypted, and its sources are of no policy.
const IPSEC: &str = r#"/ip addr add 10.8.0.1/32 dev lo
ip_of_client 10.8.1 lo 32
/ip route add 10.8.1.0/24 via 192.0.2.2
for where in host client; do
    for ends in "src 192.0.2.1 dst 192.0.2.2 proto esp spi 1" "src 192.0.2.2 dst 192.0.2.1 proto esp spi 2"; do
        at $where /ip xfrm state add $ends reqid 1 mode tunnel \
            aead 'rfc4106(gcm(aes))' 0x0102030405060708090a0b0c0d0e0f1011121314 128
    done
done
policy() {
    at $1 /ip xfrm policy add src $3 dst $4 dir $2 tmpl src $5 dst $6 proto esp reqid 1 mode tunnel
}
policy host out 10.8.0.1/32 10.8.1.0/24 192.0.2.1 192.0.2.2
policy client in 10.8.0.1/32 10.8.1.0/24 192.0.2.1 192.0.2.2
policy host in 10.8.1.0/24 10.8.0.1/32 192.0.2.2 192.0.2.1
policy client out 10.8.1.0/24 10.8.0.1/32 192.0.2.2 192.0.2.1
serve 8009
net=10.8.1 way="via 192.0.2.1"
try esp 10.8.0.1 8009 --interface uplink
try esp-generic 10.8.0.1 8009 --interface uplink --xdp-mode generic
"#;

/// Loads the modules, and tries all.
///
/// # Errors
/// When a module lies in no folder.
pub fn all() -> Result<String> {
    let mut script = String::new();
    for path in MODULES {
        let (_, name) = path.rsplit_once('/').context("a module without a folder")?;
        script.push_str(&format!("insmod /{name}\n"));
    }
    Ok(script + BEGIN + IPVS + BEHIND + ADDRESSES + IPSEC)
}
