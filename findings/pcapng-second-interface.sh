#!/bin/sh
# Two interfaces in one pcapng file, in libpcap. Seen on libpcap 1.10.3 (Debian 1.10.3-1), with tcpdump 4.99.3.
#
# The guess: libpcap reads a file with two interfaces as long as both have the same link type, and refuses others.
# The behaviour: with two interfaces of LINKTYPE_RAW (101) tcpdump shows the packets up to the second interface, and then
# ends: "an interface has a type 101 different from the type of the first interface". The type of the first has become
# libpcap's own number of it (DLT_RAW: 12), and that of the second has not. Link types with one number for both, such as
# Ethernet (1), are read to the end. The same two interfaces in front of the first packet are refused alike.
set -eu
pcap=1.10.3-1
tcpdump=4.99.3-1
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
mkdir -p "$temporary/packages/partial" "$temporary/root"
cd "$temporary/packages"
apt-get download -qq -o APT::Sandbox::User=root "libpcap0.8=$pcap" "tcpdump=$tcpdump" >"$temporary/log" 2>&1 ||
    { echo "skipped: no package libpcap0.8=$pcap or tcpdump=$tcpdump"; exit 77; }
for package in ./*.deb; do
    dpkg-deb -x "$package" "$temporary/root"
done
cd "$temporary"
python3 - "$temporary/root" <<'PYTHON' | tee seen
import glob, os, struct, subprocess, sys

root = sys.argv[1]
environment = os.environ | {"LD_LIBRARY_PATH": ":".join(glob.glob(root + "/usr/lib/*-linux-gnu"))}
SYN = struct.pack("!BBHHHBBH4s4sHHIIBBHHH", 0x45, 0, 40, 1, 0, 64, 6, 0, bytes([192, 0, 2, 9]), bytes([192, 0, 2, 1]),
                  40000, 80, 1, 0, 0x50, 2, 64000, 0, 0)
FRAMES = {101: SYN, 1: bytes(12) + b"\x08\x00" + SYN}


def block(kind, body):
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def packet(interface, link):
    frame = FRAMES[link]
    padded = frame + bytes(-len(frame) % 4)
    return block(6, struct.pack("<5I", interface, 0, 1, len(frame), len(frame)) + padded)


for link in FRAMES:
    interface = block(1, struct.pack("<HHI", link, 0, 65535))
    for name, blocks in [("as it begins", [packet(0, link), interface, packet(1, link)]),
                         ("in front", [interface, packet(0, link), packet(1, link)])]:
        with open("file", "wb") as file:
            section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
            file.write(section + interface + b"".join(blocks))
        done = subprocess.run([root + "/usr/bin/tcpdump", "-n", "-r", "file"], env=environment, capture_output=True, text=True)
        error = [line for line in done.stderr.splitlines() if "interface has a type" in line]
        print(f"link type {link}, second interface {name}: {done.stdout.count('Flags [S]')} of 2 packets, exit {done.returncode}",
              *error)
PYTHON
diff - seen <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
link type 101, second interface as it begins: 1 of 2 packets, exit 1 tcpdump: pcap_loop: an interface has a type 101 different from the type of the first interface
link type 101, second interface in front: 0 of 2 packets, exit 1 tcpdump: pcap_loop: an interface has a type 101 different from the type of the first interface
link type 1, second interface as it begins: 2 of 2 packets, exit 0
link type 1, second interface in front: 2 of 2 packets, exit 0
SEEN
