//! `tcpguard-fleet manual`: the manual pages of the program and its verbs, for packagers. They are made of the
//! definition that `--help` has.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use tcpguard_host::hint::Failure;

use super::args::Args;
use super::error::CliError;

/// Date of the last change of the pages: those of a version are the same whenever it is built.
const DATE: &str = "2026-11-28";
const SOURCE: &str = concat!("tcpguard-fleet ", env!("CARGO_PKG_VERSION"));

/// Writes the pages into `directory` and prints their paths.
pub(super) fn run(directory: &Path, out: &mut impl Write) -> Result<(), CliError> {
    let cannot = |error: io::Error| {
        let message = format!("cannot write {}: {error}", directory.display());
        Failure::new(message, "name another directory: tcpguard-fleet manual DIR")
    };
    fs::create_dir_all(directory).map_err(cannot)?;
    for (name, text) in pages().map_err(cannot)? {
        let path = directory.join(name);
        fs::write(&path, text).map_err(cannot)?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let program = Args::command().disable_help_subcommand(true);
    let mut pages = vec![page(program.clone(), &["tcpguard(8)", "tcpguard.toml(5)"])?];
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let typed = format!("tcpguard-fleet {}", verb.get_name());
        let command = verb.clone().bin_name(&typed).display_name(typed.replace(' ', "-"));
        pages.push(page(command, &["tcpguard-fleet(8)"])?);
    }
    Ok(pages)
}

fn page(command: Command, see_also: &[&str]) -> io::Result<(String, Vec<u8>)> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = format!("{name}.8");
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let verbs = command.has_subcommands();
    let man = Man::new(command).section("8").date(DATE).source(SOURCE).manual("tcpguard");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if verbs {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]).control("nf", []);
    for line in notes.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.control("SH", ["SEE ALSO"]).text([roman(see_also.join(", "))]);
    roff.to_writer(&mut text)?;
    Ok((file, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_hidden_ones_have_none() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[0], "tcpguard-fleet.8");
        assert!(names.contains(&"tcpguard-fleet-make-store.8"), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("relay") || name.contains("manual")));
        for (name, text) in &pages {
            let text = String::from_utf8_lossy(text);
            assert!(text.contains(".SH NOTES") && text.contains("Examples:"), "{name}: {text}");
        }
    }
}
