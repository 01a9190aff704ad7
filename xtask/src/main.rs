//! Every step of CI and of a developer's day as one verb.
fn main() {}
