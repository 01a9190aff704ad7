//! The parameters that the two ends of a connection have agreed on, as `ss` shows them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::net::netns::Netns;

/// The TCP options of one end's connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreed {
    /// Largest segment that it sends, options off.
    pub mss: u32,
    /// Window scales: the other end's, then its own. `None`: no scaling.
    pub wscale: Option<(u32, u32)>,
    /// True if selective acknowledgements are agreed.
    pub sack: bool,
    /// True if timestamps are agreed.
    pub timestamps: bool,
}

impl Agreed {
    /// Reads the options of the connection of `host` with `end` (`sport` or `dport`) equal to `port`.
    ///
    /// # Errors
    /// When there is none within 3 s: at one end a connection is open before it is at the other.
    pub fn of(host: &Netns, end: &str, port: u16) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(3);
        let begun = Instant::now();
        loop {
            // -o: without it `ss` leaves out sack and ts.
            let text = host.exec(&format!("ss -tinoH state established {end} = :{port}"))?;
            match Self::parse(&text) {
                Some(agreed) => return Ok(agreed),
                None if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(50)),
                None => bail!("{} has no connection with {end} {port}", host.label()),
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
        let wscale = value("wscale:").and_then(|scales| {
            let (theirs, own) = scales.split_once(',')?;
            Some((theirs.parse().ok()?, own.parse().ok()?))
        });
        Some(Self {
            mss: value("mss:")?.parse().ok()?,
            wscale,
            sack: words.contains(&"sack"),
            timestamps: words.contains(&"ts"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_second_line() {
        let text = "0 0 10.78.0.2:40000 10.77.0.1:443 \n\t ts sack cubic wscale:7,10 rto:201 \
                    rtt:0.1/0.05 mss:1448 pmtu:1500 rcvmss:536 advmss:1448 cwnd:10\n";
        let agreed = Agreed { mss: 1448, wscale: Some((7, 10)), sack: true, timestamps: true };
        assert_eq!(Agreed::parse(text), Some(agreed));
        let bare = "0 0 a:1 b:2\n\t cubic rto:201 mss:536\n";
        let agreed = Agreed { mss: 536, wscale: None, sack: false, timestamps: false };
        assert_eq!(Agreed::parse(bare), Some(agreed));
        assert_eq!(Agreed::parse(""), None);
    }
}
