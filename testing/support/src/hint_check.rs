//! The next step for an operator: the last line of a message names a command or a file.
//!
//! Errors are held to that one by one, where they are defined, and the command line as a whole in its tests.

/// The reference of all commands.
const COMMANDS: &str = include_str!("../../../docs/commands.md");
/// Verbs for programs, and clap's own.
const OTHERS: [&str; 2] = ["help", "manual"];

/// The verbs of tcpguard, sorted. A test of the command line compares them with its own.
pub fn verbs() -> Vec<&'static str> {
    let rows = COMMANDS.lines().filter_map(|line| line.strip_prefix("| `tcpguard "));
    let documented = rows.filter_map(|row| row.split(['`', ' ']).next());
    let mut verbs: Vec<_> = documented.chain(OTHERS).collect();
    verbs.sort_unstable();
    verbs.dedup();
    verbs
}

/// Programs that are named besides tcpguard's own verbs.
const PROGRAMS: [&str; 19] = [
    "bpftool",
    "cargo",
    "df",
    "editcap",
    "ethtool",
    "groupadd",
    "ip",
    "ip6tables-legacy",
    "iptables-legacy",
    "journalctl",
    "ls",
    "modprobe",
    "nft",
    "ss",
    "sudo",
    "sysctl",
    "systemctl",
    "tcpdump",
    "uname",
];

/// Punctuation that may surround a word.
const PUNCTUATION: [char; 6] = ['(', ')', ',', ';', ':', '"'];

/// Returns whether the last line of `text` says how to go on; nothing said is well.
pub fn is_named(text: &str) -> bool {
    let Some(last) = text.lines().rfind(|line| !line.trim().is_empty()) else {
        return true;
    };
    let words: Vec<&str> =
        last.split_whitespace().map(|word| word.trim_matches(PUNCTUATION)).collect();
    words.windows(2).any(|pair| pair[0] == "tcpguard" && verbs().contains(&pair[1]))
        || words.iter().any(|word| {
            let option = word.strip_prefix("--").is_some_and(|name| !name.is_empty());
            let file = word.starts_with('/') && word.len() > 1;
            option || file || PROGRAMS.contains(word)
        })
}

#[test]
fn a_command_an_option_or_a_file_is_a_hint() {
    for (text, named) in [
        ("", true),
        ("error: no attack #99\n", false),
        ("error: it failed; try again/later\n", false),
        ("error: the IP stack lets it slip\n", false),
        ("error: agent not running\nhint: systemctl start tcpguard\n", true),
        ("error: not healthy after 1s\nhint: tcpguard status\n", true),
        ("error: too wide\nhint: use --force\n", true),
        ("error: cannot read (/etc/tcpguard/tcpguard.toml): no\n", true),
        ("see: tcpguard status\nno more\n\n", false),
    ] {
        assert_eq!(is_named(text), named, "{text}");
    }
}
