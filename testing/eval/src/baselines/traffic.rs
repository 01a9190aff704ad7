//! Ticks at constant rates.

use tcpguard_sim::Tick;

use super::{Detector, TICKS};

/// Packets a second, of each kind; multiples of 4.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub syn: u64,
    pub syn_ack: u64,
    pub fin: u64,
}

impl Rates {
    /// A second in which that many clients are answered and close their connections.
    pub const fn calm(clients: u64) -> Self {
        Self { syn: clients, syn_ack: clients, fin: clients }
    }

    fn tick(&self) -> Tick {
        let each = |rate: u64| rate / u64::from(TICKS);
        let (syn, syn_ack) = (each(self.syn), each(self.syn_ack));
        Tick { syn, syn_ack, fin: each(self.fin), ..Tick::default() }
    }
}

/// For so many seconds, every tick: whether it is alarmed after that.
fn states(detector: &mut dyn Detector, seconds: f64, rates: &Rates) -> Vec<bool> {
    let ticks = (seconds * f64::from(TICKS)) as usize;
    (0..ticks).map(|_| detector.tick(&rates.tick())).collect()
}

/// In how many of the ticks of so many seconds it is alarmed.
pub fn alarms(detector: &mut dyn Detector, seconds: f64, rates: &Rates) -> u32 {
    states(detector, seconds, rates).into_iter().map(u32::from).sum()
}

/// After how many seconds of this it is alarmed.
pub fn first_alarm(detector: &mut dyn Detector, seconds: f64, rates: &Rates) -> Option<f64> {
    let first = states(detector, seconds, rates).into_iter().position(|alarmed| alarmed)?;
    Some((first + 1) as f64 / f64::from(TICKS))
}
