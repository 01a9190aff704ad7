//! The shipped JSON Schema is that of the types.

use schemars::SchemaGenerator;
use tcpguard_fleet::collect::FleetStatus;
use tcpguard_fleet::daemon::status::ProcessStatus;
use tcpguard_fleet::document::{Document, Kind};
use tcpguard_fleet::hook::document::Hook;
use tcpguard_support::schema::{assert_shipped, of_all};

/// Within one version of a document it may only add.
#[test]
fn the_shipped_schema_is_that_of_the_types() {
    let mut generator = SchemaGenerator::default();
    let documents = [
        (Kind::ALL.map(Kind::schema).to_vec(), generator.subschema_for::<Document>().to_value()),
        (vec!["tcpguard.fleet.status/1"], generator.subschema_for::<FleetStatus>().to_value()),
        (vec!["tcpguard.fleet.process/1"], generator.subschema_for::<ProcessStatus>().to_value()),
        (vec!["tcpguard.hook/1"], generator.subschema_for::<Hook>().to_value()),
    ];
    let definitions = generator.take_definitions(true).into();
    let schema = of_all("urn:tcpguard:fleet", definitions, &documents);
    assert_shipped("docs/fleet/schema/tcpguard-fleet.json", &schema);
}
