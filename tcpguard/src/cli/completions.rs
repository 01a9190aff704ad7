//! `tcpguard completions`: completion scripts for shells.

use clap::{Command, CommandFactory};
use clap_complete::Shell as Generator;

use super::args::{Args, CompletionsArgs, Shell};
use super::session::Session;

pub(super) fn run(args: &CompletionsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    Ok(session.print(&script(args.shell)?)?)
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut shown(), "tcpguard", &mut script);
    let script = String::from_utf8(script)?;
    // clap has no hint for names of interfaces: the hint for those of hosts stands for it.
    Ok(match shell {
        Shell::Bash => for_bash(&script),
        Shell::Zsh => script.replace(":_hosts", ":_net_interfaces"),
        Shell::Fish => script.replace("__fish_print_hostnames", "__fish_print_interfaces"),
    })
}

/// Completes names of interfaces in place of files.
fn for_bash(script: &str) -> String {
    let (files, interfaces) =
        (r#"compgen -f "${cur}""#, r#"compgen -W "$(command ls /sys/class/net)" -- "${cur}""#);
    let mut is_interface = false;
    let lines = script.lines().map(|line| {
        let line = if is_interface { line.replace(files, interfaces) } else { line.to_owned() };
        is_interface = matches!(line.trim(), "--interface)" | "-i)");
        line + "\n"
    });
    lines.collect()
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
    fn interfaces_are_offered_in_place_of_files_and_hosts() {
        let bash = script(Shell::Bash).unwrap();
        assert!(bash.contains("ls /sys/class/net") && bash.contains("compgen -f"), "{bash}");
        assert!(script(Shell::Zsh).unwrap().contains(":_net_interfaces"));
        assert!(script(Shell::Fish).unwrap().contains("(__fish_print_interfaces)"));
    }
}
