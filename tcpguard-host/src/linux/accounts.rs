//! Users and groups of the system, from the files that hold local ones.

use std::fs;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// The number of the user called `name`.
pub fn user_id(name: &str) -> Option<u32> {
    Some(entry(&fs::read_to_string(USERS).ok()?, |user, _| user == name)?.1)
}

/// The number of the group called `name`, which may be a number already.
pub fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    Some(entry(&fs::read_to_string(GROUPS).ok()?, |group, _| group == name)?.1)
}

/// The name of group `gid`.
pub fn group_name(gid: u32) -> Option<String> {
    Some(entry(&fs::read_to_string(GROUPS).ok()?, |_, number| number == gid)?.0)
}

/// The first entry (`name:password:number:…`) that `wanted` accepts.
fn entry(text: &str, wanted: impl Fn(&str, u32) -> bool) -> Option<(String, u32)> {
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
    fn users_and_groups_are_found_by_name_and_by_number() {
        assert_eq!((user_id("root"), user_id("no-such-user")), (Some(0), None));
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("1234"), Some(1234));
        assert_eq!(group_id("no-such-group"), None);
        assert_eq!(group_name(0).as_deref(), Some("root"));
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        let text =
            "root:x:0:0::/root:/bin/sh\nbroken\nguard:x:many:1\nguard:x:997:996::/:/bin/sh\n";
        let number = |wanted: &str| entry(text, |name, _| name == wanted).map(|(_, number)| number);
        assert_eq!((number("guard"), number("broken"), number("gu")), (Some(997), None, None));
    }
}
