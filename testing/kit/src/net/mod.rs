//! The lab and its network.
//!
//! - [`netns`], [`lab`], [`delay`]: the lab's network; [`lab_filter`]: the best that any defence could do.
//! - [`tap`]: the interface of a program, as a virtual machine's.
//! - [`packet`], [`raw`], [`live_frames`]: frames; [`frames`]: SYNs with odd fields of every kind.
//! - [`foreign`]: a program in the agent's way; [`gap`]: a filter that is off for a moment; [`bare`]:
//!   programs to be timed; [`ring`]: packets dropped before XDP.
//! - [`mod@side_by_side`]: labs that are there at the same time.

pub mod bare;
pub(crate) mod bpf;
pub mod delay;
pub mod foreign;
pub mod frames;
pub mod gap;
pub mod lab;
pub mod lab_filter;
pub mod live_frames;
pub mod netns;
pub mod packet;
pub mod raw;
pub mod ring;
pub mod side_by_side;
pub mod tap;
