//! Commands in texts for people exist: the command line itself reads every command of the
//! documentation, of help texts and of manual pages. Commands that are marked as runnable are also
//! run: `testing/root-tests/tests/surface/docs_live.rs`.

// The pages know of `tcpguard top`.
#![cfg(feature = "tui")]

mod catalog;
mod commands;
mod doctor;
mod italics;
mod numbers;
mod pages;
mod samples;
#[allow(dead_code, reason = "not all scenes are looked at")]
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use commands::{calls, mentioned, typed};
use pages::{Page, Placed, advice, files, markdown, root};
use support::{calm, status};
use tcpguard::cli::Args;
use tcpguard::documents::State;
use tcpguard::text::headline;

/// Holds each line against `check`; all that do not pass are reported at once.
#[track_caller]
fn hold(lines: &[Placed], least: usize, check: impl Fn(&str) -> Vec<String>) {
    let wrong: Vec<String> = lines
        .iter()
        .flat_map(|line| {
            let complaints = check(&line.text);
            complaints.into_iter().map(move |why| format!("{}: {}\n  {why}", line.place, line.text))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(lines.len() >= least, "only {} were found", lines.len());
}

/// Mistakes in the calls of a shell line.
fn mistyped(line: &str) -> Vec<String> {
    calls(line).iter().filter_map(|call| typed(call).err()).collect()
}

fn misnamed(call: &str) -> Vec<String> {
    mentioned(call).err().into_iter().collect()
}

#[test]
fn every_command_in_a_block_of_code_can_be_typed() {
    let lines: Vec<Placed> = markdown().iter().flat_map(Page::code).collect();
    let calling: Vec<Placed> =
        lines.into_iter().filter(|line| !calls(&line.text).is_empty()).collect();
    hold(&calling, 40, mistyped);
}

#[test]
fn every_verb_and_option_that_is_mentioned_exists() {
    let pages = markdown();
    let spans = pages.iter().flat_map(Page::spans).filter_map(|span| {
        let text = span.text.trim().trim_start_matches("sudo ").to_owned();
        text.starts_with("tcpguard ").then_some(Placed { text, ..span })
    });
    hold(&spans.collect::<Vec<_>>(), 80, misnamed);
}

#[test]
fn every_verb_has_its_line_among_the_commands() {
    let pages = markdown();
    let page = pages.iter().find(|page| page.path.ends_with("docs/commands.md")).unwrap();
    let program = Args::command();
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let line = format!("| `tcpguard {}` |", verb.get_name());
        assert!(page.text.contains(&line), "{line} is missing");
    }
}

#[test]
fn every_headline_of_the_status_is_explained() {
    let pages = markdown();
    let page = pages.iter().find(|page| page.path.ends_with("docs/operations.md")).unwrap();
    for state in [
        State::Protecting,
        State::Observing,
        State::Elevated,
        State::AttackMitigated,
        State::AttackUnmitigated,
        State::DroppedBeforeXdp,
        State::Degraded,
        State::Off,
    ] {
        for ratio in [None, Some(0.1), Some(1.0)] {
            let mut status = status(calm());
            (status.daemon.state, status.clients.ratio) = (state, ratio);
            let (sign, words, _) = headline(&status);
            let line = format!("\n| {sign} {words} | ");
            assert!(page.text.contains(&line), "{line:?} is missing");
        }
    }
}

/// Next commands that alert rules, the journal's catalog, the packages and the agent's own pages
/// name.
#[test]
fn every_next_command_that_is_named_exists() {
    let mut advised = files(&["packaging", "packaging/prometheus"], "");
    advised.extend(files(&["packaging/deb", "packaging/rpm", "packaging/systemd"], ""));
    advised.extend(files(&["tcpguard/tests/expected"], ".txt"));
    hold(&advised.iter().flat_map(advice).collect::<Vec<_>>(), 60, misnamed);
}

fn collect(command: &clap::Command, found: &mut Vec<Placed>) {
    let place = command.get_bin_name().unwrap_or_default().to_owned();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    found.extend(help.lines().map(|line| Placed { place: place.clone(), text: line.to_owned() }));
    let below = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    below.for_each(|verb| collect(verb, found));
}

#[test]
fn every_example_of_a_help_text_can_be_typed() {
    let mut program = Args::command();
    program.build();
    let mut lines = Vec::new();
    collect(&program, &mut lines);
    lines.retain(|line| !calls(&line.text).is_empty());
    hold(&lines, 80, mistyped);
}

/// A line of roff as it is read.
fn read(line: &str) -> String {
    line.replace(r"\*(Aq", "'").replace(r"\-", "-").replace(r"\&", "").replace(r"\\", r"\")
}

#[test]
fn every_example_of_a_manual_page_can_be_typed() {
    let directory = tempfile::tempdir().unwrap();
    let written = Command::new(env!("CARGO_BIN_EXE_tcpguard"))
        .arg("manual")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    let mut lines = Vec::new();
    for page in fs::read_dir(directory.path()).unwrap() {
        let path = page.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let Some((_, examples)) = text.split_once(".SH EXAMPLES\n") else { continue };
        let examples = examples.split(".SH").next().unwrap_or_default();
        let place = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        lines
            .extend(examples.lines().map(|line| Placed { place: place.clone(), text: read(line) }));
    }
    lines.retain(|line| !calls(&line.text).is_empty());
    hold(&lines, 60, mistyped);
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let pages = markdown();
    let mut wrong = Vec::new();
    for page in &pages {
        let directory = page.path.parent().unwrap_or(Path::new(""));
        for link in page.links().into_iter().filter(|link| !link.text.contains("://")) {
            let (file, anchor) = link.text.split_once('#').unwrap_or((&link.text, ""));
            let path = root().join(directory).join(file);
            let target = match file {
                "" => Some(page),
                _ => pages.iter().find(|it| same_file(&root().join(&it.path), &path)),
            };
            let leads = path.exists() || file.is_empty();
            let named = anchor.is_empty()
                || target.is_some_and(|it| it.anchors().iter().any(|name| name == anchor));
            if !(leads && named) {
                wrong.push(format!("{}: {}", link.place, link.text));
            }
        }
    }
    assert!(wrong.is_empty(), "lead nowhere:\n{}", wrong.join("\n"));
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Tests that each of the checks above can fail.
mod by_construction {
    use std::path::PathBuf;

    use super::*;

    fn page(text: &str) -> Page {
        Page { path: PathBuf::from("page.md"), text: text.to_owned() }
    }

    #[test]
    fn a_verb_an_option_and_a_value_that_do_not_exist_are_found() {
        for line in [
            "tcpguard fly",
            "sudo tcpguard status --sideways",
            "$ tcpguard mode on",
            "tcpguard rules fly",
            "tcpguard config check && tcpguard block",
            "tcpguard rules export | sort > rules.txt; tcpguard rules import",
            "LC_ALL=C tcpguard block 192.0.2.1/24   # bits of the host are set",
        ] {
            assert_eq!(mistyped(line).len(), 1, "{line}");
        }
        for line in [
            "tcpguard status --json | jq '.incidents[] | .id'",
            "sudo tcpguard block 192.0.2.7 --for 1h --reason \"a # b\"   # with a comment",
            "tcpguard explain 7 2>/dev/null",
            "systemctl start tcpguard",
            "echo tcpguard fly",
            "# tcpguard fly",
        ] {
            assert_eq!(mistyped(line), [""; 0], "{line}");
        }
        let quoted = calls("tcpguard allow 192.0.2.7 --reason 'our own'>/dev/null");
        assert_eq!(quoted, [["tcpguard", "allow", "192.0.2.7", "--reason", "our own"]]);
    }

    #[test]
    fn a_mention_of_what_does_not_exist_is_found() {
        for call in [
            "tcpguard fly",
            "tcpguard status --sideways",
            "tcpguard rules list|fly",
            "tcpguard rules list --raw --sideways",
            "tcpguard status -z",
            "tcpguard --sideways status",
        ] {
            assert_eq!(misnamed(call).len(), 1, "{call}");
        }
        for call in [
            "tcpguard VERB --help",
            "tcpguard rules list|export|import FILE|flush",
            "tcpguard mode [MODE [--for 10m] [--rollback-after 60s]]",
            "tcpguard status --watch [SEC], …",
            "tcpguard run -i IFACE",
            "tcpguard confirm [PREFIX]",
            "tcpguard 0.1.0",
        ] {
            assert_eq!(misnamed(call), [""; 0], "{call}");
        }
    }

    #[test]
    fn blocks_spans_links_and_headings_are_distinguished() {
        let page = page(
            "# Use of *it*, daily\n\nSee `tcpguard\nstatus` and [this](a.md#b), not `x`.\n\n    \
             tcpguard fly\n    next \\\n    line\n\nNo block:\n    tcpguard no\n\n```sh attack\ntcpguard \
             swim\n```\n",
        );
        let texts = |found: Vec<Placed>| -> Vec<String> {
            found.into_iter().map(|found| found.text).collect()
        };
        assert_eq!(texts(page.code()), ["tcpguard fly", "next line", "tcpguard swim"]);
        assert_eq!(page.code()[0].place, "page.md:6");
        assert_eq!(texts(page.spans()), ["tcpguard status", "x"]);
        assert_eq!(texts(page.links()), ["a.md#b"]);
        assert_eq!(page.anchors(), ["use-of-it-daily"]);
        let infos: Vec<String> = tcpguard_support::blocks::blocks(&page.text)
            .into_iter()
            .map(|block| block.info)
            .collect();
        assert_eq!(infos, ["", "sh attack"]);
    }

    #[test]
    fn advice_is_distinguished_from_prose() {
        let advised = advice(&page(
            "it helps: tcpguard fly; tcpguard drops it\n  → tcpguard swim, or sudo tcpguard status\n",
        ));
        let advised: Vec<String> = advised.into_iter().map(|advised| advised.text).collect();
        assert_eq!(advised, ["tcpguard fly", "tcpguard swim", "tcpguard status"]);
    }
}
