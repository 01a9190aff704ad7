#!/bin/sh
# sock_diag(7): a question about one connection, by its addresses and ports. Seen on Linux 6.18.
#
# The guess: without such a connection the answer is ENOENT, and SOCK_DESTROY closes nothing.
# The behaviour: the kernel looks the addresses up as for an arriving packet. Without the connection it finds the listener
# on its local port: SOCK_DIAG_BY_FAMILY answers with that (state 10, LISTEN), and SOCK_DESTROY closes it for the process
# that accepts there. Only the cookie of an earlier answer in place of INET_DIAG_NOCOOKIE prevents this (ENOENT).
# A socket that is bound to a device is found only if idiag_if names the device.
# An end that no process has accepted yet has no inode, but the user of its listener. One that was closed keeps its user.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net "$0" inside

ip link set lo up
temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
python3 - >"$temporary" <<'PYTHON'
import errno, os, socket, struct

NETLINK_SOCK_DIAG, BY_FAMILY, DESTROY, REQUEST, ACK = 4, 20, 21, 1, 4
NO_COOKIE = b"\xff" * 8
STATES = {1: "ESTABLISHED", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 10: "LISTEN"}
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)


def ask(kind, local, remote, device=0, cookie=NO_COOKIE):
    """The message of the kernel's answer, or the name of its error; None for success without a message."""
    address = lambda end: socket.inet_aton(end[0]).ljust(16, b"\0")
    identity = struct.pack(">HH", local[1], remote[1]) + address(local) + address(remote)
    identity += struct.pack("=I", device) + cookie
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + identity
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK, 1, 0) + body)
    found = None
    while True:
        datagram = netlink.recv(65536)
        while datagram:
            length, kind_of_answer = struct.unpack_from("=IH", datagram)
            payload = datagram[16:length]
            datagram = datagram[(length + 3) & ~3:]
            if kind_of_answer == 2:
                error = -struct.unpack_from("=i", payload)[0]
                return found if error == 0 else errno.errorcode[error]
            found = payload


def words(answer):
    if not isinstance(answer, bytes):
        return str(answer)
    user, inode = struct.unpack_from("=II", answer, 64)
    return "%s user %d inode %s" % (STATES[answer[1]], user, "yes" if inode else "none")


def listen(user):
    listener = socket.socket()
    os.fchown(listener.fileno(), user, -1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener, listener.getsockname()


listener, server = listen(1000)
nobody = ("127.0.0.1", 9)
client = socket.socket()
os.fchown(client.fileno(), 1001, -1)
client.connect(server)
end = client.getsockname()
print("the client:", words(ask(BY_FAMILY, end, server)))
print("the end that is not accepted:", words(ask(BY_FAMILY, server, end)))
accepted, _ = listener.accept()
print("the end that is accepted:", words(ask(BY_FAMILY, server, end)))
client.close()
print("the client that has closed:", words(ask(BY_FAMILY, end, server)).split(" ", 1)[1])

bound = socket.socket()
bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
bound.connect(server)
for device in 0, 1:
    print("a client bound to lo, device %d:" % device, words(ask(BY_FAMILY, bound.getsockname(), server, device)))

absent = ask(BY_FAMILY, server, nobody)
print("no such connection:", words(absent))
other = bytes(byte ^ 1 for byte in absent[4 + 40:4 + 48])
print("no such connection, another cookie:", words(ask(DESTROY, server, nobody, cookie=other)))
print("destroy no such connection:", ask(DESTROY, server, nobody) or "done")
try:
    socket.create_connection(server)
    print("the listener listens")
except ConnectionRefusedError:
    print("the listener is closed")
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
the client: ESTABLISHED user 1001 inode yes
the end that is not accepted: ESTABLISHED user 1000 inode none
the end that is accepted: ESTABLISHED user 0 inode yes
the client that has closed: user 1001 inode none
a client bound to lo, device 0: ENOENT
a client bound to lo, device 1: ESTABLISHED user 0 inode yes
no such connection: LISTEN user 1000 inode yes
no such connection, another cookie: ENOENT
destroy no such connection: done
the listener is closed
SEEN
