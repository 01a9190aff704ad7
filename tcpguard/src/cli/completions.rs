//! `tcpguard completions`: completion scripts for shells.

use clap::{Arg, Command, CommandFactory, ValueHint};

use super::args::{Args, CompletionsArgs, Shell};
use super::session::Session;

pub(super) fn run(args: &CompletionsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    Ok(session.print(&script(args.shell)?)?)
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
        clap_complete::Shell::Zsh => script.replace(":_hosts", ":_net_interfaces"),
        _ => for_bash(&script),
    })
}

/// Completes interfaces where one is to be named. clap has no hint for them; options with the hint for a
/// host name take an interface here.
fn for_bash(script: &str) -> String {
    let mut named = false;
    let mut lines = String::new();
    for line in script.lines() {
        match line.trim() {
            "--interface)" | "-i)" => named = true,
            ";;" => named = false,
            _ => {}
        }
        let files = r#"compgen -f "${cur}""#;
        let interfaces = r#"compgen -W "$(command ls /sys/class/net)" -- "${cur}""#;
        let line = if named { line.replace(files, interfaces) } else { line.to_owned() };
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

/// Completes also the values of positional arguments, for which fish would otherwise offer files.
fn for_fish(script: &str) -> String {
    let mut script = script.replace("__fish_print_hostnames", "__fish_print_interfaces");
    for verb in shown().get_subcommands().filter(|verb| !verb.has_subcommands()) {
        let mut values = Vec::new();
        let mut files = verb.get_positionals().next().is_none();
        for argument in verb.get_positionals() {
            let known = argument.get_possible_values();
            files |= known.is_empty() && !is_known(argument);
            values.extend(known.iter().map(|value| value.get_name().to_owned()));
            if argument.get_value_hint() == ValueHint::Hostname {
                values.push("(__fish_print_interfaces)".to_owned());
            }
        }
        if !files {
            script.push_str(&format!(
                "complete -c tcpguard -n \"__fish_tcpguard_using_subcommand {}\" -f -a \"{}\"\n",
                verb.get_name(),
                values.join(" ")
            ));
        }
    }
    script
}

/// Returns whether an argument is certainly no file.
fn is_known(argument: &Arg) -> bool {
    let names = argument.get_value_names().unwrap_or_default();
    argument.get_value_hint() == ValueHint::Hostname
        || names
            .iter()
            .any(|name| ["PREFIX", "PREFIX|INCIDENT", "LISTENER"].contains(&name.as_str()))
}

/// The command line without the verbs that help does not show either: generators do not leave them
/// out by themselves.
fn shown() -> Command {
    let all = Args::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
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
            "mitigation\" -f -a \"signature source cookies overload budget out_of_state on off auto\"",
            "disallow\" -f -a \"\"",
        ] {
            assert!(fish.contains(&format!("{using} {line}\n")), "{line}: {fish}");
        }
        assert!(fish.contains("(__fish_print_interfaces)"), "{fish}");
        let bash = script(Shell::Bash).unwrap();
        assert!(bash.contains("ls /sys/class/net") && bash.contains("compgen -f"), "{bash}");
        assert!(script(Shell::Zsh).unwrap().contains(":_net_interfaces"));
    }
}
