//! The assignments in the files of sysctl.d(5) and sysctl.conf(5), in the order in which they are
//! applied.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::drop_ins;

/// Directories in which files are looked for; of two with one name the first directory's counts (sysctl.d(5)).
const DIRECTORIES: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// Applied last by `sysctl --system`.
const LAST: &str = "etc/sysctl.conf";
/// Longer than any such file.
const MAX_BYTES: u64 = 1 << 20;

/// One line that sets a sysctl.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assignment {
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The sysctl, with dots.
    pub name: String,
    pub value: String,
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Every assignment below `root`, in the order in which they are applied: the last of a name holds. A
/// file that cannot be read sets nothing.
pub fn read(root: &Path) -> Vec<Assignment> {
    let mut found = Vec::new();
    for path in drop_ins::files(root, &DIRECTORIES).into_iter().chain([root.join(LAST)]) {
        if let Some(text) = drop_ins::text(&path, MAX_BYTES) {
            found.extend(parse(&path, &text));
        }
    }
    found
}

/// The assignments of one file.
pub fn parse(path: &Path, text: &str) -> Vec<Assignment> {
    let assignment = |(index, line): (usize, &str)| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (name, value) = line.split_once('=')?;
        // "-": a failure is no error.
        let name = name.trim();
        let name = with_dots(name.strip_prefix('-').unwrap_or(name).trim());
        let value = value.trim().to_owned();
        (!name.is_empty()).then(|| Assignment { path: path.into(), line: index + 1, name, value })
    };
    text.lines().enumerate().filter_map(assignment).collect()
}

/// A name that begins with slashes between its parts, with dots: then the two stand for each other.
fn with_dots(name: &str) -> String {
    if name.find(['.', '/']).is_some_and(|first| name[first..].starts_with('.')) {
        return name.to_owned();
    }
    let swap = |char| match char {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<(usize, String, String)> {
        let found = parse(Path::new("/f"), text);
        found.into_iter().map(|line| (line.line, line.name, line.value)).collect()
    }

    #[test]
    fn a_line_sets_one_sysctl() {
        let text = "# net.core.somaxconn = 1\n; a = 2\n\nnet.core.somaxconn = 128\n\
                    -net/ipv4/conf/eth0.7/rp_filter=1\n  net.ipv4.ip_local_port_range = 1024 65535  \n\
                    nonsense\n= 3\nnet.ipv4.conf.eth0/7.rp_filter = 2\n";
        let row = |line, name: &str, value: &str| (line, name.to_owned(), value.to_owned());
        assert_eq!(
            of(text),
            [
                row(4, "net.core.somaxconn", "128"),
                row(5, "net.ipv4.conf.eth0/7.rp_filter", "1"),
                row(6, "net.ipv4.ip_local_port_range", "1024 65535"),
                row(9, "net.ipv4.conf.eth0/7.rp_filter", "2"),
            ]
        );
    }

    #[test]
    fn files_come_in_the_order_of_their_names_and_the_first_directory_hides_the_others() {
        let root = tempfile::tempdir().expect("temporary directory");
        for (path, text) in [
            ("etc/sysctl.d/50-a.conf", "a.b = etc\n"),
            ("usr/lib/sysctl.d/50-a.conf", "a.b = hidden\n"),
            ("usr/lib/sysctl.d/10-b.conf", "a.b = first\n"),
            ("run/sysctl.d/60-c.conf", "a.b = run\n"),
            ("etc/sysctl.d/README", "a.b = no file of ours\n"),
            ("etc/sysctl.conf", "a.b = last\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            fs::write(path, text).expect("file");
        }
        let values: Vec<String> = read(root.path()).into_iter().map(|line| line.value).collect();
        assert_eq!(values, ["first", "etc", "run", "last"]);
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_is_taken(text in "[ -~\\n\\t=./#;é]{0,300}") {
            let lines = text.lines().count();
            for assignment in parse(Path::new("/f"), &text) {
                prop_assert!(assignment.line >= 1 && assignment.line <= lines);
                prop_assert!(!assignment.name.is_empty());
                prop_assert!(!assignment.value.contains('\n'));
            }
        }
    }
}
