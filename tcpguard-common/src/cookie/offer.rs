//! What the two ends of a connection tell each other in SYN and SYN-ACK.

/// [`Offer::wscale`] of an end that does not scale windows.
pub const NO_WSCALE: u8 = 15;
/// The largest window scale, RFC 7323 §2.3.
pub const MAX_WSCALE: u8 = 14;

/// What an end says of itself, and of what it can do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// The largest segment that it takes, in bytes without headers.
    pub mss: u16,
    /// Its window scale, at most [`MAX_WSCALE`], or [`NO_WSCALE`].
    pub wscale: u8,
    /// Selective acknowledgements.
    pub sack: bool,
    /// Explicit congestion notification, RFC 3168.
    pub ecn: bool,
    /// Timestamps, RFC 7323 §3.
    pub timestamps: bool,
}

impl Offer {
    /// What of this offer both ends can do: no option that the other lacks.
    #[inline(always)]
    pub const fn limited_to(mut self, other: &Self) -> Self {
        if other.wscale == NO_WSCALE {
            self.wscale = NO_WSCALE;
        }
        self.sack &= other.sack;
        self.ecn &= other.ecn;
        self.timestamps &= other.timestamps;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_needs_both_ends_and_sizes_are_the_offerers_own() {
        let all = Offer { mss: 1460, wscale: 7, sack: true, ecn: true, timestamps: true };
        let none = Offer { mss: 536, wscale: NO_WSCALE, ..Offer::default() };
        let other = Offer { mss: 1400, wscale: 10, ..all };
        assert_eq!(all.limited_to(&other), all);
        assert_eq!(all.limited_to(&none), Offer { mss: 1460, ..none });
        assert_eq!(none.limited_to(&all), none);
    }
}
