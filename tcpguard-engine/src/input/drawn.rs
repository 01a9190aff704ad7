//! Some of many, which stand for all.

/// About one item in `step`. Which one is drawn differs from one group of `step` items to the next: of items that
/// alternate, as those of several tools may, every n-th would all be of one kind.
pub(crate) fn one_in<I: Iterator + Clone>(
    step: usize,
    items: I,
) -> impl Iterator<Item = I::Item> + Clone {
    let step = step.max(1);
    items.enumerate().filter(move |(at, _)| is_drawn(step, *at)).map(|(_, item)| item)
}

/// Returns whether [`one_in`] draws the item at this position.
pub(crate) const fn is_drawn(step: usize, at: usize) -> bool {
    at % step == place(at / step) % step
}

/// A number for each group without a pattern (multiplicative hashing: Knuth, The Art of Computer Programming 3, §6.4).
const fn place(group: usize) -> usize {
    ((group as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_alternate_are_drawn_alike() {
        for (kinds, step) in [(2, 2), (3, 3), (3, 6), (4, 2), (7, 7)] {
            let mut count = vec![0_usize; kinds];
            for at in one_in(step, 0..84_000) {
                count[at % kinds] += 1;
            }
            let each = 84_000 / step / kinds;
            assert!(count.iter().all(|count| count.abs_diff(each) * 20 < each), "{count:?} {each}");
        }
    }

    #[test]
    fn of_one_in_one_none_is_left_out() {
        assert!(one_in(1, 0..10).eq(0..10));
        assert!(one_in(0, 0..10).eq(0..10));
        assert_eq!(one_in(4, 0..10_000).count(), 2500);
    }
}
