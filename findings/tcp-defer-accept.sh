#!/bin/sh
# TCP_DEFER_ACCEPT, clients that send nothing, and SYN cookies. Seen on Linux 6.18.
#
# The guess: the kernel drops a client that sends no data within the time set (tcp(7): the value "can bound the maximum
# number of attempts TCP will make to complete the connection"), and counts it in TCPDeferAcceptDrop. Its three-way
# handshake is complete, so it holds no slot of the SYN queue.
# The behaviour: accept() returns that client without data, at the first of 1, 3, 7, 15 or 31 s that is not less than the
# time set. Until then it is in SYN_RECV and holds a slot of the SYN queue, while its own socket is established. So as
# many silent clients as the queue holds keep others out. TCPDeferAcceptDrop counts ACKs without data, and no connection
# is lost. With SYN cookies there is no request to defer: accept() returns the client at once, ahead of those that
# came before.
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
import socket, time


def counter(name):
    names, values = [line.split() for line in open("/proc/net/netstat") if line.startswith("TcpExt:")]
    return int(values[names.index(name)])


def half_open(port):
    entries = [line.split() for line in open("/proc/net/tcp").read().splitlines()[1:]]
    return sum(int(entry[1].split(":")[1], 16) == port and entry[3] == "03" for entry in entries)


def service(seconds, backlog):
    listener = socket.socket()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener


def client(listener):
    connection = socket.socket()
    connection.settimeout(2)
    try:
        connection.connect(listener.getsockname())
    except TimeoutError:
        return None
    return connection


def data(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1)
    except BlockingIOError:
        return "no data"


for seconds in (3, 5):
    before = counter("TCPDeferAcceptDrop")
    listener = service(seconds, 8)
    rounded = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
    silent, begun = client(listener), time.monotonic()
    print("%d s: getsockopt %d, SYN_RECV %d" % (seconds, rounded, half_open(listener.getsockname()[1])))
    accepted, _ = listener.accept()
    print("accepted after %.0f s: %s, TCPDeferAcceptDrop +%d"
          % (time.monotonic() - begun, data(accepted), counter("TCPDeferAcceptDrop") - before))

for cookies in (0, 1):
    open("/proc/sys/net/ipv4/tcp_syncookies", "w").write(str(cookies))
    listener = service(30, 3)
    silent = [client(listener) for _ in range(4)]
    print("tcp_syncookies %d, backlog 3: %d silent clients are connected, SYN_RECV %d"
          % (cookies, sum(one is not None for one in silent), half_open(listener.getsockname()[1])))
    last = client(listener)
    listener.settimeout(0.5)
    try:
        accepted, address = listener.accept()
        which = "the fifth" if last and address == last.getsockname() else "another"
        print("the fifth is connected, accept() returns %s: %s" % (which, data(accepted)))
    except TimeoutError:
        print("the fifth is %s, accept() waits" % ("connected" if last else "not connected"))
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
3 s: getsockopt 3, SYN_RECV 1
accepted after 3 s: no data, TCPDeferAcceptDrop +1
5 s: getsockopt 7, SYN_RECV 1
accepted after 7 s: no data, TCPDeferAcceptDrop +1
tcp_syncookies 0, backlog 3: 4 silent clients are connected, SYN_RECV 4
the fifth is not connected, accept() waits
tcp_syncookies 1, backlog 3: 4 silent clients are connected, SYN_RECV 4
the fifth is connected, accept() returns the fifth: no data
SEEN
