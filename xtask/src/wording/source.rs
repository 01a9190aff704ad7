//! Prose of Rust files, Markdown pages and other texts, in words with their lines.

/// Comments and string literals of a Rust file.
#[derive(Default)]
pub struct Source {
    /// Consecutive comments of one kind are one.
    pub comments: Vec<Comment>,
    strings: Vec<Prose>,
}

/// Consecutive line comments of one kind, or a block comment.
pub struct Comment {
    /// `//`, `///`, `//!` or `/*`.
    pub marker: &'static str,
    /// First line of the comment.
    pub line: usize,
    /// The text of each line, without the marker.
    pub lines: Vec<String>,
    /// The words of all lines.
    pub prose: Prose,
}

/// A text without its code spans.
pub struct Prose {
    /// Words and punctuation, in order.
    pub tokens: Vec<Token>,
}

/// A word in lower case and without a genitive's end, or a character of punctuation.
pub struct Token {
    /// Line of the file.
    pub line: usize,
    pub word: String,
}

impl Source {
    /// Every text of the file.
    pub fn prose(&self) -> impl Iterator<Item = &Prose> {
        self.comments.iter().map(|comment| &comment.prose).chain(&self.strings)
    }
}

impl Prose {
    /// Words of `text`, whose first line has this number. A code span is one token, a backtick; an underscore is part
    /// of a word, so that identifiers are words of their own.
    pub fn new(line: usize, text: &str) -> Self {
        let (mut tokens, mut line) = (Vec::new(), line);
        let parts: Vec<&str> = text.split('`').collect();
        for (number, part) in parts.iter().enumerate() {
            // A span that does not end is prose.
            if number % 2 == 1 && number + 1 < parts.len() {
                tokens.push(Token { line, word: "`".to_owned() });
                line += part.matches('\n').count();
            } else {
                line = words(part, line, &mut tokens);
            }
        }
        Self { tokens }
    }
}

/// Adds the words of `text`, and returns the number of its last line.
fn words(text: &str, mut line: usize, tokens: &mut Vec<Token>) -> usize {
    let mut word = String::new();
    for letter in text.chars().chain([' ']) {
        if letter.is_alphanumeric() || matches!(letter, '_' | '\'' | '’') {
            word.extend(letter.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            let bare = word.trim_matches(['\'', '’']);
            let bare = bare.strip_suffix("'s").or_else(|| bare.strip_suffix("’s")).unwrap_or(bare);
            tokens.push(Token { line, word: bare.to_owned() });
            word.clear();
        }
        if letter == '\n' {
            line += 1;
        } else if !letter.is_whitespace() {
            tokens.push(Token { line, word: letter.to_string() });
        }
    }
    line
}

/// Reads a Markdown page: all but code and the targets of links.
pub fn markdown(page: &str) -> Prose {
    let (mut fenced, mut indented, mut in_list, mut blank) = (false, false, false, true);
    let mut text = String::new();
    for line in page.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !line.starts_with(' ') && !line.is_empty() {
            in_list = line.starts_with(['-', '*']) || line.starts_with(|c: char| c.is_numeric());
        }
        // A paragraph that is indented is code, except in a list.
        indented = line.starts_with("    ") && (blank || indented) && !in_list;
        blank = line.trim().is_empty();
        if !fenced && !fence && !indented {
            text.push_str(&without(line, "](", ")"));
        }
        text.push('\n');
    }
    Prose::new(1, &text)
}

/// Reads a script, a unit or a file of settings: its paragraphs, without the marks of comments.
pub fn plain(file: &str) -> Vec<Prose> {
    let (mut paragraphs, mut first, mut text) = (Vec::new(), 1, String::new());
    for (number, line) in (1..).zip(file.lines().chain([""])) {
        let line = line.trim_start().trim_start_matches(['#', '/']);
        if !line.trim().is_empty() {
            text.push_str(line);
            text.push('\n');
        } else if !text.is_empty() {
            paragraphs.push(Prose::new(first, &text));
            text.clear();
        }
        if text.is_empty() {
            first = number + 1;
        }
    }
    paragraphs
}

/// Reads a JSON Schema with a key a line: its descriptions. The names of keys are an interface.
pub fn schema(file: &str) -> Vec<Prose> {
    let lines = (1..).zip(file.lines());
    let descriptions = lines.filter_map(|(number, line)| {
        let text = line.trim_start().strip_prefix("\"description\":")?;
        Some(Prose::new(number, &text.replace("\\n", " ")))
    });
    descriptions.collect()
}

/// Removes each text between `open` and `close`.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut parts = text.split(open);
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        left.push(' ');
        left.push_str(part.split_once(close).map_or(part, |(_, rest)| rest));
    }
    left
}

/// Reads a Rust file.
pub fn rust(text: &str) -> Source {
    let mut source = Source::default();
    let (mut at, mut line) = (0, 1);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = token(rest, text[..at].chars().next_back());
        let part = &rest[..length];
        if part.starts_with("//") {
            source.add_line_comment(line, part);
        } else if part.starts_with("/*") {
            source.comments.push(comment("/*", line, vec![part.to_owned()]));
        } else if let Some(literal) = literal(part) {
            source.strings.push(Prose::new(line, &literal));
        }
        line += part.matches('\n').count();
        at += length;
    }
    for comment in &mut source.comments {
        comment.prose = Prose::new(comment.line, &comment.lines.join("\n"));
    }
    source
}

/// Returns the code of a Rust file: without comments, and with other letters in place of the braces of literals.
pub fn code(text: &str) -> String {
    without_comments(text, |literal| literal.replace(['{', '}'], "_"))
}

/// Returns the code of a Rust file without its comments, and with `literals` in place of its literals.
fn without_comments(text: &str, literals: impl Fn(&str) -> String) -> String {
    let (mut code, mut at) = (String::new(), 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let part = &rest[..token(rest, text[..at].chars().next_back())];
        let is_character = part.starts_with('\'') && part.len() > 2 && part.ends_with('\'');
        if part.starts_with("/*") {
            code.extend(part.matches('\n'));
        } else if is_character || literal(part).is_some() {
            code.push_str(&literals(part));
        } else if !part.starts_with("//") {
            code.push_str(part);
        }
        at += part.len();
    }
    code
}

/// Identifiers of a Rust file, each as its words.
pub fn names(text: &str) -> Vec<Prose> {
    let code = without_comments(text, |literal| {
        format!(" {}", "\n".repeat(literal.matches('\n').count()))
    });
    let lines = (1..).zip(code.lines());
    let names = lines.flat_map(|(line, code)| {
        let names = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        names.filter(|name| !name.is_empty()).map(move |name| name_words(line, name))
    });
    names.collect()
}

/// The words of an identifier, which begin behind an underscore and at a capital.
fn name_words(line: usize, name: &str) -> Prose {
    let letters: Vec<char> = name.chars().collect();
    let (mut tokens, mut word) = (Vec::new(), String::new());
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            tokens.push(Token { line, word: std::mem::take(word) });
        }
    };
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| letters[before]);
        let last_capital = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if *letter == '_'
            || letter.is_uppercase() && before.is_some_and(|it| !it.is_uppercase() || last_capital)
        {
            end(&mut word);
        }
        if *letter != '_' {
            word.extend(letter.to_lowercase());
        }
    }
    end(&mut word);
    Prose { tokens }
}

impl Source {
    fn add_line_comment(&mut self, line: usize, text: &str) {
        let marker = ["///", "//!"].into_iter().find(|marker| text.starts_with(marker));
        let marker = marker.unwrap_or("//");
        let text = text[marker.len()..].to_owned();
        match self.comments.last_mut() {
            Some(last) if last.marker == marker && last.line + last.lines.len() == line => {
                last.lines.push(text);
            }
            _ => self.comments.push(comment(marker, line, vec![text])),
        }
    }
}

fn comment(marker: &'static str, line: usize, lines: Vec<String>) -> Comment {
    Comment { marker, line, lines, prose: Prose { tokens: Vec::new() } }
}

/// Returns the length of the comment or literal with which `rest` begins after the character `before`, or of the code
/// before the next that may be one.
fn token(rest: &str, before: Option<char>) -> usize {
    let until = |from: usize, end: &str| {
        rest[from..].find(end).map_or(rest.len(), |length| from + length + end.len())
    };
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    if let Some(hashes) = raw(rest).filter(|_| !before.is_some_and(is_name)) {
        return until(hashes + 2, &format!("\"{}", "#".repeat(hashes)));
    }
    match rest.as_bytes() {
        [b'"', ..] => {
            let mut escaped = false;
            let end = rest[1..].find(|letter| {
                let ends = letter == '"' && !escaped;
                escaped = letter == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        }
        [b'\'', b'\\', ..] => until(3, "'"),
        // A lifetime has no quote behind its first letter.
        [b'\'', ..] if rest.chars().nth(2) == Some('\'') => {
            2 + rest.chars().nth(1).map_or(0, char::len_utf8)
        }
        _ => rest[first..].find(['/', '"', '\'', 'r']).map_or(rest.len(), |next| first + next),
    }
}

/// Number of `#` of the raw string with which `rest` begins.
fn raw(rest: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?;
    let hashes = hashes.len() - hashes.trim_start_matches('#').len();
    rest[1 + hashes..].starts_with('"').then_some(hashes)
}

/// Returns whether a raw string cannot begin behind this letter: `r` ends a name. Byte and C strings have theirs
/// before it.
fn is_name(letter: char) -> bool {
    (letter.is_alphanumeric() || letter == '_') && !matches!(letter, 'b' | 'c')
}

/// Returns the text of a string literal: without escapes, and without names of format arguments.
fn literal(part: &str) -> Option<String> {
    let text = if let Some(hashes) = raw(part) {
        part.get(hashes + 2..part.len().checked_sub(hashes + 1)?)?.to_owned()
    } else {
        let mut text = String::new();
        let mut letters = part.strip_prefix('"')?.strip_suffix('"')?.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => text.push(if letters.next() == Some('\n') { '\n' } else { ' ' }),
                letter => text.push(letter),
            }
        }
        text
    };
    Some(without_arguments(&text))
}

/// Removes `{name}` and `{name:?}`.
fn without_arguments(text: &str) -> String {
    let mut left = String::new();
    for (number, part) in text.split('{').enumerate() {
        let argument = part.split_once('}').filter(|(name, _)| {
            let name = name.split(':').next().unwrap_or_default();
            number > 0 && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
        });
        if number > 0 {
            left.push(' ');
        }
        left.push_str(argument.map_or(part, |(_, rest)| rest));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(prose: &Prose) -> Vec<(usize, &str)> {
        prose.tokens.iter().map(|token| (token.line, token.word.as_str())).collect()
    }

    #[test]
    fn comments_of_one_kind_are_one_and_code_spans_are_no_words() {
        let source = rust("//! A `b c`\n//! d.\n\n// e\nfn f() {} // g's\n/* h */");
        let comments: Vec<_> =
            source.comments.iter().map(|comment| (comment.marker, words(&comment.prose))).collect();
        assert_eq!(comments[0], ("//!", vec![(1, "a"), (1, "`"), (2, "d"), (2, ".")]));
        assert_eq!(comments[1], ("//", vec![(4, "e"), (5, "g")]));
        assert_eq!(comments[2].0, "/*");
    }

    #[test]
    fn strings_of_every_form_are_read_and_arguments_are_not() {
        let text = "let a = \"one \\\"two\\\" {three:?} {}\\n\";\nlet c = '\"'; let r = r#\"four // \"five\"\"#;\n\
                    fn f<'a>(_: &'a str) { g(b\"six\", '\\'', \"seven_eight\") }";
        let source = rust(text);
        let found: Vec<_> = source.strings.iter().flat_map(words).map(|(_, word)| word).collect();
        assert_eq!(
            found,
            ["one", "two", "four", "/", "/", "\"", "five", "\"", "six", "seven_eight"]
        );
        assert!(source.comments.is_empty());
    }

    #[test]
    fn code_is_without_comments_and_braces_of_literals() {
        let text = "fn f<'a>() { // {\n/* {\n{ */ \"{}\"; '{'; r#\"{\n{\"#; b'{' }";
        assert_eq!(code(text), "fn f<'a>() { \n\n \"__\"; '_'; r#\"_\n_\"#; b'_' }");
    }

    #[test]
    fn names_are_read_in_their_words_without_comments_and_literals() {
        let text = "// a\nfn odd_job(r: OddJOBs, HTTP2: &'a str) { \"b\nc\"; 'd'; ODD_JOB }";
        let found = names(text);
        let found: Vec<_> = found.iter().map(words).collect();
        assert!(found.contains(&vec![(2, "odd"), (2, "job")]), "{found:?}");
        assert!(found.contains(&vec![(2, "odd"), (2, "jo"), (2, "bs")]), "{found:?}");
        assert!(found.contains(&vec![(2, "http2")]) && found.contains(&vec![(2, "str")]));
        assert_eq!(found.last(), Some(&vec![(3, "odd"), (3, "job")]));
        assert!(!found.iter().flatten().any(|(_, word)| ["b", "c", "d"].contains(word)));
    }

    #[test]
    fn a_phrase_of_a_comment_goes_over_its_lines_and_a_code_span_does_not_leave_its_paragraph() {
        let found = plain("#!/bin/sh\n# one `two\n# three\n\nset four_five # six`\n#\n# seven\n");
        let found: Vec<_> = found.iter().map(words).collect();
        assert_eq!(found[0][5..], [(2, "one"), (2, "two"), (3, "three")]);
        assert_eq!(found[1], [(5, "set"), (5, "four_five"), (5, "#"), (5, "six")]);
        assert_eq!(found[2], [(7, "seven")]);
    }

    #[test]
    fn of_a_schema_only_descriptions_are_read() {
        let file = "{\n  \"one\": {\n    \"description\": \"Two `three`\\nfour.\",\n    \"title\": \"five\"\n";
        let found = schema(file);
        let found: Vec<_> =
            found.iter().flat_map(words).filter(|(_, word)| word.len() > 1).collect();
        assert_eq!(found, [(3, "two"), (3, "four")]);
    }

    #[test]
    fn pages_are_read_without_code_and_targets() {
        let page = "# One\n\n```text\ntwo\n```\n[three](four.md#five) `six`\n\n    seven\n\n- eight\n\n    nine\n";
        assert_eq!(
            words(&markdown(page)),
            [
                (1, "#"),
                (1, "one"),
                (6, "["),
                (6, "three"),
                (6, "`"),
                (10, "-"),
                (10, "eight"),
                (12, "nine")
            ]
        );
    }
}
