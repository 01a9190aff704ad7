//! The local ports that a rule on sources is for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The local ports to which a rule drops SYNs: every port, or up to [`Self::MOST`] certain ones.
/// Written as a list, which is empty for every port.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(try_from = "Vec<u16>", into = "Vec<u16>")]
pub struct Ports {
    /// The certain ports, ascending, each once; zeros behind them.
    certain: [u16; Self::MOST],
}

/// Reason that there are no such [`Ports`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PortsError {
    /// Port 0 is among them.
    #[error("0 is not a port (1 to 65535)")]
    Zero,
    /// There are more than [`Ports::MOST`].
    #[error("a rule has at most {} ports", Ports::MOST)]
    TooMany,
}

impl Ports {
    /// The most ports that one rule names.
    pub const MOST: usize = 4;
    /// Every port.
    pub const EVERY: Self = Self { certain: [0; Self::MOST] };

    /// These ports, in any order and each as often as it may be; none of them is every port.
    ///
    /// # Errors
    /// When 0 is among them, or there are too many.
    pub fn new(ports: &[u16]) -> Result<Self, PortsError> {
        let mut ports = ports.to_vec();
        ports.sort_unstable();
        ports.dedup();
        if ports.first() == Some(&0) {
            return Err(PortsError::Zero);
        }
        let mut certain = [0; Self::MOST];
        certain.get_mut(..ports.len()).ok_or(PortsError::TooMany)?.copy_from_slice(&ports);
        Ok(Self { certain })
    }

    /// Returns whether it is every port.
    pub const fn is_every(&self) -> bool {
        self.certain[0] == 0
    }

    /// The certain ports, ascending; none when it is every port.
    pub fn certain(&self) -> &[u16] {
        let named = self.certain.iter().take_while(|port| **port != 0).count();
        &self.certain[..named]
    }

    /// Entries in the kernel: one for each port, or one `None` for every port.
    pub fn entries(&self) -> impl Iterator<Item = Option<u16>> {
        let every = self.is_every().then_some(None);
        every.into_iter().chain(self.certain.into_iter().filter(|port| *port != 0).map(Some))
    }

    /// Returns whether a SYN to `port` is one to these.
    pub fn contains(&self, port: u16) -> bool {
        self.is_every() || self.certain().contains(&port)
    }
}

impl TryFrom<Vec<u16>> for Ports {
    type Error = PortsError;

    fn try_from(ports: Vec<u16>) -> Result<Self, PortsError> {
        Self::new(&ports)
    }
}

impl From<Ports> for Vec<u16> {
    fn from(ports: Ports) -> Self {
        ports.certain().to_vec()
    }
}

/// Suffix of a prefix: empty for every port, else ` to port 443` or ` to ports 80, 443`.
impl fmt::Display for Ports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.certain() {
            [] => Ok(()),
            [port] => write!(out, " to port {port}"),
            [first, others @ ..] => {
                write!(out, " to ports {first}")?;
                others.iter().try_for_each(|port| write!(out, ", {port}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_set_of_up_to_four() {
        let ports = |ports: &[u16]| Ports::new(ports).map(|ports| ports.certain().to_vec());
        assert_eq!(ports(&[]), Ok(vec![]));
        assert_eq!(ports(&[443, 80, 443]), Ok(vec![80, 443]));
        assert_eq!(ports(&[65535, 3, 1, 2]), Ok(vec![1, 2, 3, 65535]));
        assert_eq!(ports(&[5, 4, 3, 2, 1]), Err(PortsError::TooMany));
        assert_eq!(ports(&[443, 0]), Err(PortsError::Zero));
    }

    #[test]
    fn every_port_is_one_entry_and_others_are_one_each() {
        let (every, two) = (Ports::EVERY, Ports::new(&[443, 80]).expect("two ports"));
        assert_eq!(every.entries().collect::<Vec<_>>(), [None]);
        assert_eq!(two.entries().collect::<Vec<_>>(), [Some(80), Some(443)]);
        assert!([0, 80, 22].iter().all(|port| every.contains(*port)));
        assert_eq!([80, 443, 22, 0].map(|port| two.contains(port)), [true, true, false, false]);
    }

    #[test]
    fn they_are_said_behind_a_prefix() {
        let one = Ports::new(&[443]).expect("a port");
        let two = Ports::new(&[443, 80]).expect("two ports");
        let said = [Ports::EVERY, one, two].map(|it| format!("192.0.2.0/24{it}"));
        assert_eq!(
            said,
            ["192.0.2.0/24", "192.0.2.0/24 to port 443", "192.0.2.0/24 to ports 80, 443"]
        );
    }
}
