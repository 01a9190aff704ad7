#!/bin/sh
# Offloads that an XDP program costs an interface. Seen on Linux 6.18.
#
# The guesses: a program that declares xdp.frags takes a packet of TSO in pieces, so a veth keeps TSO. Generic mode comes
# after GRO, so it changes nothing for bulk traffic. `ethtool -k` shows whether GRO works.
# The behaviour: a native program on a veth switches TSO of the peer off, with xdp.frags too, and ethtool cannot switch it
# on again. GSO remains, so the peer's CPU cuts each packet in segments. Generic mode switches GRO of the interface off (`netif_elide_gro`), while ethtool shows it on:
# segments arrive in the network stack one by one.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

temporary=$(mktemp)
other=$$
trap 'ip netns del "xdp-bulk-$other"; rm -f "$temporary"' EXIT
ip netns add "xdp-bulk-$other"
ip link add near type veth peer name far netns "xdp-bulk-$other"
ip addr add 10.1.0.1/24 dev near
ip link set near up
ip -n "xdp-bulk-$other" addr add 10.1.0.2/24 dev far
ip -n "xdp-bulk-$other" link set far up
ip -n "xdp-bulk-$other" link set lo up
# GRO of a veth, as network cards have it.
ethtool -K near gro on
python3 - "xdp-bulk-$other" >"$temporary" <<'PYTHON'
import ctypes, os, platform, socket, struct, subprocess, sys

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, LINK_CREATE, XDP, FRAGS, XDP_LINK = 5, 28, 6, 1 << 5, 37
NATIVE, GENERIC = 1 << 2, 1 << 1
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(BPF, command, attributes, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf(%d)" % command)
    return result


def attach(mode):
    """A program that passes everything, and declares xdp.frags. It is attached until the link is closed."""
    code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)  # r0 = XDP_PASS; exit
    code, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    program = bpf(PROG_LOAD, struct.pack("<IIQQIIQII", XDP, 2, ctypes.addressof(code), ctypes.addressof(licence),
                                         0, 0, 0, 0, FRAGS))
    return bpf(LINK_CREATE, struct.pack("<IIII", program, socket.if_nametoindex("near"), XDP_LINK, mode))


def ethtool(netns, *words):
    command = ["ip", "netns", "exec", netns] if netns else []
    return subprocess.run([*command, "ethtool", *words], capture_output=True, text=True).stdout


def shown(netns, interface, feature):
    lines = ethtool(netns, "-k", interface).splitlines()
    return [line.split()[1] for line in lines if line.strip().startswith(feature + ":")][0]


def largest():
    """The largest packet of a transfer from the peer that arrives in the network stack: one segment, or more."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    tap.bind(("near", 0x0800))
    tap.settimeout(0.2)
    with socket.create_server(("10.1.0.1", 80)) as server:
        code = "import socket; socket.create_connection(('10.1.0.1', 80)).sendall(bytes(3000000))"
        sender = subprocess.Popen(["ip", "netns", "exec", far, sys.executable, "-c", code])
        connection = server.accept()[0]
        while connection.recv(1 << 20):
            pass
        sender.wait()
    sizes = []
    try:
        while True:
            sizes.append(len(tap.recv(1 << 17)))
    except TimeoutError:
        return "one segment" if max(sizes) == 1514 else "several segments"


far = sys.argv[1]


def report(situation):
    print("%s: peer TSO %s, GSO %s; GRO %s, packets of %s" % (
        situation, shown(far, "far", "tcp-segmentation-offload"),
        shown(far, "far", "generic-segmentation-offload"), shown(None, "near", "generic-receive-offload"), largest()))


report("no program")
link = attach(NATIVE)
report("native")
ethtool(far, "-K", "far", "tso", "on", "gso", "on")
report("native, peer asked for TSO and GSO")
os.close(link)
report("no program")
ethtool(far, "-K", "far", "tso", "off", "gso", "off")
report("segments from the peer")
link = attach(GENERIC)
report("segments from the peer, generic")
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
no program: peer TSO on, GSO on; GRO on, packets of several segments
native: peer TSO off, GSO on; GRO on, packets of several segments
native, peer asked for TSO and GSO: peer TSO off, GSO on; GRO on, packets of several segments
no program: peer TSO on, GSO on; GRO on, packets of several segments
segments from the peer: peer TSO off, GSO off; GRO on, packets of several segments
segments from the peer, generic: peer TSO off, GSO off; GRO on, packets of one segment
SEEN
