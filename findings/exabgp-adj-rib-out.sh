#!/bin/sh
# `show adj-rib out` of ExaBGP. Seen on 4.2.21 and 5.0.15.
#
# The guess: it lists what ExaBGP advertises to the peer, as RFC 4271 says of the Adj-RIB-Out. A route that the session
# cannot carry is refused with `error`, and the JSON of version 5 has the same routes as the text.
# The behaviour: a FlowSpec rule is acknowledged with `done` and listed, before there is a session and also when the peer
# has negotiated no FlowSpec: it is never sent. A rule of a family that the neighbor does not have in the configuration is
# acknowledged too, and neither listed nor sent, and so is the withdrawal of a route that was never announced.
# `json` is no error in 4.2, and lists nothing. In 5.0 it leaves FlowSpec rules out.
#
# EXABGP names the program.
set -eu
program=$(command -v "${EXABGP:-exabgp}") || { echo "skipped: no exabgp"; exit 77; }
version=$({ "$program" --version || "$program" version; } 2>/dev/null | sed -n 's/^ExaBGP : //p')
case $version in
4.2.*) json= port==443 ;;
5.0.*) json=' {"127.0.0.2": {"routes": [{"prefix": "192.0.2.11/32", "family": "ipv4 unicast"}]}}' port==https ;;
*) echo "skipped: seen on ExaBGP 4.2.21 and 5.0.15, and this is $version"; exit 77 ;;
esac
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cd "$temporary"
python3 - "$program" >seen <<'PYTHON' || { cat log; exit 1; }
import os, socket, struct, subprocess, sys

PORT = 17900
directory = os.getcwd()
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.2", PORT))
listener.listen()
listener.settimeout(20)
for pipe in ("in", "out"):
    os.mkfifo(pipe)
with open("api", "w") as script:
    script.write("#!/bin/sh\ncat %s/in & exec cat >%s/out\n" % (directory, directory))
os.chmod("api", 0o755)
with open("configuration", "w") as file:
    file.write("process api { run %s/api; encoder json; }\n"
               "neighbor 127.0.0.2 { router-id 127.0.0.1; local-address 127.0.0.1; local-as 65001; peer-as 65000;\n"
               "connect %d; hold-time 60; family { ipv4 unicast; ipv4 flow; } api { processes [ api ]; } }\n"
               % (directory, PORT))
settings = {"exabgp.api.cli": "false", "exabgp.daemon.drop": "false"}
exabgp = subprocess.Popen([sys.argv[1], directory + "/configuration"], env=os.environ | settings,
                          stdout=open("log", "w"), stderr=subprocess.STDOUT)
commands, replies = open("in", "w", buffering=1), open("out")


def ask(command):
    print(">", command)
    commands.write(command + "\n")
    for line in map(str.strip, replies):
        # Version 4.2 has "neighbor" before the address.
        print("", line.removeprefix("neighbor "))
        if line in ("done", "error"):
            return


def message(kind, body):
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


def updates():
    """Prints each UPDATE with a route, until none comes for 3 s."""
    peer.settimeout(3)
    try:
        while True:
            length, kind = struct.unpack("!HB", peer.recv(19, socket.MSG_WAITALL)[16:])
            body = peer.recv(length - 19, socket.MSG_WAITALL) if length > 19 else b""
            if kind == 2 and len(body) > 4:
                print(" sent:", body.hex())
    except TimeoutError:
        pass


RULE = "flow route { match { destination 192.0.2.10/32; protocol tcp; destination-port =443; } then { discard; } }"
RULE6 = "flow route { match { destination 2001:db8::10/128; next-header tcp; } then { discard; } }"
try:
    ask("announce " + RULE)
    ask("announce route 192.0.2.11/32 next-hop 127.0.0.1")
    ask("show adj-rib out")
    peer, _ = listener.accept()
    # An OPEN whose only capability is IPv4 unicast (RFC 4760), and a KEEPALIVE.
    option = bytes([2, 6, 1, 4, 0, 1, 0, 1])
    peer.send(message(1, struct.pack("!BHH4sB", 4, 65000, 60, bytes([127, 0, 0, 2]), len(option)) + option))
    peer.send(message(4, b""))
    print("the peer has no FlowSpec:")
    updates()
    ask("announce " + RULE6)
    ask("withdraw " + RULE6.replace("::10", "::99"))
    ask("show adj-rib out")
    ask("show adj-rib out json")
    updates()
finally:
    exabgp.kill()
PYTHON
cat seen
rule=" 127.0.0.2 ipv4 flow flow destination-ipv4 192.0.2.10/32 protocol =tcp destination-port $port"
route=" 127.0.0.2 ipv4 unicast 192.0.2.11/32 next-hop 127.0.0.1"
{
    cat <<SEEN
> announce flow route { match { destination 192.0.2.10/32; protocol tcp; destination-port =443; } then { discard; } }
 done
> announce route 192.0.2.11/32 next-hop 127.0.0.1
 done
> show adj-rib out
$route
$rule
 done
the peer has no FlowSpec:
 sent: 00000012400101004002040201fde94003047f00000120c000020b
> announce flow route { match { destination 2001:db8::10/128; next-header tcp; } then { discard; } }
 done
> withdraw flow route { match { destination 2001:db8::99/128; next-header tcp; } then { discard; } }
 done
> show adj-rib out
$route
$rule
 done
> show adj-rib out json
SEEN
    [ -z "$json" ] || echo "$json"
    echo " done"
} | diff - seen || { echo "the behaviour has changed"; exit 1; }
