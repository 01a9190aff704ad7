//! The code of Rust files.

/// Returns the code of a Rust file: without comments, and with other letters in place of the braces of literals.
pub fn code(text: &str) -> String {
    let (mut code, mut at, mut before) = (String::new(), 0, None);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let part = &rest[..token(rest, before)];
        let is_character = part.starts_with('\'') && part.len() > 2 && part.ends_with('\'');
        let is_raw = raw(part).is_some() && !before.is_some_and(is_name);
        if part.starts_with("/*") {
            code.extend(part.matches('\n'));
        } else if is_character || is_raw || part.starts_with('"') {
            code.push_str(&part.replace(['{', '}'], "_"));
        } else if !part.starts_with("//") {
            code.push_str(part);
        }
        at += part.len();
        before = part.chars().next_back();
    }
    code
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_without_comments_and_braces_of_literals() {
        let text = "fn f<'a>() { // {\n/* {\n{ */ \"{}\"; '{'; r#\"{\n{\"#; b'{' }";
        assert_eq!(code(text), "fn f<'a>() { \n\n \"__\"; '_'; r#\"_\n_\"#; b'_' }");
    }
}
