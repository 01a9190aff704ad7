//! The configuration of a running agent: its source, its last valid copy on the disk, and its
//! replacement by a reload.

pub mod kept_config;
pub mod provenance;
pub mod reload;

use std::io;

use tcpguard_common::abi::{Config as KernelConfig, Reason, ReplyRate};
use tcpguard_common::fastpath::FAILED_COOKIE_NS;
use tcpguard_engine::{Mode, TRACKED_PER_SECOND};

use self::kept_config::ConfigFile;
use self::provenance::Provenance;
use crate::config::{BeyondBounds, Config, Held, ModeSource, Origin};
use crate::control::Response;
use crate::control::proto::Effective;
use crate::daemon::listeners::per_second_of;

/// The effective configuration.
pub struct Configuration {
    pub config: Config,
    pub provenance: Provenance,
    /// Keeps the last valid configuration for a start that finds mistakes.
    pub file: ConfigFile,
    /// True if the engine wants frames dropped that cannot be read.
    pub pressed: bool,
}

impl Configuration {
    pub fn start(config: Config, provenance: Provenance) -> io::Result<Self> {
        let file = ConfigFile::start(&config.state_dir)?;
        Ok(Self { config, provenance, file, pressed: false })
    }

    /// The effective settings and the origin of each. `set`: the mode that an operator set for good.
    pub fn effective(&self, mode: Mode, set: Option<Mode>) -> Response {
        let held = Config { mode, ..self.config.clone() };
        let mut origins = self.provenance.origins.clone();
        let by_command = set == Some(mode) && held.mode_source == ModeSource::File;
        if by_command || mode != self.config.mode {
            origins.set("mode", Origin::ModeCommand);
        }
        let (files, settings) = (self.provenance.files.clone(), Held::all(&held, &origins));
        Response::Effective(Effective { path: held.path, files, settings })
    }

    /// Applies the settings that the programs read.
    pub fn apply(&self, kernel: &mut KernelConfig) {
        let Config { policy, cookies, .. } = &self.config;
        kernel.drop_illegal = policy.drop_illegal_flags.into();
        kernel.drop_out_of_state = policy.drop_out_of_state.into();
        kernel.drop_beyond_bounds = match policy.beyond_bounds {
            BeyondBounds::Auto if self.pressed => Reason::ROUTED,
            BeyondBounds::Auto => Reason::SHORT_FRAGMENT,
            BeyondBounds::Drop => Reason::EVERY_BOUND,
            BeyondBounds::Pass => 0,
        };
        kernel.failed_cookie_ns = FAILED_COOKIE_NS;
        kernel.cookie_mark = cookies.mark;
        kernel.tracked_bits = KernelConfig::tracked_bits(TRACKED_PER_SECOND);
    }

    /// Shares the limits of replies among so many CPUs.
    pub fn share_replies(&self, kernel: &mut KernelConfig, cpus: u64) {
        let cookies = &self.config.cookies;
        kernel.replies_per_network = ReplyRate::share(cookies.replies_per_network, cpus);
        let of_cpu = cookies.replies_total / cpus;
        // A tenth of a second's worth at once.
        kernel.replies_per_cpu = per_second_of(of_cpu, of_cpu / 10);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Overrides, parse};
    use crate::daemon::interfaces::Received;

    fn configuration(dir: &Path, text: &str) -> Configuration {
        let file = Path::new("file");
        let overrides = Overrides { state_dir: Some(dir.to_owned()), ..Overrides::default() };
        let config = parse(file, text, overrides).unwrap();
        Configuration::start(config, Provenance::default()).unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_dropped_as_the_policy_and_the_flood_want() {
        let bounds = |policy: &str, pressed| {
            let dir = tempfile::tempdir().unwrap();
            let text = format!("[policy]\nbeyond_bounds = \"{policy}\"\n");
            let configuration = Configuration { pressed, ..configuration(dir.path(), &text) };
            let mut kernel = KernelConfig::default();
            configuration.apply(&mut kernel);
            kernel.drop_beyond_bounds
        };
        assert_eq!(bounds("auto", false), Reason::FragmentShort.bound());
        let routed =
            Reason::FragmentShort.bound() | Reason::Ipv6Depth.bound() | Reason::HeaderDepth.bound();
        assert_eq!(bounds("auto", true), routed, "all but VLAN tags");
        for pressed in [false, true] {
            assert_eq!(bounds("pass", pressed), 0);
            assert_eq!(bounds("drop", pressed), Reason::EVERY_BOUND);
        }
    }

    /// A card with two queues on a host of four CPUs.
    #[test]
    fn the_limits_of_replies_are_shared_among_the_cpus_that_receive() {
        let received =
            |syns: [u64; 4]| Received { syns_by_cpu: syns.into(), ..Received::default() };
        let before = received([9, 0, 7, 0]);
        assert_eq!(before.cpus_since(None), 2);
        let now = received([9, 0, 8, 0]);
        assert_eq!([&before, &now].map(|now| now.cpus_since(Some(&before))), [1, 1]);
        let dir = tempfile::tempdir().unwrap();
        let configuration = configuration(dir.path(), "");
        let mut kernel = KernelConfig::default();
        configuration.share_replies(&mut kernel, 2);
        let config = &configuration.config;
        assert_eq!(
            kernel.replies_per_network,
            ReplyRate::share(config.cookies.replies_per_network, 2)
        );
        assert_eq!(u64::from(kernel.replies_per_cpu.burst), config.cookies.replies_total / 20);
    }
}
