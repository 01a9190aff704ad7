//! The text of a file that people read, with what is code for a machine blanked out, line by line.

/// Reads a Rust file: all of it, since identifiers are words too. Consecutive comments are one text.
pub fn rust(file: &str) -> String {
    without_spans(&lines(file, |line| {
        let comment = line.trim_start();
        comment.trim_start_matches('/').trim_start_matches('!').replace("\\n", " ")
    }))
}

/// Reads a Markdown page: all but code and the targets of links.
pub fn markdown(page: &str) -> String {
    let (mut fenced, mut indented, mut in_list, mut blank) = (false, false, false, true);
    without_spans(&lines(page, |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !line.starts_with(' ') && !line.is_empty() {
            in_list = line.starts_with(['-', '*']) || line.starts_with(|c: char| c.is_numeric());
        }
        // A paragraph that is indented is code, except in a list.
        indented = line.starts_with("    ") && (blank || indented) && !in_list;
        blank = line.trim().is_empty();
        let parts = line.split("](").enumerate().map(|(number, part)| match number {
            0 => part,
            _ => part.split_once(')').map_or(part, |(_, rest)| rest),
        });
        if fenced || fence || indented { String::new() } else { parts.collect() }
    }))
}

/// Reads a script, a unit or a file of settings, without the marks of comments.
pub fn plain(file: &str) -> String {
    without_spans(&lines(file, |line| line.trim_start().trim_start_matches(['#', '/']).to_owned()))
}

/// Reads a JSON Schema in which no string takes several lines: its descriptions. The names of keys are an interface.
pub fn schema(file: &str) -> String {
    without_spans(&lines(file, |line| {
        let described = line.split("\"description\":").skip(1);
        let text = described.filter_map(|rest| rest.trim_start().strip_prefix('"'));
        let texts: Vec<String> = text.map(|rest| first_string(rest).replace("\\n", " ")).collect();
        texts.join(". ")
    }))
}

/// Returns the string that `text` goes on with, up to its closing quotation mark.
fn first_string(text: &str) -> &str {
    let mut escaped = false;
    let end = text.find(|char| {
        let closes = char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        closes
    });
    &text[..end.unwrap_or(text.len())]
}

fn lines(file: &str, text: impl FnMut(&str) -> String) -> String {
    file.lines().map(text).map(|line| line + "\n").collect()
}

/// Puts a backtick in place of each code span, which does not leave its paragraph.
fn without_spans(text: &str) -> String {
    let (mut left, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('`') {
        left.push_str(before);
        let end = after.find('`').filter(|end| !after[..*end].contains("\n\n"));
        let span = end.map_or("", |end| &after[..end]);
        left.push('`');
        left.extend(span.matches('\n'));
        rest = end.map_or(after, |end| &after[end + 1..]);
    }
    left + rest
}

/// Words of a text in lower case, each with the number of its line. An identifier is several, and a word ends at a
/// genitive's apostrophe. A character of punctuation that ends a phrase is one too.
pub fn words(text: &str) -> Vec<(usize, String)> {
    let (mut words, mut word, mut last) = (Vec::new(), String::new(), ' ');
    let mut line = 1;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let next_is_small = letters.peek().is_some_and(|next| next.is_lowercase());
        let begins = letter.is_uppercase() && (!last.is_uppercase() || next_is_small);
        if (begins || !letter.is_alphanumeric()) && !word.is_empty() {
            words.push((line, std::mem::take(&mut word)));
        }
        match letter {
            '\n' => line += 1,
            // The end of a genitive.
            's' if matches!(last, '\'' | '’') && word.is_empty() => {}
            _ if letter.is_alphanumeric() => word.extend(letter.to_lowercase()),
            '.' | ',' | ';' | ':' | '(' | ')' | '`' | '"' | '|' | '{' | '}' | '=' | '<' | '>'
            | '-' => {
                words.push((line, letter.to_string()));
            }
            _ => {}
        }
        last = letter;
    }
    if !word.is_empty() {
        words.push((line, word));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let words: Vec<_> =
            words(text).into_iter().map(|(line, word)| format!("{line}{word}")).collect();
        words.join(" ")
    }

    #[test]
    fn identifiers_are_their_words_and_code_spans_are_none() {
        assert_eq!(
            read(&rust("/// An `odd\n/// job`'s end.\nfn OddJOBs(HTTP2: a_b)")),
            "1an 1` 2end 2. 3fn 3odd 3jo 3bs 3( 3http2 3: 3a 3b 3)"
        );
    }

    #[test]
    fn pages_scripts_and_schemas_are_read_without_code_targets_and_keys() {
        let page = "# One\n\n```text\ntwo\n```\n[three](four.md#five) `six`\n\n    seven\n\n- eight\n\n    nine\n";
        assert_eq!(read(&markdown(page)), "1one 6three 6` 10- 10eight 12nine");
        assert_eq!(
            read(&plain("# one `two\n# three\n\nset # four`\n")),
            "1one 1` 1two 2three 4set 4four 4`"
        );
        assert_eq!(
            read(&schema("{\n  \"description\": \"Two\\nthree\",\"title\":\"five\"")),
            "2two 2three"
        );
    }
}
