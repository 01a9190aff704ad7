//! Headers of an incident's SYNs, as they came.

use super::Record;
use crate::Timestamp;

/// Headers that are kept of an incident.
pub(crate) const HEADERS: usize = 16;

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

impl Record {
    /// Returns whether there is room for another header.
    pub(crate) fn lacks_headers(&self) -> bool {
        self.headers.len() < HEADERS
    }

    /// Keeps a header if there is room for it.
    pub(crate) fn keep_header(&mut self, header: SynHeader) {
        if self.lacks_headers() {
            self.headers.push(header);
        }
    }
}
