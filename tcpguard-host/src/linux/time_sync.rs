//! Synchronisation of this host's clock.
#![expect(unsafe_code, reason = "adjtimex(2) has no safe form in rustix")]

/// Returns whether the clock is synchronised, by the status that the kernel keeps (`adjtimex(2)`); `None` where the
/// kernel does not report it.
pub fn is_synchronised() -> Option<bool> {
    // SAFETY: integers and arrays of them; all-zero is valid, and asks without changing anything.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` outlives the call, and the kernel writes within it.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_whether_the_clock_is_kept() {
        assert!(is_synchronised().is_some());
    }
}
