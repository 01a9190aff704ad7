#!/bin/sh
# bpf_fib_lookup() on a host that is no router. Seen on Linux 6.18.
#
# The guess: BPF_FIB_LOOKUP_OUTPUT asks for the route of a packet that this host sends, as `ip route get` does. So it works
# on every host with a route and a neighbour.
# The behaviour: each lookup, with any flags, first tests `forwarding` of the interface in params.ifindex, which
# is the outgoing interface with BPF_FIB_LOOKUP_OUTPUT. Without it the result is 5 (BPF_FIB_LKUP_RET_FWD_DISABLED). With
# net.ipv4.conf.lo.forwarding=1 and `lo` as the interface the helper answers, while the host still forwards nothing:
# no packet that it would forward arrives by `lo`.
set -eu
case $(uname -r) in
6.18*) ;;
*) echo "skipped: seen on Linux 6.18, and this is $(uname -r)"; exit 77 ;;
esac
[ "${1-}" = inside ] || exec unshare --net --mount "$0" inside

mount -t sysfs sysfs /sys
ip link set lo up
ip link add near type veth peer name far
ip link set far up
ip link set near up
for family in 'ipv4 10.1.0.1/24 10.1.0.2 192.0.2.0/24' 'ipv6 fd01::1/64 fd01::2 2001:db8::/32'; do
    set -- $family
    case $1 in ipv6) options=nodad ;; *) options= ;; esac
    ip addr add "$2" dev near $options
    ip neigh replace "$3" lladdr 02:00:00:00:00:02 nud permanent dev near
    ip route add "$4" via "$3" dev near
    echo 0 >/proc/sys/net/$1/conf/all/forwarding
done

temporary=$(mktemp)
trap 'rm -f "$temporary"' EXIT
python3 - >"$temporary" <<'PYTHON'
import ctypes, os, platform, socket, struct

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, PROG_TEST_RUN, XDP, PASS, FIB_LOOKUP = 5, 10, 6, 2, 69
PARAMS = 64  # sizeof(struct bpf_fib_lookup)
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(BPF, command, attributes, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf(%d)" % command)
    return result, attributes


def instruction(code, destination=0, source=0, offset=0, immediate=0):
    return struct.pack("<BBhi", code, destination | source << 4, offset, immediate)


# The frame is the parameters, the flags, and room for the result. The helper takes parameters on the stack only.
answer = [
    instruction(0x61, 4, 6, PARAMS),                    # r4 = flags
    instruction(0xBF, 2, 10),
    instruction(0x07, 2, immediate=-PARAMS),            # r2 = parameters
    instruction(0xB7, 3, immediate=PARAMS),
    instruction(0x85, immediate=FIB_LOOKUP),
    instruction(0x63, 6, 0, PARAMS + 4),
    instruction(0x79, 1, 10, -8),                       # the end of the MACs
    instruction(0x7B, 6, 1, PARAMS - 8),
]
for offset in range(0, PARAMS, 8):
    answer[:0] = [instruction(0x79, 0, 6, offset), instruction(0x7B, 10, 0, offset - PARAMS)]
program = b"".join([
    instruction(0x61, 6, 1, 0),                         # r6 = data
    instruction(0x61, 5, 1, 4),                         # r5 = data_end
    instruction(0xBF, 2, 6),
    instruction(0x07, 2, immediate=PARAMS + 8),
    instruction(0x2D, 2, 5, len(answer)),               # too short: end
    *answer,
    instruction(0xB7, 0, immediate=PASS),
    instruction(0x95),
])
code = ctypes.create_string_buffer(program, len(program))
licence = ctypes.create_string_buffer(b"GPL")
loaded, _ = bpf(PROG_LOAD, struct.pack("<IIQQ", XDP, len(program) // 8, ctypes.addressof(code),
                                       ctypes.addressof(licence)))


def lookup(family, interface, source, destination, flags):
    address = lambda text: socket.inet_pton(family, text).ljust(16, b"\0")
    frame = struct.pack("<BB2x2xHIi", family, 6, 40, socket.if_nametoindex(interface), 0)
    frame += address(source) + address(destination)
    frame = frame.ljust(PARAMS, b"\0") + struct.pack("<Ii", flags, -1)
    frame = ctypes.create_string_buffer(frame, len(frame))
    at = ctypes.addressof(frame)
    size = len(frame)
    bpf(PROG_TEST_RUN, struct.pack("<IIIIQQ", loaded, 0, size, size, at, at))
    result = struct.unpack("<i", frame.raw[-4:])[0]
    return result, frame.raw[58:64].hex(":") if result == 0 else "-"


FLAGS = {"none": 0, "DIRECT": 1, "OUTPUT": 2, "DIRECT|OUTPUT": 3, "SKIP_NEIGH": 4}


def ask(host, interface, flags):
    for name, family, source, destination in [
        ("IPv4", socket.AF_INET, "10.1.0.1", "192.0.2.9"),
        ("IPv6", socket.AF_INET6, "fd01::1", "2001:db8::9"),
    ]:
        for flag in flags:
            result, mac = lookup(family, interface, source, destination, FLAGS[flag])
            print("%s, %s, from %s, %s: %d %s" % (host, name, interface, flag, result, mac))


def forwarding(interface, value):
    for family in "ipv4", "ipv6":
        with open("/proc/sys/net/%s/conf/%s/forwarding" % (family, interface), "w") as file:
            file.write(value)


ask("end host", "near", FLAGS)
ask("end host", "lo", ["none"])
forwarding("near", "1")
ask("near forwards", "near", ["none", "OUTPUT"])
forwarding("near", "0")
forwarding("lo", "1")
ask("lo forwards", "near", ["none", "OUTPUT"])
ask("lo forwards", "lo", ["none"])
PYTHON
ip route get 192.0.2.9 from 10.1.0.1 | sed -n 's/ uid.*//; s/^/ip route get: /; 1p' >>"$temporary"
cat "$temporary"
diff - "$temporary" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
end host, IPv4, from near, none: 5 -
end host, IPv4, from near, DIRECT: 5 -
end host, IPv4, from near, OUTPUT: 5 -
end host, IPv4, from near, DIRECT|OUTPUT: 5 -
end host, IPv4, from near, SKIP_NEIGH: 5 -
end host, IPv6, from near, none: 5 -
end host, IPv6, from near, DIRECT: 5 -
end host, IPv6, from near, OUTPUT: 5 -
end host, IPv6, from near, DIRECT|OUTPUT: 5 -
end host, IPv6, from near, SKIP_NEIGH: 5 -
end host, IPv4, from lo, none: 5 -
end host, IPv6, from lo, none: 5 -
near forwards, IPv4, from near, none: 0 02:00:00:00:00:02
near forwards, IPv4, from near, OUTPUT: 0 02:00:00:00:00:02
near forwards, IPv6, from near, none: 0 02:00:00:00:00:02
near forwards, IPv6, from near, OUTPUT: 0 02:00:00:00:00:02
lo forwards, IPv4, from near, none: 5 -
lo forwards, IPv4, from near, OUTPUT: 5 -
lo forwards, IPv6, from near, none: 5 -
lo forwards, IPv6, from near, OUTPUT: 5 -
lo forwards, IPv4, from lo, none: 0 02:00:00:00:00:02
lo forwards, IPv6, from lo, none: 0 02:00:00:00:00:02
ip route get: 192.0.2.9 from 10.1.0.1 via 10.1.0.2 dev near
SEEN
