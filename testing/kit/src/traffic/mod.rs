//! Traffic of clients and attackers, and the servers that they meet.
//!
//! - [`shape`], [`likeness`], [`flood`], [`recipe`]: floods, bounded in number and time.
//! - [`server`]: the service under attack; [`clients`], [`raw_client`]: legitimate clients and the outcome of
//!   their attempts; [`control`]: those of a host without a flood; [`transfer`]: long connections; [`echo`]:
//!   very many short ones; [`health`]: balancers that never complete a handshake; [`hostile`]: users that keep
//!   the agent's administrator from it.
//! - [`trickle`]: a few SYNs all the time, of which a rule is to drop half; [`sender`]: more of them, from
//!   the same sources again and again.
//! - [`timer`]: a change that is reverted by a waiting process, which can be killed.

pub mod clients;
pub mod control;
pub mod echo;
pub mod flood;
pub mod health;
pub mod hostile;
pub mod likeness;
pub mod random;
pub mod raw_client;
#[path = "../../../bpf/src/recipe.rs"]
pub mod recipe;
pub mod sender;
pub mod server;
pub mod shape;
pub mod timer;
pub mod transfer;
pub mod trickle;
