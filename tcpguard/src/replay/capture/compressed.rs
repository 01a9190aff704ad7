//! Captures that are compressed with gzip, zstd or lz4, as they are decompressed.
//!
//! Each of the formats may have several frames, one after another: `cat` joins files, and parallel
//! compressors write pieces. All of them are read.

use std::io::{self, BufRead, BufReader, Cursor, Error, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder as ZstdDecoder};

/// The content of `source`, and the unit of its byte counts.
pub(super) fn content(mut source: Box<dyn Read>) -> io::Result<(Box<dyn Read>, &'static str)> {
    const UNCOMPRESSED: &str = " of the uncompressed capture";
    let mut start = Vec::new();
    source.by_ref().take(4).read_to_end(&mut start)?;
    let magic = start.clone();
    let whole = BufReader::with_capacity(1 << 16, Cursor::new(start).chain(source));
    Ok(match magic.as_slice() {
        // A member with the only compression method (RFC 1952 §2.3.1).
        [0x1f, 0x8b, 8, ..] => (Box::new(MultiGzDecoder::new(whole)), UNCOMPRESSED),
        // A frame, or one that is passed over (RFC 8878 §3.1).
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            (Box::new(Zstd { source: whole, decoder: ZstdDecoder::new() }), UNCOMPRESSED)
        }
        [0x04, 0x22, 0x4d, 0x18] => (Box::new(Lz4(Lz4Decoder::new(whole))), UNCOMPRESSED),
        _ => (Box::new(whole), ""),
    })
}

/// Frames of zstd. One takes at most the 128 MiB of memory that its decoder allows.
struct Zstd<R> {
    source: R,
    decoder: ZstdDecoder,
}

impl<R: BufRead> Zstd<R> {
    /// Starts the next frame.
    fn begin(&mut self) -> Result<(), FrameDecoderError> {
        match self.decoder.reset(&mut self.source) {
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let mut skipped = self.source.by_ref().take(length.into());
                let skipped = io::copy(&mut skipped, &mut io::sink());
                skipped.map(|_| ()).map_err(|_| FrameDecoderError::FailedToSkipFrame)
            }
            begun => begun,
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            let some = BlockDecodingStrategy::UptoBytes(bytes.len());
            let step = if !self.decoder.is_finished() {
                self.decoder.decode_blocks(&mut self.source, some).map(|_| ())
            } else if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            } else {
                self.begin()
            };
            if let Err(error) = step {
                let is_cut = self.source.fill_buf()?.is_empty();
                let kind = if is_cut { ErrorKind::UnexpectedEof } else { ErrorKind::InvalidData };
                return Err(Error::new(kind, error));
            }
        }
        self.decoder.read(bytes)
    }
}

/// Frames of lz4.
struct Lz4<R: Read>(Lz4Decoder<R>);

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(bytes)?;
            if read > 0 || self.0.get_mut().fill_buf()?.is_empty() {
                return Ok(read);
            }
        }
    }
}
