//! xdp-filter, as Debian and others ship it.
//!
//! Its programs are loaded without the dispatcher that `xdp-filter load` puts in front of them: that is
//! the cheapest way in which they can run.

use std::env::consts::ARCH;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuHashMap, PerCpuValues};
use aya::programs::Xdp;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader, Pod};

use super::case::{Family, Filter, LIST};
use super::rules::{self, other};

/// `MAP_FLAG_SRC` of its `common_kern_user.h`, as `xdp-filter ip ADDRESS --mode src` sets it.
const LISTED_AS_SOURCE: u64 = 1;
/// Directory in the only mount of a BPF file system; in a namespace of our own.
const PINS: &str = "/sys/fs/bpf/xdp-filter";

/// Every way to use it that is measured, with tables of its own each.
pub struct Filters(Vec<(Filter, Ebpf)>);

impl Filters {
    pub fn load() -> Result<Self> {
        let directory = directory()?;
        let load = |(number, filter)| {
            let pins = format!("{PINS}/{number}");
            let object = load(&directory, Path::new(&pins), filter);
            Ok((filter, object.with_context(|| filter.title())?))
        };
        Filter::all().enumerate().map(load).collect::<Result<_>>().map(Self)
    }

    pub fn program(&self, filter: Filter) -> Result<BorrowedFd<'_>> {
        let found = self.0.iter().find(|(one, _)| *one == filter);
        let (_, object) = found.context("not loaded")?;
        let program: &Xdp = object.program(&stem(filter)).context("no program")?.try_into()?;
        Ok(program.fd()?.as_fd())
    }
}

/// Finds the directory in which distributions put its programs.
fn directory() -> Result<PathBuf> {
    let places =
        [format!("/usr/lib/{ARCH}-linux-gnu/bpf"), "/usr/lib64/bpf".into(), "/usr/lib/bpf".into()];
    let mut places = places.into_iter().map(PathBuf::from);
    let file = format!("{}.o", stem(Filter::ALLOW_MISS));
    places
        .find(|place| place.join(&file).is_file())
        .context("xdp-filter's programs are not there: install xdp-tools (`cargo xtask setup`)")
}

/// Name of its object and of the program in it.
fn stem(filter: Filter) -> String {
    let policy = if filter.deny { "dny" } else { "alw" };
    let features = if filter.all { "all" } else { "ip" };
    format!("xdpfilt_{policy}_{features}")
}

/// Name of its table of addresses.
const fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "filter_ipv4",
        Family::V6 => "filter_ipv6",
    }
}

fn load(directory: &Path, pins: &Path, filter: Filter) -> Result<Ebpf> {
    let stem = stem(filter);
    // It asks for its tables to be pinned, where the next one would find and share them.
    fs::create_dir_all(pins)?;
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(pins);
    // A longer list than it has room for is in tables that are made larger.
    if filter.listed > LIST {
        Family::ALL.into_iter().for_each(|it| _ = loader.map_max_entries(table(it), filter.listed));
    }
    let mut object = loader.load_file(directory.join(format!("{stem}.o")))?;
    let program: &mut Xdp = object.program_mut(&stem).context("no program")?.try_into()?;
    program.load()?;
    for family in Family::ALL {
        let addresses = listed(filter, family);
        match family {
            Family::V4 => fill(&mut object, table(family), addresses, |ip| match ip {
                IpAddr::V4(v4) => Some(v4.octets()),
                IpAddr::V6(_) => None,
            })?,
            Family::V6 => fill(&mut object, table(family), addresses, |ip| match ip {
                IpAddr::V4(_) => None,
                IpAddr::V6(v6) => Some(v6.octets()),
            })?,
        }
    }
    Ok(object)
}

fn fill<K: Pod>(
    object: &mut Ebpf,
    name: &str,
    addresses: Vec<IpAddr>,
    key: impl Fn(IpAddr) -> Option<K>,
) -> Result<()> {
    let map = object.map_mut(name).with_context(|| format!("no table {name}"))?;
    let mut table: PerCpuHashMap<&mut MapData, K, u64> = PerCpuHashMap::try_from(map)?;
    let cpus = nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
    for key in addresses.into_iter().filter_map(key) {
        table.insert(key, PerCpuValues::try_from(vec![LISTED_AS_SOURCE; cpus])?, 0)?;
    }
    Ok(())
}

/// The contents of its table of a family: with a hit the list of tcpguard, else hosts that send
/// nothing.
fn listed(filter: Filter, family: Family) -> Vec<IpAddr> {
    match filter.hit {
        true => rules::addresses(family, filter.listed),
        false => (0..filter.listed).map(|number| other(family, number)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::frames::source;
    use super::*;

    #[test]
    fn tables_hold_as_many_as_are_listed_and_the_source_with_a_hit() {
        for (filter, family) in
            Filter::all().flat_map(|filter| Family::ALL.map(|family| (filter, family)))
        {
            let listed: BTreeSet<_> = listed(filter, family).into_iter().collect();
            assert_eq!(listed.len(), filter.listed as usize, "{}", filter.title());
            assert_eq!(listed.contains(&source(family)), filter.hit);
        }
    }

    #[test]
    fn objects_are_named_by_policy_and_features() {
        assert_eq!(stem(Filter::ALLOW_MISS), "xdpfilt_alw_ip");
        assert_eq!(stem(Filter { deny: true, all: true, ..Filter::denied(1) }), "xdpfilt_dny_all");
    }
}
