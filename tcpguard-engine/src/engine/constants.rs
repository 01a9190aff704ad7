//! The list of all numbers that are the same on every host. `docs/evidence/thresholds.md` is printed from it.

use crate::input::Constant;

/// All constants, with the file of each group below `tcpguard-engine/src`.
pub fn all_constants() -> impl Iterator<Item = (&'static str, &'static [Constant])> {
    [
        ("input/sample.rs", crate::input::sample::CONSTANTS),
        ("listener/sampling.rs", crate::listener::sampling::CONSTANTS),
        ("listener/signal/fast.rs", crate::listener::signal::fast::CONSTANTS),
        ("listener/signal/slow.rs", crate::listener::signal::slow::CONSTANTS),
        ("listener/signal/occupancy.rs", crate::listener::signal::occupancy::CONSTANTS),
        ("listener/signal/pressure.rs", crate::listener::signal::pressure::CONSTANTS),
        ("listener/signal/host.rs", crate::listener::signal::host::CONSTANTS),
        ("engine/host/scan.rs", crate::engine::host::scan::CONSTANTS),
        ("engine/host/closed.rs", crate::engine::host::closed::CONSTANTS),
        ("evidence/cohort.rs", crate::evidence::cohort::CONSTANTS),
        ("evidence/gate.rs", crate::evidence::gate::CONSTANTS),
        ("evidence/verdict.rs", crate::evidence::verdict::CONSTANTS),
        ("evidence/signature.rs", crate::evidence::signature::CONSTANTS),
        ("evidence/retransmissions.rs", crate::evidence::retransmissions::CONSTANTS),
        ("evidence/surge.rs", crate::evidence::surge::CONSTANTS),
        ("evidence/novelty.rs", crate::evidence::novelty::CONSTANTS),
        ("evidence/sources.rs", crate::evidence::sources::CONSTANTS),
        ("evidence/hints.rs", crate::evidence::hints::CONSTANTS),
        ("rules/recurrence.rs", crate::rules::recurrence::CONSTANTS),
        ("rules/meter.rs", crate::rules::meter::CONSTANTS),
        ("rules/fleet.rs", crate::rules::fleet::CONSTANTS),
        ("policy/source.rs", crate::policy::source::CONSTANTS),
        ("mitigation/ladder.rs", crate::mitigation::ladder::CONSTANTS),
        ("mitigation/budget.rs", crate::mitigation::budget::CONSTANTS),
        ("mitigation/canary.rs", crate::mitigation::canary::CONSTANTS),
        ("engine/monitor.rs", crate::engine::monitor::CONSTANTS),
        ("engine/monitor/alert_window.rs", crate::engine::monitor::alert_window::CONSTANTS),
        ("policy/residual.rs", crate::policy::residual::CONSTANTS),
        ("engine/listeners/inspection.rs", crate::engine::listeners::inspection::CONSTANTS),
        ("engine/needs.rs", crate::engine::needs::CONSTANTS),
        ("engine/hints.rs", crate::engine::hints::CONSTANTS),
    ]
    .into_iter()
}
