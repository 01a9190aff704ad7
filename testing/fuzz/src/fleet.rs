//! Messages of the fleet process to the agent: no message changes a rule of this host's operators, and all rules and
//! exemptions of a fleet stay within their bounds.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tcpguard::control::FrameReader;
use tcpguard::text::event_line;
use tcpguard_engine::{
    ClientsWithin, Command, Engine, FleetMessage, FleetRefusal, FleetRule, Limits, Mode, Timestamp,
    Tuning,
};

/// Longest line that the agent reads, in bytes.
const LONGEST: usize = 4 << 10;

/// The input is what the fleet process writes: one message on each line.
///
/// # Panics
/// When an accepted message is read differently the second time, when the engine takes a message without sense, or
/// when an alert about it can forge a line.
pub fn fleet(input: &[u8]) {
    let mut engine = Engine::new(Tuning::default(), Mode::Enforce).expect("the defaults agree");
    let mut now = Timestamp::from_millis(1_000_000);
    let mut lines = FrameReader::lines(input, LONGEST);
    loop {
        let line = match pin!(lines.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(line))) => line,
            Poll::Ready(Ok(None) | Err(_)) => return,
            Poll::Pending => panic!("it waits for a stream that is all there"),
        };
        now = now + Duration::from_millis(250);
        if let Ok(message) = serde_json::from_slice(&line) {
            take(&mut engine, now, message);
        }
    }
}

fn take(engine: &mut Engine, now: Timestamp, message: FleetMessage) {
    let written = serde_json::to_vec(&message).expect("JSON");
    let again: FleetMessage = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(again, message, "read again");
    let is_valid = !matches!(&message, FleetMessage::Rule(rule) if !FleetRule::is_valid(rule));
    let taken = engine.handle_fleet(now, message, ClientsWithin::default());
    assert!(is_valid || taken == Err(FleetRefusal::Malformed), "{taken:?} of {again:?}");
    while let Some(command) = engine.next_command() {
        if let Command::Alert { event, .. } = command {
            assert!(!event_line(&event).contains(char::is_control));
        }
    }
    assert!(engine.hints().count() <= 256, "hints");
    let report = engine.report(now);
    assert!(report.rules.len() <= Limits::FLEET_RULES as usize, "rules");
    assert!(report.allowed.len() <= Limits::FLEET_ALLOWED, "exemptions");
}
