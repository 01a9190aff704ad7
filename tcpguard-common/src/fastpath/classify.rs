//! The class of a segment, by its TCP flags.

use crate::abi::Class;
use crate::wire::flag::{ACK, FIN, PSH, RST, SYN, URG};

/// The class of each combination of the six classic flags.
///
/// A SYN is a segment with SYN and none of ACK, RST and FIN. PSH and URG do not matter, because
/// Linux answers such SYNs; ECE and CWR do not, because a client that offers ECN sets both, and a
/// real flood did.
#[inline(always)]
pub const fn classify(flags: u16) -> Class {
    if flags & (SYN | ACK | RST | FIN) == SYN {
        return Class::Syn;
    }
    if flags & (SYN | ACK | RST | FIN) == ACK {
        return Class::Ack;
    }
    if flags & SYN != 0 {
        // A reset outweighs everything else that is wrong, as it does in the stack.
        return if flags & RST != 0 {
            Class::SynRst
        } else if flags & FIN != 0 {
            Class::SynFin
        } else {
            Class::SynAck
        };
    }
    if flags & RST != 0 {
        return if flags & FIN != 0 { Class::FinRst } else { Class::Rst };
    }
    if flags & FIN != 0 {
        return if flags & ACK != 0 {
            Class::Fin
        } else if flags & (PSH | URG) == PSH | URG {
            Class::Xmas
        } else {
            Class::FinNoAck
        };
    }
    if flags & (PSH | URG) != 0 { Class::NoAck } else { Class::Null }
}

impl Class {
    /// Classes of segments that no stack sends and that a closed port refuses like a SYN: those of scanners.
    pub const PROBES: [Self; 5] =
        [Self::Null, Self::NoAck, Self::FinNoAck, Self::Xmas, Self::SynFin];

    /// Returns whether any TCP may send it.
    #[inline(always)]
    pub const fn is_legal(self) -> bool {
        matches!(self, Self::Syn | Self::SynAck | Self::Ack | Self::Fin | Self::Rst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flag::{CWR, ECE};

    #[test]
    fn every_legal_segment_of_a_connection_is_legal() {
        for (flags, class) in [
            (SYN, Class::Syn),
            (SYN | ECE | CWR, Class::Syn),
            (SYN | PSH | URG, Class::Syn),
            (SYN | 0xf00, Class::Syn),
            (SYN | ACK, Class::SynAck),
            (SYN | ACK | ECE, Class::SynAck),
            (ACK, Class::Ack),
            (ACK | PSH, Class::Ack),
            (ACK | URG | PSH, Class::Ack),
            (FIN | ACK, Class::Fin),
            (FIN | ACK | PSH | URG, Class::Fin),
            (RST, Class::Rst),
            (RST | ACK, Class::Rst),
            (RST | ACK | PSH, Class::Rst),
        ] {
            assert_eq!(classify(flags), class, "{flags:#05x}");
            assert!(classify(flags).is_legal(), "{flags:#05x}");
        }
    }

    #[test]
    fn every_illegal_combination_is_named() {
        for (flags, class) in [
            (0, Class::Null),
            (ECE | CWR, Class::Null),
            (SYN | FIN, Class::SynFin),
            (SYN | FIN | ACK, Class::SynFin),
            (SYN | RST, Class::SynRst),
            (SYN | RST | FIN | ACK | PSH | URG, Class::SynRst),
            (FIN, Class::FinNoAck),
            (FIN | PSH, Class::FinNoAck),
            (FIN | URG, Class::FinNoAck),
            (FIN | PSH | URG, Class::Xmas),
            (FIN | RST, Class::FinRst),
            (FIN | RST | ACK, Class::FinRst),
            (PSH, Class::NoAck),
            (URG, Class::NoAck),
            (PSH | URG, Class::NoAck),
        ] {
            assert_eq!(classify(flags), class, "{flags:#05x}");
            assert!(!classify(flags).is_legal(), "{flags:#05x}");
        }
    }

    /// The same table written from the other end: RFC 9293 allows exactly these sets of
    /// {SYN, ACK, FIN, RST} on the wire, whatever PSH, URG, ECE, CWR and the reserved bits say.
    #[test]
    fn all_4096_flag_words_agree_with_the_rfc() {
        const LEGAL: [u16; 6] = [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK];
        for flags in 0..0x1000 {
            let core = flags & (SYN | ACK | FIN | RST);
            assert_eq!(classify(flags).is_legal(), LEGAL.contains(&core), "{flags:#05x}");
        }
    }
}
