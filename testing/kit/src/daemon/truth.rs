//! Test that tcpguard reports a flood truthfully: it says that one is on, and that it is mitigated only while most
//! of it is kept from the stack.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::daemon::agent::Agent;
use crate::daemon::status::Status;

/// `daemon.state` while a flood is on and most of it is kept from the stack.
pub const STOPPED: &str = "attack_mitigated";
/// The same while it is not.
pub const NOT_STOPPED: &str = "attack_unmitigated";
/// Number of consecutive seconds in which the status must not falsely say that a flood is stopped. The agent
/// judges the SYNs that reach the stack over two seconds, and after it has acted from the second on.
const IN_VAIN: u32 = 3;

/// SYNs that have arrived, and those that were kept from the stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Syns {
    arrived: u64,
    kept: u64,
}

impl Syns {
    fn of(status: &Status) -> Self {
        let kept = status.total("drop_total") + status.total("cookies_sent");
        Self { arrived: status.total("syn"), kept }
    }

    fn since(self, before: Self) -> Self {
        Self { arrived: self.arrived - before.arrived, kept: self.kept - before.kept }
    }

    /// Returns whether it is not true of these that the flood is stopped.
    fn refute(self, state: &str) -> bool {
        state == STOPPED && 2 * self.kept < self.arrived
    }
}

/// Compares the agent's status with the counters for so many seconds of a flood. Returns the share of all
/// SYNs that was kept from the stack meanwhile, 0 to 1, and the last status.
///
/// # Errors
/// When it denies that a flood is on, or says for three seconds running that it is stopped while most SYNs reach
/// the stack.
pub fn alerted_of_a_flood(agent: &Agent<'_>, seconds: u32) -> Result<(f64, Status)> {
    let mut status = agent.status()?;
    let first = Syns::of(&status);
    let (mut before, mut in_vain) = (first, 0);
    for _ in 0..seconds {
        sleep(Duration::from_secs(1));
        status = agent.status()?;
        let (now, state) = (Syns::of(&status), status.state());
        let Syns { arrived, kept } = now.since(before);
        println!("  {state}: {kept} of {arrived} SYNs kept from the stack");
        ensure!([STOPPED, NOT_STOPPED].contains(&state), "a flood is on, and it says {state:?}");
        in_vain = if now.since(before).refute(state) { in_vain + 1 } else { 0 };
        ensure!(in_vain < IN_VAIN, "for {in_vain} s it says {state:?}, and most SYNs pass");
        before = now;
    }
    let Syns { arrived, kept } = before.since(first);
    Ok((kept.min(arrived) as f64 / arrived.max(1) as f64, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_flood_is_stopped_is_refuted_by_what_passes() {
        let syns = |kept| Syns { arrived: 1000, kept };
        assert!(syns(499).refute(STOPPED));
        assert!(!syns(500).refute(STOPPED));
        assert!(!syns(0).refute(NOT_STOPPED));
        assert_eq!(
            syns(700).since(Syns { arrived: 400, kept: 600 }),
            Syns { arrived: 600, kept: 100 }
        );
    }
}
