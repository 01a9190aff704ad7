//! The decision about one packet, and the parts it is made of.

mod bucket;
mod fingerprint;
pub mod hash;

pub use bucket::{Bucket, Rate};
pub use fingerprint::{Fingerprint, Mask, layout, quirk};
