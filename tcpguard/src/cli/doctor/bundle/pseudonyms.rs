//! Other names for addresses, so that a text can be shown to outsiders.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// Replacements for addresses: an IPv4 address becomes one of 240.0.0.0/4, which no host has, an IPv6
/// address one of 100::/64, to which nothing is delivered (RFC 6666). Texts thus stay readable for
/// programs.
pub(super) struct Pseudonyms<S> {
    key: S,
    hostname: String,
}

impl<S: BuildHasher> Pseudonyms<S> {
    /// Pseudonyms that can be resolved only with the key. The host's name becomes `host`.
    pub(super) fn new(key: S, hostname: &str) -> Self {
        Self { key, hostname: hostname.to_owned() }
    }

    /// The text with every address and the host's name replaced. Addresses of the host to itself and
    /// masks stay.
    pub(super) fn replace(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(begin) = rest.find(is_of_address) {
            let (before, from) = rest.split_at(begin);
            // A single colon ends a name, as in src:192.0.2.7, and begins no address.
            if let Some(after) = from.strip_prefix(':').filter(|after| !after.starts_with(':')) {
                out.push_str(before);
                out.push(':');
                rest = after;
                continue;
            }
            let length = from.find(|char: char| !is_of_address(char)).unwrap_or(from.len());
            let (word, after) = from.split_at(length);
            out.push_str(before);
            // A word that goes on in letters is a name, such as cafe0.example or veth1a:.
            let in_name = before.ends_with(|char: char| char.is_alphanumeric() || char == '_')
                || after.starts_with(|char: char| char.is_alphanumeric() || char == '_');
            match self.word(word).filter(|_| !in_name) {
                Some(pseudonym) => out.push_str(&pseudonym),
                None => out.push_str(word),
            }
            rest = after;
        }
        out.push_str(rest);
        // One of three letters would be found within words.
        if self.hostname.len() > 3 { out.replace(&self.hostname, "host") } else { out }
    }

    /// The replacement for a word, if it is an address, possibly with a port or a full stop after it.
    fn word(&self, word: &str) -> Option<String> {
        if let Ok(address) = word.parse::<IpAddr>() {
            return self.address(address).map(|address| address.to_string());
        }
        if let Ok(socket) = word.parse::<SocketAddrV4>() {
            let address = self.address(IpAddr::V4(*socket.ip()))?;
            return Some(format!("{address}:{}", socket.port()));
        }
        if is_mac(word) {
            let hash = self.key.hash_one(word.to_ascii_lowercase()).to_be_bytes();
            let [a, b, c, d, e, ..] = hash;
            // Locally administered, so that it is no vendor's address.
            return Some(format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}"));
        }
        let shorter = word.strip_suffix(['.', ':'])?;
        let end = &word[shorter.len()..];
        Some(self.word(shorter)? + end)
    }

    fn address(&self, address: IpAddr) -> Option<IpAddr> {
        let hash = self.key.hash_one(address);
        match address {
            IpAddr::V4(v4) => {
                let kept = v4.is_loopback() || v4.is_unspecified() || v4.octets()[0] == 255;
                let pseudonym = 0xf000_0000 | (hash as u32 & 0x0fff_ffff);
                (!kept).then(|| Ipv4Addr::from_bits(pseudonym).into())
            }
            IpAddr::V6(v6) => {
                let kept = v6.is_loopback() || v6.is_unspecified();
                let pseudonym = (0x0100 << 112) | u128::from(hash);
                (!kept).then(|| Ipv6Addr::from_bits(pseudonym).into())
            }
        }
    }
}

/// Returns whether a character may be in an address.
fn is_of_address(char: char) -> bool {
    char.is_ascii_hexdigit() || matches!(char, '.' | ':')
}

fn is_mac(word: &str) -> bool {
    let mut parts = 0;
    for part in word.split(':') {
        if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return false;
        }
        parts += 1;
    }
    parts == 6
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;

    fn pseudonyms() -> Pseudonyms<BuildHasherDefault<DefaultHasher>> {
        Pseudonyms::new(BuildHasherDefault::default(), "edge-fra-1")
    }

    #[test]
    fn addresses_in_every_dress_are_replaced() {
        for text in [
            "192.0.2.7",
            "from 192.0.2.7, 203.0.113.9.",
            "192.0.2.7:443 and [2001:db8::7]:443",
            "\"addr\":\"2001:db8::7\",\"port\":443",
            "via 2001:db8:1:2:3:4:5:6 dev eth0",
            "src=198.51.100.0/24 dst:198.51.100.7 peer:2001:db8::7",
            "link/ether 52:54:00:12:34:56 brd ff:ff:ff:ff:ff:ff",
            "on edge-fra-1 since 14:02:11",
        ] {
            let found = pseudonyms().replace(text);
            for secret in
                ["192.0.2.7", "203.0.113.9", "2001:db8", "198.51.100", "52:54:00", "edge-fra-1"]
            {
                assert!(!found.contains(secret), "{text} → {found}");
            }
        }
        let found = pseudonyms().replace("192.0.2.7:443 192.0.2.7. 192.0.2.8");
        let words: Vec<&str> = found.split(' ').collect();
        let address = words[0].strip_suffix(":443").expect("the port stays");
        assert_eq!(words[1], format!("{address}."), "one address, one pseudonym");
        assert_ne!(words[2], address);
        assert!(address.parse::<Ipv4Addr>().is_ok_and(|found| found.octets()[0] >= 240));
    }

    #[test]
    fn text_that_is_no_address_or_reveals_nothing_stays() {
        for text in [
            "127.0.0.1:80 0.0.0.0:443 [::]:443 ::1 255.255.255.0",
            "Linux 6.18.1, 14:02:11, 2026-01-02T03:04:05.678Z",
            "fade bead.add cafe0.example veth1a: dead::beef_x",
            "ÄÖ 192.0.2 1.2.3.4.5 :::",
            "",
        ] {
            assert_eq!(pseudonyms().replace(text), text);
        }
    }

    #[test]
    fn another_key_gives_other_pseudonyms() {
        let one = Pseudonyms::new(std::hash::RandomState::new(), "").replace("192.0.2.7");
        let other = Pseudonyms::new(std::hash::RandomState::new(), "").replace("192.0.2.7");
        assert_ne!(one, other);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_no_address_is_left(
            before in "[ a-zé.:,-]{0,20}",
            octets in any::<[u8; 4]>(),
            after in "[ ,;)]{0,3}",
        ) {
            let address = Ipv4Addr::from(octets);
            let kept = address.is_loopback() || address.is_unspecified() || octets[0] == 255;
            let found = pseudonyms().replace(&format!("{before} {address}{after}"));
            if !kept && octets[0] < 240 {
                prop_assert!(!found.contains(&format!(" {address}{after}")), "{}", found);
            }
        }
    }
}
