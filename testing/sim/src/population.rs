//! The population of clients behind the addresses: their systems, providers and distances.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tcpguard_common::abi::Fingerprint;

use crate::looks::system;
use crate::random::Random;

/// Clients of a typical population.
const CLIENTS: usize = 50_000;
/// Clients in a /24 network.
const PER_NETWORK: usize = 10;
/// The providers of these networks; the n-th largest has 1/n as many as the largest (Zipf).
const ISPS: usize = 300;

/// One client: always at the same address, with the same system, from the same distance.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub addr: IpAddr,
    /// Fingerprint of its SYNs, but for the IP identification.
    pub look: Fingerprint,
    pub rtt: f64,
    /// Its provider; 0 is the largest.
    pub isp: usize,
}

/// Clients in networks of 300 providers.
#[derive(Clone, Debug)]
pub struct Population {
    clients: Vec<Client>,
}

impl Population {
    /// The population of this seed: 50,000 clients in 5,000 networks.
    pub fn new(seed: u64) -> Arc<Self> {
        Self::of(seed, CLIENTS)
    }

    /// Another one, of so many clients, ten in each network.
    pub fn of(seed: u64, clients: usize) -> Arc<Self> {
        let mut random = Random::stream(seed, 0x909);
        let mut taken = BTreeSet::new();
        let networks: Vec<Network> = sizes(clients.div_ceil(PER_NETWORK))
            .flat_map(|(isp, networks)| std::iter::repeat_n(isp, networks))
            .map(|isp| Network::draw(isp, &mut taken, &mut random))
            .collect();
        let clients = (0..clients).map(|index| {
            let network = &networks[index / PER_NETWORK];
            network.client(index % PER_NETWORK, &mut random)
        });
        Arc::new(Self { clients: clients.collect() })
    }

    /// One of them: the numbers are those below [`Population::len`].
    pub fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// Returns the number of clients.
    #[expect(clippy::len_without_is_empty, reason = "there is always somebody")]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    pub fn draw(&self, random: &mut Random) -> (usize, &Client) {
        let index = random.below(self.clients.len() as u64) as usize;
        (index, &self.clients[index])
    }

    /// Share of the clients that each provider has, the largest first.
    pub fn isps(&self) -> Vec<f64> {
        let mut shares = vec![0.0; ISPS];
        for client in &self.clients {
            shares[client.isp] += 1.0 / self.clients.len() as f64;
        }
        shares
    }

    /// Some providers, drawn at random, with about `share` of all clients: those in the order drawn that do not make it
    /// too many. The result holds for each provider whether it is one of them.
    pub fn some_isps(&self, share: f64, random: &mut Random) -> Vec<bool> {
        let shares = self.isps();
        let mut order: Vec<(u64, usize)> = (0..ISPS).map(|isp| (random.bits(), isp)).collect();
        order.sort_unstable();
        let (mut chosen, mut sum) = (vec![false; ISPS], 0.0);
        for (_, isp) in order {
            // A smallest provider more or less is "about".
            if sum + shares[isp] <= share + 1e-9 {
                chosen[isp] = true;
                sum += shares[isp];
            }
        }
        chosen
    }
}

/// Returns the number of networks that each provider has of `networks`.
fn sizes(networks: usize) -> impl Iterator<Item = (usize, usize)> {
    let harmonic: f64 = (1..=ISPS).map(|rank| 1.0 / rank as f64).sum();
    let mut before = 0.0;
    (0..ISPS).map(move |isp| {
        let from = (before / harmonic * networks as f64).round() as usize;
        before += 1.0 / (isp + 1) as f64;
        (isp, (before / harmonic * networks as f64).round() as usize - from)
    })
}

/// One /24.
struct Network {
    isp: usize,
    prefix: u32,
    hops: u8,
}

impl Network {
    fn draw(isp: usize, taken: &mut BTreeSet<u32>, random: &mut Random) -> Self {
        let prefix = loop {
            let prefix = (random.bits() as u32) & 0xffff_ff00;
            if is_public(prefix) && taken.insert(prefix) {
                break prefix;
            }
        };
        Self { isp, prefix, hops: 6 + random.below(18) as u8 }
    }

    /// Its `index`-th client.
    fn client(&self, index: usize, random: &mut Random) -> Client {
        let host = 1 + 25 * index as u32 + random.below(25) as u32;
        let hops = self.hops - 1 + random.below(3) as u8;
        let far = random.share();
        Client {
            addr: Ipv4Addr::from_bits(self.prefix | host).into(),
            look: system(hops, random),
            rtt: 0.005 + 0.295 * far * far * far,
            isp: self.isp,
        }
    }
}

/// Returns whether clients may be there: not where the scenarios have other things (RFC 5735 blocks, carrier
/// NAT, multicast).
fn is_public(prefix: u32) -> bool {
    let [a, b, ..] = prefix.to_be_bytes();
    !matches!(
        (a, b),
        (0 | 10 | 127 | 224.., _)
            | (100, 64..128)
            | (172, 16..32)
            | (192, 0 | 168)
            | (169, 254)
            | (198, 18 | 19 | 51)
            | (203, 0)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn network(client: &Client) -> [u8; 3] {
        let IpAddr::V4(addr) = client.addr else { panic!("IPv4") };
        let [a, b, c, _] = addr.octets();
        [a, b, c]
    }

    #[test]
    fn every_client_has_an_address_in_a_network_of_one_provider() {
        let population = Population::new(5);
        let addresses: BTreeSet<IpAddr> = population.clients.iter().map(|c| c.addr).collect();
        assert_eq!(addresses.len(), 50_000);
        let mut isps = BTreeMap::<[u8; 3], BTreeSet<usize>>::new();
        for client in &population.clients {
            isps.entry(network(client)).or_default().insert(client.isp);
        }
        assert_eq!(isps.len(), 5_000);
        assert!(isps.values().all(|isps| isps.len() == 1));
    }

    #[test]
    fn a_small_population_stands_in_networks_as_full_as_those_of_a_large_one() {
        let population = Population::of(5, 45);
        assert_eq!(population.len(), 45);
        let mut clients = BTreeMap::<[u8; 3], usize>::new();
        for client in &population.clients {
            *clients.entry(network(client)).or_default() += 1;
        }
        let mut clients: Vec<usize> = clients.into_values().collect();
        clients.sort_unstable();
        assert_eq!(clients, [5, 10, 10, 10, 10]);
    }

    #[test]
    fn providers_are_as_large_as_their_rank_says() {
        let shares = Population::new(5).isps();
        assert_eq!(shares.len(), 300);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(shares.iter().all(|share| *share > 0.0), "the smallest have networks, too");
        assert!((shares[0] / shares[9] - 10.0).abs() < 0.5, "{} {}", shares[0], shares[9]);
    }

    #[test]
    fn neighbours_are_equally_far_away() {
        let population = Population::new(5);
        let mut hops = BTreeMap::<[u8; 3], BTreeSet<u8>>::new();
        for client in &population.clients {
            let sent = if client.look.ttl > 64 { 128 } else { 64 };
            hops.entry(network(client)).or_default().insert(sent - client.look.ttl);
        }
        let spread = |hops: &BTreeSet<u8>| hops.last().unwrap() - hops.first().unwrap();
        assert!(hops.values().all(|hops| spread(hops) <= 2));
        let all: BTreeSet<u8> = hops.values().flatten().copied().collect();
        assert!(all.len() > 15, "but networks are not");
    }

    #[test]
    fn round_trips_take_from_5_to_300_ms_and_most_are_short() {
        let population = Population::new(5);
        let near = population.clients.iter().filter(|client| client.rtt < 0.05).count();
        assert!(population.clients.iter().all(|client| (0.005..=0.3).contains(&client.rtt)));
        // u³ < 45/295.
        assert!((near as f64 / 50_000.0 - 0.534).abs() < 0.02, "{near}");
    }

    #[test]
    fn some_providers_have_about_the_share_asked_for() {
        let population = Population::new(5);
        let shares = population.isps();
        for share in [0.05, 0.2, 0.6] {
            let chosen = population.some_isps(share, &mut Random::new(1));
            let sum: f64 = (0..300).filter(|isp| chosen[*isp]).map(|isp| shares[isp]).sum();
            assert!((sum - share).abs() < 0.01, "{sum} of {share}");
        }
    }
}
