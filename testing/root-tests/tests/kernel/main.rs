//! The programs in the kernel beside the same decision on the host, and the test kit itself.

mod bare;
mod kit;
mod object;
mod packets;
mod parity;
mod self_test;
