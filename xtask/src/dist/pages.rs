//! The pages of the documentation in a package: the operator's tree. Links between them lead on, and links to files that
//! are in no package go to the repository, which only the list of all pages and the changelog may have.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use tcpguard_support::contents::{Item, PACKAGES, Package, Source};

use super::{HOMEPAGE, VERSION};

/// A file of the repository at `root`, as `package` has it.
pub(super) fn packaged(root: &Path, file: &Path, package: &Package) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", file.display());
    if file.extension().is_none_or(|extension| extension != "md") {
        return fs::read(file).with_context(cannot);
    }
    let text = fs::read_to_string(file).with_context(cannot)?;
    let from = file.strip_prefix(root).unwrap_or(file);
    Ok(with_links(&text, from, package, &format!("{HOMEPAGE}/blob/v{VERSION}")).into_bytes())
}

/// `text` of the file `from` of the repository with links that fit this package. `home` is where the repository's files
/// of this version can be read.
fn with_links(text: &str, from: &Path, package: &Package, home: &str) -> String {
    let mut page = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("](") {
        let (before, behind) = rest.split_at(start + 2);
        page.push_str(before);
        let Some(end) = behind.find(')') else {
            rest = behind;
            continue;
        };
        page.push_str(&link(&behind[..end], from, package, home));
        rest = &behind[end..];
    }
    page + rest
}

fn link(target: &str, from: &Path, package: &Package, home: &str) -> String {
    let (path, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    if path.is_empty() || path.contains(':') {
        return target.to_owned();
    }
    let path = from_root(from, path);
    // A package has its own copy of a page, or needs that of the other.
    let items = package.items.iter().chain(PACKAGES.iter().flat_map(|other| other.items));
    let installed = items.filter_map(|item| place(item, &path)).next();
    installed.unwrap_or_else(|| format!("{home}/{}", path.display())) + anchor
}

/// Path on the host of a file or directory of the repository, if this item has it.
fn place(item: &Item, path: &Path) -> Option<String> {
    match item.source {
        Source::File(file) => (Path::new(file) == path).then(|| item.to.to_owned()),
        Source::Files(directory, _) if path == Path::new(directory) => Some(item.to.to_owned()),
        Source::Files(directory, extension) => {
            let is_in = path.parent() == Some(Path::new(directory))
                && path.extension().is_some_and(|found| found == extension);
            let name = path.file_name().filter(|_| is_in)?;
            Some(format!("{}{}", item.to, name.display()))
        }
        _ => None,
    }
}

/// A link of the page `from` as a path from the root of the repository.
fn from_root(from: &Path, link: &str) -> PathBuf {
    let mut path = from.parent().unwrap_or(Path::new("")).to_path_buf();
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
    use crate::workspace::Workspace;
    use tcpguard_support::contents::{AGENT, FLEET};

    #[test]
    fn links_lead_to_what_is_installed_or_to_the_repository() {
        let from = Path::new("docs/commands.md");
        for (package, text, expected) in [
            (
                &AGENT,
                "see [a](operations.md#b).",
                "see [a](/usr/share/doc/tcpguard/operations.md#b).",
            ),
            (&AGENT, "[s](schema/tcpguard.json)", "[s](/usr/share/tcpguard/schema/tcpguard.json)"),
            (&AGENT, "[s](schema)", "[s](/usr/share/tcpguard/schema/)"),
            (&AGENT, "[f](fleet.md)", "[f](/usr/share/doc/tcpguard/fleet.md)"),
            (&FLEET, "[f](fleet.md)", "[f](/usr/share/doc/tcpguard-fleet/fleet.md)"),
            (&FLEET, "[j](journal.md)", "[j](/usr/share/doc/tcpguard/journal.md)"),
            (&AGENT, "[e](evidence/costs.md) end", "[e](https://x/v1/docs/evidence/costs.md) end"),
            (&AGENT, "[up](../SPECIFICATION.md)", "[up](https://x/v1/SPECIFICATION.md)"),
            (&AGENT, "[h](https://example.org/a) [b](#b)", "[h](https://example.org/a) [b](#b)"),
            (&AGENT, "no link](", "no link]("),
        ] {
            assert_eq!(with_links(text, from, package, "https://x/v1"), expected);
        }
    }

    #[test]
    fn pages_of_operators_link_to_packaged_files_only() {
        let root = Workspace::locate().unwrap().root;
        let list = fs::read_to_string(root.join("docs/README.md")).unwrap();
        let mut found = 0;
        for package in PACKAGES {
            let files = package.items.iter().flat_map(|item| item.files(&root).unwrap());
            for (file, _) in files.filter(|(file, _)| file.starts_with(root.join("docs"))) {
                if file.extension().is_none_or(|it| it != "md") || file.ends_with("README.md") {
                    continue;
                }
                let name = file.file_name().unwrap().display().to_string();
                assert!(
                    list.contains(&format!("({name})")),
                    "{name} is not in the list of all pages"
                );
                let page = String::from_utf8(packaged(&root, &file, package).unwrap()).unwrap();
                let leaving = page.lines().filter(|line| line.contains(&format!("]({HOMEPAGE}")));
                assert_eq!(leaving.collect::<Vec<_>>(), [""; 0], "{name}");
                found += 1;
            }
        }
        assert!(found > 10, "{found}");
    }
}
