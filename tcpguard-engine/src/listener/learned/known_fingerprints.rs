//! The known fingerprints of clients.

use tcpguard_common::abi::{Fingerprint, Mask};

/// The known fingerprints of the clients of one listener, or of several.
pub(crate) trait KnownFingerprints {
    /// Completions recorded.
    fn completions(&self) -> u64;

    /// Completions with a fingerprint that is remembered.
    fn remembered(&self) -> u64;

    /// Completions recorded with this signature; `print` is reduced to `mask`.
    fn with_signature(&self, mask: Mask, print: &Fingerprint) -> u64;

    /// Share of the remembered completions with this signature, 0 to 1.
    fn share(&self, mask: Mask, print: &Fingerprint) -> f64 {
        match self.remembered() {
            0 => 0.0,
            all => self.with_signature(mask, print) as f64 / all as f64,
        }
    }
}
