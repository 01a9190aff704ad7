//! Captures as a stream of packets: pcap and pcapng, plain or compressed, one or several.
//!
//! No statement of a file about itself is trusted: every length is bounded before memory is taken for
//! it, and unneeded parts are skipped as they stream by. So a capture of any size is read in the memory
//! of one packet, and a damaged one ends in an error that names the position.

mod compressed;
mod input;
mod pcap;
mod pcapng;
mod recording;
pub mod writer;

use std::io::{self, Read};

use tcpguard_host::hint::Hint;

use input::Input;
pub use recording::{Recording, Source};

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
    /// Sampling rate of `tcpguard capture`, if it recorded this: one SYN in so many is in the capture.
    pub one_in: Option<u32>,
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
    /// The file is of a format that is not read.
    #[error("cannot read {file}: it is {format}")]
    Foreign {
        /// Name of the capture.
        file: String,
        format: &'static str,
        /// A command that makes a capture of it.
        command: &'static str,
    },
    /// The capture ends within a record. The records before it have been read.
    #[error("{file} is truncated at byte {end}{of}, in the record at byte {record}")]
    Cut {
        /// Name of the capture.
        file: String,
        /// Offset of the record, in bytes.
        record: u64,
        /// Offset of the end of the capture, in bytes.
        end: u64,
        /// The unit of the byte counts: the file, or its decompressed content.
        of: &'static str,
    },
    /// The capture contradicts its format.
    #[error("cannot read {file} at byte {record}{of}: {reason}")]
    Damaged {
        /// Name of the capture.
        file: String,
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
            Self::Foreign { command, .. } => command,
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
    /// Another format, and a command that converts it.
    Foreign(&'static str, &'static str),
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
    file: String,
    input: Input,
    format: Format,
    of: &'static str,
}

impl Capture {
    /// Starts to read a capture, which is called `file`.
    pub fn new(file: String, source: Box<dyn Read>) -> Result<Self, CaptureError> {
        let (stream, of) = match compressed::content(source) {
            Ok(content) => content,
            Err(error) => return Err(Fault::Io(error).at(&file, 0, 0, "")),
        };
        let mut input = Input::new(stream);
        match Self::recognise(&mut input) {
            Ok(format) => Ok(Self { file, input, format, of }),
            Err(Fault::End) => {
                let reason = match input.offset() {
                    0 => "it is empty".to_owned(),
                    bytes => format!("it ends within its header, after {bytes} bytes"),
                };
                Err(CaptureError::Damaged { file, record: 0, of, reason })
            }
            Err(fault) => Err(fault.at(&file, 0, input.offset(), of)),
        }
    }

    fn recognise(input: &mut Input) -> Result<Format, Fault> {
        let magic = input.array()?;
        if magic == pcapng::SECTION.to_le_bytes() {
            return Ok(Format::PcapNg(pcapng::Reader::start(input)?));
        }
        match pcap::Reader::start(magic, input)? {
            Some(reader) => Ok(Format::Pcap(reader)),
            None => {
                let known = FOREIGN.iter().find(|(start, ..)| magic.starts_with(start));
                let (_, format, command) = known.unwrap_or(&UNKNOWN);
                Err(Fault::Foreign(format, command))
            }
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
            fault.at(&self.file, record, self.input.offset(), self.of)
        })
    }
}

/// Formats by their first bytes, and what converts them.
const FOREIGN: [(&[u8], &str, &str); 9] = [
    (b"\xfd7zX", "compressed with xz", "xz -dc FILE | tcpguard replay -"),
    (b"BZh", "compressed with bzip2", "bzip2 -dc FILE | tcpguard replay -"),
    (b"PK\x03\x04", "a zip archive", "unzip -p FILE | tcpguard replay -"),
    (b"snoo", "a capture of snoop", EDITCAP),
    (b"\x34\xcd\xb2\xa1", MODIFIED, EDITCAP),
    (b"\xa1\xb2\xcd\x34", MODIFIED, EDITCAP),
    (b"GMBU", "a capture of Network Monitor", EDITCAP),
    (b"RTSS", "a capture of Network Monitor", EDITCAP),
    (b"TRSN", "a capture of Sniffer", EDITCAP),
];
const MODIFIED: &str = "pcap as modified by Kuznetzov (0xa1b2cd34)";
const UNKNOWN: (&[u8], &str, &str) =
    (b"", "neither pcap nor pcapng, plain or in gzip, zstd or lz4", EDITCAP);
const EDITCAP: &str = "convert it: editcap -F pcapng FILE OUT";

impl Fault {
    fn at(self, file: &str, record: u64, end: u64, of: &'static str) -> CaptureError {
        let file = file.to_owned();
        let reason = match self {
            Self::End => return CaptureError::Cut { file, record, end, of },
            Self::Foreign(format, command) => {
                return CaptureError::Foreign { file, format, command };
            }
            Self::Nonsense(reason) => reason,
            Self::Io(error) => error.to_string(),
        };
        CaptureError::Damaged { file, record, of, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_has_a_hint() {
        let of = " of what is compressed";
        let file = || "none.pcap".to_owned();
        let foreign = FOREIGN.iter().chain([&UNKNOWN]);
        let foreign = foreign.map(|(_, format, command)| CaptureError::Foreign {
            file: file(),
            format,
            command,
        });
        let others = [
            CaptureError::Open { file: file(), error: io::ErrorKind::NotFound.into() },
            CaptureError::Cut { file: file(), record: 24, end: 30, of },
            CaptureError::Damaged { file: file(), record: 24, of, reason: "4 GiB".to_owned() },
        ];
        for error in foreign.chain(others) {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            // Every one there is stands above.
            match error {
                CaptureError::Open { .. }
                | CaptureError::Foreign { .. }
                | CaptureError::Cut { .. }
                | CaptureError::Damaged { .. } => {}
            }
        }
    }
}
