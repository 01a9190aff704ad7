//! The kernel side: loading the BPF object, attaching it, and reading and writing its maps.
//!
//! The only module that names aya, so that the next version of it touches one folder.

mod adaptation;
mod attach;
pub mod attached_programs;
mod convert;
mod dataplane;
mod elf;
mod embedded;
mod error;
pub mod features;
mod grace;
mod kfunc;
mod links;
mod next;
mod object;
mod occupied;
mod order;
mod pins;
mod redeem;
pub mod secrets;
mod self_test;
mod sets;
mod stats;
mod syscall;
mod table;

pub use attach::{Attachment, Receiving, XdpMode, attach, attach_tracepoint, receive_natively};
pub use convert::{
    RECENT, Source, addr, client_around, closed_port_source, flow, ip, is_one_client,
    listener_counters, listener_keys, recorded_flow, rule_counters, signature_scope, source_table,
};
pub use dataplane::{
    Dataplane, FlowRecord, KernelMatcher, KernelRule, RuleWalk, Walked, signature_key, sum_of_cpus,
};
pub use embedded::objects_digest;
pub use error::{KernelError, Result};
pub use features::Features;
pub use grace::wait_for_programs;
pub use kfunc::link_kfuncs;
pub use links::HeldLink;
pub use next::NextProgram;
pub use object::{Load, Object, ProgramCost};
pub use order::Lead;
pub use pins::{
    CarriedRules, Detached, Layout, PIN_DIR, Pins, Usage, detach, is_bpffs, layouts, pinned,
};
pub use redeem::Redeemer;
pub use self_test::{SelfTestError, TEST_LISTENER, self_test};
pub use stats::{Counting, count_runs};
pub use table::{BATCH, Plain, Position, sum};
