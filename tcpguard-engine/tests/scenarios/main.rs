//! Scenarios: traffic against a simulated host, and what the engine must make of it.
//!
//! Times are in seconds. Floods begin at 10, after the guard has seen some calm.

mod asymmetric;
mod calm;
mod counters;
mod few;
mod floods;
mod headers;
mod host;
mod imports;
mod ladder;
mod novelty;
mod operator;
mod own;
mod record;
mod release;
mod restart;
mod returning;
mod single;
mod slow;
mod surge;
mod trials;

use tcpguard_sim as sim;
