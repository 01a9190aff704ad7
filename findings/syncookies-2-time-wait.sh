#!/bin/sh
# net.ipv4.tcp_syncookies=2 and connections in TIME_WAIT. Seen on Linux 6.18.
#
# The guess: with 2 the kernel answers every SYN with a SYN cookie ("unconditionally", as its ip-sysctl says), so it keeps
# no request.
# The behaviour: it keeps one for a SYN that reuses the addresses and ports of a connection in TIME_WAIT of the server.
# The reply continues the sequence numbers of the old connection, and these are no cookie.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
ip link set lo up
echo 2 >/proc/sys/net/ipv4/tcp_syncookies
temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
python3 - >"$temporary" <<'PYTHON'
import socket, struct, subprocess, time

CLIENT, SERVER, PORT = "127.0.0.2", "127.0.0.1", 8080
service = socket.socket()
service.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
service.bind((SERVER, PORT))
service.listen(16)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def send(port, sequence, acknowledged, flags):
    header = lambda sum: struct.pack("!HHIIBBHHH", port, PORT, sequence, acknowledged, 0x50, flags, 64000, sum, 0)
    pseudo = socket.inet_aton(CLIENT) + socket.inet_aton(SERVER) + struct.pack("!BBH", 0, 6, 20)
    raw.sendto(header(checksum(pseudo + header(0))), (SERVER, 0))


def receive(port, flags):
    while True:
        segment = raw.recv(4096)[20:]
        source, target, sequence = struct.unpack("!HHI", segment[:8])
        if (source, target) == (PORT, port) and segment[13] & flags == flags:
            return sequence


def state(port):
    """The state of the server's socket of that connection in /proc/net/tcp, by its number."""
    own, other = ("%08X:%04X" % (struct.unpack("=I", socket.inet_aton(host))[0], at)
                  for host, at in ((SERVER, PORT), (CLIENT, port)))
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == [own, other]:
            return {"03": "SYN_RECV", "06": "TIME_WAIT"}.get(fields[3], fields[3])
    return "no socket"


raw.bind((CLIENT, 0))
raw.settimeout(3)
SYN, ACK, FIN = 2, 16, 1


def answered(what, port, sequence):
    send(port, sequence, 0, SYN)
    receive(port, SYN | ACK)
    print("%s: SYN-ACK, %s" % (what, state(port)))


# The client's stack has no such connections: keep it from resetting them.
subprocess.run(["nft", "table ip f { chain c { type filter hook output priority 0; "
                "ip saddr %s tcp flags rst drop; }; }" % CLIENT], check=True)
answered("a new connection", 4001, 1000)

# A connection that the server closes first stays in TIME_WAIT there.
send(4002, 1000, 0, SYN)
there = receive(4002, SYN | ACK) + 1
send(4002, 1001, there, ACK)
service.accept()[0].close()
receive(4002, FIN | ACK)
send(4002, 1001, there + 1, ACK | FIN)
time.sleep(0.2)
print("closed by the server:", state(4002))
answered("its addresses and ports again", 4002, 900000)
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
a new connection: SYN-ACK, no socket
closed by the server: TIME_WAIT
its addresses and ports again: SYN-ACK, SYN_RECV
SEEN
