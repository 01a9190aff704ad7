//! The mode set by `tcpguard mode`, which survives a restart.

use std::fs;
use std::io;
use std::path::Path;

use tcpguard_engine::Mode;

const NAME: &str = "mode";

/// The mode kept in `dir`, if there is one. An unreadable file is set aside with one line.
pub fn load(dir: &Path) -> Option<Mode> {
    let path = dir.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::warn!("cannot read {}: {error}; the configured mode holds", path.display());
            return None;
        }
    };
    match text.trim() {
        "off" => Some(Mode::Off),
        "observe" => Some(Mode::Observe),
        "enforce" => Some(Mode::Enforce),
        other => {
            log::warn!(
                "{} holds no mode ({:?}); the configured mode holds; set it again: tcpguard mode observe|enforce|off",
                path.display(),
                other.chars().take(20).collect::<String>()
            );
            let _ = fs::rename(&path, dir.join("mode.bad"));
            None
        }
    }
}

/// Keeps `mode` in `dir`: written beside the old file, then put in its place.
///
/// # Errors
/// When the directory cannot be written to; the mode then lasts until the next restart.
pub fn store(dir: &Path, mode: Mode) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let name = match mode {
        Mode::Off => "off",
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    };
    let new = dir.join("mode.new");
    let file = fs::File::create(&new)?;
    io::Write::write_all(&mut &file, format!("{name}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_mode_is_loaded_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), None);
        for mode in [Mode::Enforce, Mode::Off, Mode::Observe] {
            store(dir.path(), mode).unwrap();
            assert_eq!(load(dir.path()), Some(mode));
        }
    }

    #[test]
    fn nonsense_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "enf").unwrap();
        assert_eq!(load(dir.path()), None);
        assert!(dir.path().join("mode.bad").exists());
        assert!(!dir.path().join(NAME).exists());
    }
}
