//! Inputs as text, a line of hex each. Lines that begin with `#` describe the input that follows.
//!
//! Binary files would not show their content, and a diff would not show their changes.

use std::fmt::Write as _;

/// An input and its description.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Input {
    /// Lines without `#`; none for most.
    pub said: Vec<String>,
    /// Input of the target.
    pub bytes: Vec<u8>,
}

/// Reads a corpus.
///
/// # Errors
/// Names the line that is no hex.
pub fn read(text: &str) -> Result<Vec<Input>, String> {
    let mut inputs = Vec::new();
    let mut next = Input::default();
    for (number, line) in (1..).zip(text.lines()) {
        match line.strip_prefix('#') {
            Some(said) => next.said.push(said.trim().to_owned()),
            None if line.is_empty() => next = Input::default(),
            None => {
                let bytes = hex(line).ok_or_else(|| format!("line {number} is no hex"))?;
                inputs.push(Input { bytes, ..std::mem::take(&mut next) });
            }
        }
    }
    Ok(inputs)
}

/// Writes a corpus, with `head` in lines of its own at the top.
pub fn write(head: &str, inputs: &[Input]) -> String {
    let mut text = String::new();
    for line in head.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    text.push('\n');
    for input in inputs {
        for line in &input.said {
            text.push_str(&format!("# {line}\n"));
        }
        for byte in &input.bytes {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

fn hex(line: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        line.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_head_belongs_to_no_input() {
        let inputs = [
            Input { said: vec!["an odd one".to_owned()], bytes: vec![0, 0x7f, 0xff] },
            Input { said: Vec::new(), bytes: vec![1] },
        ];
        let text = write("a head\nof two lines", &inputs);
        assert_eq!(text, "# a head\n# of two lines\n\n# an odd one\n007fff\n01\n");
        assert_eq!(read(&text).unwrap(), inputs);
    }

    #[test]
    fn what_is_no_hex_is_refused_with_its_line() {
        for line in ["0", "0g", "00 11", "é0"] {
            assert_eq!(read(&format!("00\n{line}\n")), Err("line 2 is no hex".to_owned()));
        }
    }
}
