//! Rule sets that common packages load: those of firewalld 1.3.3 and ufw 0.36.2 of Debian 12 with ports 22 and 443
//! open, saved after they had loaded them; those of dockerd with a published port and of kube-proxy with a service and
//! a node port, written as they write them.

use tcpguard_kit::net::netns::Netns;

pub fn firewalld(host: &Netns) {
    host.write("/run/firewalld.nft", include_str!("rules/firewalld.nft")).unwrap();
    host.exec("nft -f /run/firewalld.nft").unwrap();
}

pub fn ufw(host: &Netns) {
    restore(host, [include_str!("rules/ufw.ipv4"), include_str!("rules/ufw.ipv6")]);
}

pub fn docker(host: &Netns) {
    restore(host, [include_str!("rules/docker.ipv4"), include_str!("rules/docker.ipv6")]);
}

pub fn kube_proxy(host: &Netns) {
    restore(host, [include_str!("rules/kube-proxy.ipv4"), include_str!("rules/kube-proxy.ipv6")]);
}

fn restore(host: &Netns, rules: [&str; 2]) {
    for (program, rules) in ["iptables-nft-restore", "ip6tables-nft-restore"].iter().zip(rules) {
        host.write("/run/rules", rules).unwrap();
        host.exec(&format!("{program} /run/rules")).unwrap();
    }
}
