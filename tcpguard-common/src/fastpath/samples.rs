//! Headers of SYNs, kept as they came and with their fate: an incident shows its SYNs without reconstruction.

use super::{PacketCtx, Tables};
use crate::abi::maps::SYN_SAMPLES_KEPT;
use crate::abi::{Reason, SYN_SAMPLE_WORDS};
use crate::wire::Frame;

/// The bits that the number of a SYN of a listener has on this CPU, of which the header is not kept, by
/// [`crate::abi::ListenerEntry::samples`]: of one in `2^(samples - 1)` it is. They are counted rather than
/// hashed, so that a flood of one address and port is in the sample as well.
#[inline(always)]
pub(super) const fn unsampled(samples: u8) -> u64 {
    match samples {
        // None is, and no SYN has the number 0.
        0 => u64::MAX,
        _ => (1 << (samples.wrapping_sub(1) & 31)) - 1,
    }
}

/// The slot of the next header.
const fn place(written: u64) -> usize {
    written as usize & (SYN_SAMPLES_KEPT as usize - 1)
}

/// Keeps the header of a SYN, in the slot of the oldest. It counts once its fate is added.
#[inline(always)]
pub(super) fn keep<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &mut T, pkt: &PacketCtx) {
    let (from, to) = (usize::from(pkt.segment.ip_at), usize::from(pkt.segment.options_end));
    let Some(samples) = tables.syn_samples() else { return };
    let Some(sample) = samples.places.get_mut(place(samples.written)) else { return };
    (sample.at_ns, sample.listener) = (pkt.now, pkt.listener.id);
    sample.whole = to.wrapping_sub(from) as u16;
    let mut words = 0;
    while words < SYN_SAMPLE_WORDS {
        let at = from + 4 * words;
        if at + 4 > to {
            break;
        }
        let Some(word) = frame.u32(at) else { break };
        sample.words[words] = word.to_be();
        words += 1;
    }
    sample.length = 4 * words as u8;
}

/// Adds its fate to the header that was kept last.
#[inline(always)]
pub(super) fn complete<T: Tables>(tables: &mut T, fate: Reason) {
    let Some(samples) = tables.syn_samples() else { return };
    let Some(sample) = samples.places.get_mut(place(samples.written)) else { return };
    sample.reason = fate as u8;
    tables.publish();
    if let Some(samples) = tables.syn_samples() {
        samples.written += 1;
    }
}
