//! Messages on a byte stream: JSON followed by a NUL byte, which JSON never contains, or on a line of its own.

use serde::Serialize;
use tcpguard_host::json;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reason why no message was read.
#[derive(Debug, Eq, PartialEq)]
pub enum FrameError {
    /// The message is longer than the limit.
    TooLong,
    /// The stream broke, or ended inside a message.
    Broken,
}

/// Splits a stream into messages of at most `limit` bytes.
pub struct FrameReader<R> {
    stream: R,
    /// Bytes read of the next message, and possibly more behind it.
    buffer: Vec<u8>,
    limit: usize,
    /// The byte behind each message.
    end: u8,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader at the beginning of `stream`.
    pub fn new(stream: R, limit: usize) -> Self {
        Self { stream, buffer: Vec::new(), limit, end: 0 }
    }

    /// The same of a stream with one message on each line.
    pub fn lines(stream: R, limit: usize) -> Self {
        Self { end: b'\n', ..Self::new(stream, limit) }
    }

    /// The next message, without its end; `None` at a clean end. May be cancelled and called again.
    ///
    /// # Errors
    /// Then there is no next message.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let mut searched = 0;
        loop {
            let mut unsearched = self.buffer[searched..].iter();
            if let Some(found) = unsearched.position(|byte| *byte == self.end) {
                let rest = self.buffer.split_off(searched + found + 1);
                let mut message = std::mem::replace(&mut self.buffer, rest);
                message.pop();
                return if message.len() > self.limit {
                    Err(FrameError::TooLong)
                } else {
                    Ok(Some(message))
                };
            }
            searched = self.buffer.len();
            if searched > self.limit {
                return Err(FrameError::TooLong);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await.map_err(|_| FrameError::Broken)? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(FrameError::Broken),
                read => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

/// One message with its end.
pub(super) fn bytes(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = json::bytes(message)?;
    bytes.push(0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn messages(stream: &[u8], limit: usize) -> Vec<Result<Option<String>, &'static str>> {
        let mut reader = FrameReader::new(stream, limit);
        let mut read = Vec::new();
        loop {
            let next = match reader.next().await {
                Ok(message) => Ok(message.map(|message| String::from_utf8(message).unwrap())),
                Err(FrameError::TooLong) => Err("too long"),
                Err(FrameError::Broken) => Err("broken"),
            };
            let last = !matches!(next, Ok(Some(_)));
            read.push(next);
            if last {
                return read;
            }
        }
    }

    #[tokio::test]
    async fn a_stream_is_split_at_nul_bytes() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(messages(b"", 8).await, [Ok(None)]);
        assert_eq!(messages(b"a\0\0bc\0", 8).await, [some("a"), some(""), some("bc"), Ok(None)]);
        assert_eq!(messages(b"a\0bc", 8).await, [some("a"), Err("broken")]);
        assert_eq!(messages(b"12345678\0", 8).await, [some("12345678"), Ok(None)]);
        assert_eq!(messages(b"123456789\0", 8).await, [Err("too long")]);
        assert_eq!(messages(&[b'x'; 100_000], 8).await, [Err("too long")]);
    }

    #[tokio::test]
    async fn a_stream_of_lines_is_split_at_their_ends() {
        let mut lines = FrameReader::lines(&b"a\n\nbc\n123456789\n"[..], 8);
        for expected in ["a", "", "bc"] {
            assert_eq!(lines.next().await, Ok(Some(expected.as_bytes().to_vec())));
        }
        assert_eq!(lines.next().await, Err(FrameError::TooLong));
    }
}
