//! An agent's pins, and their disguise as those of another version.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::net::netns::Netns;

/// Default directory of the agents' pins.
pub const PIN_DIR: &str = "/sys/fs/bpf/tcpguard";

/// Turns everything that is pinned in `host` into the layout `mitigation` versions later (earlier where it is
/// negative). The next agent finds it as after an upgrade or downgrade of the ABI. Links, programs and maps are not
/// touched.
pub fn pretend_layout(host: &Netns, step: i32) -> Result<()> {
    host.run(|| {
        let layouts: Vec<PathBuf> =
            fs::read_dir(PIN_DIR)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        for path in layouts.into_iter().filter(|path| path.is_dir()) {
            let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
            let layout = name.strip_prefix('v').and_then(|name| name.split_once('-'));
            // Next programs belong to no layout.
            let Some((version, netns)) = layout else { continue };
            let version: i32 = version.parse()?;
            fs::rename(&path, path.with_file_name(format!("v{}-{netns}", version + step)))?;
        }
        Ok(())
    })
}

/// Paths of all pins in `host`, below [`PIN_DIR`], in order.
pub fn pins(host: &Netns) -> Result<Vec<String>> {
    let found = host.exec(&format!("find {PIN_DIR} ! -type d -printf %P\\n"))?;
    let mut pins: Vec<String> = found.lines().map(str::to_owned).collect();
    pins.sort();
    Ok(pins)
}
