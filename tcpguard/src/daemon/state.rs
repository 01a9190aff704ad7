//! The state that outlives the agent and is not in the kernel: the reasons of the rules, the allowlist,
//! the mode, and the learned values. One JSON file, sealed and replaced as a whole.
//!
//! Keys that this version does not know are ignored, so that after a downgrade the rest of a later
//! version's file still holds.

mod reconcile;
mod times;

use std::io;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{Config, Fingerprint, Mask};
use tcpguard_engine::{
    Engine, IncidentReport, Learned, Listener, ListenerId, Matcher, Mode, Origin, Ports, Rule,
    RuleReason, Timestamp,
};
use tcpguard_host::durable;
use tcpguard_host::durable::seal::{self, Damage};
use tcpguard_host::json;
use tcpguard_host::time::{Clock, Time};

use super::confirm::PendingMode;
use super::writer::Writer;
pub use reconcile::{InKernel, Reconciled, reconcile};
pub use times::Times;

pub type StateWriter = Writer<State>;

const NAME: &str = "state.json";
const SCHEMA: &str = "tcpguard.state/1";
/// An incident goes on if there was no agent for at most so long.
const GOES_ON: Duration = Duration::from_secs(60);
/// Longer than any state file: two sets of 131,072 rules, each of which has some 300 bytes and the longest
/// reason, and 4,096 listeners' fingerprints.
const MAX_BYTES: u64 = 512 << 20;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct State {
    schema: String,
    /// `/proc/sys/kernel/random/boot_id` of the writer: rules for incidents do not outlive a boot.
    pub boot: String,
    /// Time at which it was written.
    pub written: Time,
    /// The same by the clock of that boot. (Files of earlier versions have only times of day.)
    #[serde(default)]
    pub written_ns: Option<Timestamp>,
    /// The mode that an operator set for good; `None`: the configured one holds.
    pub mode: Option<Mode>,
    /// The mode that holds instead of that one, and reverts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_mode: Option<PendingMode>,
    /// Number of the kernel's rule set that `rules` are the records of.
    #[serde(default)]
    pub rule_set: u64,
    pub rules: Vec<StoredRule>,
    /// The rules that were about to replace these when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedRules>,
    pub allowed: Vec<StoredAllow>,
    /// The values learned about the listeners.
    pub learned: Learned,
    /// Incidents at listeners that were open, for the next agent to go on with. Those that another version
    /// wrote otherwise are left out, and nothing else with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<serde_json::Value>,
}

/// A rule set that may have come to count, or may not: the kernel says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct StagedRules {
    /// Its number in the kernel.
    pub rule_set: u64,
    /// Every rule of it.
    pub rules: Vec<StoredRule>,
}

/// A rule, with its times by both clocks: that of the boot means nothing after one.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct StoredRule {
    /// Its slot in the kernel's tables.
    pub slot: u32,
    /// SYNs that it drops.
    pub matches: StoredMatcher,
    /// The originator: an incident or an operator.
    pub origin: StoredOrigin,
    /// True if it was made in spite of a protected address.
    #[serde(default)]
    pub forced: bool,
    /// Reason for the rule.
    pub reason: RuleReason,
    /// Time at which it was made.
    pub created: Time,
    /// The same by the clock of the writer's boot.
    #[serde(default)]
    pub created_ns: Option<Timestamp>,
    /// Time at which it ends.
    pub expires: Time,
    /// The same by the clock of the writer's boot.
    #[serde(default)]
    pub expires_ns: Option<Timestamp>,
    /// Present while it waits for an operator's confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<StoredConfirmation>,
}

/// [`tcpguard_engine::RuleConfirmation`] in the file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct StoredConfirmation {
    /// Time at which the rule ends if it may stay.
    pub until: Time,
    /// The same by the clock of the writer's boot.
    pub until_ns: Timestamp,
    /// The rule that is restored otherwise.
    pub instead_of: Option<Box<StoredRule>>,
}

/// The file's records of the effective rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records<'a> {
    pub rules: &'a [StoredRule],
    /// True if a rule that is not in the kernel has been lost there. If not, the kernel's set is one
    /// that the file never heard of, and may be without the rule on purpose.
    pub complete: bool,
    /// True if the agent ended while one set was about to replace the other: then ends in the kernel may be those of
    /// either.
    pub interrupted: bool,
}

/// SYNs that a rule drops.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredMatcher {
    /// SYNs from these sources.
    Source(IpNet),
    /// SYNs from these sources to certain ports.
    SourceToPorts {
        /// Prefix of the sources.
        net: IpNet,
        ports: Ports,
    },
    /// SYNs to this listener, with this signature.
    Signature {
        /// Its address: numbers of listeners do not outlive the agent. [`Listener::HOST`]: to every one.
        listener: Listener,
        /// Code of the mask; see [`Mask::code`].
        mask: u8,
        /// Words of the fingerprint; see [`Fingerprint::words`].
        words: [u64; 3],
    },
}

/// The originator of a rule.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredOrigin {
    /// The agent's own, for this incident.
    Incident(u64),
    /// An operator's, by user id.
    Operator(u32),
}

/// A prefix of the allowlist.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct StoredAllow {
    /// Prefix of the exempt sources.
    pub net: IpNet,
    /// Reason for the exemption.
    pub reason: String,
    /// User id of the operator that asked for it.
    pub uid: u32,
    /// Time at which it ends.
    pub expires: Time,
    /// The same by the clock of the writer's boot.
    #[serde(default)]
    pub expires_ns: Option<Timestamp>,
}

impl StoredRule {
    /// Returns whether it is an operator's.
    pub fn is_operators(&self) -> bool {
        matches!(self.origin, StoredOrigin::Operator(_))
    }

    /// `None` for a rule of a listener that is gone: the record could never be matched to a listener
    /// again.
    fn of(
        rule: &Rule,
        listener: &impl Fn(ListenerId) -> Option<Listener>,
        clock: &Clock,
    ) -> Option<Self> {
        let confirmation = rule.confirmation.as_ref().map(|confirmation| StoredConfirmation {
            until: clock.time_at(confirmation.until),
            until_ns: confirmation.until,
            instead_of: confirmation
                .instead_of
                .as_ref()
                .and_then(|before| Self::of(before, listener, clock).map(Box::new)),
        });
        Some(Self {
            slot: rule.id.0,
            matches: match rule.matcher {
                Matcher::Source(net, ports) => StoredMatcher::source(net, ports),
                Matcher::Signature { listener: id, mask, fingerprint } => {
                    let (mask, words) = (mask.code(), fingerprint.words());
                    StoredMatcher::Signature { listener: listener(id)?, mask, words }
                }
            },
            origin: (&rule.origin).into(),
            forced: rule.forced,
            reason: rule.reason.clone(),
            created: clock.time_at(rule.created),
            created_ns: Some(rule.created),
            expires: clock.time_at(rule.expires),
            expires_ns: Some(rule.expires),
            confirmation,
        })
    }
}

impl StoredMatcher {
    /// Returns the matcher of a rule on sources.
    pub fn source(net: IpNet, ports: Ports) -> Self {
        if ports.is_every() { Self::Source(net) } else { Self::SourceToPorts { net, ports } }
    }

    /// The mask and fingerprint of a signature, if there is such a mask.
    pub fn signature(&self) -> Option<(Listener, Mask, Fingerprint)> {
        match self {
            Self::Source(_) | Self::SourceToPorts { .. } => None,
            Self::Signature { listener, mask, words } => {
                Some((*listener, Mask::from_code(*mask)?, Fingerprint::from_words(*words)))
            }
        }
    }
}

impl From<&Origin> for StoredOrigin {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Incident(id) => Self::Incident(*id),
            Origin::Operator { uid } => Self::Operator(*uid),
        }
    }
}

impl From<&StoredOrigin> for Origin {
    fn from(origin: &StoredOrigin) -> Self {
        match origin {
            StoredOrigin::Incident(id) => Self::Incident(*id),
            StoredOrigin::Operator(uid) => Self::Operator { uid: *uid },
        }
    }
}

impl State {
    /// Nothing but the moment.
    pub fn new(boot: String, written: Time) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            boot,
            written,
            written_ns: None,
            mode: None,
            pending_mode: None,
            rule_set: 0,
            rules: Vec::new(),
            staged: None,
            allowed: Vec::new(),
            learned: Learned::default(),
            open: Vec::new(),
        }
    }

    /// The rules, the allowlist and the learned values, as the engine has them now.
    pub fn of(engine: &Engine, boot: String, clock: &Clock) -> Self {
        let report = engine.report(clock.now);
        let listener = |id: ListenerId| match id {
            ListenerId::HOST => Some(Listener::HOST),
            _ => report.listeners.iter().find(|known| known.id == id).map(|known| known.listener),
        };
        let rules = engine.rules(clock.now);
        let rules = rules.filter_map(|rule| StoredRule::of(rule, &listener, clock)).collect();
        let allowed = report.allowed.iter().map(|allowed| StoredAllow {
            net: allowed.net,
            reason: allowed.reason.clone(),
            uid: allowed.uid,
            expires: clock.time_at(allowed.expires),
            expires_ns: Some(allowed.expires),
        });
        let open = report.incidents.iter().filter_map(|open| serde_json::to_value(open).ok());
        Self {
            rules,
            open: open.collect(),
            allowed: allowed.collect(),
            learned: engine.learned(),
            written_ns: Some(clock.now),
            ..Self::new(boot, clock.time_at(clock.now))
        }
    }

    /// Returns the same state, with `rules` as those of the set that is about to replace this one.
    pub fn staging(self, rules: Vec<StoredRule>) -> Self {
        let rule_set = Config::rule_set_after(self.rule_set);
        Self { staged: Some(StagedRules { rule_set, rules }), ..self }
    }

    /// The records of the rules that set `counting` of the kernel consists of; `None` for a kernel
    /// without any set of an earlier agent.
    pub fn records(&self, counting: Option<u64>) -> Records<'_> {
        match (&self.staged, counting) {
            (Some(staged), Some(counting)) if staged.rule_set == counting => {
                Records { rules: &staged.rules, complete: true, interrupted: true }
            }
            (staged, counting) => Records {
                rules: &self.rules,
                complete: counting.is_none_or(|counting| counting == self.rule_set),
                interrupted: staged.is_some() && counting.is_some(),
            },
        }
    }

    /// The incidents that were open when the writer was last active. The last poll is at `polled`, if it
    /// is known. No incident continues that has not been polled for too long.
    pub fn left_open(
        &self,
        now: Timestamp,
        boot: &str,
        polled: Option<Timestamp>,
    ) -> Vec<IncidentReport> {
        let there = self.written_ns.max(polled);
        if !self.is_of(boot) || there.is_none_or(|there| now.since(there) > GOES_ON) {
            return Vec::new();
        }
        let read = |open: &serde_json::Value| serde_json::from_value(open.clone()).ok();
        self.open.iter().filter_map(read).collect()
    }

    /// Returns whether the clock of boot `boot` is the one that the writer had.
    pub fn is_of(&self, boot: &str) -> bool {
        // Empty where the kernel does not say which boot it is.
        !boot.is_empty() && self.boot == boot
    }

    /// The state that an earlier agent left in `dir`; `None` when there is none. A file that cannot be
    /// understood is set aside with one line, and the agent starts without it.
    pub fn load(dir: &Path) -> Option<Self> {
        let path = dir.join(NAME);
        match read(&path) {
            Ok(state) => Some(state),
            Err(Damage::Missing) => None,
            Err(Damage::Refused(error)) => {
                log::warn!(
                    "cannot read {}: {error}; starting without the rules' records, the allowlist, the \
                     mode and what was learned",
                    path.display()
                );
                None
            }
            Err(Damage::Bad(why)) => {
                let aside = durable::set_aside(&path);
                log::warn!(
                    "{} is no state of tcpguard ({why}); it is kept as {}, and the agent starts without \
                     the rules' records, the allowlist, the mode and what was learned",
                    path.display(),
                    aside.display()
                );
                None
            }
        }
    }
}

/// The state in `dir` for a request that only reads: nothing is set aside.
pub fn read_in(dir: &Path) -> Result<State, Damage> {
    read(&dir.join(NAME))
}

fn read(path: &Path) -> Result<State, Damage> {
    let text = seal::read(path, MAX_BYTES)?;
    let state: State =
        serde_json::from_slice(&text).map_err(|error| Damage::Bad(error.to_string()))?;
    if state.schema != SCHEMA {
        return Err(Damage::Bad(format!("its schema is {:?}, not {SCHEMA}", state.schema)));
    }
    Ok(state)
}

/// Replaces the file in `dir`: the new file is written beside it, then renamed over it.
pub fn store(dir: &Path, state: &State) -> io::Result<()> {
    seal::replace(&dir.join(NAME), 0o600, &json::bytes(state)?)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::super::confirm::Pending;
    use super::*;

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    pub(in crate::daemon) fn state() -> State {
        let signature = StoredMatcher::Signature {
            listener: Listener { addr: "::".parse().unwrap(), port: 443 },
            mask: Mask::NoTtl.code(),
            words: [0x4353, 1460, 7],
        };
        let rule = |slot, matches, origin| StoredRule {
            slot,
            matches,
            origin,
            forced: slot == 9,
            reason: RuleReason::Given { text: "covers \"all\"".to_owned() },
            created: time("2026-01-02T03:04:05Z"),
            created_ns: Some(Timestamp::from_millis(9_000)),
            expires: time("2026-01-02T03:05:05Z"),
            expires_ns: Some(Timestamp::from_millis(69_000)),
            confirmation: None,
        };
        let net = "203.0.113.0/24".parse().unwrap();
        let source = StoredMatcher::Source(net);
        let pending = Pending {
            mode: Mode::Off,
            revert_to: Mode::Enforce,
            confirm_by: Some(Timestamp::from_millis(70_000)),
            until: None,
        };
        let wall = time("2026-01-02T03:04:06Z").0;
        let clock = Clock { now: Timestamp::from_millis(10_000), wall };
        State {
            mode: Some(Mode::Enforce),
            pending_mode: Some(PendingMode::of(&pending, &clock)),
            rules: vec![
                rule(0, signature, StoredOrigin::Incident(7)),
                StoredRule {
                    confirmation: Some(StoredConfirmation {
                        until: time("2026-01-02T04:04:05Z"),
                        until_ns: Timestamp::from_millis(3_609_000),
                        instead_of: Some(Box::new(rule(3, source, StoredOrigin::Operator(0)))),
                    }),
                    ..rule(9, source, StoredOrigin::Operator(1000))
                },
            ],
            allowed: vec![StoredAllow {
                net,
                reason: "our monitoring".to_owned(),
                uid: 0,
                expires: time("2026-02-02T03:05:05Z"),
                expires_ns: None,
            }],
            ..State::new("b0".to_owned(), time("2026-01-02T03:04:06Z"))
        }
    }

    #[test]
    fn what_was_stored_is_loaded_and_readable_by_the_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()), None);
        store(dir.path(), &state()).unwrap();
        assert_eq!(State::load(dir.path()), Some(state()));
        let permissions = fs::metadata(dir.path().join(NAME)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
    }

    /// A file as earlier agents wrote it: without the keys that came later.
    #[test]
    fn a_file_of_an_older_agent_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"schema":"tcpguard.state/1","boot":"b0","written":"2026-01-02T03:04:06.000Z",
            "mode":"observe","rules":[],"allowed":[],"learned":LEARNED}"#;
        let learned = serde_json::to_string(&Learned::default()).unwrap();
        fs::write(dir.path().join(NAME), text.replace("LEARNED", &learned)).unwrap();
        let state = State::load(dir.path()).expect("understood");
        assert_eq!((state.mode, &state.pending_mode), (Some(Mode::Observe), &None));
        assert_eq!(state, State { mode: state.mode, ..State::new("b0".to_owned(), state.written) });
        let text = serde_json::to_string(&state).unwrap();
        assert!(!text.contains("pending_mode"), "and an older one understands this: {text}");
    }

    #[test]
    fn only_a_boot_that_has_a_name_is_the_same() {
        let state = |boot: &str| State::new(boot.to_owned(), time("2026-01-02T03:04:06Z"));
        assert!(state("b0").is_of("b0"));
        assert!(!state("b0").is_of("b1"));
        assert!(!state("").is_of(""), "the kernel did not say");
    }

    /// Every way in which a file can be cut or turned over: none is taken for a state, none panics,
    /// and all are set aside.
    #[test]
    fn a_damaged_file_is_set_aside_and_never_half_believed() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), &state()).unwrap();
        let whole = fs::read(dir.path().join(NAME)).unwrap();
        for length in 0..whole.len() {
            fs::write(dir.path().join(NAME), &whole[..length]).unwrap();
            assert_eq!(State::load(dir.path()), None, "{length} bytes of {}", whole.len());
            assert!(!dir.path().join(NAME).exists());
        }
        assert!(dir.path().join("state.json.bad").exists());
        assert!(dir.path().join("state.json.bad.9").exists());

        let text = String::from_utf8(whole).unwrap();
        let (_, text) = text.split_once('\n').unwrap();
        for (good, bad) in [
            ("tcpguard.state/1", "tcpguard.state/9"),
            ("203.0.113.0/24", "203.0.113.0/33"),
            ("\"slot\":9", "\"slot\":-9"),
            ("\"mode\":\"enforce\"", "\"mode\":\"panic\""),
            ("\"boot\"", "\"boots\""),
            ("\"left_ms\":60000", "\"left_ms\":-60000"),
        ] {
            assert!(text.contains(good), "{good}");
            fs::write(dir.path().join(NAME), text.replace(good, bad)).unwrap();
            assert_eq!(State::load(dir.path()), None, "{bad}");
        }
    }

    /// An older agent reads the file of a newer one: unknown keys are ignored.
    #[test]
    fn a_file_of_a_newer_agent_is_loaded_without_what_is_new_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = state().staging(state().rules);
        let mut newer = serde_json::to_value(&state).unwrap();
        for place in [
            "",
            "/pending_mode",
            "/pending_mode/confirm_by",
            "/rules/0",
            "/staged",
            "/staged/rules/0",
            "/rules/0/matches/signature",
            "/allowed/0",
            "/learned",
        ] {
            let object = newer.pointer_mut(place).and_then(|value| value.as_object_mut());
            object.expect(place).insert("of_a_later_version".to_owned(), [1, 2].into());
        }
        seal::replace(&dir.path().join(NAME), 0o600, &json::bytes(&newer).unwrap()).unwrap();
        assert_eq!(State::load(dir.path()), Some(state));
    }

    #[test]
    fn a_file_that_may_not_be_read_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(NAME)).unwrap();
        assert_eq!(State::load(dir.path()), None);
        assert!(dir.path().join(NAME).exists());
    }
}
