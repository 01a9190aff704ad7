//! Ethernet II and VLAN tags.

use super::{Frame, Skip};

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
/// IEEE 802.1Q customer tag.
const VLAN: u16 = 0x8100;
/// IEEE 802.1ad service tag.
const SERVICE_VLAN: u16 = 0x88a8;
/// Tags followed. Linux itself answers through more, but only when they all carry VLAN id 0.
pub const MAX_VLAN_TAGS: usize = 2;

const fn is_vlan(protocol: u16) -> bool {
    protocol == VLAN || protocol == SERVICE_VLAN
}

/// A VLAN tag: 0 for none, otherwise this bit and the VLAN's id.
pub const TAGGED: u32 = 0x1_0000;
/// The id within a tag's control information.
const VLAN_ID: u16 = 0x0fff;

/// [`TAGGED`] and the id in a tag's control information.
#[inline(always)]
pub const fn tagged(control: u16) -> u32 {
    TAGGED | (control & VLAN_ID) as u32
}

/// The outermost VLAN tag that a frame itself holds: 0 for none, otherwise as [`tagged`] says it.
#[inline(always)]
pub fn vlan<F: Frame + ?Sized>(frame: &F) -> u32 {
    match (frame.u16(12), frame.u16(14)) {
        (Some(protocol), Some(control)) if is_vlan(protocol) => tagged(control),
        _ => 0,
    }
}

/// The network protocol and where its header starts.
#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(frame: &F) -> Result<(u16, usize), Skip> {
    let mut protocol = ethertype(frame, 12)?;
    let mut at = 14;
    // Written out rather than looped: most frames have no tag, and each further tag is rarer.
    if is_vlan(protocol) {
        protocol = ethertype(frame, at + 2)?;
        at += 4;
        if is_vlan(protocol) {
            protocol = ethertype(frame, at + 2)?;
            at += 4;
            if is_vlan(protocol) {
                return Err(Skip::VlanDepth);
            }
        }
    }
    Ok((protocol, at))
}

#[inline(always)]
fn ethertype<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<u16, Skip> {
    frame.u16(at).ok_or_else(|| Skip::unread(frame, at + 2))
}
