#!/bin/sh
# The verdict of a packet in pcapng, in the tools of Wireshark. Seen on Wireshark 4.0.17 (Debian 4.0.17-0+deb12u3).
#
# The guess: an option that tshark reads and shows is written too. So a copy by editcap, mergecap, reordercap or
# `tshark -w` has the option epb_verdict (draft-ietf-opsawg-pcapng), which is the result of an XDP program or of tc. At worst
# it lacks what the tools do not know. A whole copy has the statistics of the interface and the names of addresses.
# The behaviour: tshark shows the verdict of the original. All four tools write it under the number of epb_queue, whose
# length is another. They exit with 0, and none of Wireshark's tools can read the copy: "appears to be damaged or
# corrupt". editcap even makes an empty capture of it, with exit code 0. tcpdump reads the copy, and `editcap -F pcap` of
# the original is readable. epb_hash, the statistics and the names are left out without a message. A custom block
# counts as a packet for `editcap -r`, but not for capinfos.
set -eu
version=4.0.17-0+deb12u3
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
mkdir -p "$temporary/packages/partial" "$temporary/root"
apt-get install --download-only --yes -qq --no-install-recommends -o Dir::Cache::archives="$temporary/packages" \
    -o APT::Sandbox::User=root "tshark=$version" >"$temporary/log" 2>&1 ||
    { echo "skipped: no package tshark=$version"; exit 77; }
for package in "$temporary"/packages/*.deb; do
    [ ! -e "$package" ] || dpkg-deb -x "$package" "$temporary/root"
done
cd "$temporary"
python3 - "$temporary/root" <<'PYTHON' | tee seen
import glob, os, struct, subprocess, sys

root = sys.argv[1]
libraries = glob.glob(root + "/usr/lib/*-linux-gnu")
environment = os.environ | {"PATH": root + "/usr/bin:" + os.environ["PATH"], "LD_LIBRARY_PATH": ":".join(libraries)}
BLOCKS = {0x0A0D0D0A: "section", 1: "interface", 4: "names", 5: "statistics", 6: "packet", 0xBAD: "custom"}
OPTIONS = {1: "comment", 2: "flags", 3: "hash", 4: "dropcount", 5: "packetid", 6: "queue", 7: "verdict"}
XDP_DROP = b"\x02" + struct.pack("<Q", 1)


def option(code, value):
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(kind, body, *options):
    body += b"".join(options) + (option(0, b"") if options else b"")
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def packet(number, *options):
    """A SYN, as LINKTYPE_RAW."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, number, 0, 64, 6, 0, bytes([192, 0, 2, 9]), bytes([192, 0, 2, 1]))
    words = struct.unpack("!10H", header)
    total = sum(words)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    frame = header[:10] + struct.pack("!H", total) + header[12:]
    frame += struct.pack("!HHIIBBHHH", 40000, 80, number, 0, 0x50, 2, 64000, 0, 0)
    microseconds = 1700000000 * 10**6 + number
    return block(6, struct.pack("<5I", 0, microseconds >> 32, microseconds & 0xFFFFFFFF, len(frame), len(frame)) + frame,
                 *options)


def capture(name, verdict=True, custom=True):
    time = struct.pack("<2I", 1700000001 * 10**6 >> 32, 1700000001 * 10**6 & 0xFFFFFFFF)
    options = [option(1, b"dropped"), option(2, struct.pack("<I", 1)), option(3, b"\x02\xde\xad\xbe\xef"),
               option(4, struct.pack("<Q", 7)), option(5, struct.pack("<Q", 42)), option(6, struct.pack("<I", 3))]
    if verdict:
        options.append(option(7, XDP_DROP))
    with open(name, "wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
                   + block(1, struct.pack("<HHI", 101, 0, 0), option(2, b"eth0"))
                   + packet(1, *options)
                   + (block(0xBAD, struct.pack("<I", 32473) + b"example.") if custom else b"")
                   + packet(2, *options)
                   + block(4, struct.pack("<HH4s", 1, 11, bytes([192, 0, 2, 9])) + b"client\0\0"
                           + struct.pack("<HH", 0, 0))
                   + block(5, struct.pack("<I", 0) + time, option(4, struct.pack("<Q", 9))))


def content(name):
    """The blocks of a capture, and the options of its packets, with the lengths of their values."""
    data, at = open(name, "rb").read(), 0
    while at < len(data):
        kind, length = struct.unpack_from("<2I", data, at)
        words = [BLOCKS[kind]]
        if kind == 6:
            captured = struct.unpack_from("<I", data, at + 20)[0]
            position = at + 28 + captured + -captured % 4
            while position < at + length - 4:
                code, size = struct.unpack_from("<HH", data, position)
                words += ["%s:%d" % (OPTIONS[code], size)] if code else []
                position += 4 + size + -size % 4
        yield " ".join(words)
        at += length


def run(*command):
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def report(name):
    found = list(content(name))
    packets = [entry for entry in found if entry.startswith("packet")]
    others = [entry for entry in found[2:] if not entry.startswith("packet")]
    print(" %d packets: %s; and: %s" % (len(packets), packets[0], ", ".join(others) or "nothing"))
    read = run("capinfos", "-M", "-c", name)
    lines = (read.stdout + read.stderr).strip().splitlines()
    print(" capinfos:", lines[-1].strip("()").replace("   ", ""))


capture("in")
capture("without", verdict=False)
capture("plain", custom=False)
print("the original")
report("in")
shown = run("tshark", "-r", "in", "-V").stdout
print(" tshark:", [line.strip() for line in shown.splitlines() if "eBPF XDP:" in line][0])
for command in [
    "editcap in copy", "mergecap -w copy in", "reordercap in copy", "tshark -r in -w copy", "editcap -r in copy 1-2",
    "editcap without copy", "editcap -F pcap plain copy.pcap",
]:
    done = run(*command.split())
    print("%s: exit code %d" % (command, done.returncode))
    if command.endswith("pcap"):
        print(" capinfos:", run("capinfos", "-M", "-c", "copy.pcap").stdout.splitlines()[-1].replace("   ", ""))
        continue
    report("copy")
    if command == "editcap in copy":
        again = run("editcap", "copy", "second").returncode
        packets = run("tcpdump", "-nr", "copy").stdout.count("Flags [S]")
        print(" tcpdump: %d packets" % packets)
        print(" editcap of the copy: exit code %d, %s" % (again, ", ".join(content("second"))))
PYTHON
diff - seen <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
the original
 2 packets: packet comment:7 flags:4 hash:5 dropcount:8 packetid:8 queue:4 verdict:9; and: custom, names, statistics
 capinfos: Number of packets:2
 tshark: eBPF XDP: XDP_DROP (1)
editcap in copy: exit code 0
 2 packets: packet comment:7 flags:4 dropcount:8 packetid:8 queue:4 queue:9; and: custom
 capinfos: pcapng: packet block queue option length 9 is not 4
 tcpdump: 2 packets
 editcap of the copy: exit code 0, section
mergecap -w copy in: exit code 0
 2 packets: packet comment:7 flags:4 dropcount:8 packetid:8 queue:4 queue:9; and: custom
 capinfos: pcapng: packet block queue option length 9 is not 4
reordercap in copy: exit code 0
 2 packets: packet comment:7 flags:4 dropcount:8 packetid:8 queue:4 queue:9; and: custom
 capinfos: pcapng: packet block queue option length 9 is not 4
tshark -r in -w copy: exit code 0
 2 packets: packet comment:7 flags:4 dropcount:8 packetid:8 queue:4 queue:9; and: custom
 capinfos: pcapng: packet block queue option length 9 is not 4
editcap -r in copy 1-2: exit code 0
 1 packets: packet comment:7 flags:4 dropcount:8 packetid:8 queue:4 queue:9; and: custom
 capinfos: pcapng: packet block queue option length 9 is not 4
editcap without copy: exit code 0
 2 packets: packet comment:7 flags:4 dropcount:8 packetid:8 queue:4; and: custom
 capinfos: Number of packets:2
editcap -F pcap plain copy.pcap: exit code 0
 capinfos: Number of packets:2
SEEN
