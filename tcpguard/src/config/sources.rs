//! The texts of which a configuration is made: those of its files, or those that were kept of files that
//! were valid once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{
    ConfigError, DEFAULT_PATH, Loaded, Origins, Overrides, Problem, file, fragments, resolved,
};

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
        let mut all = file::File::default();
        let mut problems = Vec::new();
        for (path, bytes) in &self.files {
            match std::str::from_utf8(bytes) {
                Ok(text) => {
                    let (file, found) = file::parse(path, text);
                    all.merge(file);
                    problems.extend(found);
                }
                Err(error) => problems.push(Problem::no_text(path, bytes, &error)),
            }
        }
        let files: Vec<_> = self.files.iter().map(|(path, _)| path.clone()).collect();
        let origins = Origins::of(&all, &overrides);
        let path = files.first().filter(|first| **first == self.main).cloned();
        match resolved::resolve(all, path, overrides) {
            Ok(config) if problems.is_empty() => return Ok(Loaded { config, files, origins }),
            Ok(_) => {}
            Err(contradictions) => problems.extend(contradictions),
        }
        let order = |problem: &Problem| {
            let file = files.iter().position(|path| **path == *problem.at.path);
            (file, problem.at.line, problem.at.column)
        };
        problems.sort_by_key(order);
        Err(ConfigError::Invalid { path: self.main.clone(), problems })
    }
}
