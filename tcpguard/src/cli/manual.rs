//! `tcpguard manual`: the manual pages, for packagers. A page of section 8 for the program and each of
//! its verbs, from the same definition as `--help`, and one of section 5 for the configuration, from the
//! same list as the file that `config init` writes.

use std::{fs, io};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::args::{Args, EXIT_STATUS, ManualArgs};
use super::error::CliError;
use super::exit::Exit;
use super::session::Session;
use crate::config::keys;

/// Title in the head of each page.
const TITLE: &str = "tcpguard";
/// Date of the last change of the pages: those of a version are the same whenever it is built.
const DATE: &str = "2026-11-30";
/// Text in each page's foot.
const SOURCE: &str = concat!("tcpguard ", env!("CARGO_PKG_VERSION"));

/// The description of the program, and behind its verbs and options the sections from SIGNALS on.
const PROGRAM: &str = include_str!("manual/tcpguard.8");
/// The page of the configuration as far as its keys.
const CONFIGURATION: &str = include_str!("manual/tcpguard.toml.5");

/// A page, ready to be written.
struct Page {
    name: String,
    text: Vec<u8>,
}

pub(super) fn run(args: &ManualArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let directory = &args.directory;
    let cannot = |error: io::Error| {
        CliError::file("write", directory, &error, "name another directory: tcpguard manual DIR")
    };
    fs::create_dir_all(directory).map_err(cannot)?;
    for page in pages()? {
        let path = directory.join(page.name);
        fs::write(&path, page.text).map_err(cannot)?;
        session.print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn pages() -> io::Result<Vec<Page>> {
    let mut pages = vec![of_program()?, of_configuration()?];
    let program = Args::command();
    // tcpguard-fleet(8) is a page of that program.
    let own = |verb: &&Command| !verb.is_hide_set() && verb.get_name() != "fleet";
    for verb in program.get_subcommands().filter(own) {
        add_verb(verb, "tcpguard", &mut pages)?;
    }
    Ok(pages)
}

fn of_program() -> io::Result<Page> {
    let program = Args::command()
        .disable_help_subcommand(true)
        .subcommand_help_heading("VERBS")
        .subcommand_value_name("VERB");
    let (man, mut text) = head(program.clone())?;
    let (description, rest) = PROGRAM.split_at(PROGRAM.find(".SH SIGNALS").unwrap_or_default());
    text.extend(description.bytes());
    man.render_subcommands_section(&mut text)?;
    man.render_options_section(&mut text)?;

    let mut roff = Roff::new();
    exit_status(&mut roff, "");
    examples(&mut roff, &program);
    roff.to_writer(&mut text)?;
    text.extend(rest.bytes());
    let mut roff = Roff::new();
    see_also(&mut roff, &["tcpguard.toml(5)", "journalctl(1)", "ss(8)", "tcp(7)"]);
    roff.to_writer(&mut text)?;
    Ok(Page { name: "tcpguard.8".to_owned(), text })
}

/// Adds the page of `verb`, and those of its own verbs. `before` is the command line up to it.
fn add_verb(verb: &Command, before: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    let typed = format!("{before} {}", verb.get_name());
    let name = typed.replace(' ', "-");
    // On its own, so that the global options are described once, in tcpguard(8).
    let command = verb
        .clone()
        .bin_name(&typed)
        .display_name(&name)
        .disable_help_subcommand(true)
        .subcommand_help_heading("VERBS")
        .subcommand_value_name("VERB");
    let (man, mut text) = head(command)?;
    let mut roff = Roff::new();
    description(&mut roff, verb);
    roff.to_writer(&mut text)?;
    man.render_options_section(&mut text)?;
    if verb.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    roff.control("PP", []).text(marked("The global options are in tcpguard(8)."));
    exit_status(&mut roff, typed.split(' ').nth(1).unwrap_or_default());
    examples(&mut roff, verb);
    see_also(&mut roff, &["tcpguard(8)", "tcpguard.toml(5)"]);
    roff.to_writer(&mut text)?;
    pages.push(Page { name: format!("{name}.8"), text });
    verb.get_subcommands().try_for_each(|verb| add_verb(verb, &typed, pages))
}

/// A page of section 8 as far as its synopsis.
fn head(command: Command) -> io::Result<(Man, Vec<u8>)> {
    let man = Man::new(command).section("8").date(DATE).source(SOURCE).manual(TITLE);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    Ok((man, text))
}

/// The text below the options in `--help`: notes, exit codes and examples, with headings of their own.
fn after_help(command: &Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
}

/// The notes below the options in `--help`.
fn description(roff: &mut Roff, command: &Command) {
    let text = after_help(command);
    let notes = text.split(EXIT_STATUS).next().and_then(|text| text.split("Examples:").next());
    let notes = notes.unwrap_or_default().trim().replace('\n', " ");
    roff.control("SH", ["DESCRIPTION"]).text(marked(&notes));
}

fn exit_status(roff: &mut Roff, verb: &str) {
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in Exit::table(verb) {
        roff.control("TP", []).text([bold(exit.code().to_string())]).text([roman(*meaning)]);
    }
}

fn examples(roff: &mut Roff, command: &Command) {
    let text = after_help(command);
    if let Some((_, examples)) = text.split_once("Examples:\n") {
        roff.control("SH", ["EXAMPLES"]);
        literal(roff, examples.lines().map(str::trim));
    }
}

fn see_also(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
}

/// Lines that are neither filled nor joined.
fn literal<'a>(roff: &mut Roff, lines: impl IntoIterator<Item = &'a str>) {
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// `text` with the parts between backticks in bold.
fn marked(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { roman(part) } else { bold(part) }).collect()
}

fn of_configuration() -> io::Result<Page> {
    let mut roff = Roff::new();
    roff.control("TH", ["tcpguard.toml", "5", DATE, SOURCE, TITLE]);
    let head = roff.render() + CONFIGURATION;
    let mut roff = Roff::new();
    for section in keys::sections() {
        match section.name {
            "" => roff.control("SH", ["TOP LEVEL"]),
            name => roff.control("SH", [format!("[{name}]").as_str()]),
        };
        if !section.intro.is_empty() {
            roff.text(marked(&section.intro));
        }
        for key in section.keys {
            roff.control("TP", []).text([bold(key.name), roman(format!(" = {}", key.example))]);
            explain(&mut roff, &key.doc);
        }
    }
    see_also(&mut roff, &["tcpguard(8)", "tcpguard-config(8)", "tcpguard-reload(8)"]);
    Ok(Page { name: "tcpguard.toml.5".to_owned(), text: (head + &roff.render()).into_bytes() })
}

/// An explanation; its indented lines are a table.
fn explain(roff: &mut Roff, text: &str) {
    let is_table = |line: &str| line.starts_with(' ');
    let lines: Vec<&str> = text.lines().collect();
    for block in lines.chunk_by(|one, next| is_table(one) == is_table(next)) {
        match block {
            [first, ..] if is_table(first) => literal(roff, block.iter().copied()),
            _ => {
                roff.text(marked(&block.join(" ")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DEFAULT_PATH, DEFAULT_PIN_DIR, DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR};

    /// The source of every page, with the escapes of roff taken out.
    fn plain() -> Vec<(String, String)> {
        let plain = |page: Page| {
            let text = String::from_utf8(page.text).unwrap();
            let text = text.replace(r"\fB", "").replace(r"\fR", "").replace(r"\*(Aq", "'");
            (page.name, text.replace('\\', ""))
        };
        pages().unwrap().into_iter().map(plain).collect()
    }

    fn page(name: &str) -> String {
        let found = plain().into_iter().find(|(of, _)| of == name);
        found.unwrap_or_else(|| panic!("there is no {name}")).1
    }

    #[test]
    fn every_verb_that_help_shows_has_a_page_that_names_it_and_the_program_lists_it() {
        let program = page("tcpguard.8");
        for verb in Args::command().get_subcommands() {
            let name = format!("tcpguard-{}", verb.get_name());
            let found = plain().into_iter().find(|(of, _)| *of == format!("{name}.8"));
            let is_of_other_program = verb.get_name() == "fleet";
            assert_eq!(found.is_some(), !verb.is_hide_set() && !is_of_other_program, "{name}");
            assert_eq!(program.contains(&format!("{name}(8)")), !verb.is_hide_set(), "{name}");
            if let (Some((_, text)), Some(about)) = (found, verb.get_about()) {
                assert!(text.contains(&format!(".SH NAME\n{name} - {about}\n")), "{text}");
                assert!(!text.contains("--pin-dir"), "global options are listed once: {text}");
            }
        }
        assert!(program.contains("--pin-dir"), "{program}");
        for path in [DEFAULT_PATH, DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR, DEFAULT_PIN_DIR] {
            assert!(program.contains(&format!(".TP\n{path}\n")), "{path}: {program}");
        }
        assert!(page("tcpguard-rules-import.8").contains("tcpguard rules import"));
    }

    #[test]
    fn every_page_of_section_8_has_a_description_exit_codes_and_examples() {
        for (name, text) in plain().into_iter().filter(|(name, _)| name.ends_with(".8")) {
            for (heading, next) in [
                ("DESCRIPTION\n", ".SH OPTIONS"),
                ("\"EXIT STATUS\"\n.TP\n0\n", ".SH EXAMPLES\n.nf\n"),
                ("EXAMPLES\n.nf\n", ".fi\n"),
            ] {
                let (_, body) = text.split_once(&format!(".SH {heading}")).expect(&name);
                let (body, _) = body.split_once(next).unwrap_or_else(|| panic!("{name}: {text}"));
                assert!(!body.trim().is_empty(), "{name}: {heading}");
            }
        }
        let check = page("tcpguard-check.8");
        assert!(check.contains(".TP\n2\nCRITICAL"), "{check}");
        assert!(!check.contains("Exit status:"), "{check}");
    }

    #[test]
    fn every_key_of_the_configuration_stands_in_its_section_with_its_default() {
        let page = page("tcpguard.toml.5");
        for section in keys::sections() {
            let heading = match section.name {
                "" => ".SH \"TOP LEVEL\"\n".to_owned(),
                name => format!(".SH [{name}]\n"),
            };
            let (_, text) = page.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
            let text = text.split(".SH ").next().unwrap_or_default();
            for key in section.keys {
                let entry = format!(".TP\n{} = {}\n", key.name, key.example);
                assert!(text.contains(&entry), "{entry} is not in {text}");
            }
        }
    }

    #[test]
    fn the_head_of_a_page_has_all_its_five_fields() {
        let heads = plain().into_iter().map(|(name, text)| {
            let head = text.lines().find(|line| line.starts_with(".TH ")).map(str::to_owned);
            (name, head.unwrap_or_default())
        });
        for (name, head) in heads {
            let (title, section) = name.rsplit_once('.').unwrap();
            assert_eq!(head, format!(".TH {title} {section} {DATE} \"{SOURCE}\" tcpguard"));
        }
    }

    #[test]
    fn a_table_in_an_explanation_keeps_its_lines() {
        let mut roff = Roff::new();
        explain(&mut roff, "One of `two`:\n  a  first\n  b  second\nAnd so on.");
        assert_eq!(
            roff.to_roff(),
            "One of \\fBtwo\\fR:\n.nf\n  a  first\n  b  second\n.fi\nAnd so on.\n"
        );
    }
}
