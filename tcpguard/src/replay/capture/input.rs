//! Bytes in order, counted.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use super::Fault;

/// A stream of bytes that knows how many it has given.
pub(super) struct Input {
    stream: BufReader<Box<dyn Read>>,
    offset: u64,
}

impl Input {
    pub fn new(stream: Box<dyn Read>) -> Self {
        Self { stream: BufReader::with_capacity(1 << 16, stream), offset: 0 }
    }

    /// Bytes given so far.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns whether nothing is left.
    pub fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.ready()? == 0)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces the content of `bytes` by the next `length` bytes. The caller bounds `length`.
    pub fn replace(&mut self, bytes: &mut Vec<u8>, length: usize) -> Result<(), Fault> {
        bytes.resize(length, 0);
        self.fill(bytes)
    }

    /// Passes over `length` bytes, whatever their number.
    pub fn skip(&mut self, mut length: u64) -> Result<(), Fault> {
        while length > 0 {
            let ready = self.ready()?;
            if ready == 0 {
                return Err(Fault::End);
            }
            let step = length.min(ready as u64);
            self.stream.consume(step as usize);
            self.offset += step;
            length -= step;
        }
        Ok(())
    }

    /// Bytes at hand, after reading on if there were none; 0 at the end.
    fn ready(&mut self) -> Result<usize, Fault> {
        loop {
            match self.stream.fill_buf() {
                Ok(bytes) => return Ok(bytes.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.stream.read(bytes) {
                Ok(0) => return Err(Fault::End),
                Ok(read) => {
                    self.offset += read as u64;
                    bytes = &mut bytes[read..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
