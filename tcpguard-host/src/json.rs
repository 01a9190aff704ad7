//! Writer of JSON: one kind of it. The code that writes a type is long, and each kind of writer would
//! have a copy of it. Characters that turn or hide others are written as escapes, since a terminal may
//! be the reader.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::escape;

/// Whole numbers below this are exact as a float.
const EXACT: f64 = (1_u64 << 53) as f64;

/// Writes a value piece by piece, as it comes: a document of 10,000 listeners is never there a second
/// time.
///
/// # Errors
/// When `out` refuses, or the value has no form in JSON.
pub fn write(out: &mut dyn io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Seen))
}

/// The whole text.
///
/// # Errors
/// When the value has no form in JSON.
pub fn bytes(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(&mut bytes, value)?;
    Ok(bytes)
}

/// A document with its name and version in front: `{"schema":"tcpguard.NAME/1",…}`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Named<'a, T> {
    /// Its name and version.
    pub schema: &'a str,
    /// Its other fields.
    #[serde(flatten)]
    pub document: &'a T,
}

/// The document of this name and version that `text` holds.
///
/// # Errors
/// When `text` holds another document, or none.
pub fn document<T: DeserializeOwned>(text: &[u8], schema: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Name {
        schema: String,
    }
    let no_document = |error: serde_json::Error| error.to_string();
    let name: Name = serde_json::from_slice(text).map_err(no_document)?;
    if name.schema != schema {
        return Err(format!("its schema is {:?}, not {schema}", name.schema));
    }
    serde_json::from_slice(text).map_err(no_document)
}

/// The most compact form, in characters that have a form, and with six decimals at most.
struct Seen;

impl Formatter for Seen {
    fn write_f64<W>(&mut self, writer: &mut W, value: f64) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let millionths = value * 1e6;
        let is_exact = millionths.abs() < EXACT;
        let value = if is_exact { millionths.round() / 1e6 } else { value };
        CompactFormatter.write_f64(writer, value)
    }

    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        // Characters that JSON itself escapes are in no fragment.
        while let Some((at, char)) = rest.char_indices().find(|(_, char)| escape::is_unseen(*char))
        {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + char.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_has_six_decimals_at_most() {
        for (value, expected) in [(1.0 / 3.0, "0.333333"), (2.5, "2.5"), (1e300, "1e+300")] {
            assert_eq!(String::from_utf8(bytes(&value).unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn what_has_no_form_is_an_escape_that_means_the_same() {
        let text = "a\u{202e}b\u{e0041}\n\x7f\u{9b} größe \"c\"";
        let written = String::from_utf8(bytes(&text).unwrap()).unwrap();
        assert_eq!(written, r#""a\u202eb\udb40\udc41\n\u007f\u009b größe \"c\"""#);
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        let plain = serde_json::json!({ "list": [1, 2.5, null], "word": "● größe" });
        assert_eq!(bytes(&plain).unwrap(), serde_json::to_vec(&plain).unwrap());
    }
}
