//! A sequence of entries in which the blank ones at the front take no memory. Of a listener without
//! traffic, that is all of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::input::Timestamp;

/// An entry that covers a span of time.
pub(super) trait Entry: Copy + PartialEq {
    /// Returns an entry of length `span` that ended at `end`, in which nothing happened.
    fn blank(end: Timestamp, span: Duration) -> Self;
    /// Returns the end of the entry.
    fn end(&self) -> Timestamp;
    /// Returns the length of the entry.
    fn span(&self) -> Duration;
    /// Returns whether nothing happened in it.
    fn is_blank(&self) -> bool {
        *self == Self::blank(self.end(), self.span())
    }
}

/// The sequence of the module's head. Each blank entry at the front is returned with their mean length.
#[derive(Clone, Debug)]
pub(super) struct Past<T> {
    /// Blank entries at the front: their number, their length together, and the end of the last one.
    blank: u32,
    blank_span: Duration,
    blank_end: Timestamp,
    /// The other entries, of which the first is not blank.
    rest: VecDeque<T>,
    rest_span: Duration,
}

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self {
            blank: 0,
            blank_span: Duration::ZERO,
            blank_end: Timestamp::default(),
            rest: VecDeque::new(),
            rest_span: Duration::ZERO,
        }
    }
}

impl<T: Entry> Past<T> {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.blank as usize + self.rest.len()
    }

    /// Returns the length of all entries together.
    pub fn span(&self) -> Duration {
        self.blank_span + self.rest_span
    }

    /// Returns all entries, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + '_ {
        self.range(0..self.len())
    }

    /// Returns the entries in a range of positions, of which the oldest one's is 0.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn range(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = T> + '_ {
        let (blank, each) = (self.blank as usize, self.each());
        let end = move |place: usize| self.blank_end - each * (blank - 1 - place) as u32;
        let blanks = places.start.min(blank)..places.end.min(blank);
        let rest = places.start.max(blank) - blank..places.end.max(blank) - blank;
        blanks.map(move |place| T::blank(end(place), each)).chain(self.rest.range(rest).copied())
    }

    /// The oldest one.
    pub fn first(&self) -> Option<T> {
        match self.blank {
            0 => self.rest.front().copied(),
            _ => self.range(0..1).next(),
        }
    }

    /// The latest one.
    pub fn last(&self) -> Option<T> {
        let last = self.rest.back().copied();
        last.or_else(|| (self.blank > 0).then(|| T::blank(self.blank_end, self.each())))
    }

    /// Adds one after all others.
    pub fn push(&mut self, entry: T) {
        if self.rest.is_empty() && entry.is_blank() {
            return self.count_blank(&entry);
        }
        self.rest_span += entry.span();
        self.rest.push_back(entry);
        self.merge_blank();
    }

    /// Forgets the oldest one.
    pub fn pop(&mut self) {
        if self.blank > 0 {
            self.blank_span -= self.each();
            self.blank -= 1;
        } else if let Some(first) = self.rest.pop_front() {
            self.rest_span -= first.span();
            self.merge_blank();
        }
    }

    /// Returns the mean length of the blank entries.
    fn each(&self) -> Duration {
        self.blank_span / self.blank.max(1)
    }

    fn count_blank(&mut self, entry: &T) {
        self.blank += 1;
        self.blank_span += entry.span();
        self.blank_end = entry.end();
    }

    /// Counts the blank ones that have come to the front.
    fn merge_blank(&mut self) {
        while let Some(first) = self.rest.front().filter(|first| first.is_blank()) {
            let first = *first;
            self.count_blank(&first);
            self.rest_span -= first.span();
            self.rest.pop_front();
        }
        if self.rest.is_empty() {
            self.rest = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A count in a time.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Count(Timestamp, Duration, u32);

    impl Entry for Count {
        fn blank(end: Timestamp, span: Duration) -> Self {
            Self(end, span, 0)
        }

        fn end(&self) -> Timestamp {
            self.0
        }

        fn span(&self) -> Duration {
            self.1
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn all(counts: &[u32]) -> Vec<Count> {
        let entry =
            |(n, &count)| Count(Timestamp::from_millis(1000 * (n as u64 + 1)), SECOND, count);
        counts.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let counts = all(&[0, 0, 3, 0, 0, 7, 0, 0, 0, 1]);
        for end in 0..=counts.len() {
            for begin in 0..=end {
                let mut past = Past::default();
                counts[..end].iter().for_each(|count| past.push(*count));
                (0..begin).for_each(|_| past.pop());
                let left = &counts[begin..end];
                assert_eq!(past.iter().collect::<Vec<_>>(), left);
                assert_eq!(past.iter().rev().count(), past.len());
                for from in 0..=left.len() {
                    let part = past.range(from..left.len());
                    assert_eq!(part.collect::<Vec<_>>(), left[from..]);
                    assert_eq!(past.range(0..from).collect::<Vec<_>>(), left[..from]);
                }
                assert_eq!((past.len(), past.span()), (left.len(), SECOND * left.len() as u32));
                assert_eq!(
                    (past.first(), past.last()),
                    (left.first().copied(), left.last().copied())
                );
            }
        }
    }

    #[test]
    fn blank_ones_take_no_room() {
        let mut past = Past::default();
        all(&[0; 100]).into_iter().for_each(|count| past.push(count));
        assert_eq!((past.len(), past.rest.capacity()), (100, 0));
        let busy = all(&[1, 2, 0, 0]);
        busy.iter().for_each(|count| past.push(*count));
        assert_eq!(past.rest.len(), 4);
        (0..102).for_each(|_| past.pop());
        assert_eq!((past.len(), past.rest.capacity()), (2, 0));
        (0..3).for_each(|_| past.pop());
        assert_eq!((past.len(), past.span()), (0, Duration::ZERO));
    }
}
