//! The header of a SYN, as it came.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::{Timestamp, map_time};

/// Header of one SYN, as it arrived.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SynHeader<At = Timestamp> {
    /// Time of its arrival.
    pub at: At,
    /// Bytes of the header in hexadecimal, from the IP header up to the end of the TCP options; at most 112
    /// bytes. Data is never kept.
    #[serde(rename = "hex", with = "hexadecimal")]
    #[schemars(with = "String")]
    pub bytes: Vec<u8>,
    /// Number of bytes from the IP header up to the end of the TCP options; left out if `hex` holds all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u16>,
}

map_time!(SynHeader: at; bytes, length);

/// Bytes as text: two hexadecimal digits each.
pub mod hexadecimal {
    use std::fmt::Write as _;

    use serde::de::{Deserialize, Deserializer, Error as _};
    use serde::ser::Serializer;

    /// Writes bytes.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    /// Reads bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| Some(char::from(byte).to_digit(16)? as u8);
        let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom("no bytes in hexadecimal"))
    }
}
