//! Number of validated clients that an operator's rule would cut off.

use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{ClientsWithin, Timestamp};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::boot_time;

use super::Executor;
use crate::bpf::RECENT;

/// Clients that completed a handshake within so long are there now.
const LATELY: Duration = Duration::from_secs(60);

impl Executor {
    /// The validated clients within a prefix. Clients that the kernel does not report are not
    /// counted.
    pub fn clients_within(&self, net: &IpNet) -> ClientsWithin {
        let now = boot_time();
        let mut within = ClientsWithin::default();
        let read = self.dataplane.clients_within(net, |client| {
            let age = now.since(Timestamp::from_nanos(client.completed_ns));
            within.validated += u32::from(age <= RECENT);
            within.last_minute += u32::from(age <= LATELY);
            true
        });
        if let Err(error) = read {
            log::warn!("validated clients within {net} not counted: {}", error.with_hint());
        }
        within
    }
}
