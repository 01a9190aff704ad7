//! Finds the BPF objects that the binary carries, and packs them.
//!
//! They are built by `cargo xtask build` and not here: they need another compiler, and a build script
//! that starts cargo waits for the lock of the cargo that started it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The plain object first: a directory is recognised by it.
const OBJECTS: [(&str, &str); 3] = [
    ("tcpguard-ebpf.o", "TCPGUARD_BPF_OBJECT"),
    ("tcpguard-ebpf-log.o", "TCPGUARD_BPF_LOG_OBJECT"),
    ("cookie.o", "TCPGUARD_BPF_COOKIE_OBJECT"),
];

fn main() {
    println!("cargo::rerun-if-env-changed=TCPGUARD_BPF_DIR");
    let directory = directory();
    for (name, variable) in OBJECTS {
        let object = directory.join(name);
        // While it is missing cargo runs this script each time, so its arrival is noticed.
        println!("cargo::rerun-if-changed={}", object.display());
        if !object.is_file() {
            // Cargo shows this line, and unlike for a failed script nothing else of ours.
            println!("cargo::error={} is missing: `cargo xtask build` makes it", object.display());
            return;
        }
        let packed = out().join(name).with_extension("o.gz");
        if let Err(error) = pack(&object, &packed) {
            println!("cargo::error=cannot pack {}: {error}", object.display());
            return;
        }
        println!("cargo::rustc-env={variable}={}", packed.display());
    }
}

/// Compresses a file, to the same bytes each time.
fn pack(object: &Path, packed: &Path) -> io::Result<()> {
    let mut encoder = GzEncoder::new(fs::File::create(packed)?, Compression::best());
    io::copy(&mut fs::File::open(object)?, &mut encoder)?;
    encoder.finish().map(drop)
}

/// Directory for the files that this script makes, as cargo sets it.
fn out() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default())
}

/// `$TCPGUARD_BPF_DIR`, or `bpf` in cargo's target directory.
fn directory() -> PathBuf {
    if let Some(named) = env::var_os("TCPGUARD_BPF_DIR") {
        return named.into();
    }
    // Cargo gives a build script only its own directory, which lies some levels down, at
    // <target>[/<triple>]/<profile>/build/<package>/out.
    let out = out();
    let mut above = out.ancestors().skip(4).take(2).map(|directory| directory.join("bpf"));
    let fallback = above.next().unwrap_or_default();
    [fallback.clone()]
        .into_iter()
        .chain(above)
        .find(|bpf| bpf.join(OBJECTS[0].0).is_file())
        .unwrap_or(fallback)
}
