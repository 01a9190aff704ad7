//! The rooms of each crate in their order: a room uses only itself and those before it. Below them, as deep as folders
//! go, no two rooms next to each other use each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

/// Neighbours that use each other all the same, of which one at least has a folder.
const MUTUAL: [(&str, &str, &str); 6] = [
    ("tcpguard-host/src/tune", "advice", "document"),
    ("tcpguard/src/bpf", "attach", "pins"),
    ("tcpguard/src/html", "plot", "times"),
    ("tcpguard/src/text", "event", "incident"),
    ("tcpguard/src/text", "incident", "incidents"),
    ("tcpguard/src/text", "incident", "status"),
];

/// Names the neighbours that use each other and are not known for it, and those that no longer do.
pub(super) fn mutual(files: &[(PathBuf, String)]) -> Vec<String> {
    let found: BTreeSet<String> = CRATES.iter().flat_map(|one| neighbours(one, files)).collect();
    let known = MUTUAL.map(|(folder, one, other)| pair(folder, one, other));
    let known = BTreeSet::from(known);
    let new = found.difference(&known).map(|pair| format!("{pair} use each other"));
    let gone = known
        .difference(&found)
        .map(|pair| format!("{pair} no longer use each other: take them off the list in xtask"));
    new.chain(gone).collect()
}

fn pair(folder: &str, one: &str, other: &str) -> String {
    format!("{folder}: {one} and {other}")
}

/// The pairs of a crate's modules in one folder that use each other, at least one of them a folder itself.
fn neighbours(Crate { source, .. }: &Crate, files: &[(PathBuf, String)]) -> Vec<String> {
    let within = |(path, text): &(PathBuf, String)| {
        let inside = path.strip_prefix(source).ok()?;
        let modules: Vec<String> = modules(inside).into_iter().map(str::to_owned).collect();
        (!modules.iter().any(|name| name.ends_with("tests"))).then(|| (modules, code(text)))
    };
    let files: BTreeMap<Vec<String>, String> = files.iter().filter_map(within).collect();
    let is_folder = |folder: &[String], name: &String| {
        let mut inside = files.keys().filter(|file| file.len() > folder.len() + 1);
        inside.any(|file| file.starts_with(folder) && file[folder.len()] == *name)
    };
    let mut uses = BTreeSet::new();
    for (own, code) in &files {
        for used in used(own, code) {
            let is_module = |len: &usize| files.contains_key(&used[..*len]);
            let len = (0..=used.len()).rev().find(is_module).unwrap_or_default();
            let shared = own.iter().zip(&used[..len]).take_while(|(one, it)| one == it).count();
            if let (Some(one), Some(other)) = (own.get(shared), used[..len].get(shared)) {
                uses.insert((own[..shared].to_vec(), one.clone(), other.clone()));
            }
        }
    }
    let is_mutual = |(folder, one, other): &&(Vec<String>, String, String)| {
        let back = (folder.clone(), other.clone(), one.clone());
        !folder.is_empty()
            && one < other
            && uses.contains(&back)
            && (is_folder(folder, one) || is_folder(folder, other))
    };
    let mutual = uses.iter().filter(is_mutual);
    let path = |folder: &[String]| format!("{source}/{}", folder.join("/"));
    mutual.map(|(folder, one, other)| pair(&path(folder), one, other)).collect()
}

/// The modules that the code of module `own` names, from the crate's root on, each with what it takes of them.
fn used(own: &[String], code: &str) -> Vec<Vec<String>> {
    let owned = |path: &[&str]| path.iter().map(|segment| (*segment).to_owned()).collect();
    let mut all = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for at in starts(code, start).filter(|at| !code[..*at].ends_with("::")) {
            let mut paths = Vec::new();
            expand(&code[at..], &[], &mut paths);
            all.extend(paths.into_iter().map(|path| match path[0] {
                "crate" => owned(&path[1..]),
                "self" => [own.to_vec(), owned(&path[1..])].concat(),
                _ => {
                    let up = path.iter().take_while(|segment| **segment == "super").count();
                    let above = own[..own.len().saturating_sub(up)].to_vec();
                    [above, owned(&path[up..])].concat()
                }
            }));
        }
    }
    all
}

/// Adds the path at the beginning of `text` to `found`, behind `before`; of a group in braces each one. Returns its
/// length.
fn expand<'a>(text: &'a str, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> usize {
    let (mut segments, mut at) = (before.to_vec(), 0);
    loop {
        if text[at..].starts_with('{') {
            while let Some(gap) = text[at + 1..].find(|c: char| is_word(c) || "*}".contains(c)) {
                at += 1 + gap;
                if text[at..].starts_with('}') {
                    break;
                }
                at += expand(&text[at..], &segments, found);
                // A name may follow `as`.
                at += text[at..].find([',', '}']).unwrap_or_default();
                if text[at..].starts_with('}') {
                    break;
                }
            }
            return at + 1;
        }
        let word = text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at);
        if word > 0 {
            segments.push(&text[at..at + word]);
            at += word;
        }
        if word == 0 || !text[at..].starts_with("::") {
            found.push(segments);
            return at;
        }
        at += "::".len();
    }
}

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
        let mut paths = Vec::new();
        expand(&code[at..], &[], &mut paths);
        for name in paths.iter().filter_map(|path| path.get(1).copied()) {
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
    fn no_neighbours_use_each_other_however_deep() {
        let files = |pairs: &[(&str, &str)]| -> Vec<(PathBuf, String)> {
            let file = |(path, text): &(&str, &str)| {
                (Path::new("tcpguard/src/daemon").join(path), (*text).to_owned())
            };
            pairs.iter().map(file).collect()
        };
        let found = |pairs: &[(&str, &str)]| {
            let refused = mutual(&files(pairs));
            refused.into_iter().filter(|it| it.ends_with("use each other")).collect::<Vec<_>>()
        };
        let agent =
            "use super::super::store::{\n    alerts::AlertFile as File,\n    writer::*,\n};";
        let store = "use crate::daemon::agent::{Agent, poll::{self, Pace}};";
        let pair = "tcpguard/src/daemon: agent and store use each other";
        assert_eq!(
            found(&[("agent/mod.rs", ""), ("agent/act.rs", agent), ("store.rs", store)]),
            [pair]
        );
        assert_eq!(
            found(&[("agent/mod.rs", ""), ("agent/act.rs", agent), ("store.rs", "")]),
            [""; 0]
        );
        let (poll, act) = ("use super::act::act;", "use super::poll::{poll};");
        let within = [("agent/mod.rs", ""), ("agent/act.rs", act), ("agent/poll.rs", poll)];
        assert_eq!(found(&within), [""; 0], "files of one folder");
        let deeper =
            [within[0], within[1], ("agent/poll/mod.rs", poll), ("agent/poll/pace.rs", "")];
        assert_eq!(found(&deeper), ["tcpguard/src/daemon/agent: act and poll use each other"]);
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
