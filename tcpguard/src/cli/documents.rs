//! The JSON documents: everything that `--json` prints.
//!
//! The first field of each, `schema`, is its name and version. `docs/schema` holds a JSON Schema of
//! each, made from its type, comments included.
//! Within one version a document only grows.

use serde::Serialize;

pub use super::DOCUMENTS as ALL;

/// A type that is printed as a document of its own.
pub trait Printed: Serialize {
    /// Its name and version, the value of its field `schema`: `tcpguard.NAME/1`.
    const ID: &'static str;
}

/// One kind of document.
pub struct Document {
    /// The type's [`Printed::ID`].
    pub id: &'static str,
    /// The schema of its type.
    #[cfg(test)]
    pub schema: fn() -> schemars::Schema,
}

impl Document {
    /// The NAME of `tcpguard.NAME/1`. `docs/schema` holds the schema in `NAME.json`.
    pub fn name(&self) -> &'static str {
        let name = self.id.strip_prefix("tcpguard.").unwrap_or(self.id);
        name.split_once('/').map_or(name, |(name, _version)| name)
    }
}

#[cfg(test)]
mod tests;
