//! The JSON documents: everything that `--json` prints.
//!
//! The first field of each, `schema`, is its name and version. `docs/schema/tcpguard.json` is
//! the JSON Schema of all, made from their types, comments included.
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
    /// Adds its type to the schema, and returns the reference to it.
    #[cfg(test)]
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

#[cfg(test)]
mod tests;
