//! Rules and modes of operators.

mod confirm;
mod operator_live;
mod rule_sets_live;
mod rules_room_live;
mod time;
mod trials;
