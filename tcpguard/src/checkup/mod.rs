//! What an administrator would look at by hand. Works without the agent: facts are gathered in one
//! place, judged by functions that do no I/O, and printed from the same document as text or JSON.

pub mod doctor;
pub mod tune;

#[cfg(test)]
mod shipped;
