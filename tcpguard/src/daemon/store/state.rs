//! The state that outlives the agent and is not in the kernel: the reasons of the rules, the allowlist,
//! the mode, and the learned values. One JSON file, sealed and replaced as a whole.
//!
//! Keys that this version does not know are ignored, so that after a downgrade the rest of a later
//! version's file still holds.

mod reconcile;
mod times;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcpguard_common::abi::Config;
use tcpguard_engine::{
    AllowReport, Engine, FleetName, IncidentReport, Learned, Listener, ListenerId, Mode, Rule,
    Timestamp,
};
use tcpguard_host::durable::seal::{self, Damage};
use tcpguard_host::time::{Clock, Time};

use super::writer::Writer;
use crate::daemon::mode_clock::PendingMode;
use crate::text::learned_error;
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
    /// `/proc/sys/kernel/random/boot_id` of the writer: rules for incidents do not outlive a boot.
    pub boot: String,
    /// Time at which it was written.
    pub written: Time,
    /// The same by the clock of that boot, as all times of rules and of the allowlist.
    pub written_ns: Timestamp,
    /// The mode that an operator set for good; `None`: the configured one holds.
    pub mode: Option<Mode>,
    /// The mode that holds instead of that one, and reverts by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_mode: Option<PendingMode>,
    /// Number of the kernel's rule set that `rules` are the records of.
    pub rule_set: u64,
    pub rules: Vec<Rule>,
    /// The listeners of the rules' signatures: their numbers do not outlive the agent.
    pub listeners: BTreeMap<ListenerId, Listener>,
    /// The rules that were about to replace these when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedRules>,
    pub allowed: Vec<AllowReport>,
    /// Rules of the fleet that operators of this host removed, each with the time until which it is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overruled: Vec<(FleetName, Timestamp)>,
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
    pub rules: Vec<Rule>,
}

/// The file's records of the effective rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records<'a> {
    pub rules: &'a [Rule],
    /// True if a rule that is not in the kernel has been lost there. If not, the kernel's set is one
    /// that the file never heard of, and may be without the rule on purpose.
    pub complete: bool,
    /// True if the agent ended while one set was about to replace the other: then ends in the kernel may be those of
    /// either.
    pub interrupted: bool,
}

impl State {
    /// Nothing but the moment.
    pub fn new(boot: String, clock: &Clock) -> Self {
        Self {
            boot,
            written: Time(clock.wall),
            written_ns: clock.now,
            mode: None,
            pending_mode: None,
            rule_set: 0,
            rules: Vec::new(),
            listeners: BTreeMap::new(),
            staged: None,
            allowed: Vec::new(),
            overruled: Vec::new(),
            learned: Learned::default(),
            open: Vec::new(),
        }
    }

    /// The rules, the allowlist and the learned values, as the engine has them now.
    pub fn of(engine: &Engine, boot: String, clock: &Clock) -> Self {
        let report = engine.report(clock.now);
        let open = report.incidents.iter().filter_map(|open| serde_json::to_value(open).ok());
        Self {
            rules: engine.rules(clock.now).cloned().collect(),
            listeners: report.listeners.iter().map(|known| (known.id, known.listener)).collect(),
            open: open.collect(),
            allowed: report.allowed,
            overruled: engine.overruled().map(|(name, until)| (name.clone(), until)).collect(),
            learned: engine.learned(),
            ..Self::new(boot, clock)
        }
    }

    /// Returns the same state, with `rules` as those of the set that is about to replace this one.
    pub fn staging(self, rules: Vec<Rule>) -> Self {
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
        let there = polled.map_or(self.written_ns, |polled| polled.max(self.written_ns));
        if !self.is_of(boot) || now.since(there) > GOES_ON {
            return Vec::new();
        }
        let read = |open: &serde_json::Value| serde_json::from_value(open.clone()).ok();
        self.open.iter().filter_map(read).collect()
    }

    /// Returns the clocks at the time at which it was written.
    pub const fn clock(&self) -> Clock {
        Clock { now: self.written_ns, wall: self.written.0 }
    }

    /// Returns the listener of a signature.
    pub fn listener(&self, id: ListenerId) -> Option<Listener> {
        if id == ListenerId::HOST { Some(Listener::HOST) } else { self.listeners.get(&id).copied() }
    }

    /// Returns whether the clock of boot `boot` is the one that the writer had.
    pub fn is_of(&self, boot: &str) -> bool {
        // Empty where the kernel does not say which boot it is.
        !boot.is_empty() && self.boot == boot
    }

    /// Hands the allowlist and the learned values to the engine.
    pub fn hand_to(&self, engine: &mut Engine, clock: &Clock, boot: &str) {
        let times = Times::of(self, clock, boot);
        for (name, until) in &self.overruled {
            engine.overrule(clock.now, name.clone(), times.at(*until));
        }
        for allow in &self.allowed {
            let (created, expires) = (times.at(allow.created), times.at(allow.expires));
            let exemption = AllowReport { created, expires, ..allow.clone() };
            if !engine.adopt_exemption(clock.now, exemption) {
                let net = allow.net;
                log::warn!(
                    "exemption of {net} not restored: the allowlist is full. Retry: tcpguard allow {net}"
                );
            }
        }
        if let Err(error) = engine.restore(self.learned.clone(), times.age()) {
            let what = learned_error(&error);
            log::warn!("{what}. They are learned again. See: tcpguard status");
        }
    }

    /// The state that an earlier agent left in `dir`. A file that cannot be understood is set aside with one line, and
    /// the agent starts without it.
    ///
    /// # Errors
    /// With that line; `None` when there is no file.
    pub fn load(dir: &Path) -> Result<Self, Option<String>> {
        let without = "Started without rule records, allowlist, mode and learned values";
        read_in(dir).map_err(|damage: Damage| damage.report(&dir.join(NAME), without))
    }
}

/// The state in `dir` for a request that only reads: nothing is set aside.
pub fn read_in(dir: &Path) -> Result<State, Damage> {
    seal::document(&dir.join(NAME), MAX_BYTES, SCHEMA)
}

/// Replaces the file in `dir`: the new file is written beside it, then renamed over it.
pub fn store(dir: &Path, state: &State) -> io::Result<()> {
    seal::store(&dir.join(NAME), 0o600, SCHEMA, state)
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use std::fs;

    use tcpguard_common::abi::{Fingerprint, Mask};
    use tcpguard_engine::{Matcher, Origin, Ports, RuleConfirmation, RuleId, RuleReason};

    use super::*;
    use crate::daemon::mode_clock::Pending;

    fn clock() -> Clock {
        let wall = "2026-01-02T03:04:06Z".parse().unwrap();
        Clock { now: Timestamp::from_millis(10_000), wall }
    }

    fn fleet_rule(serial: u64) -> FleetName {
        FleetName { role: "ops".to_owned(), serial }
    }

    pub(in crate::daemon) fn state() -> State {
        let signature = Matcher::Signature {
            listener: ListenerId(4),
            mask: Mask::NoTtl,
            fingerprint: Fingerprint::from_words([0x4353, 1460, 7]),
        };
        let rule = |slot, matcher, origin| Rule {
            id: RuleId(slot),
            matcher,
            origin,
            forced: slot == 9,
            reason: RuleReason::Given { text: "covers \"all\"".to_owned() },
            created: Timestamp::from_millis(9_000),
            expires: Timestamp::from_millis(69_000),
            confirmation: None,
        };
        let net = "203.0.113.0/24".parse().unwrap();
        let source = Matcher::Source(net, Ports::EVERY);
        let pending = Pending {
            mode: Mode::Off,
            revert_to: Mode::Enforce,
            confirm_by: Some(Timestamp::from_millis(70_000)),
            until: None,
        };
        let clock = clock();
        let web = Listener { addr: "::".parse().unwrap(), port: 443 };
        State {
            mode: Some(Mode::Enforce),
            pending_mode: Some(PendingMode::of(&pending, &clock)),
            rules: vec![
                rule(0, signature, Origin::Incident(7)),
                Rule {
                    confirmation: Some(RuleConfirmation {
                        until: Timestamp::from_millis(3_609_000),
                        instead_of: Some(Box::new(rule(3, source, Origin::Operator { uid: 0 }))),
                    }),
                    ..rule(9, source, Origin::Operator { uid: 1000 })
                },
            ],
            listeners: BTreeMap::from([(ListenerId(4), web)]),
            allowed: vec![AllowReport {
                net,
                reason: "our monitoring".to_owned(),
                uid: 0,
                fleet: Some(fleet_rule(7)),
                created: Timestamp::from_millis(9_500),
                expires: Timestamp::from_millis(2_600_000_000),
            }],
            overruled: vec![(fleet_rule(8), Timestamp::from_millis(2_600_000_000))],
            ..State::new("b0".to_owned(), &clock)
        }
    }

    #[test]
    fn what_was_stored_is_loaded_and_readable_by_the_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()).ok(), None);
        store(dir.path(), &state()).unwrap();
        assert_eq!(State::load(dir.path()).ok(), Some(state()));
        let permissions = fs::metadata(dir.path().join(NAME)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
    }

    /// A file as earlier agents wrote it: without the keys that came later.
    #[test]
    fn a_file_of_an_older_agent_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"schema":"tcpguard.state/1","boot":"b0","written":"2026-01-02T03:04:06.000Z",
            "written_ns":10000000000,"mode":"observe","rule_set":0,"rules":[],"listeners":{},"allowed":[],"learned":LEARNED}"#;
        let learned = serde_json::to_string(&Learned::default()).unwrap();
        let text = text.replace("LEARNED", &learned);
        seal::replace(&dir.path().join(NAME), 0o600, text.as_bytes()).unwrap();
        let state = State::load(dir.path()).expect("understood");
        assert_eq!((state.mode, &state.pending_mode), (Some(Mode::Observe), &None));
        assert_eq!(state, State { mode: state.mode, ..State::new("b0".to_owned(), &clock()) });
        let text = serde_json::to_string(&state).unwrap();
        assert!(!text.contains("pending_mode"), "and an older one understands this: {text}");
    }

    #[test]
    fn only_a_boot_that_has_a_name_is_the_same() {
        let state = |boot: &str| State::new(boot.to_owned(), &clock());
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
            assert_eq!(State::load(dir.path()).ok(), None, "{length} bytes of {}", whole.len());
            assert!(!dir.path().join(NAME).exists());
        }
        assert!(dir.path().join("state.json.bad").exists());
        assert!(dir.path().join("state.json.bad.9").exists());

        let text = String::from_utf8(whole).unwrap();
        let (_, text) = text.split_once('\n').unwrap();
        for (good, bad) in [
            ("tcpguard.state/1", "tcpguard.state/9"),
            ("203.0.113.0/24", "203.0.113.0/33"),
            ("\"id\":9", "\"id\":-9"),
            ("\"mask\":1", "\"mask\":200"),
            ("\"mode\":\"enforce\"", "\"mode\":\"panic\""),
            ("\"boot\"", "\"boots\""),
            ("\"left_ms\":60000", "\"left_ms\":-60000"),
        ] {
            assert!(text.contains(good), "{good}");
            let changed = text.replace(good, bad);
            seal::replace(&dir.path().join(NAME), 0o600, changed.as_bytes()).unwrap();
            assert_eq!(State::load(dir.path()).ok(), None, "{bad}");
        }
    }

    /// An older agent reads the file of a newer one: unknown keys are ignored.
    #[test]
    fn a_file_of_a_newer_agent_is_loaded_without_what_is_new_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = state().staging(state().rules);
        store(dir.path(), &state).unwrap();
        let written = seal::read(&dir.path().join(NAME), MAX_BYTES).unwrap();
        let mut newer: serde_json::Value = serde_json::from_slice(&written).unwrap();
        for place in [
            "",
            "/pending_mode",
            "/pending_mode/confirm_by",
            "/rules/0",
            "/staged",
            "/staged/rules/0",
            "/rules/0/matcher/signature",
            "/allowed/0",
            "/learned",
        ] {
            let object = newer.pointer_mut(place).and_then(|value| value.as_object_mut());
            object.expect(place).insert("of_a_later_version".to_owned(), [1, 2].into());
        }
        seal::replace(&dir.path().join(NAME), 0o600, &serde_json::to_vec(&newer).unwrap()).unwrap();
        assert_eq!(State::load(dir.path()).ok(), Some(state));
    }

    #[test]
    fn a_file_that_may_not_be_read_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()), Err(None));
        fs::create_dir(dir.path().join(NAME)).unwrap();
        let line = State::load(dir.path()).unwrap_err().expect("there is one");
        assert!(line.starts_with("cannot read "), "{line}");
        assert!(dir.path().join(NAME).exists());
    }
}
