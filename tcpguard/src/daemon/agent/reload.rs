//! A new configuration for a running agent.

use tcpguard_host::hint::{Failure, Hint as _};
use tcpguard_host::linux::boot_time;

use super::Agent;
use crate::config::Loaded;
use crate::control::proto::Refusal;
use crate::control::{Peer, RefusalKind, Response};
use crate::daemon::configuration::kept_config::KeptConfig;
use crate::daemon::configuration::provenance::{Read, Refused};
use crate::daemon::configuration::reload::{Changes, merge};
use crate::daemon::hint::logged;
use crate::documents::{AgentEvent, Reloaded};

impl Agent {
    /// Reads the configuration again, as `peer` or a signal requests, and applies the keys that a running
    /// agent can apply. If it contains a mistake, nothing is applied.
    pub fn reload(&mut self, peer: Option<Peer>) -> Response {
        if peer.is_none() {
            log::info!("SIGHUP: reloading the configuration");
        }
        match self.configuration.provenance.read() {
            Ok(Read { loaded, kept }) => self.take_over(loaded, kept),
            Err(refused) => self.refuse_config(&refused),
        }
    }

    fn take_over(&mut self, new: Loaded, kept: KeptConfig) -> Response {
        let Loaded { config, files, origins } = new;
        let (merged, changes) = merge(&self.configuration.config, config);
        if let Err(error) = self.engine.set_settings(merged.tuning()) {
            let text = format!("the thresholds contradict each other: {error}");
            return self.refuse(text.clone(), Failure::new(text, "tcpguard config check"));
        }
        self.configuration.config = merged;
        self.configuration.apply(&mut self.executor.config);
        let kernel = self.executor.dataplane.set_config(&self.executor.config);
        // Ignored listeners are determined at each poll.
        if let Err(error) = kernel.map_err(Into::into).and_then(|()| self.protect(boot_time())) {
            // Both are tried again: at the next poll, and when the protected set is read again.
            log::error!("configuration not yet in effect in the kernel: {}", logged(&error));
        }
        self.programs
            .interfaces
            .set_next_programs(self.configuration.config.next_programs(), &self.executor.dataplane);
        self.configuration.provenance.take_over(files, origins, &changes.waiting);
        self.configuration.file.keep(kept);
        let Changes { applied, waiting } = changes;
        let event =
            AgentEvent::ConfigReloaded { applied: applied.clone(), waiting: waiting.clone() };
        self.raise_own(event);
        Response::Reloaded(Reloaded { applied, waiting })
    }

    fn refuse_config(&mut self, refused: &Refused) -> Response {
        for problem in refused.problems() {
            log::error!("{problem}");
        }
        self.refuse(refused.in_brief(), Failure::new(refused.to_string(), refused.hint()))
    }

    /// Keeps the configuration that holds. `first` is one line, `all` may be several.
    fn refuse(&mut self, first: String, all: Failure) -> Response {
        self.configuration.provenance.refused = Some(first.clone());
        self.raise_own(AgentEvent::ConfigRefused { error: first, valid_from: None });
        Response::Refused(Refusal::of(RefusalKind::Invalid, all))
    }
}
