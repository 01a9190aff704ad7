//! The header of a SYN, as it came.

use super::time::Timestamp;

/// The header of one SYN: its bytes on the wire, and no reconstruction.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct SynHeader {
    /// Time of its arrival.
    pub at: Timestamp,
    /// Bytes from the IP header up to the end of the TCP options; cut where these are very long. Data is
    /// never kept.
    pub bytes: Vec<u8>,
    /// Number of bytes in that range before it was cut.
    pub whole: u16,
}
