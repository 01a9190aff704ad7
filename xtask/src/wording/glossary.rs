//! Words that the glossary rejects.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{
    Finding,
    source::{Prose, Token},
};

/// First line of a table of terms.
const HEADER: &str = "| term | meaning | not |";

/// The rejected words and phrases: code spans in the third column of a table of terms.
pub struct Glossary {
    /// By their first word.
    rejected: BTreeMap<String, Vec<Rejected>>,
}

struct Rejected {
    phrase: String,
    /// Words and punctuation.
    words: Vec<String>,
    /// The words alone, as in an identifier.
    spoken: Vec<String>,
    term: String,
}

impl Glossary {
    /// Parses the tables of terms of these pages.
    pub fn parse(pages: &[String]) -> Result<Self> {
        let mut rejected = BTreeMap::<String, Vec<Rejected>>::new();
        for [term, _, others] in pages.iter().flat_map(|page| rows(page)) {
            for phrase in others.split('`').skip(1).step_by(2).map(str::to_owned) {
                let words: Vec<_> =
                    Prose::new(1, &phrase).tokens.into_iter().map(|token| token.word).collect();
                let first = words.first().cloned().unwrap_or_default();
                let is_word = |word: &&String| word.chars().any(char::is_alphanumeric);
                let spoken = words.iter().filter(is_word).cloned().collect();
                let one = Rejected { phrase, words, spoken, term: term.to_owned() };
                rejected.entry(first).or_default().push(one);
            }
        }
        for page in pages {
            ensure!(rows(page).next().is_some(), "a page of the glossary has no table of terms");
        }
        ensure!(!rejected.is_empty(), "the glossary has no table with a rejected word");
        Ok(Self { rejected })
    }

    /// The rejected words in a text. Each word may have an s at its end.
    pub fn findings<'a>(
        &'a self,
        path: &'a str,
        prose: &'a Prose,
    ) -> impl Iterator<Item = Finding> + 'a {
        self.search(path, prose, |rejected| &rejected.words)
    }

    /// The rejected words in an identifier, which has no punctuation.
    pub fn in_name<'a>(
        &'a self,
        path: &'a str,
        name: &'a Prose,
    ) -> impl Iterator<Item = Finding> + 'a {
        self.search(path, name, |rejected| &rejected.spoken)
    }

    fn search<'a>(
        &'a self,
        path: &'a str,
        prose: &'a Prose,
        words: fn(&Rejected) -> &[String],
    ) -> impl Iterator<Item = Finding> + 'a {
        prose.tokens.iter().enumerate().filter_map(move |(at, token)| {
            let singular = token.word.strip_suffix('s').unwrap_or(&token.word);
            let candidates = [token.word.as_str(), singular].into_iter();
            let candidates = candidates.filter_map(|word| self.rejected.get(word)).flatten();
            let found = candidates
                .filter(|rejected| begins(&prose.tokens[at..], words(rejected)))
                .max_by_key(|rejected| words(rejected).len())?;
            let rule = found.phrase.clone();
            Some(Finding { path: path.to_owned(), line: token.line, rule })
        })
    }

    /// Returns the terms in whose place a rejected phrase stands; a rule about heads has none.
    pub fn terms(&self, rule: &str) -> String {
        let all = self.rejected.values().flatten();
        let of_rule = all.filter(|rejected| rejected.phrase == rule);
        let terms = of_rule.map(|rejected| rejected.term.as_str()).collect::<Vec<_>>().join(" or ");
        if terms.is_empty() { "begin with a noun or a verb".to_owned() } else { terms }
    }
}

/// The rows of the table of terms of a page: term, meaning, and the words that do not stand for it.
pub fn rows(page: &str) -> impl Iterator<Item = [&str; 3]> {
    let table = page.lines().skip_while(|line| *line != HEADER).skip(2);
    table.take_while(|line| line.starts_with('|')).filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        cells.try_into().ok()
    })
}

/// Returns whether `tokens` begin with these words.
fn begins(tokens: &[Token], words: &[String]) -> bool {
    tokens.len() >= words.len()
        && words.iter().zip(tokens).all(|(word, token)| {
            token.word.strip_prefix(word.as_str()).is_some_and(|end| matches!(end, "" | "s"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::source::names;

    const PAGE: &str = "`skip`\n\n| term | meaning | not |\n|---|---|---|\n\
                        | tool | A `word`. | `gadget`, thing, `odd job` |\n";
    /// A page with another table.
    const SECOND: &str = "| a | b | c |\n|---|---|---|\n| 1 | 2 | `skip` |\n\n\
                          | term | meaning | not |\n|---|---|---|\n| part | | `bit` |\n\n\
                          | 3 | 4 | `skip` |\n";

    fn glossary() -> Glossary {
        Glossary::parse(&[PAGE.to_owned(), SECOND.to_owned()]).expect("tables")
    }

    fn findings(text: &str) -> Vec<(usize, String)> {
        let glossary = glossary();
        let prose = Prose::new(7, text);
        glossary.findings("a.md", &prose).map(|found| (found.line, found.rule)).collect()
    }

    #[test]
    fn code_spans_of_the_third_column_are_rejected() {
        assert_eq!(findings("The thing is a word: skip. gadget_size, gadgetry"), []);
        let gadget = |line| (line, "gadget".to_owned());
        assert_eq!(findings("Two Gadgets.\nOne gadget's."), [gadget(7), gadget(8)]);
    }

    #[test]
    fn a_phrase_is_found_over_a_line_end_and_not_over_punctuation() {
        assert_eq!(findings("an odd\njob"), [(7, "odd job".to_owned())]);
        assert_eq!(findings("odd, job"), []);
    }

    #[test]
    fn a_rejected_word_is_found_in_an_identifier() {
        let glossary = glossary();
        let names = names("let gadgetry = OddJobs(GADGET_SIZE, a_gadget);");
        let found = names.iter().flat_map(|name| glossary.in_name("a.rs", name));
        let found: Vec<_> = found.map(|found| found.rule).collect();
        assert_eq!(found, ["odd job", "gadget", "gadget"]);
    }

    #[test]
    fn a_finding_has_its_term() {
        assert_eq!(glossary().terms("odd job"), "tool");
    }

    #[test]
    fn every_page_has_a_table_of_terms_and_other_tables_reject_nothing() {
        assert_eq!(findings("Every bit: skip."), [(7, "bit".to_owned())]);
        assert_eq!(rows(SECOND).collect::<Vec<_>>(), [["part", "", "`bit`"]]);
        assert!(Glossary::parse(&[PAGE.to_owned(), "| a | b |\n".to_owned()]).is_err());
    }
}
