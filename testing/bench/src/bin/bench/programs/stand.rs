//! Stand for runs of the programs: all of them behind the same wrapper, between runs of one that only drops.

use std::net::{Ipv6Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tcpguard_common::abi::maps;
use tcpguard_kit::net::bare::{BareProgram, Conntrack, Frames, Sources, Wrapper};
use tcpguard_kit::net::foreign::Verdict;

use super::case::{Mode, Packet, Situation, Stream, Subject};
use super::filter::Filters;
use super::frames::{PORT, frame};
use super::own::OwnPrograms;
use super::reference::Reference;
use super::rules;

/// Runs before a measurement. They warm caches and show how many runs fill the time. The agent tracks the first
/// 512 SYNs of a flood one by one, which must not be most of the runs.
const WARM: u32 = 10_000;
/// Bounds of the runs of a measurement. The kernel says how long one takes in whole nanoseconds.
const RUNS: [u64; 2] = [10_000, 2_000_000];
/// Subjects between two floors.
const BETWEEN: usize = 8;
/// Two floors that differ by more than this share do not agree.
const AGREEMENT: f64 = 0.1;
/// `TC_ACT_UNSPEC`: the expected verdict at tc on an ACK without a valid cookie.
const TC_UNSPEC: u32 = u32::MAX;

pub struct Stand {
    pub ours: OwnPrograms,
    /// Programs with room for more rules than there is by default, which costs a look-up a wider table.
    roomy: OwnPrograms,
    /// Listener that good cookies lead to.
    _listener: TcpListener,
    filters: Result<Filters>,
    reference: Result<Reference>,
    conntrack: Option<Conntrack>,
    /// Time that a measurement takes, about.
    pub run: Duration,
}

/// Costs of a packet, in ns.
pub struct Round {
    /// Cost above the floors around it, or the reason why it could not be measured.
    pub net: Vec<(Subject, Result<f64>)>,
    /// Means of two floors of XDP programs.
    pub floors: Vec<f64>,
    /// Pairs of floors, and those that do not agree.
    pub brackets: [usize; 2],
}

impl Stand {
    pub fn load(run: Duration) -> Result<Self> {
        Ok(Self {
            ours: OwnPrograms::load("tcpguard", maps::RULES)?,
            roomy: OwnPrograms::load("tcpguard-roomy", rules::MORE_ROOM)?,
            _listener: TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?,
            filters: Filters::load(),
            reference: Reference::load(),
            conntrack: Conntrack::of_running_kernel()?,
            run,
        })
    }

    /// Subjects that do not exist on this machine, with the reason.
    pub fn missing(&self) -> Vec<String> {
        let mut missing: Vec<_> = self.ours.without_cookies.clone().into_iter().collect();
        if let Err(error) = &self.filters {
            missing.push(format!("xdp-filter: {error:#}"));
        }
        match &self.reference {
            Err(error) => missing.push(format!("SYN proxy: {error:#}")),
            Ok(_) if self.conntrack.is_none() => missing.push(
                "SYN proxy after a look-up in conntrack: a module, or not in this kernel"
                    .to_owned(),
            ),
            Ok(_) => {}
        }
        missing
    }

    /// Returns those of a stream's subjects that are there.
    pub fn subjects(&self, stream: Stream) -> Vec<Subject> {
        let mut subjects = stream.subjects();
        subjects.retain(|subject| match subject {
            Subject::Wrapper => true,
            Subject::Ours(Situation::Cookies, _) => self.ours.redeem().is_some(),
            Subject::Ours(..) => true,
            Subject::Filter(_) => self.filters.is_ok(),
            Subject::Reference { conntrack } => {
                self.reference.is_ok() && (!conntrack || self.conntrack.is_some())
            }
        });
        subjects
    }

    /// Measures every subject once.
    pub fn round(&mut self, stream: Stream, subjects: &[Subject]) -> Result<Round> {
        self.has_clients(stream)?;
        let (frame, wrapper) = self.packets(stream)?;
        let mut round = Round { net: Vec::new(), floors: Vec::new(), brackets: [0; 2] };
        let (whole, pieces): (Vec<_>, Vec<_>) =
            subjects.iter().partition(|subject| matches!(subject, Subject::Filter(_)));
        for (frames, subjects) in [(Frames::Pieces, pieces), (Frames::Whole, whole)] {
            let drop = BareProgram::load(Verdict::Drop, frames)?;
            // Loaded for each round: where the kernel puts a program is a matter of luck too.
            let floor = wrapper.xdp(frames, Some(drop.as_fd()))?;
            for some in subjects.chunks(BETWEEN) {
                let before = self.time(&floor, &frame, None)?;
                let times: Vec<_> = some
                    .iter()
                    .map(|&subject| self.subject(stream, subject, &wrapper, &frame))
                    .collect();
                let after = self.time(&floor, &frame, None)?;
                let floor = f64::midpoint(before, after);
                for (&subject, time) in some.iter().zip(times) {
                    round.net.push((subject, time.map(|time| time - floor)));
                }
                round.floors.push(floor);
                round.brackets[0] += 1;
                round.brackets[1] += usize::from((before - after).abs() > AGREEMENT * floor);
            }
        }
        self.redeem(stream, &wrapper, &frame, &mut round)?;
        Ok(round)
    }

    /// Frame of a stream, and the wrapper that makes the stream's packets from it for each run.
    fn packets(&self, stream: Stream) -> Result<(Vec<u8>, Wrapper)> {
        let frame = frame(stream.packet, stream.family, &self.ours.secret);
        let wrapper = match stream.packet {
            Packet::AnyWindow => Wrapper::with_windows(&frame, stream.sources)?,
            _ => Wrapper::new(&frame, stream.sources)?,
        };
        Ok((frame, wrapper))
    }

    /// A subject behind its wrapper, and the frame to run it on.
    pub fn ready(&mut self, stream: Stream, subject: Subject) -> Result<(BareProgram, Vec<u8>)> {
        self.has_clients(stream)?;
        let (frame, wrapper) = self.packets(stream)?;
        Ok((self.behind(stream, subject, &wrapper)?, frame))
    }

    /// Puts the programs into the state of a host to which clients come. An ACK finds a SYN of a moment ago,
    /// and handshakes under way.
    fn has_clients(&mut self, Stream { packet, family, .. }: Stream) -> Result<()> {
        self.ours.set_clients()?;
        self.roomy.set_clients()?;
        if !packet.is_ack() {
            return Ok(());
        }
        self.ours.arm(Situation::Observe, Mode::Exact, family)?;
        let syn = frame(Packet::Linux, family, &self.ours.secret);
        let others = Wrapper::new(&syn, Sources::EVERYWHERE)?;
        others.xdp(Frames::Pieces, Some(self.ours.ingress()))?.test_run(&syn, 1)?;
        self.ours.set_handshakes()
    }

    /// A subject at XDP, made ready for a run.
    fn behind(&self, stream: Stream, subject: Subject, wrapper: &Wrapper) -> Result<BareProgram> {
        let lacking = "not on this machine";
        match subject {
            Subject::Wrapper => wrapper.xdp(Frames::Pieces, None),
            Subject::Ours(situation, mode) => {
                let ours = match rules::need_more_room(situation) {
                    true => &self.roomy,
                    false => &self.ours,
                };
                ours.arm(situation, mode, stream.family)?;
                wrapper.xdp(Frames::Pieces, Some(ours.ingress()))
            }
            Subject::Filter(filter) => {
                let filters = self.filters.as_ref().ok().context(lacking)?;
                wrapper.xdp(Frames::Whole, Some(filters.program(filter)?))
            }
            Subject::Reference { conntrack } => {
                let reference = self.reference.as_ref().ok().context(lacking)?.program()?;
                match conntrack {
                    true => wrapper.tracked(self.conntrack.context(lacking)?, reference),
                    false => wrapper.xdp(Frames::Pieces, Some(reference)),
                }
            }
        }
    }

    /// Measures one run of a subject at XDP.
    fn subject(
        &self,
        stream: Stream,
        subject: Subject,
        wrapper: &Wrapper,
        frame: &[u8],
    ) -> Result<f64> {
        let program = self.behind(stream, subject, wrapper)?;
        self.time(&program, frame, Some(stream.verdict(subject)))
    }

    /// Adds the cost of an ACK at tc to the subjects of `round` that inspect ACKs there, since such an ACK
    /// passes the program at XDP.
    fn redeem(
        &self,
        stream: Stream,
        wrapper: &Wrapper,
        frame: &[u8],
        round: &mut Round,
    ) -> Result<()> {
        let redeem = self.ours.redeem().filter(|_| stream.packet.is_ack());
        let Some(redeem) = redeem else { return Ok(()) };
        let nothing = BareProgram::classifier()?;
        let floor = wrapper.tc(Some(nothing.as_fd()))?;
        let redeem = wrapper.tc(Some(redeem))?;
        // An ACK with a valid cookie finds its listener, and the program returns the result of that look-up.
        let expected = (stream.packet != Packet::CookieAck).then_some(TC_UNSPEC);
        for (subject, net) in &mut round.net {
            let Subject::Ours(situation @ Situation::Cookies, mode) = *subject else { continue };
            let Ok(at_xdp) = net else { continue };
            self.ours.arm(situation, mode, stream.family)?;
            if stream.packet != Packet::CookieAck {
                self.ours.pass_at_tc()?;
            }
            let before = self.time(&floor, frame, None)?;
            let time = self.time(&redeem, frame, expected);
            let floor = f64::midpoint(before, self.time(&floor, frame, None)?);
            *net = time.map(|time| *at_xdp + time - floor);
        }
        Ok(())
    }

    /// Mean time of a run in ns. The last run must have returned `expected`.
    fn time(&self, program: &BareProgram, frame: &[u8], expected: Option<u32>) -> Result<f64> {
        let (guess, _) = program.test_run(frame, WARM)?;
        let fill = self.run.as_nanos() as u64 / u64::from(guess.max(1));
        let runs = fill.clamp(RUNS[0], RUNS[1]) as u32;
        let (time, result) = program.test_run(frame, runs)?;
        ensure!(
            expected.is_none_or(|expected| result == expected),
            "the program returned {result}"
        );
        Ok(f64::from(time))
    }
}
