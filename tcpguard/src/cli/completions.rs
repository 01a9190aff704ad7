//! `tcpguard completions`: completion scripts for shells. `tcpguard complete`: the numbers that the scripts offer.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory, ValueHint};

use super::args::{Args, CompleteArgs, CompletionsArgs, Numbers, Shell};
use super::session::Session;
use crate::control::{Request, Response};

/// Time for the response of the agent, while an operator waits at the command line.
const PATIENCE: Duration = Duration::from_millis(200);

pub(super) fn run(args: &CompletionsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    Ok(session.print(&script(args.shell)?)?)
}

/// Prints the numbers that the running agent knows, one per line: none without an agent.
pub(super) fn complete(args: &CompleteArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let client = session.client.clone();
    let (sender, receiver) = mpsc::channel();
    // A thread, because even the connection to an agent that hangs may block.
    thread::spawn(move || drop(sender.send(client.call(Request::Status))));
    let Ok(Ok(Response::Status(status))) = receiver.recv_timeout(PATIENCE) else { return Ok(()) };
    let numbers: Vec<u64> = match args.numbers {
        Numbers::Incidents => {
            status.incidents.iter().chain(&status.past_incidents).map(|it| it.id).collect()
        }
        Numbers::Rules => status.rules.list.iter().map(|rule| rule.id.0.into()).collect(),
    };
    let lines: String = numbers.iter().map(|number| format!("{number}\n")).collect();
    Ok(session.print(&lines)?)
}

/// Values that a script looks up when it completes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Values {
    Interfaces,
    Incidents,
    Rules,
}

impl Values {
    /// The values of an argument. clap has no hint for them: the hint for a host name stands for an interface, and
    /// numbers are known by the name of the value.
    fn of(argument: &Arg) -> Option<Self> {
        if argument.get_value_hint() == ValueHint::Hostname {
            return Some(Self::Interfaces);
        }
        match argument.get_value_names()?.first()?.as_str() {
            "INCIDENT" | "PREFIX|INCIDENT" => Some(Self::Incidents),
            "RULE" => Some(Self::Rules),
            _ => None,
        }
    }

    /// The command that prints them, in bash and zsh.
    const fn command(self) -> &'static str {
        match self {
            Self::Interfaces => "$(command ls /sys/class/net)",
            Self::Incidents => "$(command tcpguard complete incidents 2>/dev/null)",
            Self::Rules => "$(command tcpguard complete rules 2>/dev/null)",
        }
    }

    /// The same in fish.
    const fn fish(self) -> &'static str {
        match self {
            Self::Interfaces => "(__fish_print_interfaces)",
            Self::Incidents => "(command tcpguard complete incidents 2>/dev/null)",
            Self::Rules => "(command tcpguard complete rules 2>/dev/null)",
        }
    }
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "tcpguard", &mut script);
    let script = String::from_utf8(script)?;
    Ok(match shell {
        clap_complete::Shell::Fish => for_fish(&script),
        clap_complete::Shell::Zsh => for_zsh(&script),
        _ => for_bash(&script),
    })
}

/// Completes values in place of files.
fn for_bash(script: &str) -> String {
    let mut values = None;
    let mut lines = String::new();
    for line in script.lines() {
        match line.trim() {
            "--interface)" | "-i)" => values = Some(Values::Interfaces),
            "--rule)" => values = Some(Values::Rules),
            ";;" => values = None,
            _ => {}
        }
        let files = r#"compgen -f "${cur}""#;
        let line = match values {
            Some(values) => {
                let words = format!(r#"compgen -W "{}" -- "${{cur}}""#, values.command());
                line.replace(files, &words)
            }
            None => line.to_owned(),
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    for verb in shown().get_subcommands() {
        if verb.get_positionals().any(|it| Values::of(it) == Some(Values::Incidents)) {
            // A verb offers its options, and nothing for positional arguments.
            let label = format!("        tcpguard__subcmd__{})\n", verb.get_name());
            let numbers = Values::Incidents.command();
            let added = format!("            [[ ${{cur}} == -* ]] || opts+=\" {numbers}\"\n");
            lines = behind_next_line(&lines, &label, &added);
        }
    }
    lines
}

/// `script` with `added` behind the line that follows `label`.
fn behind_next_line(script: &str, label: &str, added: &str) -> String {
    match script.split_once(label).map(|(above, below)| (above, below.split_once('\n'))) {
        Some((above, Some((line, below)))) => format!("{above}{label}{line}\n{added}{below}"),
        _ => script.to_owned(),
    }
}

/// Completes values in place of any word.
fn for_zsh(script: &str) -> String {
    let mut script = script.replace(":_hosts", ":_net_interfaces");
    let shown = shown();
    let arguments = shown.get_subcommands().flat_map(Command::get_arguments);
    for argument in arguments {
        let Some(values @ (Values::Incidents | Values::Rules)) = Values::of(argument) else {
            continue;
        };
        // An argument that may be left out has a second colon.
        let begins = match argument.get_long() {
            Some(long) => vec![format!("'--{long}=")],
            None => ["':", "'::"].map(|sign| format!("{sign}{} -- ", argument.get_id())).into(),
        };
        let is_its = |line: &str| begins.iter().any(|begin| line.starts_with(begin));
        let lines = script.lines().map(|line| match is_its(line) {
            true => line.replace(":_default'", &format!(":({})'", values.command())) + "\n",
            false => format!("{line}\n"),
        });
        script = lines.collect();
    }
    script
}

/// Completes also the values of positional arguments, for which fish would otherwise offer files.
fn for_fish(script: &str) -> String {
    let mut script = script.replace("__fish_print_hostnames", "__fish_print_interfaces");
    for verb in shown().get_subcommands().filter(|verb| !verb.has_subcommands()) {
        let using = format!(
            "complete -c tcpguard -n \"__fish_tcpguard_using_subcommand {}\"",
            verb.get_name()
        );
        for option in verb.get_opts().filter(|it| Values::of(it) == Some(Values::Rules)) {
            let long = option.get_long().unwrap_or_default();
            script += &format!("{using} -l {long} -r -f -a \"{}\"\n", Values::Rules.fish());
        }
        let mut values = Vec::new();
        let mut files = verb.get_positionals().next().is_none();
        for argument in verb.get_positionals() {
            let known = argument.get_possible_values();
            files |= known.is_empty() && !is_known(argument);
            values.extend(known.iter().map(|value| value.get_name().to_owned()));
            values.extend(Values::of(argument).map(|values| values.fish().to_owned()));
        }
        if !files {
            script += &format!("{using} -f -a \"{}\"\n", values.join(" "));
        }
    }
    script
}

/// Returns whether an argument is certainly no file.
fn is_known(argument: &Arg) -> bool {
    let names = argument.get_value_names().unwrap_or_default();
    Values::of(argument).is_some()
        || names.iter().any(|name| ["PREFIX", "LISTENER"].contains(&name.as_str()))
}

/// The command line without the verbs that help does not show either: generators do not leave them
/// out by themselves.
fn shown() -> Command {
    let all = Args::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs = verbs.map(|verb| verb.clone().alias(None::<&str>));
    Command::new("tcpguard")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(verbs)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_completes_every_verb_that_help_shows_and_no_other() {
        let all = Args::command();
        let visible = all.get_subcommands().filter(|verb| !verb.is_hide_set());
        let visible: Vec<_> = visible.map(|verb| verb.get_name().to_owned()).collect();
        let shown: Vec<_> = shown().get_subcommands().map(|v| v.get_name().to_owned()).collect();
        assert_eq!(shown, visible);
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            assert!(visible.iter().all(|verb| script.contains(verb)), "{shell:?}");
            assert!(script.contains("runtime-dir"), "global options too: {shell:?}");
        }
    }

    #[test]
    fn values_and_interfaces_are_offered_in_place_of_files() {
        let fish = script(Shell::Fish).unwrap();
        let using = "complete -c tcpguard -n \"__fish_tcpguard_using_subcommand";
        for line in [
            "mode\" -f -a \"observe enforce off\"",
            "mitigation\" -f -a \"signature source cookies budget out_of_state on off auto\"",
            "disallow\" -f -a \"\"",
        ] {
            assert!(fish.contains(&format!("{using} {line}\n")), "{line}: {fish}");
        }
        assert!(fish.contains("(__fish_print_interfaces)"), "{fish}");
        let bash = script(Shell::Bash).unwrap();
        assert!(bash.contains("ls /sys/class/net") && bash.contains("compgen -f"), "{bash}");
        assert!(script(Shell::Zsh).unwrap().contains(":_net_interfaces"));
    }

    #[test]
    fn numbers_of_incidents_and_rules_are_asked_of_the_agent() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            let count = |numbers| script.matches(&format!("tcpguard complete {numbers}")).count();
            assert_eq!((count("incidents"), count("rules")), (1, 1), "{shell:?}: {script}");
        }
    }
}
