//! Floods that are documented as not reported, or as making clients wait (`docs/limitations.md`). Each has a
//! lower bound for the share of clients that are served at once all the same.

use tcpguard_engine::IncidentClass::{self, Distributed, RandomSpoofed};
use tcpguard_sim::{Clients, Flood, Server, Shape, Sources};

use super::attacks::LIKE_CLIENTS;
use super::scene::{Draw, LARGE, NO_COOKIES, Scene};
use super::{ANY, Row};

const RANDOM: &[IncidentClass] = &[RandomSpoofed];
const SCATTERED: &[IncidentClass] = &[RandomSpoofed, Distributed];

/// Clients that lose a packet wait for a second, and some have only just begun.
const UNDISTURBED: f64 = 0.95;

pub(super) fn rows() -> [Row; 6] {
    [
        Row::flood("mimic, 19/s among 100, all reset", RANDOM, |draw| resetting(draw, 100.0))
            .limit(UNDISTURBED),
        Row::flood("fixed pulses, 20/s among 200", RANDOM, |draw| pulsing(draw, Shape::Bare))
            .limit(UNDISTURBED),
        Row::flood("mimic pulses, 20/s among 200", RANDOM, |draw| pulsing(draw, Shape::Mimicking))
            .limit(UNDISTURBED),
        Row::flood("pulses of 0.1 s every 35 s", ANY, pulses_at_a_full_queue).limit(0.7),
        Row::flood("3,000 bots, 20 to 30 % complete", SCATTERED, |draw| {
            let completes = draw.between(0.2, 0.3);
            let mimicking = draw.mimicking(1000.0, 2000.0);
            draw.flooded([Flood { sources: Sources::Bots(3000), completes, ..mimicking }])
        })
        .limit(UNDISTURBED),
        Row::flood("400 bots whose kernels repeat", ANY, |draw| {
            let mimicking = draw.mimicking(300.0, 600.0);
            let sources = Sources::Bots(400);
            draw.flooded([Flood { sources, repeated: 1.0, again: LIKE_CLIENTS, ..mimicking }])
        })
        .limit(UNDISTURBED),
    ]
}

/// Random sources that reset 19 answers a second.
fn resetting(draw: &mut Draw<'_>, clients: f64) -> Scene {
    let lab = draw.empty(LARGE).clients(draw.clients(clients));
    let shape = Shape::Mimicking;
    draw.under(lab, [Flood { resets: true, shape, ..Flood::random(19.0, draw.time()) }])
}

/// 3.1 failures a second on average, for longer than a half-open handshake lives.
fn pulsing(draw: &mut Draw<'_>, shape: Shape) -> Scene {
    draw.last(90.0);
    let lab = draw.empty(LARGE).clients(draw.clients(200.0));
    let pulses = Some((0.5, 2.75));
    draw.under(lab, [Flood { pulses, shape, ..Flood::random(20.0, draw.time()) }])
}

/// A host without cookies. Each pulse fills its queue once. Until half of it is free again, new clients connect with
/// their second SYN.
fn pulses_at_a_full_queue(draw: &mut Draw<'_>) -> Scene {
    draw.last(180.0);
    let alike = Clients { shape: Some(Shape::Linux), ..draw.clients(50.0) };
    let lab = draw.empty(Server { backlog: 256, ..NO_COOKIES }).clients(alike);
    let pulses = Some((0.1, 34.9));
    draw.under(lab, [Flood { pulses, shape: Shape::Linux, ..Flood::random(3000.0, draw.time()) }])
}

#[cfg(test)]
mod tests {
    use super::super::run;
    use super::*;
    use crate::mixes::Cast;

    /// The most slots of the queue that are taken while the trouble lasts.
    fn most_half_open(scene: Scene) -> usize {
        let Scene { mut lab, time, .. } = scene;
        let mut most = 0;
        let mut now = time.start;
        while now < time.end {
            lab.run_until(now);
            most = most.max(lab.kernel.half_open(0));
            now += 1.0;
        }
        most
    }

    fn row(name: &str) -> Row {
        rows().into_iter().find(|row| row.name == name).expect(name)
    }

    /// 3.08 a second for 63 s are 194. So long the clients' own lost ones stay as well, one a second, and some are on
    /// their way.
    #[test]
    fn pulses_of_20_a_second_take_some_200_slots_and_disturb_no_client() {
        let cast = Cast::new(1000);
        for shape in [Shape::Bare, Shape::Mimicking] {
            let mut draw = Draw::new(&cast, "pulses");
            let most = most_half_open(pulsing(&mut draw, shape));
            assert!(most <= 330, "{shape:?}: {most}");
        }
        for name in ["fixed pulses, 20/s among 200", "mimic pulses, 20/s among 200"] {
            let run = run::play(&row(name), &cast);
            assert!(run.served.is_some_and(|served| served >= UNDISTURBED), "{name}: {run:?}");
            assert_eq!(run.hit, 0, "{name}: {run:?}");
        }
    }

    /// Such sources make two fifths of all handshakes among 28 clients a second.
    #[test]
    fn sources_that_reset_19_syn_acks_a_second_are_reported_among_few_clients_and_take_no_slot() {
        let cast = Cast::new(1000);
        for (clients, is_alerted) in [(20.0, true), (100.0, false)] {
            let mut draw = Draw::new(&cast, "resets");
            draw.last(60.0);
            let Scene { mut lab, time, .. } = resetting(&mut draw, clients);
            lab.run_until(time.end);
            assert_eq!(!lab.alerts.is_empty(), is_alerted, "among {clients}: {}", lab.story());
            let most = most_half_open(resetting(&mut Draw::new(&cast, "resets"), clients));
            assert!(most < 60, "among {clients}: {most}");
        }
    }
}
