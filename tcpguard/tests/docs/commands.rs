//! Calls of tcpguard in text, and whether the command line would take them.

use clap::{Command, CommandFactory, Parser};
use tcpguard::cli::Args;

/// Punctuation that may surround a word of prose.
const PUNCTUATION: [char; 11] = ['[', ']', '(', ')', ',', ';', ':', '.', '"', '\'', '…'];

/// The calls of tcpguard in a line of a shell, each with its words, the program's name first. Prompts,
/// `sudo` and variables in front of it, redirections, other programs and comments are left out.
pub fn calls(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    // The next word is a file's name.
    let mut redirected = false;
    let mut chars = line.chars();
    loop {
        let char = chars.next();
        match char {
            Some(quote @ ('\'' | '"')) => {
                let word = word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|char| *char != quote));
                continue;
            }
            Some('\\') => {
                word.get_or_insert_default().extend(chars.next());
                continue;
            }
            Some(plain) if !" \t|;&<>#".contains(plain) => {
                word.get_or_insert_default().push(plain);
                continue;
            }
            Some('#') if word.is_some() => {
                word.get_or_insert_default().push('#');
                continue;
            }
            _ => {}
        }
        // A number in front of a redirection is a descriptor.
        let is_descriptor = |word: &String| word.chars().all(|char| char.is_ascii_digit());
        let before = word.take().filter(|word| !(char == Some('>') && is_descriptor(word)));
        if let Some(word) = before
            && !std::mem::take(&mut redirected)
        {
            commands.last_mut().expect("never empty").push(word);
        }
        match char {
            None | Some('#') => break,
            Some('<' | '>') => redirected = true,
            Some('|' | ';' | '&') => commands.push(Vec::new()),
            Some(_) => {}
        }
    }
    commands.into_iter().filter_map(called).collect()
}

/// The command from the name `tcpguard` on, if it calls tcpguard.
fn called(command: Vec<String>) -> Option<Vec<String>> {
    let is_variable = |word: &str| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|char| char.is_ascii_uppercase() || char == '_'))
    };
    let before = |word: &&String| ["$", "sudo"].contains(&word.as_str()) || is_variable(word);
    let from = command.iter().take_while(before).count();
    (command.get(from)? == "tcpguard").then(|| command[from..].to_vec())
}

/// Holds a call, of which every word could be typed, against the command line.
pub fn typed(call: &[String]) -> Result<(), String> {
    match Args::try_parse_from(call) {
        // Help is reported as an error.
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Checks a call in prose against the command line. Its verbs and options must exist, whatever
/// stands for their values (`FILE`, `[--for 1h]`, `on|off`).
pub fn mentioned(call: &str) -> Result<(), String> {
    let mut program = Args::command();
    program.build();
    let mut verb = &program;
    for word in call.split_whitespace().skip(1) {
        let word = word.trim_matches(PUNCTUATION);
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split(['=', '[']).next().unwrap_or(option);
            if !name.is_empty() && !has_option(verb, name) {
                return Err(format!("`{}` has no --{name}", verb.get_name()));
            }
            continue;
        }
        if let Some(letter) = word.strip_prefix('-').and_then(only_char) {
            if !verb.get_arguments().any(|option| option.get_short() == Some(letter)) {
                return Err(format!("`{}` has no -{letter}", verb.get_name()));
            }
            continue;
        }
        if !verb.has_subcommands() {
            continue;
        }
        let names = word.split('|').filter(|name| is_name(name));
        let mut below = None;
        for name in names {
            let found = verb.find_subcommand(name);
            below = Some(found.ok_or_else(|| format!("`{}` has no verb {name}", verb.get_name()))?);
        }
        // Of several alternatives none is entered: the following words apply to all.
        if let Some(below) = below.filter(|_| !word.contains('|')) {
            verb = below;
        }
    }
    Ok(())
}

fn has_option(verb: &Command, name: &str) -> bool {
    verb.get_arguments().any(|option| option.get_long() == Some(name))
}

fn only_char(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

/// Returns whether a word could be a verb's name, and is no placeholder.
fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|char| char.is_ascii_lowercase() || char == '-')
}
