//! The rooms of each crate in their order: a room uses only itself and those before it.

use std::path::Path;

use super::{begins_tests, is_word};

/// A crate and its rooms, which are its modules below `lib.rs`.
struct Crate {
    source: &'static str,
    rooms: &'static [&'static str],
}

const CRATES: [Crate; 5] = [
    Crate { source: "tcpguard-common/src", rooms: &["abi", "wire", "cookie", "fastpath", "model"] },
    Crate {
        source: "tcpguard-engine/src",
        rooms: &[
            "input",
            "settings",
            "listener",
            "evidence",
            "mitigation",
            "rules",
            "incident",
            "policy",
            "output",
            "engine",
        ],
    },
    Crate {
        source: "tcpguard-host/src",
        rooms: &[
            "escape",
            "stderr",
            "spelling",
            "units",
            "time",
            "toml_file",
            "toml_value",
            "random",
            "json",
            "hint",
            "durable",
            "notify",
            "linux",
            "drop_ins",
            "finding",
            "firewall",
            "obstacle",
            "states",
            "listeners",
            "tune",
            "doctor",
        ],
    },
    Crate {
        source: "tcpguard-fleet/src",
        rooms: &[
            "document", "trust", "share", "collect", "relief", "hook", "bus", "agent", "config",
            "daemon", "cli",
        ],
    },
    Crate {
        source: "tcpguard/src",
        rooms: &[
            "bpf",
            "config",
            "documents",
            "selftest",
            "text",
            "control",
            "driver",
            "telemetry",
            "replay",
            "html",
            "top",
            "daemon",
            "cli",
        ],
    },
];

/// Names all in a file outside its tests that breaks the order, one a line.
pub(super) fn violations(path: &Path, text: &str) -> Vec<String> {
    let within = |one: &'static Crate| Some((one, path.strip_prefix(one.source).ok()?));
    let Some((Crate { source, rooms }, inside)) = CRATES.iter().find_map(within) else {
        return Vec::new();
    };
    let modules = modules(inside);
    let Some(room) = modules.first() else { return Vec::new() };
    if modules.contains(&"tests") {
        return Vec::new();
    }
    let place = |name: &str| rooms.iter().position(|room| *room == name);
    let Some(own) = place(room) else {
        return vec![format!("{}: `{room}` is no room of {source}", path.display())];
    };
    let code = code(text);
    let mut broken = Vec::new();
    let mut note = |at: usize, what: String| {
        let line = code[..at].matches('\n').count() + 1;
        broken.push(format!("{}:{line}: {what}", path.display()));
    };
    for at in starts(&code, "crate::") {
        for name in heads(&code[at + "crate::".len()..]) {
            match place(name) {
                None => note(at, format!("`crate::{name}`: name the room that it is in")),
                Some(other) if other > own => {
                    note(at, format!("`crate::{name}`: {room} stands before {name}"));
                }
                Some(_) => {}
            }
        }
    }
    for at in starts(&code, "super::").filter(|at| !code[..*at].ends_with("::")) {
        let steps = code[at..].split("::").take_while(|segment| *segment == "super").count();
        if steps >= modules.len() {
            note(at, format!("`{}`: leaves {room}", "super::".repeat(steps)));
        }
    }
    broken
}

/// The module that a file is, by its path below the crate's root, which is no module itself.
fn modules(inside: &Path) -> Vec<&str> {
    let inside = inside.to_str().and_then(|path| path.strip_suffix(".rs")).unwrap_or_default();
    let file = inside.strip_suffix("/mod").unwrap_or(inside);
    if ["lib", "main"].contains(&file) { Vec::new() } else { file.split('/').collect() }
}

/// A file's text up to its tests without its comments, line by line.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| !begins_tests(line));
    lines.flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect()
}

/// Places at which the path segment `start` stands as a word.
fn starts<'a>(code: &'a str, start: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(start).map(|(at, _)| at).filter(|at| !code[..*at].ends_with(is_word))
}

/// The first segment of a path, or of each path of a group in braces.
fn heads(path: &str) -> Vec<&str> {
    let word = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
    if !path.starts_with('{') {
        return vec![&path[..word(path)]];
    }
    let (mut heads, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (at, character) in path.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            _ if fresh && is_word(character) => {
                heads.push(&path[at..at + word(&path[at..])]);
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        violations(Path::new(path), text)
    }

    #[test]
    fn a_room_uses_itself_and_those_before_it() {
        let path = "tcpguard-engine/src/rules/plan.rs";
        for line in [
            "use crate::rules::RuleTable;",
            "use crate::input::{\n    Matcher, Rule,\n};",
            "    let rule: crate::input::Rule = rule;",
            "use crate::{\n    input::{Matcher, Rule},\n    rules::Exempt,\n};",
            "//! See [`crate::engine`].",
            "use other_crate::engine::Engine;",
        ] {
            assert_eq!(broken(path, line), [""; 0], "{line}");
        }
        for line in [
            "use crate::incident::Incident;",
            "    crate::engine::run();",
            "pub(in crate::policy) fn plan() {}",
            "use crate::{\n    input::{Matcher, engine},\n    output::Command,\n};",
        ] {
            assert_eq!(broken(path, line).len(), 1, "{line}");
        }
        let refused = broken(path, "//! Plan.\n\nuse crate::policy::Grounds;");
        assert_eq!(refused, [format!("{path}:3: `crate::policy`: rules stands before policy")]);
    }

    #[test]
    fn what_lib_rs_exports_is_for_other_crates() {
        let path = "tcpguard-engine/src/policy/mod.rs";
        let refused = broken(path, "use crate::Engine;\nuse crate::{Rule, rules::Exempt};");
        let why =
            |line, name| format!("{path}:{line}: `crate::{name}`: name the room that it is in");
        assert_eq!(refused, [why(1, "Engine"), why(2, "Rule")]);
        assert_eq!(broken("tcpguard-engine/src/lib.rs", "pub use crate::Engine;"), [""; 0]);
    }

    #[test]
    fn no_path_leaves_its_room_upwards() {
        for (path, line) in [
            ("tcpguard-engine/src/rules/plan.rs", "use super::exempt::Exempt;"),
            ("tcpguard-engine/src/listener/signal/mod.rs", "use super::window::Window;"),
            ("tcpguard-engine/src/listener/signal/fast.rs", "use super::super::window::Window;"),
            ("tcpguard-engine/src/rules/mod.rs", "pub(super) fn plan() {}"),
        ] {
            assert_eq!(broken(path, line), [""; 0], "{path}: {line}");
        }
        for (path, line) in [
            ("tcpguard-engine/src/rules/mod.rs", "use super::input::Rule;"),
            ("tcpguard-engine/src/rules/plan.rs", "use super::super::input::Rule;"),
            ("tcpguard-host/src/units.rs", "use super::json;"),
        ] {
            assert_eq!(broken(path, line).len(), 1, "{path}: {line}");
        }
    }

    #[test]
    fn every_file_is_in_a_room() {
        let refused = broken("tcpguard-engine/src/misc.rs", "");
        assert_eq!(
            refused,
            ["tcpguard-engine/src/misc.rs: `misc` is no room of tcpguard-engine/src"]
        );
        for path in ["tcpguard-engine/src/lib.rs", "tcpguard/src/main.rs", "xtask/src/vm/mod.rs"] {
            assert_eq!(broken(path, "use crate::engine::Engine;"), [""; 0], "{path}");
        }
    }

    #[test]
    fn tests_are_free() {
        let text = "pub fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::engine::Engine;\n}\n";
        assert_eq!(broken("tcpguard-engine/src/input/time.rs", text), [""; 0]);
        let line = "use crate::engine::Engine;";
        assert_eq!(broken("tcpguard-engine/src/incident/tests.rs", line), [""; 0]);
        assert_eq!(broken("tcpguard-engine/src/incident/tests/odd.rs", line), [""; 0]);
    }
}
