#!/bin/sh
# Segment size of connections made by a SYN cookie where the MTU is 9000. Seen on Linux 6.18.
#
# The guess: a cookie keeps the client's MSS roughly, for both families alike, or 1460 at most for both: it has two bits
# for it.
# The behaviour: over IPv4 the largest MSS that a cookie can hold is 1460, over IPv6 it is 8940. So in a flood new IPv4
# clients of a network with jumbo frames get segments of a sixth of the size, and keep them for as long as the
# connection lasts, also after the flood. IPv6 clients lose nothing.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
temporary=$(mktemp)
far=jumbo-$$
trap 'ip netns del "$far"; rm -f "$temporary"' EXIT
ip netns add "$far"
ip link set lo up
ip link add near mtu 9000 type veth peer name far mtu 9000 netns "$far"
ip addr add 10.1.0.1/24 dev near
ip addr add fd00::1/64 dev near nodad
ip link set near up
ip -n "$far" addr add 10.1.0.2/24 dev far
ip -n "$far" addr add fd00::2/64 dev far nodad
ip -n "$far" link set far up
python3 - "$far" >"$temporary" <<'PYTHON'
import socket, struct, subprocess, sys

SEND_MSS = 16  # offset of tcpi_snd_mss in struct tcp_info
CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(b"request")
connection.recv(1)
"""
for family, address in ((socket.AF_INET, "10.1.0.1"), (socket.AF_INET6, "fd00::1")):
    for cookies in (0, 2):
        open("/proc/sys/net/ipv4/tcp_syncookies", "w").write(str(cookies))
        listener = socket.socket(family)
        listener.bind((address, 0))
        listener.listen(8)
        port = str(listener.getsockname()[1])
        client = subprocess.Popen(["ip", "netns", "exec", sys.argv[1], sys.executable, "-c", CLIENT, address, port])
        connection, _ = listener.accept()
        connection.recv(7)
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        print("%s, %s: segments of %d bytes" % (
            family.name, "with a cookie" if cookies else "without", struct.unpack_from("=I", information, SEND_MSS)[0]))
        connection.close()
        client.wait()
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
AF_INET, without: segments of 8948 bytes
AF_INET, with a cookie: segments of 1448 bytes
AF_INET6, without: segments of 8928 bytes
AF_INET6, with a cookie: segments of 8928 bytes
SEEN
