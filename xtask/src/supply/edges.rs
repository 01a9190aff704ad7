//! Places of unsafe code, and their number: the compiler refuses it wherever no `#[expect(unsafe_code)]` says
//! why, and here it may only become less.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Blocks, functions, traits, impls and attributes that are unsafe, by folder: a crate's, and in
/// `src` its room's.
const EDGES: &[(&str, usize)] = &[
    ("tcpguard-ebpf/src", 74),
    ("tcpguard-ebpf/src/bin", 17),
    ("tcpguard-fleet/src/relief", 1),
    ("tcpguard-host/src/linux", 4),
    ("tcpguard/src/bpf", 22),
    ("tcpguard/src/daemon", 3),
    ("tcpguard/src/selftest", 4),
    ("testing/bpf/src", 24),
    ("testing/eval/src", 7),
    ("testing/kit/src", 24),
    ("testing/root-tests/tests", 4),
];

/// Counts unsafe code, and returns a sentence with the sum.
///
/// # Errors
/// When there is more than the table says, or less, and when a file cannot be read.
pub fn check(workspace: &Workspace) -> Result<String> {
    let mut files = Vec::new();
    for path in workspace.rust_files()? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let relative = path.strip_prefix(&workspace.root).unwrap_or(&path);
        files.push((relative.display().to_string(), text));
    }
    let counts = counts(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    let broken = violations(&counts);
    if !broken.is_empty() {
        bail!("unsafe code:\n  {}", broken.join("\n  "));
    }
    let sum: usize = counts.values().sum();
    Ok(format!("unsafe code: {sum} places at {} edges of {} files", counts.len(), files.len()))
}

fn violations(counts: &BTreeMap<String, usize>) -> Vec<String> {
    let mut broken = Vec::new();
    let allowed: BTreeMap<&str, usize> = EDGES.iter().copied().collect();
    for (folder, count) in counts {
        match allowed.get(folder.as_str()) {
            None => broken.push(format!("{folder}: {count} places; it is no edge")),
            Some(known) if count > known => {
                broken.push(format!("{folder}: {count} places, {known} before"));
            }
            Some(_) => {}
        }
    }
    for (folder, known) in EDGES {
        let count = counts.get(*folder).copied().unwrap_or(0);
        if count < *known {
            broken.push(format!("{folder}: {count} places: lower {known} in {}", file!()));
        }
    }
    broken
}

fn counts<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (path, text) in files {
        let count = text.lines().map(places).sum::<usize>();
        if count > 0 {
            *counts.entry(folder(path)).or_default() += count;
        }
    }
    counts
}

/// The first three directories of a path, at most.
fn folder(path: &str) -> String {
    let directory = Path::new(path).parent().unwrap_or(Path::new(""));
    directory.components().take(3).collect::<std::path::PathBuf>().display().to_string()
}

/// Returns the number of uses of the keyword in `line`, outside comments.
fn places(line: &str) -> usize {
    const KEYWORD: &str = "unsafe";
    const FOLLOWED_BY: [&str; 7] = [" {", "{", " fn ", " impl", " trait ", " extern ", "("];
    let code = line.split("//").next().unwrap_or_default();
    let uses = code.match_indices(KEYWORD).filter(|(start, _)| {
        let (before, after) = (&code[..*start], &code[start + KEYWORD.len()..]);
        let begins = !before.ends_with(|it: char| it.is_alphanumeric() || "_-\"'".contains(it));
        begins && (after.is_empty() || FOLLOWED_BY.iter().any(|it| after.starts_with(it)))
    });
    uses.count()
}

#[cfg(test)]
mod tests {
    use tcpguard_goals::{Goal, Row};

    use super::*;

    /// The keyword, not written as it stands in code: this file is counted too.
    const KEYWORD: &str = "unsafe";

    /// The earlier check: a reason above each unsafe line.
    fn has_a_reason(text: &str) -> bool {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let alone = lines.windows(2).any(|two| places(two[1]) > 0 && !two[0].contains("SAFETY"));
        !alone && lines.first().is_none_or(|line| places(line) == 0)
    }

    #[test]
    fn g18_unsafe_code_stands_at_named_edges_only() {
        let row = Row::new(Goal::G18);
        let workspace = Workspace::locate().unwrap();
        let found = check(&workspace).unwrap();
        let files = workspace.rust_files().unwrap().len();

        let planted = [
            ("tcpguard-engine/src/engine/mod.rs", "let a = @ { *b };"),
            ("tcpguard/src/documents/mod.rs", "@ impl Send for A {}"),
            ("tcpguard/src/lib.rs", "#[@(no_mangle)]"),
            ("xtask/src/main.rs", "@ extern \"C\" {"),
            ("tcpguard-common/tests/wire.rs", "    @ fn f() {}"),
        ];
        let texts = planted.map(|(path, code)| {
            (path, format!("// SAFETY: so it is said.\n{}", code.replace('@', KEYWORD)))
        });
        let refused = texts.iter().filter(|(path, text)| {
            let counts = counts([(*path, text.as_str())].into_iter());
            violations(&counts).iter().any(|it| it.contains("it is no edge"))
        });
        let (refused, passed) =
            (refused.count(), texts.iter().filter(|(_, text)| has_a_reason(text)).count());
        row.result(
            files as u64,
            format!("{found}; {refused} of {} planted are refused", planted.len()),
            refused == planted.len(),
        )
        .naive(
            planted.len() as u64,
            format!("planted: a reason above each is all that was asked, {passed} pass"),
            passed == planted.len(),
        )
        .finish();
    }

    #[test]
    fn more_than_the_table_says_is_refused_and_less_lowers_it() {
        let mut counts: BTreeMap<String, usize> =
            EDGES.iter().map(|(folder, count)| ((*folder).to_owned(), *count)).collect();
        assert_eq!(violations(&counts), [""; 0]);
        let (folder, known) = EDGES[0];
        counts.insert(folder.into(), known + 1);
        assert_eq!(
            violations(&counts),
            [format!("{folder}: {} places, {known} before", known + 1)]
        );
        counts.insert(folder.into(), known - 1);
        assert!(violations(&counts)[0].contains(&format!("lower {known} in ")), "{counts:?}");
    }

    #[test]
    fn the_keyword_is_counted_and_words_about_it_are_not() {
        for code in ["let a = @ { f() };", "@ impl A for B {}", "pub @ trait A {}", "= @"] {
            assert_eq!(places(&code.replace('@', KEYWORD)), 1, "{code}");
        }
        assert_eq!(places(&"(@ { a() }, @ { b() })".replace('@', KEYWORD)), 2);
        for text in ["// @ { }", "@_code", "style-src '@-inline'", "un@ {", "#![forbid(@_code)]"] {
            assert_eq!(places(&text.replace('@', KEYWORD)), 0, "{text}");
        }
    }

    #[test]
    fn a_room_is_a_folder_of_its_own() {
        assert_eq!(folder("tcpguard/src/daemon/agent/poll.rs"), "tcpguard/src/daemon");
        assert_eq!(folder("testing/kit/src/net/raw.rs"), "testing/kit/src");
        assert_eq!(folder("tcpguard/build.rs"), "tcpguard");
    }
}
