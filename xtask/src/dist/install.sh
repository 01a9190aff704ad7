# Installs the packages in a clean root, runs the agent there and removes them again.
# Called in network and mount namespaces of its own: sh -e install.sh ROOT AGENT FLEET
root=$1
agent=$2
fleet=$3
inside="chroot $root"

mount --make-rprivate /
# A newer rpm runs scripts in a mount namespace of their own: its root has to be a mount point.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tmpfs run "$root/run"
ip link set lo up
ip link add eth0 type veth peer name wire
ip link set eth0 up
ip link set wire up

# plan FILE NAME: sets the commands that install and remove a package.
plan() {
    cp "$1" "$root/root/"
    file=/root/$(basename "$1")
    case "$file" in
    *.deb)
        install="dpkg --install $file"
        remove="dpkg --purge $2"
        ;;
    *.rpm)
        # dpkg knows the packages that it depends on, and rpm does not.
        # Debian's older rpm asks for an option that others do not have.
        force=$($inside rpm --help | grep --only-matching -- --force-debian || true)
        install="rpm $force --nodeps --install $file"
        remove="rpm $force --nodeps --erase $2"
        ;;
    *.tar.gz)
        mkdir -p "$root/root/$2"
        tar --extract --file "$1" --directory "$root/root/$2" --strip-components=1
        steps 'Install or' "$2" >"$root/root/$2/install"
        steps 'Uninstall' "$2" >"$root/root/$2/remove"
        install="sh /root/$2/install"
        remove="sh /root/$2/remove"
        ;;
    esac
}

# steps HEADING NAME: the commands of the instructions below a heading.
steps() {
    # No systemd runs here.
    echo "set -e; cd /root/$2; systemctl() { echo \"systemctl \$*\"; }"
    sed -n "/^$1/,/^The /{s/^    //p}" "$root/root/$2/INSTALL"
}

plan "$agent" tcpguard
remove_agent=$remove
$inside $install
$inside getent passwd tcpguard
$inside tcpguard version
$inside tcpguard config check
$inside tcpguard run --interface eth0 &
$inside tcpguard status --wait healthy --timeout 20s
ip link show dev eth0 | grep xdp
kill $!
wait $! || true

plan "$fleet" tcpguard-fleet
$inside $install
$inside getent passwd tcpguard-fleet
$inside tcpguard-fleet --version
$inside tcpguard fleet key /root/ops.key
$inside $remove
$inside $remove_agent
if ip link show dev eth0 | grep xdp || [ -e "$root/usr/bin/tcpguard" ] || [ -e "$root/usr/bin/tcpguard-fleet" ]; then
    echo "a program or the XDP program is still there" >&2
    exit 1
fi
