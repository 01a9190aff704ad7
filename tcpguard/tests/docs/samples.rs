//! The status pages that the documentation shows.

use std::collections::BTreeSet;
use std::fs;

use super::pages::{files, markdown, root};

/// Part of the first line of each status page of the tests.
const HOST: &str = " tcpguard 0.1.0 on edge-1 — ";

/// Each is the expected page of its headline. After a change of the pages, write them anew with
/// `UPDATE_EXPECTED=1 cargo nextest run -p tcpguard --test docs`.
#[test]
fn every_status_page_in_the_documentation_is_one_of_the_tests() {
    let mut expected = files(&["tcpguard/tests/expected"], ".txt");
    // The page of the default width has the shortest name.
    expected.sort_by_key(|page| page.path.as_os_str().len());
    let expected: Vec<&str> = expected.iter().map(|page| page.text.as_str()).collect();
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    for page in markdown() {
        let mut renewed = page.text.clone();
        for block in shown(&page.text) {
            let of_headline = |found: &&&str| headline(found) == headline(block);
            let mut found = expected.iter().filter(of_headline);
            let first = *found.next().unwrap_or_else(|| panic!("no scene has this:\n{block}"));
            if block != first && !found.any(|other| block == *other) {
                renewed = renewed.replace(block, first);
            }
        }
        if update {
            fs::write(root().join(&page.path), &renewed).unwrap();
        } else {
            assert!(renewed == page.text, "{} shows another page", page.path.display());
        }
    }
}

#[test]
fn no_status_page_is_shown_twice() {
    let pages = markdown();
    let all: Vec<&str> = pages.iter().flat_map(|page| shown(&page.text)).collect();
    let distinct: BTreeSet<&str> = all.iter().copied().collect();
    assert!(all.len() == distinct.len() && all.len() > 1, "{all:#?}");
}

/// The status pages in the blocks of code of a page.
fn shown(text: &str) -> Vec<&str> {
    let blocks = text.split("```\n");
    blocks.filter(|block| block.lines().next().is_some_and(|first| first.contains(HOST))).collect()
}

/// The situation in a page's first line.
fn headline(page: &str) -> Option<&str> {
    let (_, rest) = page.lines().next()?.split_once(HOST)?;
    Some(rest.split("   ").next().unwrap_or(rest).trim_end())
}
