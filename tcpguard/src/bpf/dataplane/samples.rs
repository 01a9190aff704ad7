//! Headers of SYNs as they came.

use tcpguard_common::abi::SynSamples;

use super::Dataplane;
use crate::bpf::Result;

impl Dataplane {
    /// The headers that each CPU has kept.
    pub fn syn_samples(&self) -> Result<Vec<SynSamples>> {
        self.syn_samples.get(0)
    }
}
