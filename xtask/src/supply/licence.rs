//! Licence expressions as SPDX has them, and as older crates write them (`MIT/Apache-2.0`).

/// Returns whether the licence expression `expression` can be met with `allowed` alone. An invalid
/// expression cannot.
pub fn is_met(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest, allowed) == Some(true) && rest.is_empty()
}

fn any(rest: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut met = all(rest, allowed)?;
    while take(rest, "OR") {
        met |= all(rest, allowed)?;
    }
    Some(met)
}

fn all(rest: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut met = one(rest, allowed)?;
    while take(rest, "AND") {
        met &= one(rest, allowed)?;
    }
    Some(met)
}

fn one(rest: &mut &[&str], allowed: &[String]) -> Option<bool> {
    if take(rest, "(") {
        let met = any(rest, allowed)?;
        return take(rest, ")").then_some(met);
    }
    let (name, after) = rest.split_first()?;
    *rest = after;
    let met = allowed.iter().any(|it| it == name);
    if take(rest, "WITH") {
        // An exception only permits more.
        *rest = rest.split_first()?.1;
    }
    Some(met)
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(expression: &str) -> bool {
        is_met(expression, &["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned))
    }

    #[test]
    fn one_of_several_is_enough_and_each_that_is_asked_for_is_needed() {
        for expression in [
            "MIT",
            "GPL-2.0-only OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-2.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert!(met(expression), "{expression}");
        }
        for expression in [
            "GPL-3.0-only",
            "MIT AND GPL-2.0-only",
            "MIT AND (GPL-2.0-only OR LGPL-2.1)",
            "GPL-2.0-only WITH Linux-syscall-note",
            "GPL-2.0-only OR MIT AND ISC",
        ] {
            assert!(!met(expression), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for expression in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "no licence named"] {
            assert!(!met(expression), "{expression}");
        }
    }
}
