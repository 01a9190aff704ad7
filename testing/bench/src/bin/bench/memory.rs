//! The cost of a load that misses the caches near the processor: it shows the worth of a table size on a
//! machine.

use std::hint::black_box;
use std::time::Instant;

/// A cache line of common processors.
#[repr(align(64))]
struct Line(u32);

/// Loads for one figure.
const LOADS: u32 = 2_000_000;

/// ns of a load that waits for the one before it, from random lines of `bytes` on pages of 4 KiB, on
/// which the kernel's maps lie: the median of five times two million.
pub fn load_ns(bytes: usize) -> anyhow::Result<f64> {
    rustix::thread::disable_transparent_huge_pages(true)?;
    let lines = ring(bytes / size_of::<Line>());
    rustix::thread::disable_transparent_huge_pages(false)?;
    let mut at = walk(&lines, 0, lines.len() as u32);
    let mut times = [0.0; 5];
    for time in &mut times {
        let begun = Instant::now();
        at = walk(&lines, at, LOADS);
        *time = begun.elapsed().as_nanos() as f64 / f64::from(LOADS);
    }
    black_box(at);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn walk(lines: &[Line], from: u32, loads: u32) -> u32 {
    (0..loads).fold(from, |at, _| lines[at as usize].0)
}

/// Each line names the next one of a single ring through all of them (Sattolo 1986).
fn ring(length: usize) -> Vec<Line> {
    let mut order: Vec<u32> = (0..length as u32).collect();
    // xorshift64 (Marsaglia 2003): any order will do that no processor foresees.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for last in (1..length).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(last, (random % last as u64) as usize);
    }
    order.into_iter().map(Line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_on_the_way_once() {
        let lines = ring(1000);
        let mut seen = vec![false; lines.len()];
        let mut at = 0;
        for _ in 0..lines.len() {
            assert!(!std::mem::replace(&mut seen[at as usize], true), "{at} twice");
            at = walk(&lines, at, 1);
        }
        assert_eq!(at, 0);
    }
}
