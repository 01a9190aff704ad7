//! `tcpguard completions`: what a shell completes.

use clap::{Command, CommandFactory};

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
    Ok(String::from_utf8(script)?)
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
            assert!(!script.contains("restore-sysctls"), "{shell:?}");
            assert!(script.contains("runtime-dir"), "options of every verb too: {shell:?}");
        }
    }
}
