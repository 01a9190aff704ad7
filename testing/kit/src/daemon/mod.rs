//! The agent under test, and the programs that look at it.
//!
//! - [`agent`], [`status`], [`alerts`], [`doctor`]: the agent, its status, its alerts and its findings;
//!   [`truth`]: whether they are true; [`heartbeat`]: the time of its last poll; [`pins`]: its pins, as those
//!   of another version; [`tamper`]: its maps and links, changed behind its back; [`next_program`]: a program
//!   for the packets that it passes; [`siege`]: a hostile fleet process at its socket.
//! - [`source_rules`]: rules as the kernel has them, whether an agent runs or not; [`agreed`]: the options
//!   that the ends of a connection agreed on.
//! - [`armed`]: the programs alone, with the mitigations that a test starts; [`oracle`]: a host that shows
//!   which SYNs it accepts.
//! - [`machine`], [`service`], [`journald`]: the agent as a service under systemd, and the contents of its
//!   journal; [`package`]: its packages; [`first_use`]: the time to their first output; [`prometheus`]: the
//!   metrics in a monitoring system; [`browser`]: the rendering of a page; [`terminal`]: a terminal, for
//!   full-screen output.

pub mod agent;
pub mod agreed;
pub mod alerts;
pub mod armed;
pub mod browser;
pub mod doctor;
pub mod first_use;
pub mod heartbeat;
pub mod journald;
pub mod machine;
pub mod next_program;
pub mod oracle;
pub mod package;
pub mod pins;
pub mod prometheus;
pub mod service;
pub mod siege;
pub mod source_rules;
pub mod status;
pub mod tamper;
pub mod terminal;
pub mod truth;
