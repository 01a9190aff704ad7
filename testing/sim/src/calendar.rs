//! A calendar of future events, sorted by the step in which they happen.

/// Steps that can be foreseen: 8.2 s of 2 ms, which is longer than any client waits.
const REACH: usize = 4096;

/// A ring of lists, one for each step from the present one on: nothing needs to be sorted.
#[derive(Clone, Debug)]
pub(crate) struct Calendar<T> {
    lists: Vec<Vec<T>>,
    /// Lists that are not needed now. The last one used is still in the CPU's cache.
    spare: Vec<Vec<T>>,
}

impl<T> Calendar<T> {
    pub fn new() -> Self {
        Self { lists: (0..REACH).map(|_| Vec::new()).collect(), spare: Vec::new() }
    }

    /// Notes something for the step `at`, or the one after `now` if that is later.
    pub fn note(&mut self, now: u64, at: u64, what: T) {
        let at = at.max(now + 1);
        assert!(at - now < REACH as u64, "too far away: {} steps", at - now);
        let list = &mut self.lists[at as usize % REACH];
        if list.capacity() == 0 {
            *list = self.spare.pop().unwrap_or_default();
        }
        list.push(what);
    }

    /// The events noted for the step `now`. The caller gives the list back when it has handled
    /// them.
    pub fn take(&mut self, now: u64) -> Vec<T> {
        std::mem::take(&mut self.lists[now as usize % REACH])
    }

    /// Takes a list for reuse, which saves making another.
    pub fn give_back(&mut self, mut list: Vec<T>) {
        if list.capacity() > 0 {
            list.clear();
            self.spare.push(list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_happens_in_its_step_or_the_next_one_if_that_is_over() {
        let mut calendar = Calendar::new();
        for step in 0..10_000 {
            calendar.note(step, step + 4000, step + 4000);
            calendar.note(step, step, step + 1);
            let mut due = calendar.take(step);
            due.sort_unstable();
            let expected = match step {
                0 => vec![],
                1..4000 => vec![step],
                _ => vec![step, step],
            };
            assert_eq!(due, expected);
            calendar.give_back(due);
        }
    }
}
