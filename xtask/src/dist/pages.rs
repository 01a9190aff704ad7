//! The pages of the documentation in a package. Links between them lead on, and links to files that
//! are not in the package go to the repository.

use std::path::{Component, Path, PathBuf};

use tcpguard_support::contents::{Item, Source};

/// `text` of the file `from` of the repository with links that fit a package of these `items`. `home` is
/// where the repository's files of this version can be read.
pub(super) fn with_links(text: &str, from: &str, items: &[Item], home: &str) -> String {
    let mut page = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("](") {
        let (before, behind) = rest.split_at(start + 2);
        page.push_str(before);
        let Some(end) = behind.find(')') else {
            rest = behind;
            continue;
        };
        page.push_str(&link(&behind[..end], from, items, home));
        rest = &behind[end..];
    }
    page + rest
}

fn link(target: &str, from: &str, items: &[Item], home: &str) -> String {
    let (path, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    if path.is_empty() || path.contains(':') {
        return target.to_owned();
    }
    let path = from_root(from, path);
    let is_it = |item: &&Item| match item.source {
        Source::File(file) => Path::new(file) == path,
        Source::Files(directory, _) => path.starts_with(directory),
        _ => false,
    };
    match items.iter().find(is_it) {
        Some(item) => {
            let place = match item.source {
                Source::Files(directory, _) => {
                    let below = path.strip_prefix(directory).unwrap_or(&path);
                    format!("{}{}", item.to, below.display())
                }
                _ => item.to.to_owned(),
            };
            place + anchor
        }
        None => format!("{home}/{}{anchor}", path.display()),
    }
}

/// A link of the page `from` as a path from the root of the repository.
fn from_root(from: &str, link: &str) -> PathBuf {
    let mut path = Path::new(from).parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::contents::AGENT;

    #[test]
    fn links_lead_to_what_is_installed_or_to_the_repository() {
        let found = |text: &str| with_links(text, "docs/commands.md", AGENT.items, "https://x/v1");
        for (text, expected) in [
            ("see [a](operations.md#b).", "see [a](/usr/share/doc/tcpguard/operations.md#b)."),
            ("[s](schema/status.json)", "[s](/usr/share/tcpguard/schema/status.json)"),
            (
                "[d](evidence/decisions/0012-no-pager.md) end",
                "[d](https://x/v1/docs/evidence/decisions/0012-no-pager.md) end",
            ),
            ("[up](../SPECIFICATION.md)", "[up](https://x/v1/SPECIFICATION.md)"),
            ("[h](https://example.org/a) [b](#b)", "[h](https://example.org/a) [b](#b)"),
            ("no link](", "no link]("),
        ] {
            assert_eq!(found(text), expected);
        }
    }
}
