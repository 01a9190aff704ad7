//! Captures as a stream of packets: pcap and pcapng, plain or compressed with gzip.
//!
//! No statement of a file about itself is trusted: every length is bounded before memory is taken for
//! it, and unneeded parts are skipped as they stream by. So a capture of any size is read in the memory
//! of one packet, and a damaged one ends in an error that names the position.

mod input;
mod pcap;
mod pcapng;

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use tcpguard_host::hint::Hint;

use input::Input;

/// Longest packet taken from a capture, in bytes: libpcap's own limit (`MAXIMUM_SNAPLEN`).
pub const MAX_CAPTURED: u32 = 262_144;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Packet {
    /// Time of its capture, in ns since 1970; `None` in blocks that carry no time.
    pub at_ns: Option<u64>,
    /// Link type, as registered at <https://www.tcpdump.org/linktypes.html>.
    pub link: u16,
    /// Number of the interface that recorded it, which differs in each section of the capture; `None` in formats that
    /// name no interface.
    pub interface: Option<u32>,
    /// Its length on the wire, in bytes.
    pub length: u32,
    /// The captured bytes of it, from its link-layer header on.
    pub bytes: Vec<u8>,
}

/// Reason why a capture cannot be read, or cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The capture could not be opened.
    #[error("cannot open {file}: {error}")]
    Open {
        /// Name of the capture.
        file: String,
        /// Error of the system.
        error: io::Error,
    },
    /// The capture ends within a record. The records before it have been read.
    #[error("capture truncated at byte {end}{of}, in the record at byte {record}")]
    Cut {
        /// Offset of the record, in bytes.
        record: u64,
        /// Offset of the end of the capture, in bytes.
        end: u64,
        /// The unit of the byte counts: the file, or its decompressed content.
        of: &'static str,
    },
    /// The capture contradicts its format.
    #[error("cannot read the capture at byte {record}{of}: {reason}")]
    Damaged {
        /// Offset of the record, in bytes.
        record: u64,
        /// The unit of the byte counts: the file, or its decompressed content.
        of: &'static str,
        /// Description of the defect.
        reason: String,
    },
}

impl Hint for CaptureError {
    fn hint(&self) -> String {
        let hint = match self {
            Self::Open { .. } | Self::Damaged { .. } => {
                "name another capture: tcpguard replay FILE"
            }
            Self::Cut { .. } => "record it again: tcpdump -w FILE",
        };
        hint.to_owned()
    }
}

/// A failure within a record.
enum Fault {
    /// The record is cut off.
    End,
    /// The content of the record is impossible.
    Nonsense(String),
    /// The record could not be read.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::End,
            _ => Self::Io(error),
        }
    }
}

fn nonsense<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Nonsense(reason.into()))
}

/// The order in which a capture writes its integers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

enum Format {
    Pcap(pcap::Reader),
    PcapNg(pcapng::Reader),
}

/// A capture that is being read.
pub struct Capture {
    input: Input,
    format: Format,
    of: &'static str,
}

impl Capture {
    /// Starts to read a capture.
    pub fn new(mut source: Box<dyn Read>) -> Result<Self, CaptureError> {
        let mut head = Vec::new();
        let read = source.by_ref().take(GZIP.len() as u64).read_to_end(&mut head);
        let compressed = head == GZIP;
        let whole = Cursor::new(head).chain(source);
        let (mut input, of) = if compressed {
            let inner = MultiGzDecoder::new(BufReader::with_capacity(1 << 16, whole));
            (Input::new(Box::new(inner)), " of the uncompressed capture")
        } else {
            (Input::new(Box::new(whole)), "")
        };
        let format = read.map_err(Fault::Io).and_then(|_| Self::recognise(&mut input));
        match format {
            Ok(format) => Ok(Self { input, format, of }),
            Err(Fault::End) if input.offset() == 0 => {
                Err(CaptureError::Damaged { record: 0, of, reason: "it is empty".to_owned() })
            }
            Err(Fault::End) => Err(CaptureError::Damaged {
                record: 0,
                of,
                reason: format!("it ends within its header, after {} bytes", input.offset()),
            }),
            Err(fault) => Err(fault.at(0, input.offset(), of)),
        }
    }

    fn recognise(input: &mut Input) -> Result<Format, Fault> {
        let magic = input.array()?;
        if magic == pcapng::SECTION.to_le_bytes() {
            return Ok(Format::PcapNg(pcapng::Reader::start(input)?));
        }
        match pcap::Reader::start(magic, input)? {
            Some(reader) => Ok(Format::Pcap(reader)),
            None => nonsense(
                "it is neither pcap nor pcapng nor either of these in gzip; \
                 convert it: editcap -F pcapng IN OUT",
            ),
        }
    }

    /// The name of its format.
    pub fn format(&self) -> &'static str {
        match self.format {
            Format::Pcap(_) => "pcap",
            Format::PcapNg(_) => "pcapng",
        }
    }

    /// The name of an interface, if the capture states it.
    pub fn interface_name(&self, number: u32) -> Option<&str> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::PcapNg(reader) => reader.interface_name(number),
        }
    }

    /// Reads the next packet over `packet`; `false` at the end.
    pub fn next(&mut self, packet: &mut Packet) -> Result<bool, CaptureError> {
        let record = self.input.offset();
        let read = match &mut self.format {
            Format::Pcap(reader) => reader.next(&mut self.input, packet),
            Format::PcapNg(reader) => reader.next(&mut self.input, packet),
        };
        read.map_err(|fault| {
            let record = match &self.format {
                Format::Pcap(_) => record,
                Format::PcapNg(reader) => reader.block_at().max(record),
            };
            fault.at(record, self.input.offset(), self.of)
        })
    }
}

/// The first bytes of a gzip member with its only compression method (RFC 1952 §2.3.1).
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

impl Fault {
    fn at(self, record: u64, end: u64, of: &'static str) -> CaptureError {
        let reason = match self {
            Self::End => return CaptureError::Cut { record, end, of },
            Self::Nonsense(reason) => reason,
            Self::Io(error) => error.to_string(),
        };
        CaptureError::Damaged { record, of, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_has_a_hint() {
        let of = " of what is compressed";
        for error in [
            CaptureError::Open {
                file: "none.pcap".to_owned(),
                error: io::ErrorKind::NotFound.into(),
            },
            CaptureError::Cut { record: 24, end: 30, of },
            CaptureError::Damaged { record: 24, of, reason: "a packet of 4 GiB".to_owned() },
        ] {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            // Every one there is stands above.
            match error {
                CaptureError::Open { .. }
                | CaptureError::Cut { .. }
                | CaptureError::Damaged { .. } => {}
            }
        }
    }
}
