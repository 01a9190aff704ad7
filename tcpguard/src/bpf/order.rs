//! The order of programs at tc. A program or filter that ends the chain keeps packets from all that
//! come after it. The agent's own programs never end the chain, so they go first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use aya_obj::generated::bpf_attach_type;
use tcpguard_host::linux::attachments::{Direction, filters};
use tcpguard_host::linux::programs::{Attached, Hook};

use super::attached_programs::{self, tcx};
use super::links::HeldLink;
use super::{KernelError, syscall};

/// Time for which the head of a chain is left alone after it was taken back for the first time. After that it
/// is twice as long each time, up to `LONGEST_WAIT`. So two programs that both want it do not swap positions
/// for ever.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The position of one of tcpguard's programs in its chain.
#[derive(Debug, Default)]
pub struct Lead {
    /// Others' programs that run before it.
    ahead: Vec<Attached>,
    /// Time at which the head was last taken back, and the time for which it is left alone then.
    taken: Option<(Instant, Duration)>,
}

impl Lead {
    /// Others' programs that run before it.
    pub fn ahead(&self) -> &[Attached] {
        &self.ahead
    }

    /// Ensures that no program is ahead: `look` lists those that are, `take` takes the head back.
    /// Returns the programs that it has passed.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        look: impl Fn() -> Vec<Attached>,
        take: impl FnOnce() -> Result<(), KernelError>,
    ) -> Result<Vec<Attached>, KernelError> {
        self.ahead = look();
        if self.ahead.is_empty() || !self.may_take(now) {
            return Ok(Vec::new());
        }
        take()?;
        let now_ahead = look();
        let before = std::mem::replace(&mut self.ahead, now_ahead);
        Ok(before.into_iter().filter(|one| !self.ahead.contains(one)).collect())
    }

    /// Returns whether the head may be taken back now; then it counts as taken.
    fn may_take(&mut self, now: Instant) -> bool {
        let wait = match self.taken {
            None => FIRST_WAIT,
            Some((at, wait)) if now.duration_since(at) < wait => return false,
            // A program that was content for so long does not want it for ever.
            Some((at, _)) if now.duration_since(at) >= LONGEST_WAIT * 2 => FIRST_WAIT,
            Some((_, wait)) => (wait * 2).min(LONGEST_WAIT),
        };
        self.taken = Some((now, wait));
        true
    }
}

/// The programs that run before the one with the kernel id `own` at a TCX hook; none where that cannot
/// be asked, or where it does not hang.
pub(super) fn ahead_at_tcx(ifindex: u32, hook: Hook, own: u32) -> Vec<Attached> {
    let Some(kind) = tcx(hook) else { return Vec::new() };
    let all = syscall::tcx_programs(ifindex, kind).unwrap_or_default();
    let Some(place) = all.iter().position(|id| *id == own) else { return Vec::new() };
    attached_programs::programs(hook, &all[..place])
}

/// The filters that run before that program at clsact.
pub(super) fn ahead_at_clsact(ifindex: u32, own: u32) -> Vec<Attached> {
    let all = filters(ifindex, Direction::Egress).unwrap_or_default();
    let Some(place) = all.iter().position(|filter| filter.id == Some(own)) else {
        return Vec::new();
    };
    let mut ahead = attached_programs::filters(Hook::ClsactEgress, &all[..place]);
    // A filter of several parts is listed once for each.
    ahead.dedup();
    ahead
}

/// Moves `program`, one of tcpguard's, to the head of its chain at TCX. A link cannot be moved, and no program
/// can be in a chain twice. So the old link is given a program that does nothing, and is detached when the new
/// one is attached. Packets between these two calls are not seen.
pub(super) fn lead_at_tcx(
    link: &mut HeldLink,
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: bpf_attach_type,
) -> Result<(), KernelError> {
    let failed = |error: io::Error| KernelError::Pin {
        what: "move to the head of its chain the link pinned at",
        path: link.pin_path().to_owned(),
        error,
    };
    let idle = syscall::load_idle().map_err(failed)?;
    syscall::update_link(link.fd(), idle.as_fd()).map_err(failed)?;
    match syscall::link_tcx(program, ifindex, hook) {
        Ok(first) => link.replace(first),
        Err(error) => {
            // Restores the old program: behind others it may still see the packets that it is for.
            syscall::update_link(link.fd(), program).map_err(failed)?;
            Err(failed(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn other(id: u32) -> Attached {
        Attached { hook: Hook::TcxEgress, id: Some(id), name: None }
    }

    #[test]
    fn the_head_is_retaken_at_once_and_left_alone_for_longer_each_time() {
        let begin = Instant::now();
        let mut lead = Lead::default();
        let mut taken = Vec::new();
        // The other takes it back within a second, for an hour.
        for second in 0..3_600 {
            let first = Cell::new(false);
            let look = || if first.get() { Vec::new() } else { vec![other(7)] };
            let take = || {
                first.set(true);
                Ok(())
            };
            let passed = lead.keep(begin + Duration::from_secs(second), look, take).unwrap();
            assert_eq!(lead.ahead().is_empty(), first.get());
            assert_eq!(!passed.is_empty(), first.get());
            if first.get() {
                taken.push(second);
            }
        }
        assert_eq!(taken, [0, 10, 30, 70, 150, 310, 630, 1_230, 1_830, 2_430, 3_030]);
        // The head may be taken back at once from a rival that left it alone for as long, whenever the
        // rival comes.
        assert!(lead.may_take(begin + Duration::from_secs(10_000)));
        assert!(!lead.may_take(begin + Duration::from_secs(10_009)));
        assert!(lead.may_take(begin + Duration::from_secs(10_010)));
    }

    #[test]
    fn a_program_that_cannot_be_passed_is_named_and_no_other_is() {
        let now = Instant::now();
        let mut lead = Lead::default();
        assert!(lead.keep(now, Vec::new, || panic!("no program is ahead")).unwrap().is_empty());
        assert!(lead.ahead().is_empty());
        let passed = lead.keep(now, || vec![other(7)], || Ok(())).unwrap();
        assert_eq!((passed, lead.ahead()), (vec![], &[other(7)][..]));
        let refused = || Err(KernelError::Mismatch("no".to_owned()));
        let later = now + LONGEST_WAIT;
        assert!(lead.keep(later, || vec![other(8)], refused).is_err());
        assert_eq!(lead.ahead(), [other(8)]);
        lead.keep(later, Vec::new, || panic!("no program is ahead")).unwrap();
        assert!(lead.ahead().is_empty());
    }
}
