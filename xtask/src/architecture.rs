//! The rules of ARCHITECTURE.md that a search through the source can hold.

mod rooms;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Longer, and a file holds more than one idea.
pub const LONGEST_FILE: usize = 600;

/// Names that no code below `within` may use, except below `except`.
struct Ban {
    within: &'static str,
    except: &'static str,
    names: &'static [&'static str],
    why: &'static str,
}

const BANS: [Ban; 4] = [
    Ban {
        within: "tcpguard/src",
        except: "tcpguard/src/bpf",
        names: &["aya", "aya_obj", "aya_log"],
        why: "only tcpguard/src/bpf names aya, so that its next version touches one folder",
    },
    Ban {
        within: "tcpguard-engine/src",
        except: "",
        names: &["aya", "tokio", "libc", "rustix", "Instant", "SystemTime", "fs", "io"],
        why: "the engine performs no I/O and reads no clock: live and replay must decide alike",
    },
    Ban {
        within: "tcpguard-host/src",
        except: "",
        names: &["aya", "aya_obj", "tcpguard", "tcpguard_common"],
        why: "tcpguard-host reads and judges Linux as it is, without BPF and without the agent",
    },
    Ban {
        within: "testing/fuzz",
        except: "testing/fuzz/libfuzzer",
        names: &["libfuzzer_sys"],
        why: "targets are plain functions: every run of the tests plays what was found",
    },
];

/// Checks every Rust file of the repository.
///
/// # Errors
/// Names all that break a rule, one a line, with the rule.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    for path in workspace.rust_files()? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((path.strip_prefix(&workspace.root).unwrap_or(&path).to_owned(), text));
    }
    let mut broken = rooms::mutual(&files);
    for (path, text) in &files {
        broken.extend(violations(path, text));
        broken.extend(rooms::violations(path, text));
    }
    if !broken.is_empty() {
        bail!("architecture:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

fn violations(path: &Path, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let length = text.lines().count();
    if length > LONGEST_FILE {
        broken.push(format!("{}: {length} lines; {LONGEST_FILE} at most", path.display()));
    }
    let bans = BANS.iter().filter(|ban| {
        path.starts_with(ban.within) && (ban.except.is_empty() || !path.starts_with(ban.except))
    });
    for ban in bans {
        for (number, line) in text.lines().enumerate().take_while(|(_, line)| !begins_tests(line)) {
            if let Some(name) = ban.names.iter().find(|name| uses(line, name)) {
                let number = number + 1;
                broken.push(format!("{}:{number}: `{name}`: {}", path.display(), ban.why));
            }
        }
    }
    broken
}

/// Unit tests stand at the end of a file, and may read files and clocks.
fn begins_tests(line: &str) -> bool {
    line.ends_with("mod tests {") && !line.starts_with(' ')
}

/// Returns whether `line` names the path segment `name`: `name::…`, `…::name` or `use name`, outside
/// comments. A variable of the same name is something else.
fn uses(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(name).any(|(start, _)| {
        let (before, after) = (&code[..start], &code[start + name.len()..]);
        let is_word = !before.ends_with(is_word) && !after.starts_with(is_word);
        let in_path = after.starts_with("::") || before.ends_with("::");
        let imported = code.trim_start().starts_with("use ") || code.contains("extern crate");
        is_word && (in_path || imported)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        violations(Path::new(path), text)
    }

    #[test]
    fn only_the_bpf_module_names_aya() {
        let line = "use aya::Ebpf;";
        assert_eq!(broken("tcpguard/src/bpf/load.rs", line), [""; 0]);
        assert_eq!(broken("testing/root-tests/src/bin/load.rs", line), [""; 0]);
        let refused = broken("tcpguard/src/daemon/mod.rs", line);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].starts_with("tcpguard/src/daemon/mod.rs:1: `aya`"), "{refused:?}");
    }

    #[test]
    fn the_engine_reads_no_clock_and_no_file() {
        for line in [
            "use std::time::Instant;",
            "    let now = std::time::SystemTime::now();",
            "use std::{fs, net::IpAddr};",
            "    let file = std::fs::read(path);",
        ] {
            assert_eq!(broken("tcpguard-engine/src/engine/mod.rs", line).len(), 1, "{line}");
        }
        for line in ["use std::net::IpAddr;", "// as tokio::time would", "let io = 1;", "Ratios"] {
            assert_eq!(broken("tcpguard-engine/src/engine/mod.rs", line), [""; 0], "{line}");
        }
    }

    #[test]
    fn targets_know_of_no_fuzzer() {
        let line = "libfuzzer_sys::fuzz_target!(|input: &[u8]| frame(input));";
        assert_eq!(broken("testing/fuzz/src/frame.rs", line).len(), 1);
        assert_eq!(broken("testing/fuzz/libfuzzer/fuzz_targets/frame.rs", line), [""; 0]);
    }

    #[test]
    fn unit_tests_are_free_to_use_what_code_is_not() {
        let text = "pub fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(broken("tcpguard-engine/src/engine/mod.rs", text), [""; 0]);
    }

    #[test]
    fn a_file_longer_than_the_limit_is_named_with_its_length() {
        let text = "//\n".repeat(LONGEST_FILE + 1);
        let refused = broken("xtask/src/main.rs", &text);
        assert_eq!(refused, ["xtask/src/main.rs: 601 lines; 600 at most"]);
        assert_eq!(broken("xtask/src/main.rs", &text[3..]), [""; 0]);
    }
}
