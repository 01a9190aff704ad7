//! A day or a month of polls on a clock of their own, on a host that is set to sleep now and then and on which the time
//! of day is set by up to a year: every rule ends at its time, and nothing grows.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{Force, Limits, Timestamp};
use tcpguard_eval::allocated::bytes_of;
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_host::time::Clock;
use tcpguard_sim::Random;
use tcpguard_sim::world::{Op, Shape, Traffic, World, net};

const TICK: Duration = Duration::from_millis(250);
const HOUR: u64 = 3600;
const YEAR_S: u64 = 365 * 24 * HOUR;
/// Polls at a stretch, where nothing is to end meanwhile.
const STRETCH: u32 = 240;
/// Share by which the engine may hold more memory in the last third than in the one before, on average:
/// of one past incident more is known than of another.
const SLACK: f64 = 0.1;

/// The time of day, which the test sets.
struct Wall {
    /// Time by which it is ahead of the boot's clock, s.
    ahead: u64,
    random: Random,
}

impl Wall {
    fn new(seed: u64) -> Self {
        Self { ahead: 2 * YEAR_S, random: Random::new(seed) }
    }

    /// Sets it by up to a year to either side.
    fn set(&mut self) {
        self.ahead = YEAR_S + self.random.below(2 * YEAR_S);
    }

    fn shows(&self, now: Timestamp) -> Clock {
        let seconds = now.as_nanos() / 1_000_000_000 + self.ahead;
        let wall = jiff::Timestamp::from_second(seconds as i64).expect("within jiff's years");
        Clock { now, wall }
    }
}

/// A rule that an operator made.
struct Asked {
    /// End of the rule.
    end: Timestamp,
    /// The same by the time of day as it was then, which the naive variant goes by.
    by_wall: jiff::Timestamp,
}

/// Number of rules, and of looks that found a rule acting, or not acting, more than a tick from its end.
#[derive(Default)]
struct Found {
    rules: u64,
    off: u64,
    naive_off: u64,
}

impl Found {
    /// Counts a rule that acts or not against its end. The real rule is judged by `acts`, the naive variant by the time
    /// of day.
    fn look(&mut self, asked: &Asked, clock: &Clock, acts: bool) {
        let wrong = |acts: bool| {
            let (early, late) = (asked.end.since(clock.now), clock.now.since(asked.end));
            acts && late > TICK || !acts && early > TICK
        };
        self.off += u64::from(wrong(acts));
        self.naive_off += u64::from(wrong(clock.wall < asked.by_wall));
    }
}

/// A host, the requests made of its agent, and its clocks.
struct Host {
    world: World,
    wall: Wall,
    random: Random,
    asked: BTreeMap<IpNet, Asked>,
    found: Found,
}

impl Host {
    fn new(seed: u64) -> Self {
        Self {
            world: World::new(),
            wall: Wall::new(seed),
            random: Random::new(!seed),
            asked: BTreeMap::new(),
            found: Found::default(),
        }
    }

    /// Returns whether it happens in this stretch that happens once in `polls` polls.
    fn once_in(&mut self, polls: u64) -> bool {
        self.random.below(polls) < u64::from(STRETCH)
    }

    /// One thing that happens, and some polls.
    fn go_on(&mut self) {
        if self.once_in(600) {
            self.block();
        }
        if self.once_in(3_600) {
            self.wall.set();
        }
        if self.once_in(100_000) {
            // Up to eight hours: the boot's clock goes on.
            let seconds = 60 + self.random.below(8 * HOUR);
            self.play(&Op::Gap(seconds));
        }
        // One poll in a hundred is one of a flood.
        match self.once_in(4_000) {
            true => self.arrive(40, 5_000),
            false => self.arrive(self.until_next_end(), 0),
        }
    }

    /// Adds `polls` polls with some clients, and with `spoofed` SYNs that never complete.
    fn arrive(&mut self, polls: u32, spoofed: u64) {
        let sources = [1, u32::MAX][self.random.below(2) as usize];
        self.play(&Op::Traffic(Traffic {
            listener: 0,
            polls,
            spoofed,
            real: 4,
            sources,
            shape: Shape::Constant,
            returning: u64::MAX,
            half_open: Some(if spoofed > 0 { 128 } else { 0 }),
            queue_drops: 0,
            overflows: 0,
        }));
    }

    /// Polls up to the last before a rule ends, or one, in which it does.
    fn until_next_end(&self) -> u32 {
        let next = self.asked.values().map(|asked| asked.end.since(self.world.now)).min();
        let polls = next.unwrap_or(Duration::MAX).as_millis() / TICK.as_millis();
        u32::try_from(polls).unwrap_or(STRETCH).saturating_sub(1).clamp(1, STRETCH)
    }

    /// An operator blocks an address that no flood comes from, for up to an hour.
    fn block(&mut self) {
        let (host, seconds) = (64 + self.random.below(192) as u8, 1 + self.random.below(HOUR));
        let clock = self.wall.shows(self.world.now);
        let lasts = Duration::from_secs(seconds);
        let asked = Asked { end: clock.now + lasts, by_wall: clock.wall + lasts };
        self.asked.insert(net(host, 32), asked);
        self.found.rules += 1;
        self.play(&Op::Block { host, bits: 32, ports: Vec::new(), seconds, force: Force::No });
    }

    fn play(&mut self, op: &Op) {
        self.world.play(op);
        let clock = self.wall.shows(self.world.now);
        // The kernel ends a rule by itself, whatever the agent does.
        let kernel: BTreeMap<IpNet, Timestamp> = self
            .world
            .rules
            .values()
            .filter_map(|(rule, _)| Some((rule.matcher.prefix()?, rule.expires)))
            .collect();
        for (net, asked) in &self.asked {
            let acts = kernel.get(net).is_some_and(|end| clock.now < *end);
            self.found.look(asked, &clock, acts);
        }
        // As long as the naive variant may be wrong about it.
        self.asked.retain(|_, asked| clock.now.since(asked.end) <= 4 * TICK);
    }

    /// Makes as many attacks as are remembered.
    fn fill(&mut self) {
        while self.world.engine.report(self.world.now).past.len() < Limits::PAST_INCIDENTS {
            self.arrive(40, 5_000);
            self.calm_down();
        }
    }

    /// Until no attack goes on, of which more is known than of one that is over.
    fn calm_down(&mut self) {
        while !self.world.engine.report(self.world.now).incidents.is_empty() {
            self.play(&Op::calm());
        }
    }

    /// Compares the ends of rules in the status with the engine's, while the time of day is wrong.
    fn check_status(&self) {
        let clock = self.wall.shows(self.world.now);
        for report in self.world.engine.report(clock.now).rules {
            let said = Duration::from_secs(report.expires_in_s);
            let left = report.expires_at.since(clock.now);
            assert!(said >= left && said - left < Duration::from_secs(1), "{said:?} {left:?}");
        }
    }
}

#[test]
fn g16_over_a_month_of_polls_every_rule_ends_in_time_and_nothing_grows() {
    let row = Row::new(Goal::G16);
    let hours = size(24, 30 * 24);
    let mut host = Host::new(seed());
    host.fill();
    let begun = host.world.now;
    let (mut held, mut naive) = (Vec::new(), Vec::new());
    for hour in 1..=hours {
        // Of the clock: sleep counts.
        let end = begun + Duration::from_secs(hour * HOUR);
        while host.world.now < end {
            host.go_on();
        }
        host.check_status();
        host.calm_down();
        held.push(bytes_of(&host.world.engine));
        // Cost of remembering everything.
        naive.push(bytes_of(&host.world.log));
    }
    let (grown, naive_grown) = (growth(&held), growth(&naive));
    let Found { rules, off, naive_off } = host.found;
    row.result(
        rules,
        format!(
            "rules over {hours} h: {off} looks find one off by more than a tick; {} KiB held, {:+.1} % in \
             the last third",
            held.iter().max().copied().unwrap_or_default() >> 10,
            100.0 * grown
        ),
        off == 0 && grown <= SLACK,
    )
    .naive(
        rules,
        format!("{naive_off} by the time of day; {:+.1} % with a log", 100.0 * naive_grown),
        naive_off > 0 && naive_grown > SLACK,
    )
    .finish();
}

/// Growth of the memory held from the second third of the run to the last one, on average, as a share. The first third
/// is ignored: the memory of normal days and of a week's networks fills up in it, and is bounded.
fn growth(held: &[usize]) -> f64 {
    let mean = |held: &[usize]| held.iter().sum::<usize>() as f64 / held.len() as f64;
    let (_, rest) = held.split_at(held.len() / 3);
    let (before, last) = rest.split_at(rest.len() / 2);
    mean(last) / mean(before) - 1.0
}
