//! Defences that netfilter offers, as their documentation and common how-tos set them up, and a packet
//! filter for others to be behind.

use anyhow::{Context, Result, ensure};
use tcpguard_kit::net::lab::{Family, Lab, PORT};

/// SYNs per second that one source may send, and how many at once.
const PER_SOURCE: u32 = 20;
const AT_ONCE: u32 = 50;

/// netfilter's SYN proxy, as nft(8) has it: SYNs go untracked, and out-of-state segments go to the
/// proxy. It promises the same options as the lab's server.
pub fn synproxy(lab: &Lab) -> Result<()> {
    let wscale = window_scale(&lab.edge.read("/proc/sys/net/ipv4/tcp_rmem")?)?;
    let rules = format!(
        "table inet bench {{
            chain early {{
                type filter hook prerouting priority raw; policy accept;
                tcp dport {PORT} tcp flags syn notrack
            }}
            chain in {{
                type filter hook input priority filter; policy accept;
                tcp dport {PORT} ct state invalid,untracked \
                    synproxy mss 1460 wscale {wscale} timestamp sack-perm
                ct state invalid drop
            }}
        }}\n"
    );
    load(lab, &rules)?;
    lab.edge
        .sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")
        .context("connection tracking takes up connections in the middle")
}

/// A limit for each source, in a set of nft.
pub fn meter(lab: &Lab, family: Family) -> Result<()> {
    let source = match family {
        Family::V4 => "ip saddr",
        Family::V6 => "ip6 saddr",
    };
    let rules = format!(
        "table inet bench {{
            chain in {{
                type filter hook input priority filter; policy accept;
                tcp dport {PORT} tcp flags & (fin|syn|rst|ack) == syn \
                    meter syns size 65535 {{ {source} timeout 10s \
                    limit rate over {PER_SOURCE}/second burst {AT_ONCE} packets }} drop
            }}
        }}\n"
    );
    load(lab, &rules)
}

/// A limit for each source by iptables, in a table of the size that the kernel chooses.
pub fn hashlimit(lab: &Lab, family: Family) -> Result<()> {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let rule = format!(
        "{program} -A INPUT -p tcp --syn --dport {PORT} -m hashlimit --hashlimit-name syns \
         --hashlimit-mode srcip --hashlimit-above {PER_SOURCE}/second \
         --hashlimit-burst {AT_ONCE} -j DROP"
    );
    lab.edge.exec(&rule).map(drop).context("hashlimit: `cargo xtask setup` installs iptables")
}

/// "New, not SYN": refuses connections with a SYN that connection tracking has not seen.
pub fn new_not_syn(lab: &Lab) -> Result<()> {
    let rules = "table inet filter {
            chain input {
                type filter hook input priority filter; policy accept;
                tcp flags & (fin|syn|rst|ack) != syn ct state new counter drop
            }
        }\n";
    load(lab, rules)
}

fn load(lab: &Lab, rules: &str) -> Result<()> {
    const FILE: &str = "/run/bench.nft";
    lab.edge.write(FILE, rules)?;
    let output = lab.edge.command("nft")?.args(["-f", FILE]).output();
    let output = output.context("cannot run nft: `cargo xtask setup` installs it")?;
    ensure!(
        output.status.success(),
        "nft: {}",
        String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("failed")
    );
    Ok(())
}

/// The window scale that Linux offers for the largest receive buffer, the third number of `tcp_rmem`.
fn window_scale(rmem: &str) -> Result<u32> {
    let largest = rmem.split_whitespace().nth(2).context("tcp_rmem has three numbers")?;
    let largest: u64 = largest.parse()?;
    Ok((0..14).find(|scale| largest >> scale <= 65_535).unwrap_or(14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_scale_is_that_of_the_largest_buffer() {
        assert_eq!(window_scale("4096\t131072\t6291456").unwrap(), 7);
        assert_eq!(window_scale("4096 4096 65535").unwrap(), 0);
        assert!(window_scale("4096 131072").is_err());
    }
}
