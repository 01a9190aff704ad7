//! The file of sysctl.d(5) that keeps the advised values, with the previous ones as comments.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::sysctl_files;

const HEADER: &str = "\
# Written by `tcpguard tune`. Restore the previous values: tcpguard tune --undo
";
/// Begins the comment with the previous value.
const BEFORE: &str = "#before ";

/// One sysctl that was changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    pub name: String,
    pub before: String,
    /// The value given to it.
    pub after: String,
    /// Reason for the change.
    pub why: String,
}

pub fn text(entries: &[Entry]) -> String {
    let mut text = HEADER.to_owned();
    for Entry { name, before, after, why } in entries {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        // A module that is not loaded yet is no reason for a failed unit at boot.
        let sign = if name.starts_with("net.netfilter.") { "-" } else { "" };
        let (before, why) = (one_line(before), one_line(why));
        text.push_str(&format!("\n# {why}\n{BEFORE}{name} = {before}\n{sign}{name} = {after}\n"));
    }
    text
}

/// The entries of such a file.
///
/// # Errors
/// The line, counted from 1, that sets a sysctl without its previous value.
pub fn entries(text: &str) -> Result<Vec<Entry>, usize> {
    let mut entries = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for set in sysctl_files::parse(Path::new(""), text) {
        let above = |distance: usize| {
            set.line.checked_sub(1 + distance).and_then(|index| lines.get(index)).copied()
        };
        let before = above(1)
            .and_then(|line| line.strip_prefix(BEFORE))
            .and_then(|line| line.split_once('='))
            .filter(|(name, _)| name.trim() == set.name)
            .map(|(_, before)| before.trim().to_owned())
            .ok_or(set.line)?;
        let why = above(2).and_then(|line| line.strip_prefix("# ")).unwrap_or_default().to_owned();
        entries.push(Entry { name: set.name, before, after: set.value, why });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, before: &str, after: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            why: "too short = bad".to_owned(),
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let all = [
            entry("net.core.somaxconn", "128", "4096"),
            entry("net.ipv4.ip_local_port_range", "32768 60999", "10240 65535"),
            entry("net.netfilter.nf_conntrack_max", "1", "2"),
        ];
        let file = text(&all);
        assert_eq!(entries(&file).as_deref(), Ok(&all[..]));
        assert!(file.contains("\n-net.netfilter.nf_conntrack_max = 2\n"), "{file}");
        assert_eq!(entries(&text(&[])).as_deref(), Ok(&[][..]));
        let tabs = [entry("a.b", "1\t2", "3 4")];
        assert_eq!(entries(&text(&tabs)).expect("ours")[0].before, "1 2");
    }

    #[test]
    fn a_foreign_line_is_named() {
        let file = text(&[entry("net.core.somaxconn", "128", "4096")]);
        assert_eq!(entries(&format!("{file}net.ipv4.tcp_sack = 1\n")), Err(6));
        let other = file.replace("#before net.core.somaxconn", "#before net.core.other");
        assert_eq!(entries(&other), Err(5));
        assert_eq!(entries("a.b = 1"), Err(1));
    }

    proptest! {
        #[test]
        fn whatever_the_file_holds_is_taken_or_refused(text in "[#a-z.= \\n0-9-]{0,200}") {
            if let Err(line) = entries(&text) {
                prop_assert!(line >= 1 && line <= text.lines().count());
            }
        }
    }
}
