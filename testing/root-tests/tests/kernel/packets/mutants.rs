//! SYNs with a few things changed at random.

use tcpguard_kit::net::frames::{Odd, next, padding};
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::traffic::random::Random;

use super::cases::plain;

/// Bytes of an Ethernet frame at most, without its check sequence.
const LONGEST: usize = 1514;

/// The frame without the changes, and the mutant with this number.
pub fn mutant(random: &mut Random, number: u32) -> (Odd, Vec<u8>) {
    let family = Family::BOTH[usize::from(one_in(random, 2))];
    let whole = plain(family, number);
    let mut odd = whole.clone();
    for _ in 0..random.between(1, 3) {
        change(random, &mut odd);
    }
    let mut frame = odd.frame();
    // Checksums see that nearly all of these are silent: a few keep the parser honest.
    if one_in(random, 8) {
        damage(random, &mut frame);
    }
    // The longest frame that fits on a wire.
    frame.truncate(LONGEST);
    (whole, frame)
}

fn one_in(random: &mut Random, many: u64) -> bool {
    random.bits().is_multiple_of(many)
}

fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
    (0..random.between(0, most)).map(|_| random.bits() as u8).collect()
}

fn change(random: &mut Random, odd: &mut Odd) {
    match random.between(0, 17) {
        0 => {
            let tags = random.between(1, 4);
            let kinds = [0x8100, 0x88a8];
            odd.tags = (0..tags)
                .map(|_| {
                    let id = if one_in(random, 8) { 5 } else { 0 };
                    (kinds[usize::from(one_in(random, 3))], (random.bits() as u16 & 0xf000) | id)
                })
                .collect();
        }
        1 => odd.ip_options = vec![1; random.between(0, 40) as usize],
        2 => odd.ip_options = bytes(random, 40),
        3 => odd.ihl = Some(random.between(0, 15) as u8),
        4 => odd.length_off = random.between(0, 16) as i32 - 8,
        5 => odd.fragment = [0x8000, 0x4000, 0x2000, 0x0001, 0xc000][random.between(0, 4) as usize],
        6 => odd.ttl = random.bits() as u8,
        7 => odd.version = random.between(0, 15) as u8,
        8 => odd.protocol = random.bits() as u8,
        9 => odd.options = bytes(random, 40),
        10 => odd.payload = bytes(random, 300),
        11 => odd.flags = random.bits() as u16 & 0x0fff,
        12 => odd.flags |= random.bits() as u16 & 0x0ee8,
        13 => odd.offset = Some(random.between(0, 15) as u8),
        14 => odd.trailer = bytes(random, 60),
        15 => (odd.window, odd.urgent) = (random.bits() as u16, random.bits() as u16),
        16 => (odd.seq, odd.ack) = (random.bits() as u32, random.bits() as u32),
        _ => {
            let count = random.between(1, 11);
            odd.chain = (0..count).map(|place| header(random, place == 0)).collect();
        }
    }
}

/// An extension header that the stack mostly skips.
fn header(random: &mut Random, first: bool) -> (u8, Vec<u8>) {
    let words = [1, 1, 1, 2, 8, 30][random.between(0, 5) as usize];
    match random.between(0, 11) {
        0 if first => padding(next::HOP_BY_HOP, words),
        0 => (next::HOP_BY_HOP, bytes(random, 8)),
        1 => (next::ROUTING, vec![0; 7]),
        2 => (next::FRAGMENT, vec![0; 7]),
        3 => (random.bits() as u8, vec![0; 7]),
        _ => padding(next::DESTINATION, words),
    }
}

fn damage(random: &mut Random, frame: &mut Vec<u8>) {
    let place = random.between(12, frame.len() as u64 - 1) as usize;
    match random.between(0, 3) {
        0 => frame.truncate(place.max(14)),
        1 => frame.insert(place, random.bits() as u8),
        _ => frame[place] = random.bits() as u8,
    }
}
