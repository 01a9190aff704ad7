//! Lists that several documents carry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::error::DocumentError;

/// Place of a document among those that carry one list. Each part has a lifetime of its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Part {
    /// Number of the part, from 0.
    pub part: u8,
    /// Number of all parts.
    pub parts: u8,
}

impl Part {
    /// Most parts of a list.
    pub const MAX: u8 = 8;

    /// Divides a list into parts of at most `most` elements. An empty list is one part, which replaces the elements
    /// that receivers have. Elements beyond [`Self::MAX`] parts are left out.
    pub fn divide<T: Clone>(list: &[T], most: usize) -> Vec<(Self, Vec<T>)> {
        if list.is_empty() {
            return vec![(Self { part: 0, parts: 1 }, Vec::new())];
        }
        let parts = list.len().div_ceil(most).min(Self::MAX.into());
        let parts = u8::try_from(parts).unwrap_or(Self::MAX);
        let chunks = (0..parts).zip(list.chunks(most));
        chunks.map(|(part, chunk)| (Self { part, parts }, chunk.to_vec())).collect()
    }

    pub(super) fn check(self) -> Result<(), DocumentError> {
        check::within("parts", self.parts, 1..=Self::MAX)?;
        check::within("part", self.part, 0..=self.parts - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_carry_the_whole_list_and_an_empty_one_is_a_part() {
        let numbers: Vec<u32> = (0..11).collect();
        let divided = Part::divide(&numbers, 4);
        assert_eq!(divided.len(), 3);
        let together: Vec<u32> = divided.iter().flat_map(|(_, part)| part.clone()).collect();
        assert_eq!(together, numbers);
        for (number, (part, list)) in divided.iter().enumerate() {
            assert_eq!((usize::from(part.part), part.parts), (number, 3));
            assert_eq!(part.check(), Ok(()));
            assert!(list.len() <= 4);
        }
        let empty = Part::divide::<u32>(&[], 4);
        assert_eq!(empty, [(Part { part: 0, parts: 1 }, Vec::<u32>::new())]);
        assert_eq!(Part::divide(&[0; 100], 4).len(), usize::from(Part::MAX));
    }

    #[test]
    fn a_part_lies_among_its_parts() {
        for (part, parts) in [(1, 1), (0, 0), (0, Part::MAX + 1)] {
            assert!(Part { part, parts }.check().is_err(), "{part} of {parts}");
        }
    }
}
