//! Groups of the system, from the file that holds local ones.

use std::path::Path;

/// Where local groups are.
const GROUP_FILE: &str = "/etc/group";

/// The number of the group called `name`, which may be a number already.
pub(super) fn number(name: &str) -> Option<u32> {
    name.parse()
        .ok()
        .or_else(|| entry(Path::new(GROUP_FILE), |entry, _| entry == name).map(|e| e.1))
}

/// The name of group `gid`.
pub(super) fn name(gid: u32) -> Option<String> {
    entry(Path::new(GROUP_FILE), |_, number| number == gid).map(|entry| entry.0)
}

/// The first entry of a group file (`name:password:number:members`) that `wanted` accepts.
fn entry(file: &Path, wanted: impl Fn(&str, u32) -> bool) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        wanted(name, number).then(|| (name.to_owned(), number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_by_number() {
        assert_eq!(number("root"), Some(0));
        assert_eq!(number("1234"), Some(1234));
        assert_eq!(number("no-such-group"), None);
        assert_eq!(name(0).as_deref(), Some("root"));
    }
}
