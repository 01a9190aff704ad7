//! `cargo xtask first-use package`: the seconds from `dpkg -i` to the first answers, in a machine that
//! vanishes with this process.
#![forbid(unsafe_code)]

use anyhow::Result;
use tcpguard_e2e::first_use::FirstUse;

fn main() -> Result<()> {
    let first = FirstUse::of_package()?;
    println!("{}\n{first}", first.page);
    Ok(())
}
