//! The files that outlive an agent: state, incidents, alerts and timelines.
//!
//! ```text
//! /sys/fs/bpf/tcpguard/v<layout>-<netns cookie>/   bpf/pins: links/, egress/, redeem/ (XDP and TCX links), tracepoints/
//!                                                  (clients stay validated without an agent), maps/. The layout is the
//!                                                  ABI's version, behind the capacity for rules where it is no default
//! /sys/fs/bpf/tcpguard/next/                       bpf/next.rs: next programs, pinned by administrators
//! /var/lib/tcpguard/state.json                     state: reasons of rules, allowlist, mode and its end, learned values,
//!                                                  open incidents
//! /var/lib/tcpguard/incidents.jsonl, timelines/    incidents, kept_timelines: 64 incidents, those of most worth
//! /var/lib/tcpguard/alerts.jsonl                   alerts: 1,000 alerts
//! /var/lib/tcpguard/config.json                    daemon/configuration/kept_config.rs: the last valid configuration
//! /var/lib/tcpguard/selftest.json, syncookies.json cookies that work on this host; a sysctl to be restored
//! ```
//!
//! Each file begins with a line that holds its length and checksum. It is accepted as a whole or not at all, and a
//! damaged one is set aside as `….bad`. Keys that a later version added are ignored. Times are by the clock of the
//! boot, beside the time of day of the writing (`state/times.rs`).
//!
//! *Writing.* A thread of its own writes, so that a slow disk does not hold up detection. While the disk hangs, only
//! the newest state waits. An operator's change is answered when it is on the disk, or with the reason why it is not.
//!
//! *Start* (`daemon/agent/start.rs`): the programs are loaded over the pinned maps, the listeners in them keep their
//! numbers, the keys of a rule set that is not in effect are removed, and the rules in the kernel are compared with
//! the file (`state/reconcile.rs`): the kernel knows which rules exist and when they expire, the file their reasons.
//! Rules that only the file knows are restored. The programs behind the links are replaced last, atomically.
//!
//! *Another layout.* The new agent finds its predecessor's links by the interface's index, gives each its new program
//! and moves it, so that exactly one XDP program is attached at any time. If only the capacity for rules differs, it
//! goes on with the predecessor's maps (decision 21 in `docs/evidence/decisions`), else with empty ones and the state file. The
//! predecessor's pins are removed then.
//!
//! *Incidents and modes.* The next agent resumes an open incident within the same boot, if the last poll was less
//! than a minute ago. A temporary mode has its end by two clocks: within a boot that of the boot, afterwards the time
//! of day, and never more than what was left. A rule that awaits confirmation has the deadline as its expiry in the
//! kernel.
//!
//! *Numbers of alerts.* A killed agent may have sent alerts that are not in the file, and the next one uses their
//! numbers again. Therefore a response to `Alerts` names the run and its first number.

pub mod alerts;
pub mod counts;
#[cfg(test)]
pub mod damage_tests;
pub mod incidents;
pub mod jsonl;
pub mod kept_timelines;
pub mod memory;
pub mod records;
pub mod state;
pub mod writer;
