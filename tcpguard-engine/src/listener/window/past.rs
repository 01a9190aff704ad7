//! A sequence of entries in which the blank ones take little memory and time. Of a listener without
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
}

/// An entry in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<E> {
    /// End of the entry.
    pub end: Timestamp,
    /// Its length.
    pub span: Duration,
    /// The entry; `None` where it is blank.
    pub entry: Option<E>,
}

impl<E> Slot<E> {
    /// Returns the start of the entry.
    pub fn start(&self) -> Timestamp {
        self.end - self.span
    }
}

impl<T: Entry> Slot<&T> {
    /// Returns a copy of the entry.
    pub fn copied(&self) -> T {
        self.entry.copied().unwrap_or_else(|| T::blank(self.end, self.span))
    }

    /// Returns a count of the entry, which is 0 for a blank one.
    pub fn count(&self, count: impl FnOnce(&T) -> u64) -> u64 {
        self.entry.map_or(0, count)
    }
}

/// The sequence of the module's head, ordered by time. Each blank entry at the front is returned with their mean
/// length.
#[derive(Clone, Debug)]
pub(super) struct Past<T> {
    /// Blank entries at the front: their number, their length together, and the end of the last one.
    blank: u32,
    blank_span: Duration,
    blank_end: Timestamp,
    /// The other entries, of which the first is not blank.
    rest: VecDeque<Slot<Box<T>>>,
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
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Slot<&T>> {
        self.range(0..self.len())
    }

    /// Returns the entries in a range of positions, of which the oldest one's is 0.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn range(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = Slot<&T>> {
        places.map(|place| self.at(place))
    }

    /// Calls `each` with the entries in such a range that are not blank. Returns the length of all of them together.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn for_each_counted(&self, places: Range<usize>, mut each: impl FnMut(&T)) -> Duration {
        let blank = self.blank as usize;
        let blanks = places.end.min(blank) - places.start.min(blank);
        let mut span = self.each() * blanks as u32;
        for slot in self.rest.range(places.start.max(blank) - blank..places.end.max(blank) - blank)
        {
            span += slot.span;
            if let Some(entry) = &slot.entry {
                each(entry);
            }
        }
        span
    }

    /// Returns the entries from the first that is not blank on.
    pub fn since_counted(&self) -> impl DoubleEndedIterator<Item = Slot<&T>> {
        self.range(self.blank as usize..self.len())
    }

    /// Returns the first position of which `is_before` does not hold, as it does of all earlier ones.
    pub fn partition_point(&self, is_before: impl Fn(&Slot<&T>) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if is_before(&self.at(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Returns the entry at a position.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, place: usize) -> Slot<&T> {
        if let Some(place) = place.checked_sub(self.blank as usize) {
            let Slot { end, span, entry } = &self.rest[place];
            return Slot { end: *end, span: *span, entry: entry.as_deref() };
        }
        let span = self.each();
        let later = span.as_nanos() as u64 * u64::from(self.blank - 1 - place as u32);
        Slot { end: self.blank_end - Duration::from_nanos(later), span, entry: None }
    }

    /// The oldest one.
    pub fn first(&self) -> Option<Slot<&T>> {
        self.iter().next()
    }

    /// The latest one.
    pub fn last(&self) -> Option<Slot<&T>> {
        self.iter().next_back()
    }

    /// Adds one after all others.
    pub fn push(&mut self, entry: T) {
        let (end, span) = (entry.end(), entry.span());
        if entry == T::blank(end, span) {
            return self.push_blank(end, span);
        }
        self.rest_span += span;
        self.rest.push_back(Slot { end, span, entry: Some(Box::new(entry)) });
    }

    /// Adds a blank one after all others.
    pub fn push_blank(&mut self, end: Timestamp, span: Duration) {
        if self.rest.is_empty() {
            return self.count_blank(end, span);
        }
        self.rest_span += span;
        self.rest.push_back(Slot { end, span, entry: None });
    }

    /// Forgets the oldest one.
    pub fn pop(&mut self) {
        if self.blank > 0 {
            self.blank_span -= self.each();
            self.blank -= 1;
        } else if let Some(first) = self.rest.pop_front() {
            self.rest_span -= first.span;
            self.merge_blank();
        }
    }

    /// Returns the mean length of the blank entries.
    fn each(&self) -> Duration {
        // Cheaper than the division of a `Duration`.
        Duration::from_nanos(self.blank_span.as_nanos() as u64 / u64::from(self.blank.max(1)))
    }

    fn count_blank(&mut self, end: Timestamp, span: Duration) {
        self.blank += 1;
        self.blank_span += span;
        self.blank_end = end;
    }

    /// Counts the blank ones that have come to the front.
    fn merge_blank(&mut self) {
        while let Some(first) = self.rest.pop_front_if(|first| first.entry.is_none()) {
            self.count_blank(first.end, first.span);
            self.rest_span -= first.span;
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
                let copied = |slot: Slot<&Count>| slot.copied();
                assert_eq!(past.iter().map(copied).collect::<Vec<_>>(), left);
                assert_eq!(past.iter().rev().count(), past.len());
                for from in 0..=left.len() {
                    let part = past.range(from..left.len());
                    assert_eq!(part.map(copied).collect::<Vec<_>>(), left[from..]);
                    let mut part = Vec::new();
                    let span = past.for_each_counted(0..from, |count| part.push(count.2));
                    let counted = left[..from].iter().map(|count| count.2);
                    assert_eq!(part, counted.filter(|&count| count > 0).collect::<Vec<_>>());
                    assert_eq!(span, SECOND * from as u32);
                    if let Some(first) = left.get(from) {
                        assert_eq!(past.partition_point(|slot| slot.end < first.0), from);
                    }
                }
                assert_eq!((past.len(), past.span()), (left.len(), SECOND * left.len() as u32));
                assert_eq!(
                    (past.first().map(copied), past.last().map(copied)),
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
