//! Answers to requests, as far as the engine does not give them: facts, counts, explanations, and the
//! confirmation of a mode.

pub mod confirm;
pub mod counts;
pub mod explain;
pub mod facts;
mod limited;
