//! Hints of the errors that the agent meets.

use tcpguard_host::hint::{Failure, Hint, on_one_line};
use tcpguard_host::linux;

use crate::bpf::KernelError;

/// Returns the hint of an error of the kernel, of the host, or of one that is described where it occurs.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    fn of<E: Hint + Send + Sync + 'static>(error: &anyhow::Error) -> Option<String> {
        error.downcast_ref::<E>().map(Hint::hint)
    }
    let types = [of::<KernelError>, of::<linux::Error>, of::<Failure>];
    types.iter().find_map(|of| of(error))
}

/// An error on one line of the log, with its hint.
pub(super) fn logged(error: &anyhow::Error) -> String {
    let message = format!("{error:#}");
    match hint(error) {
        Some(hint) => on_one_line(message, &hint),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_error_has_the_hint_of_its_type() {
        let error = anyhow::Error::from(KernelError::Host(linux::Error::NoSockDiag));
        assert!(logged(&error).ends_with(" (hint: modprobe tcp_diag)"), "{}", logged(&error));
        assert_eq!(logged(&anyhow::anyhow!("no memory").context("polling")), "polling: no memory");
    }
}
