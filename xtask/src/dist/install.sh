# Installs a package in a clean root, runs the agent there and removes the package again.
# Called in network and mount namespaces of its own: sh -e install.sh ROOT PACKAGE
root=$1
package=$2
inside="chroot $root"

mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tmpfs run "$root/run"
ip link set lo up
ip link add eth0 type veth peer name wire
ip link set eth0 up
ip link set wire up

cp "$package" "$root/root/"
name=$(basename "$package")
case "$name" in
*.deb)
    install="dpkg --install /root/$name"
    remove="dpkg --purge tcpguard"
    ;;
*.rpm)
    # dpkg knows the packages that it depends on, and rpm does not.
    # Debian's older rpm asks for an option that others do not have.
    force=$($inside rpm --help | grep --only-matching -- --force-debian || true)
    install="rpm $force --nodeps --install /root/$name"
    remove="rpm $force --nodeps --erase tcpguard"
    ;;
*.tar.gz)
    tar --extract --file "$package" --directory "$root/root" --strip-components=1
    # The commands of the instructions below a heading.
    steps() {
        # No systemd runs here.
        echo 'set -e; cd /root; systemctl() { echo "systemctl $*"; }'
        sed -n "/^$1/,/^The /{s/^    //p}" "$root/root/INSTALL"
    }
    steps 'Install or' >"$root/root/install"
    steps 'Uninstall' >"$root/root/remove"
    install="sh /root/install"
    remove="sh /root/remove"
    ;;
esac

$inside $install
$inside getent passwd tcpguard
$inside tcpguard version
$inside tcpguard config check
$inside tcpguard run --interface eth0 &
$inside tcpguard status --wait healthy --timeout 20s
ip link show dev eth0 | grep xdp
kill $!
wait $! || true
$inside $remove
if ip link show dev eth0 | grep xdp || [ -e "$root/usr/bin/tcpguard" ]; then
    echo "the program or the XDP program is still there" >&2
    exit 1
fi
