//! The sizes and options that the two ends of a connection announce in SYN and SYN-ACK.

use crate::abi::option;

/// The largest window scale, RFC 7323 §2.3.
pub const MAX_WSCALE: u8 = 14;

/// The sizes and options that one end announces.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// The largest segment that it takes, in bytes without headers.
    pub mss: u16,
    /// Its window scale, at most [`MAX_WSCALE`]; 0 without [`option::WSCALE`].
    pub wscale: u8,
    /// Bits of [`option`].
    pub options: u32,
}

impl Offer {
    /// An offer, with the window scale as the standard wants it read.
    #[inline(always)]
    pub const fn new(mss: u16, wscale: u8, options: u32) -> Self {
        let wscale = if options & option::WSCALE == 0 {
            0
        } else if wscale > MAX_WSCALE {
            MAX_WSCALE
        } else {
            wscale
        };
        Self { mss, wscale, options }
    }

    /// Returns whether it has this option.
    #[inline(always)]
    pub const fn has(&self, option: u32) -> bool {
        self.options & option != 0
    }

    /// A number that grows with the window scale, 0 without one.
    #[inline(always)]
    pub(super) const fn scaling(&self) -> u8 {
        if self.has(option::WSCALE) { self.wscale + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_scale_beyond_the_standards_is_read_as_its_largest() {
        assert_eq!(Offer::new(1460, 200, option::WSCALE).wscale, MAX_WSCALE);
        assert_eq!(Offer::new(1460, 7, option::SACK).wscale, 0);
        let unscaled = Offer::new(1460, 0, option::WSCALE);
        assert!(unscaled.scaling() > Offer::new(1460, 0, 0).scaling());
    }
}
