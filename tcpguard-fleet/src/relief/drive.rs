//! The loop step of a controller with its speaker: reads the table and the session, applies the next change, and reads
//! the table again.

use std::time::Duration;

use tcpguard_engine::Timestamp;

use super::controller::{Change, Controller, Event};
use super::speaker::{Speaker, SpeakerError};

/// Time between two readings of the table.
const READ: Duration = Duration::from_secs(5);

/// A controller and its speaker.
#[derive(Debug)]
pub struct Drive<S> {
    controller: Controller,
    speaker: Option<S>,
    read_at: Option<Timestamp>,
}

/// The outcome of one step.
#[derive(Debug, Default)]
pub struct Step {
    /// Change of the BGP session.
    pub event: Option<Event>,
    /// Change of the table.
    pub change: Option<Change>,
    /// Refusal of a change. The controller tries it again.
    pub refusal: Option<SpeakerError>,
    /// Reason for which the speaker has to be started anew; it is dropped.
    pub failure: Option<Failure>,
}

/// Reason for which a speaker has to be started anew.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A request to it failed.
    #[error(transparent)]
    Speaker(#[from] SpeakerError),
    /// A route stays in its table whatever is asked.
    #[error("the BGP speaker does not withdraw a route")]
    Stuck,
}

impl<S: Speaker> Drive<S> {
    /// A controller without a speaker.
    pub const fn new(controller: Controller) -> Self {
        Self { controller, speaker: None, read_at: None }
    }

    /// The controller, for the documents of hosts and its answers.
    pub const fn controller(&mut self) -> &mut Controller {
        &mut self.controller
    }

    /// Returns whether a speaker has to be given.
    pub const fn needs_speaker(&self) -> bool {
        self.speaker.is_none()
    }

    /// Takes a speaker that was just started.
    pub fn set_speaker(&mut self, speaker: S) {
        self.controller.forget_table();
        self.speaker = Some(speaker);
        self.read_at = None;
    }

    /// Drops the speaker, and with it its process and its routes. So does dropping this.
    pub fn drop_speaker(&mut self, now: Timestamp) -> Option<Event> {
        self.speaker = None;
        self.controller.forget_table();
        self.controller.update_session(now, false)
    }

    /// Makes a step; a second is a good interval. A step takes as long as a few requests to the speaker may take.
    pub async fn step(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        if let Err(failure) = self.try_step(now, &mut step).await {
            let lost = self.drop_speaker(now);
            step.event = lost.or(step.event);
            step.failure = Some(failure);
        }
        step
    }

    async fn try_step(&mut self, now: Timestamp, step: &mut Step) -> Result<(), Failure> {
        let Some(speaker) = &mut self.speaker else { return Ok(()) };
        if self.read_at.is_none_or(|at| now.since(at) >= READ) {
            let is_established = speaker.is_established().await?;
            step.event = self.controller.update_session(now, is_established);
            let table = speaker.table().await?;
            self.controller.read(now, table);
            self.read_at = Some(now);
        }
        if let Some(change) = self.controller.next_change(now) {
            match speaker.apply(&change).await {
                Ok(()) => step.change = Some(change),
                // The routes of other hosts are no part of it.
                Err(refusal @ SpeakerError::Refused(_)) => step.refusal = Some(refusal),
                Err(error) => return Err(error.into()),
            }
            // Speakers have lost changes and reported success.
            let table = speaker.table().await?;
            self.controller.read(now, table);
            if self.controller.is_stuck() {
                return Err(Failure::Stuck);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use tcpguard_host::time::Time;

    use super::*;
    use crate::document::{Envelope, Part, Relief, ReliefRoute};
    use crate::relief::controller::Entry;
    use crate::relief::controller::bounds::Settings;
    use crate::relief::speaker::dry_run::DryRun;

    /// A speaker with faults.
    #[derive(Default)]
    struct Faulty {
        table: DryRun,
        loses_withdrawals: bool,
        refuses: bool,
        is_dead: bool,
        is_down: bool,
    }

    impl Speaker for Faulty {
        async fn apply(&mut self, change: &Change) -> Result<(), SpeakerError> {
            if self.refuses {
                return Err(SpeakerError::Refused("it".to_owned()));
            }
            if self.is_dead {
                return Err(SpeakerError::Disconnected("it has ended".to_owned()));
            }
            match (change, self.loses_withdrawals) {
                (Change::Withdraw(_), true) => Ok(()),
                _ => self.table.apply(change).await,
            }
        }

        async fn table(&mut self) -> Result<Vec<Entry>, SpeakerError> {
            self.table.table().await
        }

        async fn is_established(&mut self) -> Result<bool, SpeakerError> {
            Ok(!self.is_down)
        }
    }

    fn relief(wanted: Vec<ReliefRoute>) -> Relief {
        Relief {
            envelope: Envelope {
                host: "a1b2c3d4".parse().unwrap(),
                site: None,
                boot: 1,
                seq: 1,
                at: Time("2026-11-20T14:05:31Z".parse().unwrap()),
                ttl_s: 30,
            },
            part: Part { part: 0, parts: 1 },
            incident: 7,
            pressure: 0.95,
            wanted,
        }
    }

    fn rule() -> ReliefRoute {
        rule_for(443)
    }

    fn rule_for(port: u16) -> ReliefRoute {
        ReliefRoute::Flowspec {
            destination: "192.0.2.10/32".parse().unwrap(),
            port,
            length: Some([40, 40]),
            rate_bytes_per_s: Some(12_500),
        }
    }

    fn drive(speaker: Faulty) -> Drive<Faulty> {
        let own: Vec<IpNet> = vec!["192.0.2.0/24".parse().unwrap()];
        let hosts = [("a1b2c3d4".parse().unwrap(), own)].into();
        let settings = Settings { hosts, dry_run: false, ..Settings::default() };
        let mut drive = Drive::new(Controller::new(settings));
        drive.set_speaker(speaker);
        drive
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    #[tokio::test]
    async fn a_request_becomes_a_route_and_its_end_a_withdrawal() {
        let mut drive = drive(Faulty::default());
        drive.controller().hear(at(0), &relief(vec![rule()]));
        let step = drive.step(at(0)).await;
        assert_eq!(step.event, Some(Event::Established));
        assert!(matches!(step.change, Some(Change::Announce(_))), "{step:?}");
        assert!(drive.step(at(1)).await.change.is_none());
        drive.controller().hear(at(2), &relief(Vec::new()));
        let step = drive.step(at(2)).await;
        assert!(matches!(step.change, Some(Change::Withdraw(_))), "{step:?}");
        assert!(drive.controller().table().next().is_none());
    }

    #[tokio::test]
    async fn a_route_that_disappears_is_announced_again() {
        let mut drive = drive(Faulty::default());
        drive.controller().hear(at(0), &relief(vec![rule()]));
        drive.step(at(0)).await;
        if let Some(speaker) = &mut drive.speaker {
            speaker.table = DryRun::default();
        }
        assert!(drive.step(at(4)).await.change.is_none(), "the table is read each 5 s");
        assert!(drive.step(at(5)).await.change.is_some());
    }

    #[tokio::test]
    async fn a_route_that_is_refused_costs_no_other_route() {
        let mut drive = drive(Faulty::default());
        drive.controller().hear(at(0), &relief(vec![rule()]));
        drive.step(at(0)).await;
        if let Some(speaker) = &mut drive.speaker {
            speaker.refuses = true;
        }
        drive.controller().hear(at(1), &relief(vec![rule(), rule_for(80)]));
        let step = drive.step(at(1)).await;
        assert!(step.refusal.is_some() && step.failure.is_none(), "{step:?}");
        assert!(drive.step(at(2)).await.refusal.is_none(), "it is tried again after a while");
        assert!(drive.step(at(6)).await.refusal.is_some());
        assert_eq!(drive.controller().table().count(), 1, "the first route is still there");
        assert!(!drive.needs_speaker());
    }

    #[tokio::test]
    async fn a_speaker_that_dies_is_dropped_and_a_new_one_is_filled() {
        let mut drive = drive(Faulty { is_dead: true, ..Faulty::default() });
        drive.controller().hear(at(0), &relief(vec![rule()]));
        let step = drive.step(at(0)).await;
        assert!(matches!(step.failure, Some(Failure::Speaker(SpeakerError::Disconnected(_)))));
        assert_eq!(step.event, Some(Event::SessionLost));
        assert!(drive.needs_speaker());
        assert!(drive.step(at(1)).await.change.is_none());
        drive.set_speaker(Faulty::default());
        assert!(drive.step(at(2)).await.change.is_some());
    }

    #[tokio::test]
    async fn a_speaker_that_keeps_a_withdrawn_route_is_dropped() {
        let mut drive = drive(Faulty { loses_withdrawals: true, ..Faulty::default() });
        drive.controller().hear(at(0), &relief(vec![rule()]));
        drive.step(at(0)).await;
        drive.controller().hear(at(1), &relief(Vec::new()));
        let mut failed = None;
        for second in 1..30 {
            if drive.step(at(second)).await.failure.is_some() {
                failed = Some(second);
                break;
            }
        }
        assert_eq!(failed, Some(16), "tries at 1, 6 and 16 s");
    }

    #[tokio::test]
    async fn a_lost_session_is_an_event() {
        let mut drive = drive(Faulty::default());
        assert_eq!(drive.step(at(0)).await.event, Some(Event::Established));
        if let Some(speaker) = &mut drive.speaker {
            speaker.is_down = true;
        }
        assert_eq!(drive.step(at(5)).await.event, Some(Event::SessionLost));
        assert_eq!(drive.step(at(10)).await.event, None);
    }
}
