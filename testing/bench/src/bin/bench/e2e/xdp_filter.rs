//! xdp-filter of xdp-tools, which drops everybody but those that it is given.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use aya::Pod;
use aya::maps::{Map, MapData, PerCpuHashMap};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab};
use tcpguard_kit::traffic::clients::VALIDATED_CLIENTS;

/// Addresses that its tables hold.
const ROOM: u32 = 10_000;

/// Lets in the lab's client, its [`VALIDATED_CLIENTS`] addresses of validated clients, and the first `new_clients`
/// addresses of new clients.
pub fn load(lab: &Lab, family: Family, new_clients: u32) -> Result<()> {
    let known = u32::from(VALIDATED_CLIENTS) + 1;
    ensure!(
        new_clients + known <= ROOM,
        "xdp-filter holds {ROOM} addresses, and there will be {} clients: take fewer --clients or a \
         shorter --window",
        new_clients + known
    );
    let feature = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let load = format!("xdp-filter load -m native -p deny -f {feature} {INTERFACE}");
    lab.edge.exec(&load).context("xdp-filter: `cargo xtask setup` installs xdp-tools")?;
    lab.edge.exec(&format!("xdp-filter ip -m src {}", family.client()))?;
    let validated_clients = u16::MAX - VALIDATED_CLIENTS + 1..=u16::MAX;
    let listed =
        (1..=new_clients as u16).chain(validated_clients).map(|number| family.new_client(number));
    let table = format!("/sys/fs/bpf/xdp-filter/filter_{feature}");
    let map = lab.edge.run(|| {
        MapData::from_pin(&table).with_context(|| format!("xdp-filter has no table {table}"))
    })?;
    match family {
        Family::V4 => list(map, family, listed, |ip| match ip {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(_) => [0; 4],
        }),
        Family::V6 => list(map, family, listed, |ip| match ip {
            IpAddr::V4(_) => [0; 16],
            IpAddr::V6(v6) => v6.octets(),
        }),
    }
}

/// Lists the others as it has listed the client: a process for each would take it ten seconds.
fn list<Key: Pod>(
    map: MapData,
    family: Family,
    others: impl Iterator<Item = IpAddr>,
    key: fn(IpAddr) -> Key,
) -> Result<()> {
    let mut table: PerCpuHashMap<_, Key, u64> = Map::PerCpuHashMap(map).try_into()?;
    let client = family.client();
    let as_client = |table: &PerCpuHashMap<MapData, Key, u64>| table.get(&key(client), 0);
    for other in others {
        let entry = as_client(&table).context("xdp-filter has not listed the client")?;
        table.insert(key(other), entry, 0).with_context(|| format!("cannot list {other}"))?;
    }
    Ok(())
}
