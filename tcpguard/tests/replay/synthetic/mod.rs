//! Captures of every class of incident and of traffic that is easily taken for one, made from a
//! model of hosts and clients, with the verdicts that a careful reader would give.
//!
//! They are an outside view: nothing here knows how the detector works. Each is made at several
//! rates and is looked at from both directions and from one.

mod attacks;
mod benign;
mod elsewhere;
mod flaws;
mod floods;
mod scans;
mod scene;
mod stack;
mod trouble;

use tcpguard_engine::Mode;
use tcpguard_goals::size;

use super::{Outcome, Replay, observe, of_whole, run};
pub use floods::{Flood, From, Shape};
pub use scene::{Attempt, Fate, Scene, View};
pub use stack::{Family, Look};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const VIEWS: [View; 2] = [View::Both, View::Arriving];

/// Both families, and in the short form IPv4 alone: nothing but the header is another, and captures of scans and those of
/// nothing but a flood are of both.
fn families() -> impl Iterator<Item = Family> {
    FAMILIES.into_iter().take(size(1, 2))
}

/// Rates a second, without the greatest in the short form: its captures take as long as all others.
fn each_rate<const N: usize>(all: [f64; N]) -> impl Iterator<Item = f64> {
    all.into_iter().take(size(N - 1, N))
}

/// Wrong verdicts on captures, with the right ones.
#[derive(Default)]
struct Jury {
    wrong: Vec<String>,
}

impl Jury {
    /// Replays the packets that can be seen from `view`. Every verdict in `right` is accepted.
    fn hear(&mut self, name: &str, scene: &Scene, view: View, right: &[&[&str]]) -> Replay {
        self.hear_all(name, scene, view, right).replay
    }

    /// Like [`Self::hear`], with the verdicts in between.
    fn hear_all(&mut self, name: &str, scene: &Scene, view: View, right: &[&[&str]]) -> Outcome {
        let outcome = of_whole(run(&scene.capture(view), Mode::Observe));
        let replay = &outcome.replay;
        let classes: Vec<&str> =
            replay.incidents.iter().map(|incident| incident.class.name()).collect();
        let context = format!("{name}, {:?}, {view:?}: {classes:?}", scene.family);
        println!("{context}");
        if !right.contains(&classes.as_slice()) {
            let reasons: Vec<_> =
                replay.incidents.iter().map(|incident| &incident.evidence).collect();
            self.wrong.push(format!("{context} instead of {right:?}\n{reasons:#?}"));
        }
        if replay.syns != scene.syns(view) {
            self.wrong.push(format!("{context}: {} of {} SYNs", replay.syns, scene.syns(view)));
        }
        outcome
    }

    /// Both views, one right verdict.
    fn verdict(&mut self, name: &str, scene: &Scene, right: &[&str]) {
        for view in VIEWS {
            self.hear(name, scene, view, &[right]);
        }
    }

    fn dismiss(self) {
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
    }
}
