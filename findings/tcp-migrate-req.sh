#!/bin/sh
# The accept queue of a listener that closes, with net.ipv4.tcp_migrate_req=1 in a SO_REUSEPORT group.
# Seen on Linux 6.18, iproute2 6.1.
#
# The guess: another listener of the group takes as many connections as its backlog allows, and the others are reset, as
# all are without the setting. Half-open handshakes move at the same time.
# The behaviour: all connections move, and the queue exceeds its limit (`ss`: Recv-Q 4, Send-Q 1). New clients' SYNs are
# then dropped at a listener that has received no connection itself, until the application has accepted the others.
# Half-open handshakes stay until the third ACK or the timer of each one moves it. The third ACK does obey the limit:
# TcpExtTCPMigrateReqFailure counts it, though the handshake remains and completes with a later third ACK.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
ip link set lo up
temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
python3 - >"$temporary" <<'PYTHON'
import socket, struct, subprocess, time

CLIENT, SERVER, PORT = "127.0.0.2", "127.0.0.1", 8080
SYN, RST, ACK = 2, 4, 16
COUNTERS = "TcpEstabResets TcpExtListenOverflows TcpExtTCPMigrateReqSuccess TcpExtTCPMigrateReqFailure".split()
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.bind((CLIENT, 0))
raw.settimeout(3)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)
# The client's stack has no such connections: keep it from resetting them.
subprocess.run(["nft", "table ip f { chain c { type filter hook output priority 0; "
                "ip saddr %s tcp flags rst meta mark 0 drop; }; }" % CLIENT], check=True)


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def send(port, sequence, acknowledged, flags):
    header = lambda sum: struct.pack("!HHIIBBHHH", port, PORT, sequence, acknowledged, 0x50, flags, 64000, sum, 0)
    pseudo = socket.inet_aton(CLIENT) + socket.inet_aton(SERVER) + struct.pack("!BBH", 0, 6, 20)
    raw.sendto(header(checksum(pseudo + header(0))), (SERVER, 0))


def syn(port):
    """Sends a SYN. The number that its SYN-ACK wants acknowledged."""
    send(port, 1000, 0, SYN)
    while True:
        segment = raw.recv(4096)[20:]
        source, target, sequence = struct.unpack("!HHI", segment[:8])
        if (source, target) == (PORT, port) and segment[13] & 18 == SYN | ACK:
            return sequence + 1 & 0xFFFFFFFF


def counted():
    values = {}
    for file in "/proc/net/snmp", "/proc/net/netstat":
        lines = open(file).read().splitlines()
        for names, numbers in zip(lines[::2], lines[1::2]):
            group, *names = names.split()
            values |= {group[:-1] + name: int(number) for name, number in zip(names, numbers.split()[1:])}
    return {name: values[name] for name in COUNTERS}


def listener(backlog):
    new = socket.socket()
    new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    new.bind((SERVER, PORT))
    new.listen(backlog)
    return new


def ss(*words):
    return subprocess.run(["ss", "-Htn", *words], capture_output=True, text=True, check=True).stdout.splitlines()


def report(what):
    """The listeners, the half-open handshakes, and what was counted since the last report."""
    global before
    time.sleep(0.05)
    now = counted()
    changes = ["%s %d" % (name, now[name] - before[name]) for name in COUNTERS if now[name] != before[name]]
    queues = ", ".join("Recv-Q %s, Send-Q %s" % tuple(line.split()[1:3]) for line in ss("-l"))
    half_open = len(ss("state", "syn-recv"))
    print("%s: %s; %d half-open; %s" % (what, queues, half_open, ", ".join(changes) or "nothing counted"))
    before = now


for migrate in 1, 0:
    before = counted()
    with open("/proc/sys/net/ipv4/tcp_migrate_req", "w") as file:
        file.write(str(migrate))
    print("tcp_migrate_req = %d" % migrate)
    first, base = listener(8), 4000 + 100 * migrate
    for port in range(base, base + 4):
        send(port, 1001, syn(port), ACK)
    acknowledged = syn(base + 10)
    report("4 connections")
    second = listener(1)
    first.close()
    report("their listener is closed")
    if migrate:
        send(base + 20, 1000, 0, SYN)
        report("a SYN")
        send(base + 10, 1001, acknowledged, ACK)
        report("the third ACK of the half-open handshake")
        for _ in range(4):
            second.accept()
        send(base + 10, 1001, acknowledged, ACK)
        report("all accepted, the third ACK again")
        second.close()
        first = listener(8)
        syn(base + 30)
        before = counted()
        second = listener(1)
        first.close()
        time.sleep(1.5)
        report("another one, after the timer of its SYN-ACK")
        # The client gives up, so that nothing of this round remains.
        send(base + 30, 1001, 0, RST)
    second.close()
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
tcp_migrate_req = 1
4 connections: Recv-Q 4, Send-Q 8; 1 half-open; nothing counted
their listener is closed: Recv-Q 4, Send-Q 1; 1 half-open; TcpExtTCPMigrateReqSuccess 4
a SYN: Recv-Q 4, Send-Q 1; 1 half-open; TcpExtListenOverflows 1
the third ACK of the half-open handshake: Recv-Q 4, Send-Q 1; 1 half-open; TcpExtListenOverflows 1, TcpExtTCPMigrateReqFailure 1
all accepted, the third ACK again: Recv-Q 1, Send-Q 1; 0 half-open; TcpExtTCPMigrateReqSuccess 1
another one, after the timer of its SYN-ACK: Recv-Q 0, Send-Q 1; 1 half-open; TcpExtTCPMigrateReqSuccess 1
tcp_migrate_req = 0
4 connections: Recv-Q 4, Send-Q 8; 1 half-open; nothing counted
their listener is closed: Recv-Q 0, Send-Q 1; 1 half-open; TcpEstabResets 4
SEEN
