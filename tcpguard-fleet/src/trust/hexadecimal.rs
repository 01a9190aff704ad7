//! Keys and signatures as text.

use std::fmt::Write as _;

/// Two lower-case hexadecimal digits for each byte.
pub(super) fn write(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of such a text; `None` when it has another length or another character.
pub(super) fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_were_written() {
        let bytes = [0, 1, 0x9a, 0xff];
        assert_eq!(write(&bytes), "00019aff");
        assert_eq!(read(&write(&bytes)), Some(bytes));
        for text in ["", "00019a", "00019aff00", "00019AFF", "0001é9af", "+001  ff"] {
            assert_eq!(read::<4>(text), None, "{text}");
        }
    }
}
