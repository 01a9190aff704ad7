#!/bin/sh
# nftables' synproxy and the sysctls of the host. Seen on Linux 6.18, with nftables 1.0.6.
#
# The guess: synproxy makes the kernel's SYN cookies, so it needs net.ipv4.tcp_syncookies and tcp_timestamps, as guides
# say, and `nstat` counts its cookies. The service gets the client's SYN.
# The behaviour: it answers with cookies whatever tcp_syncookies is, with timestamps whatever tcp_timestamps is, and counts
# them in /proc/net/stat/synproxy only. With tcp_timestamps=0 the client has agreed on timestamps that no further segment
# of the server has, against RFC 7323 section 3.2: Linux accepts these, and other clients need not. With tcp_syncookies=2
# there are two cookies: the kernel answers synproxy's SYN to the service with its own, which `nstat` counts. That SYN is
# synproxy's: its window is the number in the client's third ACK, which is in units of the client's window scale.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
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
nft 'table ip t {
    chain before { type filter hook prerouting priority raw; tcp dport 8080 tcp flags & (fin|syn|rst|ack) == syn notrack; };
    chain input { type filter hook input priority filter;
        tcp dport 8080 ct state { invalid, untracked } synproxy mss 1460 wscale 7 timestamp sack-perm;
        ct state invalid drop; }; }'
echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose

python3 - "$client" >"$temporary" <<'PYTHON'
import socket, struct, subprocess, sys

PORT, SYN, PUSH, ACK, TIMESTAMPS = 8080, 2, 8, 16, 8
SAVE_SYN, SAVED_SYN = 27, 28  # TCP_SAVE_SYN, TCP_SAVED_SYN
tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
tap.bind(("server", 3))
tap.settimeout(0.2)
service = socket.socket()
service.setsockopt(socket.IPPROTO_TCP, SAVE_SYN, 1)
service.bind(("0.0.0.0", PORT))
service.listen(16)
service.settimeout(5)


def parse(packet):
    """Ports, flags, window, and numbers of the options of a segment."""
    segment = packet[20:]
    source, target = struct.unpack("!HH", segment[:4])
    options, numbers = segment[20:segment[12] // 16 * 4], []
    while options and options[0]:
        numbers.append(options[0])
        options = options[1:] if options[0] == 1 else options[options[1]:]
    return source, target, segment[13], struct.unpack("!H", segment[14:16])[0], numbers


def segments():
    try:
        while True:
            packet = tap.recv(2048)
            if packet[:1] == b"\x45" and packet[9] == 6:
                yield parse(packet)
    except TimeoutError:
        pass


def counted():
    """SyncookiesSent and SyncookiesRecv by nstat, and synproxy's SYNs and valid cookies."""
    names, values = [line.split() for line in open("/proc/net/netstat") if line.startswith("TcpExt")]
    kernel = dict(zip(names, values))
    rows = [line.split() for line in open("/proc/net/stat/synproxy")]
    proxy = [sum(int(row[rows[0].index(name)], 16) for row in rows[1:]) for name in ("syn_received", "cookie_valid")]
    return [int(kernel["SyncookiesSent"]), int(kernel["SyncookiesRecv"]), *proxy]


word = lambda present: "with" if present else "without"
for cookies, timestamps in (0, 0), (1, 1), (2, 1):
    for name, value in ("tcp_syncookies", cookies), ("tcp_timestamps", timestamps):
        with open("/proc/sys/net/ipv4/" + name, "w") as file:
            file.write(str(value))
    before = counted()
    client = subprocess.Popen(
        ["nsenter", "--net=/proc/%s/ns/net" % sys.argv[1], "python3", "-c", "import socket; "
         "c = socket.create_connection(('10.1.0.1', %d), 5); c.send(b'question'); c.recv(9); c.recv(9)" % PORT])
    connection = service.accept()[0]
    saved = connection.getsockopt(socket.IPPROTO_TCP, SAVED_SYN, 256)
    connection.recv(9)
    connection.send(b"answer")
    connection.close()
    client.wait()
    seen = list(segments())
    third = [window for source, target, flags, window, _ in seen if target == PORT and flags == ACK][0]
    answer = [TIMESTAMPS in numbers for source, _, flags, _, numbers in seen if source == PORT and flags == SYN | ACK]
    others = {TIMESTAMPS in numbers for source, _, flags, _, numbers in seen if source == PORT and not flags & SYN}
    print("tcp_syncookies = %d, tcp_timestamps = %d: connected" % (cookies, timestamps))
    print(" SYN-ACK %s timestamps; the server's other segments %s" % (
        word(answer[0]), ", ".join(word(other) for other in others)))
    print(" SyncookiesSent %d, SyncookiesRecv %d; synproxy: syn_received %d, cookie_valid %d" % tuple(
        new - old for new, old in zip(counted(), before)))
    if saved:
        _, _, _, window, numbers = parse(saved)
        print(" the SYN that the service sees: %s timestamps, its window is the third ACK's: %s" % (
            word(TIMESTAMPS in numbers), window == third))
    else:
        print(" the SYN that the service sees: none, because of the kernel's cookie")
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
tcp_syncookies = 0, tcp_timestamps = 0: connected
 SYN-ACK with timestamps; the server's other segments without
 SyncookiesSent 0, SyncookiesRecv 0; synproxy: syn_received 1, cookie_valid 1
 the SYN that the service sees: with timestamps, its window is the third ACK's: True
tcp_syncookies = 1, tcp_timestamps = 1: connected
 SYN-ACK with timestamps; the server's other segments with
 SyncookiesSent 0, SyncookiesRecv 0; synproxy: syn_received 1, cookie_valid 1
 the SYN that the service sees: with timestamps, its window is the third ACK's: True
tcp_syncookies = 2, tcp_timestamps = 1: connected
 SYN-ACK with timestamps; the server's other segments with
 SyncookiesSent 1, SyncookiesRecv 1; synproxy: syn_received 1, cookie_valid 1
 the SYN that the service sees: none, because of the kernel's cookie
SEEN
