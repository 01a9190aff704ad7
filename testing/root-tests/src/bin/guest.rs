//! The attacker and the inspector in a virtual machine of `cargo xtask vm`.
//!
//! `guest flood SHAPE INTERFACE MAC TARGET RATE SECONDS` sends SYNs from random sources through an interface to the host
//! with this Ethernet address, and writes `{"sent":N}`. The flood is bounded in rate and time. Its SYNs are `bare`, or
//! those that a `linux` client sends.
//!
//! `guest attached DIRECTORY` writes the names of all BPF programs in the kernel, and the paths of all pins below a
//! directory: `{"programs":[],"pins":[]}`. A program stays in the kernel while it is attached, pinned or held open.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::programs::loaded_programs;
use serde_json::{Value, json};
use tcpguard_kit::net::packet::Mac;
use tcpguard_kit::traffic::flood::{Flood, Shape};

const USAGE: &str = "usage: guest flood bare|linux INTERFACE MAC TARGET RATE SECONDS, or: guest \
                     attached DIRECTORY";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match arguments[..] {
        ["flood", shape, interface, mac, target, rate, seconds] => {
            let flood = Flood { shape: self::shape(shape)?, ..flood(target, rate, seconds)? };
            json!({ "sent": flood.send_through(interface, ethernet_address(mac)?)?.sent })
        }
        ["attached", directory] => attached(Path::new(directory))?,
        _ => bail!(USAGE),
    };
    println!("{answer}");
    Ok(())
}

fn flood(target: &str, rate: &str, seconds: &str) -> Result<Flood> {
    let target: SocketAddr = target.parse().context(USAGE)?;
    let duration = Duration::from_secs(seconds.parse().context(USAGE)?);
    Ok(Flood { rate: rate.parse().context(USAGE)?, ..Flood::random(target, duration) })
}

fn shape(name: &str) -> Result<Shape> {
    match name {
        "bare" => Ok(Shape::Bare),
        "linux" => Ok(Shape::Linux),
        _ => bail!(USAGE),
    }
}

/// Parses six hexadecimal bytes between colons, as `/sys/class/net/INTERFACE/address` has them.
fn ethernet_address(text: &str) -> Result<Mac> {
    let bytes: Result<Vec<u8>, _> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes.with_context(|| format!("{text:?} is no Ethernet address"))
}

fn attached(directory: &Path) -> Result<Value> {
    let programs: Result<Vec<String>> = loaded_programs()
        .map(|program| Ok(program?.name_as_str().unwrap_or("unnamed").to_owned()))
        .collect();
    let mut pins = Vec::new();
    find_pins(directory, &mut pins)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    Ok(json!({ "programs": programs?, "pins": pins }))
}

/// Adds the paths of all pins below a directory.
fn find_pins(directory: &Path, pins: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => find_pins(&path, pins)?,
            false => pins.push(path.display().to_string()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_has_six_bytes() {
        assert_eq!(ethernet_address("02:00:00:00:0a:ff").unwrap(), [2, 0, 0, 0, 10, 255]);
        for wrong in ["", "02:00:00:00:0a", "02:00:00:00:0a:ff:00", "02:00:00:00:0a:fg"] {
            assert!(ethernet_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_no_directory_is_a_pin() {
        let root = std::env::temp_dir().join(format!("pins-{}", std::process::id()));
        fs::create_dir_all(root.join("v1/links")).unwrap();
        fs::create_dir_all(root.join("v1/maps")).unwrap();
        fs::write(root.join("v1/links/uplink"), "").unwrap();
        let mut pins = Vec::new();
        let found = find_pins(&root, &mut pins);
        fs::remove_dir_all(&root).unwrap();
        found.unwrap();
        assert_eq!(pins, [root.join("v1/links/uplink").display().to_string()]);
        assert!(find_pins(&root, &mut pins).is_err());
    }
}
