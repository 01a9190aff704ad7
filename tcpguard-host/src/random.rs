//! Random numbers of the kernel, which no outside party may guess.

use std::fs::File;
use std::io::{self, Read as _};

/// `N` words.
pub fn words<const N: usize>() -> io::Result<[u64; N]> {
    let mut random = File::open("/dev/urandom")?;
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 8];
        random.read_exact(&mut bytes)?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_drawn_anew_each_time() {
        assert_ne!(words::<2>().unwrap(), words::<2>().unwrap());
    }
}
