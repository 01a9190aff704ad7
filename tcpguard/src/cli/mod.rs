//! The command line: one module per verb. Each takes the parsed arguments and a [`Session`], and reports the
//! outcome. [`Exit`] alone maps outcomes to exit codes.
//!
//! A new verb is a module here and a few lines in the list `verbs!` below, from which the command line, help,
//! completions, manual pages and the list of JSON documents follow, and a row in `docs/commands.md`.

mod allow;
pub mod args;
mod block;
mod caller;
mod capture;
mod check;
mod completions;
mod config;
mod confirm;
mod detach;
mod doctor;
pub mod documents;
mod duration;
mod error;
mod events;
mod exit;
mod explain;
mod fleet;
mod import;
mod incidents;
mod listeners;
mod manual;
mod metrics;
mod mitigation;
mod mode;
pub mod overflow;
mod reload;
mod replay;
mod report;
mod restore_sysctls;
mod rule_file;
mod rules;
mod run;
mod selftest;
mod session;
mod states;
mod status;
#[cfg(feature = "tui")]
mod top;
mod tune;
mod unblock;
mod usage;
mod version;

pub use args::Args;
pub use exit::Exit;
pub use session::Session;
pub use usage::parse;

use clap::Subcommand;

use crate::control::ClientError;
use crate::documents as shown;
use args::*;
use documents::{Document, Printed};

/// Runs the verb of `args`; errors go to stderr.
pub fn main(args: Args) -> Exit {
    let mut stdout = std::io::stdout().lock();
    let mut session = Session::new(&args.global, &mut stdout);
    match args.verb.run(&mut session, &args.global) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Done {
                session.complain(&explained(error, &session));
            }
            exit
        }
    }
}

/// An error together with its cause according to systemd, where the error is that no agent runs.
fn explained(error: anyhow::Error, session: &Session<'_>) -> anyhow::Error {
    match error.downcast::<ClientError>() {
        Ok(error) => session.client.explained(error).into(),
        Err(error) => error,
    }
}

/// The group of verbs that help does not show.
const HIDDEN: &str = "";

macro_rules! verbs {
    (|$session:ident, $global:ident| $($group:tt {$(
        $(#[$meta:meta])*
        $name:ident $(($args:ident: $type:ty))? $(if $feature:tt)?
            => $run:expr $(, prints [$($id:expr => $document:ty),* $(,)?])?;
    )*})*) => {
        /// The verb and its arguments.
        #[derive(Debug, Subcommand)]
        pub enum Verb {
            $($($(#[$meta])* $(#[cfg(feature = $feature)])? $name $(($type))?,)*)*
        }

        impl Verb {
            /// The group of each verb, in their order.
            fn groups() -> impl Iterator<Item = &'static str> {
                let all = [$($((true $(&& cfg!(feature = $feature))?, $group),)*)*];
                all.into_iter().filter(|(is_built, _)| *is_built).map(|(_, group)| group)
            }

            /// Runs the verb.
            fn run(
                self,
                $session: &mut Session<'_>,
                $global: &Global,
            ) -> anyhow::Result<Exit> {
                match self {
                    $($($(#[cfg(feature = $feature)])? Self::$name $(($args))? => {
                        $run.map(Exit::from)
                    })*)*
                }
            }
        }

        $($($($(impl Printed for $document {
            const ID: &'static str = $id;
        })*)?)*)*

        /// Every kind of document that a verb prints with `--json`.
        pub const DOCUMENTS: &[Document] = &[$($($($(Document {
            id: $id,
            #[cfg(test)]
            schema: |generator| generator.subschema_for::<$document>(),
        },)*)?)*)*];
    };
}

verbs! { |session, global|
    "Monitor" {
        /// Show attacks, mitigations and connected clients
        Status(args: StatusArgs) => status::run(&args, session),
            prints ["tcpguard.status/1" => shown::Status];
        /// Show the status live in the terminal
        Top(args: TopArgs) if "tui" => top::run(&args, session),
            prints ["tcpguard.history/1" => shown::history::History];
        /// List open and past incidents
        Incidents(args: IncidentsArgs) => incidents::run(&args, session),
            prints ["tcpguard.incidents/1" => shown::Incidents];
        /// Explain the decisions about an address, or an incident
        #[command(alias = "report")]
        Explain(args: ExplainArgs) => explain::run(&args, session),
            prints [
                shown::INCIDENT_SCHEMA => shown::FullIncident,
                "tcpguard.explanation/1" => shown::Judged,
                shown::timeline::TIMELINE_SCHEMA => shown::timeline::Timeline,
            ];
        /// List past alerts, or print them as they occur
        #[command(alias = "alerts")]
        Events(args: EventsArgs) => events::run(&args, session),
            prints [
                "tcpguard.events/1" => shown::Events,
                shown::EVENT_SCHEMA => shown::AlertEntry,
            ];
        /// Check the state as a monitoring plugin
        Check(args: CheckArgs) => Ok(check::run(&args, session)),
            prints ["tcpguard.check/1" => shown::monitoring::Report];
        /// Print metrics for Prometheus
        #[command(after_help = METRICS)]
        Metrics => metrics::run(session);
    }
    "Mitigate" {
        /// Show or set the mode: observe, enforce or off
        Mode(args: ModeArgs) => mode::run(&args, session),
            prints ["tcpguard.mode/1" => shown::ModeShown];
        /// Keep changes that revert unless confirmed
        Confirm(args: ConfirmArgs) => confirm::run(&args, session),
            prints ["tcpguard.confirm/1" => shown::Confirmed];
        /// Drop SYNs from addresses or prefixes
        Block(args: BlockArgs) => block::run(&args, session),
            prints ["tcpguard.block/1" => shown::Blocked];
        /// Remove rules
        Unblock(args: UnblockArgs) => unblock::run(&args, session),
            prints ["tcpguard.unblock/1" => shown::Unblocked];
        /// Exempt an address or prefix from automatic rules
        Allow(args: AllowArgs) => allow::allow(args, session),
            prints ["tcpguard.allow/1" => shown::Allowance];
        /// Remove an address or prefix from the allowlist
        Disallow(args: DisallowArgs) => allow::disallow(&args, session),
            prints ["tcpguard.disallow/1" => shown::Disallowed];
        /// List, export, import or remove rules
        Rules(args: RulesArgs) => rules::run(args.verb, session),
            prints [
                "tcpguard.rule-list/1" => shown::RuleList,
                "tcpguard.rules/1" => shown::ExportedRules,
                "tcpguard.import/1" => shown::Import,
            ];
        /// Override a mitigation at a listener
        Mitigation(args: MitigationArgs) => mitigation::run(&args, session),
            prints ["tcpguard.mitigation/1" => shown::Ordered];
    }
    "Diagnose" {
        /// Check host and agent for problems, with hints
        Doctor(args: DoctorArgs) => doctor::run(&args, session),
            prints [
                "tcpguard.doctor/1" => tcpguard_host::doctor::Doctor,
                shown::selftest::SCHEMA => shown::selftest::SelfTest,
            ];
        /// Show the queues of each listener
        Listeners(args: ListenersArgs) => listeners::run(&args, session),
            prints ["tcpguard.listeners/1" => tcpguard_host::listeners::ListenersReport];
        /// Show connections by state, and their resources
        States(args: StatesArgs) => states::run(&args, session),
            prints ["tcpguard.states/1" => tcpguard_host::states::StatesReport];
        /// Recommend, set or restore sysctls
        Tune(args: TuneArgs) => tune::run(&args, session),
            prints [
                "tcpguard.tune/1" => tcpguard_host::tune::Tune,
                "tcpguard.tuned/1" => tcpguard_host::tune::change::Changed,
            ];
        /// Record SYNs that XDP drops or answers, for Wireshark and replay
        Capture(args: CaptureArgs) => capture::run(&args, session),
            prints ["tcpguard.capture/1" => shown::CaptureResult];
        /// Detect and mitigate the attacks in a capture
        Replay(args: ReplayArgs) => replay::run(&args, session),
            prints ["tcpguard.replay/1" => shown::replay::Replay];
    }
    "Manage" {
        /// Show the fleet of this host, and make rules for all of it
        Fleet(args: FleetArgs) => fleet::run(args.verb, global);
        /// Check, show or create the configuration
        Config(args: ConfigArgs) => config::run(args.verb, session),
            prints [
                "tcpguard.config-check/1" => config::Check,
                "tcpguard.config-show/1" => config::Settings,
                "tcpguard.config-init/1" => config::Written,
            ];
        /// Apply the configuration files to the running agent
        #[command(after_help = RELOAD)]
        Reload => reload::run(session),
            prints ["tcpguard.reload/1" => shown::Reloaded];
        /// Run the agent in the foreground
        Run(args: RunArgs) => run::run(args, global);
        /// Detach the XDP program, with or without an agent
        Detach(args: DetachArgs) => detach::run(&args, session),
            prints ["tcpguard.detach/1" => shown::Detached];
        /// Print the completion script of a shell
        Completions(args: CompletionsArgs) => completions::run(&args, session);
    }
    HIDDEN {
        /// Show version information
        #[command(hide = true, after_help = VERSION)]
        Version => version::run(session),
            prints ["tcpguard.version/1" => version::Version];
        /// Restore the sysctls that a stopped agent changed
        #[command(hide = true, after_help = RESTORE_SYSCTLS)]
        RestoreSysctls => restore_sysctls::run(session),
            prints ["tcpguard.restore-sysctls/1" => restore_sysctls::Restored];
        /// Write the manual pages
        #[command(hide = true)]
        Manual(args: ManualArgs) => manual::run(&args, session);
    }
}

const RELOAD: &str = "\
A configuration with mistakes is refused, and the running one stays in effect. Some keys require a
restart: they are named.

Examples:
  tcpguard config check                           # check only
  tcpguard reload";

const VERSION: &str = "\
Versions of the program, of the BPF maps, of the protocol and of the status document.

Examples:
  tcpguard version
  tcpguard version --json | jq -r .version";

/// Lines of `tcpguard --help` about each verb, group by group.
fn help() -> String {
    let all = Verb::augment_subcommands(clap::Command::new("tcpguard"));
    let (mut text, mut last) = (String::new(), HIDDEN);
    for (verb, group) in all.get_subcommands().zip(Verb::groups()) {
        // The manual pages and the completions of a package are the same wherever it is built.
        let is_elsewhere = verb.get_name() == "fleet" && !fleet::is_installed();
        if verb.is_hide_set() || is_elsewhere {
            continue;
        }
        if group != last {
            text += &format!("\n{group}:\n");
            last = group;
        }
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text += &format!("  {:<16} {about}\n", verb.get_name());
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_shows_at_most_27_verbs_each_in_its_group() {
        let all = Verb::augment_subcommands(clap::Command::new("tcpguard"));
        assert_eq!(all.get_subcommands().count(), Verb::groups().count());
        for (verb, group) in all.get_subcommands().zip(Verb::groups()) {
            assert!(verb.is_hide_set() || group != HIDDEN, "{}", verb.get_name());
        }
        let help = Args::command().render_help().to_string();
        assert!(help.contains("\nMitigate:\n  mode "), "{help}");
        let shown = super::help().lines().filter(|line| line.starts_with("  ")).count();
        assert!(shown <= 27, "{help}");
        assert!(super::help().lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
