#!/bin/sh
# How long the kernel keeps a half-open handshake, and its number of retransmissions. Seen on Linux 6.18, iproute2 6.1.
#
# The guesses: net.ipv4.tcp_synack_retries alone decides (3 s with 1, 63 s with 5), because the timer of the SYN-ACK
# doubles from 1 s. A retransmitted SYN is answered and changes nothing. TCP_SYNCNT is for connect(), as tcp(7) says.
# `ss -o` and /proc/net/tcp show the same number of retransmissions.
# The behaviour: each retransmitted SYN that is answered starts the timer again, without counting as a timeout. A
# handshake stays while its SYNs come faster than the timer. So a client that loses all SYN-ACKs keeps its handshake longer
# than the setting says. TCP_SYNCNT of a listener replaces tcp_synack_retries for it, to more and to less. `ss -o` shows
# all SYN-ACKs that were retransmitted, /proc/net/tcp those of the timer only.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
ip link set lo up
# The client receives no SYN-ACK, so its stack resets nothing.
nft 'table ip f { chain c { type filter hook input priority 0; ip daddr 127.0.0.2 tcp flags syn,ack / syn,ack drop; }; }'
temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
python3 - >"$temporary" <<'PYTHON'
import re, socket, struct, subprocess, time

CLIENT, SERVER, PORT, SYN = "127.0.0.2", "127.0.0.1", 8080, 2
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.bind((CLIENT, 0))


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def send_syn(port):
    header = lambda sum: struct.pack("!HHIIBBHHH", port, PORT, 1000, 0, 0x50, SYN, 64000, sum, 0)
    pseudo = socket.inet_aton(CLIENT) + socket.inet_aton(SERVER) + struct.pack("!BBH", 0, 6, 20)
    raw.sendto(header(checksum(pseudo + header(0))), (SERVER, 0))


def shown(port):
    """Retransmissions of that handshake by `ss -o`, and by /proc/net/tcp. None without it."""
    lines = subprocess.run(["ss", "-Htno", "state", "syn-recv", "dport", "=", ":%d" % port],
                           capture_output=True, text=True, check=True).stdout
    in_ss = re.search(r"timer:\(on,[^,]*,(\d+)\)", lines)
    other = "%08X:%04X" % (struct.unpack("=I", socket.inet_aton(CLIENT))[0], port)
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        if fields[2:4] == [other, "03"] and in_ss:
            return int(in_ss[1]), int(fields[6], 16)


def handshake(what, port, retries, begin, repeat=lambda now: None, options=()):
    with open("/proc/sys/net/ipv4/tcp_synack_retries", "w") as file:
        file.write(str(retries))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((SERVER, PORT))
    for option in options:
        listener.setsockopt(socket.IPPROTO_TCP, *option)
    listener.listen(16)
    start = time.monotonic()
    begin(port)
    last = None
    while (now := shown(port)) or not last:
        last = now or last
        repeat(time.monotonic() - start)
        time.sleep(0.05)
    listener.close()
    print("%s: %.0f s, retransmissions: %d by ss, %d by /proc" % (what, time.monotonic() - start, *last))


def retransmit(now):
    """Sends the SYN again each 0.75 s, eight times."""
    global sent
    if sent < 8 and now >= 0.75 * (sent + 1):
        send_syn(4002)
        sent += 1


def connect(port):
    """A client of this kernel, which sends its SYN again after 1, 2, 3, 4 and 5 s (tcp_syn_linear_timeouts)."""
    client.bind((CLIENT, port))
    client.setblocking(False)
    client.connect_ex((SERVER, PORT))


def close(now):
    if now > 5.7:
        client.close()


sent, client = 0, socket.socket()
handshake("tcp_synack_retries 1, one SYN", 4001, 1, send_syn)
handshake("tcp_synack_retries 1, nine SYNs in 6 s", 4002, 1, send_syn, retransmit)
handshake("tcp_synack_retries 1, connect(), six SYNs in 5 s", 4003, 1, connect, close)
handshake("tcp_synack_retries 1, TCP_SYNCNT 2, one SYN", 4004, 1, send_syn, options=[(socket.TCP_SYNCNT, 2)])
handshake("tcp_synack_retries 5, TCP_SYNCNT 1, one SYN", 4005, 5, send_syn, options=[(socket.TCP_SYNCNT, 1)])
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
tcp_synack_retries 1, one SYN: 3 s, retransmissions: 1 by ss, 1 by /proc
tcp_synack_retries 1, nine SYNs in 6 s: 9 s, retransmissions: 9 by ss, 1 by /proc
tcp_synack_retries 1, connect(), six SYNs in 5 s: 7 s, retransmissions: 6 by ss, 1 by /proc
tcp_synack_retries 1, TCP_SYNCNT 2, one SYN: 7 s, retransmissions: 2 by ss, 2 by /proc
tcp_synack_retries 5, TCP_SYNCNT 1, one SYN: 3 s, retransmissions: 1 by ss, 1 by /proc
SEEN
