//! Pages with pictures, from the documents that the agent and a replay make.

mod timeline;

pub use timeline::{Point, TIMELINE_SCHEMA, Timeline};
