//! The texts of which a configuration is made: those of its files, or those that were kept of files that
//! were valid once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tcpguard_host::toml_file::{self, Problem, Sections as _, Spot};
use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULT_PATH, Loaded, Origins, Overrides, fragments};

/// The files of a configuration as they were read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// The main file, whether or not it exists.
    pub main: PathBuf,
    /// Every file and its content, in the order in which they count.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

impl Sources {
    /// Reads the file `named` on the command line, or the default file if there is one, then the files
    /// of the directory beside it ([`fragments::list`]).
    pub fn read(named: Option<&Path>) -> Result<Self, ConfigError> {
        let main = named.unwrap_or(Path::new(DEFAULT_PATH));
        let mut files = Vec::new();
        match std::fs::read(main) {
            Ok(bytes) => files.push((main.to_path_buf(), bytes)),
            Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => {}
            Err(source) => {
                let path = main.to_path_buf();
                return Err(ConfigError::Unreadable { path, part: false, source });
            }
        }
        for path in fragments::list(main)? {
            match std::fs::read(&path) {
                Ok(bytes) => files.push((path, bytes)),
                Err(source) => return Err(ConfigError::Unreadable { path, part: true, source }),
            }
        }
        Ok(Self { main: main.to_path_buf(), files })
    }

    /// The resolved configuration, with `overrides` on top.
    pub fn resolve(&self, overrides: Overrides) -> Result<Loaded, ConfigError> {
        let (mut all, mut written) = (Table::new(), BTreeMap::new());
        let mut problems = Vec::new();
        for (path, bytes) in &self.files {
            match std::str::from_utf8(bytes) {
                Ok(text) => {
                    let file = toml_file::read::<Config>(path, text);
                    merge(&mut all, file.keys());
                    written.extend(file.written);
                    problems.extend(file.problems);
                }
                Err(error) => {
                    let text = String::from_utf8_lossy(bytes);
                    let at = Spot::of(path, &text, error.valid_up_to());
                    let text = "not UTF-8 from here on; write the file as UTF-8 text".to_owned();
                    problems.push(Problem { at, text });
                }
            }
        }
        let files: Vec<_> = self.files.iter().map(|(path, _)| path.clone()).collect();
        let mut config: Config = all.try_into().expect("each key was taken by itself");
        problems.extend(config.settle(&written));
        if problems.is_empty() {
            config.path = files.first().filter(|first| **first == self.main).cloned();
            let origins = Origins::of(&written, &overrides);
            config.take(overrides);
            return Ok(Loaded { config, files, origins });
        }
        let order = |problem: &Problem| {
            let file = files.iter().position(|path| **path == *problem.at.path);
            (file, problem.at.line, problem.at.column)
        };
        problems.sort_by_key(order);
        Err(ConfigError::Invalid { path: self.main.clone(), problems })
    }
}

/// Adds a file that was read after the others: its values replace the previous ones, key by key. A list is
/// one value, and blocks are merged with those of the same name.
fn merge(all: &mut Table, later: Table) {
    for (key, value) in later {
        match (all.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(keys)) => section.extend(keys),
            (Some(Value::Array(blocks)), Value::Array(more)) => {
                for block in more {
                    let name = |block: &Value| name_of(&key, block);
                    let known = blocks.iter_mut().find(|known| name(known) == name(&block));
                    match (known, block) {
                        (Some(Value::Table(known)), Value::Table(keys)) => known.extend(keys),
                        (_, block) => blocks.push(block),
                    }
                }
            }
            (_, value) => {
                all.insert(key, value);
            }
        }
    }
}

fn name_of(kind: &str, block: &Value) -> Option<String> {
    let (.., id, _) = Config::NAMED.iter().find(|(of, ..)| *of == kind)?;
    Some(Config::comparable(kind, block.get(id)?.as_str()?))
}
