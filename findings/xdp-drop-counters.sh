#!/bin/sh
# Where packets that an XDP program drops are counted. Seen on Linux 6.18.
#
# The guess: an interface counts them as dropped (`ip -s link`, /proc/net/dev, so node_network_receive_drop_total), and
# in generic mode softnet_stat does.
# The behaviour: on a veth they are received packets in both modes, and nothing counts them as dropped. In native mode
# `ethtool -S` shows them as rx_queue_N_xdp_drops, together with those of a program that aborts. In generic mode no
# counter of the interface distinguishes them from packets that arrived: only layers above miss them. The bytes of a
# packet are counted without its Ethernet header in native mode.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
temporary=$(mktemp)
far=xdp-counters-$$
trap 'ip netns del "$far"; rm -f "$temporary"' EXIT
ip netns add "$far"
ip link add near type veth peer name far netns "$far"
# No packets of IPv6 or ARP.
sysctl -qw net.ipv6.conf.near.disable_ipv6=1
ip netns exec "$far" sysctl -qw net.ipv6.conf.far.disable_ipv6=1
ip addr add 10.1.0.1/24 dev near
ip link set near up
ip -n "$far" addr add 10.1.0.2/24 dev far
ip -n "$far" link set far up
ip -n "$far" neigh replace 10.1.0.1 dev far lladdr "$(cat /sys/class/net/near/address)" nud permanent
ip neigh replace 10.1.0.2 dev near lladdr "$(ip -n "$far" -br link show far | awk '{print $3}')" nud permanent
python3 - "$far" >"$temporary" <<'PYTHON'
import ctypes, json, os, platform, socket, struct, subprocess, sys, time

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, LINK_CREATE, XDP, XDP_LINK = 5, 28, 6, 37
NATIVE, GENERIC, ABORTED, DROP = 1 << 2, 1 << 1, 0, 1
SEND = """
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(1000):
    udp.sendto(bytes(20), ("10.1.0.1", 9))
"""
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(BPF, command, attributes, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf(%d)" % command)
    return result


def attach(verdict, mode):
    code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0)  # r0 = verdict; exit
    code, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    program = bpf(PROG_LOAD, struct.pack("<IIQQIIQII", XDP, 2, ctypes.addressof(code), ctypes.addressof(licence),
                                         0, 0, 0, 0, 0))
    return bpf(LINK_CREATE, struct.pack("<IIII", program, socket.if_nametoindex("near"), XDP_LINK, mode))


def counters():
    shown = subprocess.run(["ip", "-s", "-s", "-j", "link", "show", "near"], capture_output=True, text=True).stdout
    received = json.loads(shown)[0]["stats64"]["rx"]
    of_xdp = {}
    for line in subprocess.run(["ethtool", "-S", "near"], capture_output=True, text=True).stdout.splitlines():
        name, _, value = line.strip().partition(": ")
        if name.startswith("rx_queue") and "xdp" in name:
            # Over all queues.
            name = name.split("_", 3)[3]
            of_xdp[name] = of_xdp.get(name, 0) + int(value)
    softnet = sum(int(line.split()[1], 16) for line in open("/proc/net/softnet_stat"))
    names, values = [line.split() for line in open("/proc/net/snmp") if line.startswith("Ip:")]
    return {
        "packets": received["packets"],
        "bytes": received["bytes"],
        "dropped": received["dropped"],
        "ethtool xdp_drops": of_xdp.get("xdp_drops", 0),
        "softnet dropped": softnet,
        "IP received": int(values[names.index("InReceives")]),
    }


for name, verdict, mode in (
    ("no program", None, None),
    ("native, XDP_DROP", DROP, NATIVE),
    ("native, XDP_ABORTED", ABORTED, NATIVE),
    ("generic, XDP_DROP", DROP, GENERIC),
):
    link = attach(verdict, mode) if mode else None
    before = counters()
    subprocess.run(["ip", "netns", "exec", sys.argv[1], sys.executable, "-c", SEND], check=True)
    time.sleep(0.3)
    after = counters()
    print("%s: %s" % (name, ", ".join("%s %d" % (what, after[what] - before[what]) for what in before)))
    if link:
        os.close(link)
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
no program: packets 1000, bytes 62000, dropped 0, ethtool xdp_drops 0, softnet dropped 0, IP received 1000
native, XDP_DROP: packets 1000, bytes 48000, dropped 0, ethtool xdp_drops 1000, softnet dropped 0, IP received 0
native, XDP_ABORTED: packets 1000, bytes 48000, dropped 0, ethtool xdp_drops 1000, softnet dropped 0, IP received 0
generic, XDP_DROP: packets 1000, bytes 62000, dropped 0, ethtool xdp_drops 0, softnet dropped 0, IP received 0
SEEN
