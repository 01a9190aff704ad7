#!/bin/sh
# The match hashlimit of iptables with more addresses than its table holds. Seen on Linux 6.18, iptables 1.8.9.
#
# The guess: the address that finds no room is not limited, or the oldest entry makes room. In any case the target of the
# rule decides what becomes of a packet.
# The behaviour: a packet that finds no room is dropped, whatever the target is, and counted in no rule. `iptables -L -v`
# shows packets of the other addresses only. Only the end of an entry makes room: for a rate per second after a second,
# for one per minute after a minute. So a rule that is to slow down single addresses keeps new clients out while there
# are many addresses.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
command -v iptables >/dev/null || { echo "skipped: needs iptables"; exit 77; }
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
ip link set lo up
temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
python3 - >"$temporary" <<'PYTHON'
import socket, subprocess, time

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(100)


def connects(number):
    """Whether a client with an address of its own connects: the first SYN, and no second one."""
    client = socket.socket()
    client.settimeout(0.3)
    client.bind(("127.0.1.%d" % number, 0))
    try:
        client.connect(listener.getsockname())
    except TimeoutError:
        return False
    return True


def iptables(words):
    return subprocess.run(["iptables", *words.split()], check=True, capture_output=True, text=True).stdout


limit = ("-p tcp --syn -m hashlimit --hashlimit-mode srcip --hashlimit-htable-size 8 --hashlimit-htable-max 8 "
         "--hashlimit-htable-expire 12000 ")
for name, table, rule in (
    ("drops above 1000/s", "filter", "--hashlimit-above 1000/sec --hashlimit-name a -j DROP"),
    ("marks above 1000/s", "mangle", "--hashlimit-above 1000/sec --hashlimit-name b -j MARK --set-mark 1"),
    ("marks up to 1000/s", "mangle", "--hashlimit-upto 1000/sec --hashlimit-name c -j MARK --set-mark 1"),
):
    iptables("-t %s -A INPUT %s%s" % (table, limit, rule))
    served = sum(connects(number) for number in range(1, 21))
    counted = iptables("-t %s -L INPUT -v -n -x" % table).splitlines()[2].split()[0]
    print("a rule that %s: %d of 20 clients connect, %s packets in the rule" % (name, served, counted))
    iptables("-t %s -F INPUT" % table)
    if name.startswith("drops"):
        iptables("-t %s -A INPUT %s%s" % (table, limit, rule.replace("-name a", "-name d")))
        before = [connects(number) for number in range(1, 10)]
        time.sleep(14)
        print("the ninth client: %s at once, %s when the entries have ended"
              % tuple("connects" if is_served else "does not connect" for is_served in (before[8], connects(9))))
        iptables("-t %s -F INPUT" % table)
PYTHON
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
a rule that drops above 1000/s: 8 of 20 clients connect, 0 packets in the rule
the ninth client: does not connect at once, connects when the entries have ended
a rule that marks above 1000/s: 8 of 20 clients connect, 0 packets in the rule
a rule that marks up to 1000/s: 8 of 20 clients connect, 8 packets in the rule
SEEN
