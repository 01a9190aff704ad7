//! Text of others on a page, out of which it cannot break.

use std::fmt::{self, Write};

use tcpguard_host::escape::is_unseen;

/// Text as the content of an element or as the value of a quoted attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped<'t>(&'t str);

/// `text` so that it is nothing but text. Characters that cannot be seen are shown as `�`
/// ([`is_unseen`]): control characters, which HTML forbids, and format characters.
pub(super) fn escaped(text: &str) -> Escaped<'_> {
    Escaped(text)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(' ')?,
                unseen if is_unseen(unseen) => f.write_char('\u{fffd}')?,
                plain => f.write_char(plain)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_becomes_text() {
        for (text, expected) in [
            ("plain: 10 % → 20 %", "plain: 10 % → 20 %"),
            (
                "</p><script>x('y')</script>",
                "&lt;/p&gt;&lt;script&gt;x(&#39;y&#39;)&lt;/script&gt;",
            ),
            ("\" onload=\"x & y", "&quot; onload=&quot;x &amp; y"),
            ("two\nlines\tand\0more", "two lines and\u{fffd}more"),
            ("gnp.\u{202e}exe", "gnp.\u{fffd}exe"),
        ] {
            assert_eq!(escaped(text).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_by_which_text_could_end(text in any::<String>()) {
            let escaped = escaped(&text).to_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\0']));
            for (at, _) in escaped.match_indices('&') {
                let rest = &escaped[at..];
                let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
                prop_assert!(known.iter().any(|name| rest.starts_with(name)), "{}", rest);
            }
        }
    }
}
