//! The shipped JSON Schema is that of the types.

use schemars::SchemaGenerator;
use serde_json::Value;
use tcpguard_support::schema::{assert_shipped, of_all};

use super::*;

/// The definitions of all types, and of each document its id with the reference to its own.
fn schemas() -> (Value, Vec<(Vec<&'static str>, Value)>) {
    let mut generator = SchemaGenerator::default();
    let mut document =
        |document: &Document| (vec![document.id], (document.schema)(&mut generator).to_value());
    let documents = ALL.iter().map(&mut document).collect();
    (generator.take_definitions(true).into(), documents)
}

/// Within one version of a document it may only add.
#[test]
fn the_shipped_schema_is_that_of_the_types() {
    let (definitions, documents) = schemas();
    assert_shipped("docs/schema/tcpguard.json", &of_all("urn:tcpguard", definitions, &documents));
}
