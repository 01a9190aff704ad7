//! Advice for each setting, as functions of the host's facts and the value.
//!
//! Every figure names its source: the kernel's documentation (Documentation/networking/ip-sysctl.rst,
//! scaling.rst, nf_conntrack-sysctl.rst, Documentation/admin-guide/sysctl/net.rst), tcp(7), an RFC, or a
//! measurement.

pub(super) mod connection;
pub(super) mod device;
pub(super) mod host;
pub(super) mod listener;

/// The advice for one setting, and the reason on this host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advice {
    pub verdict: Verdict,
    /// Reason for the advice.
    pub why: String,
}

/// The advised action for one setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing: it is as it should be.
    Good,
    /// Give it this value.
    Change { to: String },
    /// Nothing: an administrator had a reason for the value, or it does not matter here.
    LeaveAlone,
    /// Nothing here: the value is too small for the load, and a larger one does not help.
    Short,
    /// The value does harm; give it this one.
    Harmful { to: String },
}

fn good(why: impl Into<String>) -> Advice {
    Advice { verdict: Verdict::Good, why: why.into() }
}

fn leave(why: impl Into<String>) -> Advice {
    Advice { verdict: Verdict::LeaveAlone, why: why.into() }
}

fn short(why: impl Into<String>) -> Advice {
    Advice { verdict: Verdict::Short, why: why.into() }
}

fn change(to: impl ToString, why: impl Into<String>) -> Advice {
    Advice { verdict: Verdict::Change { to: to.to_string() }, why: why.into() }
}

fn harmful(to: impl ToString, why: impl Into<String>) -> Advice {
    Advice { verdict: Verdict::Harmful { to: to.to_string() }, why: why.into() }
}

/// Twice as much, as a power of two.
fn doubled(value: u64) -> u64 {
    value.saturating_mul(2).checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// Divisor of the memory that limits the growth from one advice: with four such tables full at once, 15
/// of 16 parts are left to the services that the host is there for.
const MEMORY_SHARE: u64 = 64;

/// The largest power of two of entries of `bytes` each that fits in the share of the memory; at
/// least 1.
fn affordable(memory: u64, bytes: u64) -> u64 {
    match memory / MEMORY_SHARE / bytes.max(1) {
        0 => 1,
        entries => 1 << entries.ilog2(),
    }
}
