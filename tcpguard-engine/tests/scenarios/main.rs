//! Scenarios: traffic against a simulated host, and what the engine must make of it.

mod sim;

use sim::*;
use tcpguard_engine::Mode;

#[test]
fn smoke() {
    for cookies in [true, false] {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies, ..Server::default() })
        .clients(Clients::steady(100.0))
        .flood(Flood::random(100_000.0, 10.1..20.0));
    lab.run_until(60.0);
    eprintln!("{}", lab.story());
    for (t, rule) in &lab.installed { eprintln!("{t} {rule:?}"); }
    for (t, rule, why) in &lab.removed { eprintln!("{t} {:?} {why}", rule.id); }
    eprintln!("{} {} {}", lab.connected(5.0, 9.0), lab.connected(12.0, 19.0), lab.connected(21.0, 30.0));
    }
}
