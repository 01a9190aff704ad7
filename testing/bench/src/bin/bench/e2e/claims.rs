//! Claims, each printed with its outcome.

use anyhow::{Result, ensure};

/// Number of claims that did not hold.
#[derive(Default)]
pub struct Claims {
    broken: u32,
}

impl Claims {
    /// Prints one claim with its outcome, and counts it if it does not hold.
    pub fn check(&mut self, holds: bool, claim: &str) {
        println!("  {} {claim}", if holds { "[ok]    " } else { "[NOT SO]" });
        self.broken += u32::from(!holds);
    }

    /// # Errors
    /// When one did not hold.
    pub fn verdict(self) -> Result<()> {
        ensure!(self.broken == 0, "{} claim(s) did not hold", self.broken);
        Ok(())
    }
}
