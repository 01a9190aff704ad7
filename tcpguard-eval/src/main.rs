//! The evaluation of the detector as one command.

fn main() {}
