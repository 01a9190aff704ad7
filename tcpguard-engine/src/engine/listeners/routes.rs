//! Routes of the replies to a listener's sources: looked up in the kernel for a sample of them, where they
//! matter.

use std::cmp::Reverse;

use super::Listeners;
use crate::engine::outbox::Outbox;
use crate::input::{About, Flows, POLL, Timestamp, questions};
use crate::output::Command;

/// Number of questions from which those about the other listeners wait for the next inspection. A listener
/// has at most 88 (64 sources, 16 clients and 8 addresses for the Internet at large), so that at least three
/// listeners are asked about in an inspection. Each question costs the agent one message to the kernel, or up
/// to five: for 343 of them it has 1,024.
const ASKED: usize = 256;

impl Listeners {
    /// Asks for the routes of failed sources and of clients: first where a verdict waits for them, then
    /// where they were asked for longest ago.
    pub fn ask_for_routes(&mut self, now: Timestamp, flows: &Flows, outbox: &mut Outbox) {
        let worth = self.monitors.values().filter(|monitor| monitor.takes_routes(now));
        let mut worth: Vec<_> = worth
            .map(|monitor| {
                (Reverse(monitor.asks_for_routes(now)), monitor.routes_asked(), monitor.id)
            })
            .collect();
        worth.sort_unstable();
        let mut asked = Vec::new();
        for (.., id) in worth {
            if asked.len() >= ASKED {
                break;
            }
            let Some(monitor) = self.monitors.get_mut(&id) else { continue };
            let about = questions(now, id, flows.of(id, |state| state), POLL);
            let unanswered = about.iter().filter(|one| one.about == About::Unanswered).count();
            monitor.ask_routes(now, unanswered);
            asked.extend(about);
        }
        if !asked.is_empty() {
            outbox.push(Command::LookUpRoutes(asked));
        }
    }
}
