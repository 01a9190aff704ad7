//! A bug that is known, to see whether bugs are found.

/// Panics on a word behind a length that fits: of random inputs one in 2^40.
///
/// # Panics
/// As it says.
pub fn planted(input: &[u8]) {
    let Some((length, rest)) = input.split_first() else { return };
    let Some(word) = rest.first_chunk() else { return };
    if usize::from(*length) == rest.len() && u32::from_be_bytes(*word) == 0xdead_beef {
        panic!("the planted bug");
    }
}
