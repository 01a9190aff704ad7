//! Text for people, from the same structs that JSON is made of.
//!
//! Every renderer writes into any [`std::fmt::Write`] and knows nothing of the command line. Lines
//! have at most 100 columns. Colour is never the only signal.

mod attack;
mod check;
mod explain;
pub mod number;
mod probe;
mod replay;
mod rules;
mod status;
mod steps;
mod table;
mod view;

pub use attack::{severity_word, volume};
pub use check::check;
pub use explain::in_full as attack_in_full;
pub use probe::{probe, probe_in_a_line};
pub use replay::replay;
pub use rules::{allow_list, allowed, blocked, disallowed, explanation, imported, removed, rules};
pub use status::{
    alerts, brief, headline, kernel as kernel_in_words, listener_state, rules as rules_in_words,
    status,
};
pub use steps::of_listener as steps;
pub use view::{Tone, View, wrap};

/// Columns of a page.
const WIDTH: usize = 100;
