#!/bin/sh
# The socket of a SYN-ACK at tc egress (`skb->sk`). Seen on Linux 6.18, with nftables 1.0.6.
#
# The guess: it is the listening socket (state 10, TCP_LISTEN), since no connection exists yet, and its port is the source
# port of the packet.
# The behaviour: it is the request (state 12, TCP_NEW_SYN_RECV), also of a retransmission. Its port is the one on which
# the service listens, even if NAT has given the packet another. A SYN-ACK with a SYN cookie has no socket at all, so
# nothing leads from the packet to the service.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
temporary=$(mktemp)
unshare --net sleep 60 &
client=$!
trap 'kill "$client"; rm -f "$temporary"' EXIT
until [ "$(readlink /proc/$client/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.1; done
at_client() { nsenter --net=/proc/$client/ns/net "$@"; }
ip link add server type veth peer name client netns "$client"
ip addr add 10.1.0.1/24 dev server
ip link set server up
at_client ip addr add 10.1.0.2/24 dev client
at_client ip link set client up
nft 'table ip nat { chain prerouting { type nat hook prerouting priority dstnat; tcp dport 80 redirect to :8080; }; }'

python3 - "$client" >"$temporary" <<'PYTHON'
import ctypes, os, platform, socket, struct, subprocess, sys, time

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
MAP_CREATE, LOOKUP, PROG_LOAD, OBJ_PIN = 0, 1, 5, 6
ARRAY, SCHED_CLS, MAP_LOOKUP_ELEM = 2, 3, 1
SOCK, STATE, PORT = 168, 72, 44  # in struct __sk_buff and struct bpf_sock
FLAGS = 14 + 20 + 13
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(BPF, command, attributes, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf(%d)" % command)
    return result


def instruction(code, destination=0, source=0, offset=0, immediate=0):
    return struct.pack("<BBhi", code, destination | source << 4, offset, immediate)


# One value: the number of SYN-ACKs, and of the last one the source port, the state of its socket and its port.
seen = bpf(MAP_CREATE, struct.pack("<IIII", ARRAY, 4, 16, 1))
with_socket = [
    instruction(0x61, 1, 9, STATE), instruction(0x63, 8, 1, 8),
    instruction(0x61, 1, 9, PORT), instruction(0x63, 8, 1, 12),
]
record = [
    instruction(0x62, 10, 0, -4, 0),
    instruction(0x18, 1, 1, 0, seen), instruction(0),
    instruction(0xBF, 2, 10), instruction(0x07, 2, immediate=-4),
    instruction(0x85, immediate=MAP_LOOKUP_ELEM),
    instruction(0x15, 0, offset=9 + len(with_socket)),
    instruction(0xBF, 8, 0),
    instruction(0x61, 1, 8, 0), instruction(0x07, 1, immediate=1), instruction(0x63, 8, 1, 0),
    instruction(0x63, 8, 7, 4),
    instruction(0x62, 8, 0, 8, 0), instruction(0x62, 8, 0, 12, 0),
    instruction(0x79, 9, 6, SOCK),
    instruction(0x15, 9, offset=len(with_socket)),
    *with_socket,
]
program = b"".join([
    instruction(0xBF, 6, 1),
    instruction(0x61, 2, 6, 76), instruction(0x61, 3, 6, 80),   # data, data_end
    instruction(0xBF, 4, 2), instruction(0x07, 4, immediate=FLAGS + 1),
    instruction(0x2D, 4, 3, 5 + len(record)),
    instruction(0x71, 4, 2, FLAGS), instruction(0x57, 4, immediate=0x12),
    instruction(0x55, 4, offset=2 + len(record), immediate=0x12),
    instruction(0x69, 7, 2, 14 + 20), instruction(0xDC, 7, immediate=16),  # source port
    *record,
    instruction(0xB7, 0, immediate=-1),
    instruction(0x95),
])
code = ctypes.create_string_buffer(program, len(program))
licence = ctypes.create_string_buffer(b"GPL")
loaded = bpf(PROG_LOAD, struct.pack("<IIQQ", SCHED_CLS, len(program) // 8, ctypes.addressof(code),
                                    ctypes.addressof(licence)))
path = ctypes.create_string_buffer(b"/sys/fs/bpf/egress")
bpf(OBJ_PIN, struct.pack("<QI", ctypes.addressof(path), loaded))
run = lambda line: subprocess.run(line, shell=True, check=True)
run("tc qdisc add dev server clsact && "
    "tc filter add dev server egress bpf direct-action object-pinned /sys/fs/bpf/egress")

service = socket.socket()
service.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
service.bind(("0.0.0.0", 8080))
service.listen(16)


def last():
    key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(16)
    bpf(LOOKUP, struct.pack("<IxxxxQQ", seen, ctypes.addressof(key), ctypes.addressof(value)))
    return struct.unpack("<IIII", value.raw)


def connect(what, port, cookies, retransmitted=False):
    with open("/proc/sys/net/ipv4/tcp_syncookies", "w") as file:
        file.write(cookies)
    at_client = "nsenter --net=/proc/%s/ns/net " % sys.argv[1]
    if retransmitted:
        run(at_client + "nft 'table ip f { chain c { type filter hook input priority 0; tcp flags syn,ack / syn,ack drop; }; }'")
    before = last()[0]
    client = subprocess.Popen(
        (at_client + "python3 -c").split() +
        ["import socket; socket.create_connection(('10.1.0.1', %d), 4)" % port], stderr=subprocess.DEVNULL)
    while last()[0] < before + 1 + retransmitted:
        time.sleep(0.02)
    count, source, state, own = last()
    client.kill()
    client.wait()
    if retransmitted:
        run(at_client + "nft delete table ip f")
    print("%s: source port %d, %s" % (what, source, "socket in state %d on port %d" % (state, own) if state else "no socket"))


connect("directly", 8080, "1")
connect("redirected", 80, "1")
connect("redirected, retransmitted", 80, "1", True)
connect("redirected, cookie", 80, "2")
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
directly: source port 8080, socket in state 12 on port 8080
redirected: source port 80, socket in state 12 on port 8080
redirected, retransmitted: source port 80, socket in state 12 on port 8080
redirected, cookie: source port 80, no socket
SEEN
