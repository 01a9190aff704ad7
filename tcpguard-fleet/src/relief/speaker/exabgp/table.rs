//! The routes that ExaBGP announces, known by the lines of its replies, which are not read.
//!
//! What ExaBGP writes about a route is for people. 5.0 writes `=https` where 4.2 wrote `=443`, and the next version may
//! write anything. It has no other form: 4.2 replies in text only, and the JSON of 5.0 leaves FlowSpec rules out.
//! No other program announces routes by this process, so a line that appears with an announcement is that route, and the
//! route is there for as long as the line is. What cannot be distinguished costs the confirmation of one route.

use std::collections::{BTreeMap, BTreeSet};

use crate::relief::controller::{Change, Entry};
use crate::relief::route::{Key, Route};

/// The routes of one process of ExaBGP, which starts without any.
#[derive(Debug, Default)]
pub(super) struct Table {
    routes: BTreeMap<Key, Announced>,
    /// The change since the last reply.
    change: Option<Change>,
    /// The last reply.
    lines: BTreeSet<String>,
}

/// A route whose announcement was acknowledged.
#[derive(Debug)]
struct Announced {
    route: Route,
    /// Lines that appeared with it and are still there: its own, and any that appeared by chance.
    lines: BTreeSet<String>,
}

impl Table {
    /// Takes a change that ExaBGP has acknowledged. The table is to be read before the next one.
    pub fn acknowledge(&mut self, change: &Change) {
        self.change = Some(change.clone());
    }

    /// Takes a reply, and returns the routes. One whose line is not known yet is returned without its form.
    pub fn read(&mut self, lines: BTreeSet<String>) -> Vec<Entry> {
        match self.change.take() {
            Some(Change::Announce(route)) => self.announce(route, &lines),
            Some(Change::Withdraw(key)) => self.withdraw(&key, &lines),
            None => {}
        }
        self.routes.retain(|_, announced| {
            let was_shown = !announced.lines.is_empty();
            announced.lines.retain(|line| lines.contains(line));
            !was_shown || !announced.lines.is_empty()
        });
        self.lines = lines;
        let entries = self.routes.iter();
        let entries = entries.map(|(key, Announced { route, lines })| Entry {
            key: key.clone(),
            route: (lines.len() == 1).then(|| route.clone()),
        });
        entries.collect()
    }

    fn announce(&mut self, route: Route, lines: &BTreeSet<String>) {
        let appeared: BTreeSet<String> = lines.difference(&self.lines).cloned().collect();
        let key = route.key();
        // Without a new line it is as it was before, or not shown: then only its withdrawal makes sure that it is gone.
        if !appeared.is_empty() || !self.routes.contains_key(&key) {
            self.routes.insert(key, Announced { route, lines: appeared });
        }
    }

    fn withdraw(&mut self, key: &Key, lines: &BTreeSet<String>) {
        let is_there = |it: &Announced| !it.lines.is_empty() && it.lines.is_subset(lines);
        if !self.routes.get(key).is_some_and(is_there) {
            self.routes.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relief::flowspec::{Action, FlowSpec, Terms};

    fn rule(port: u16, rate: u32) -> Route {
        let action = Action::RateLimit(rate);
        let destination = "192.0.2.10".parse().unwrap();
        Route::FlowSpec(FlowSpec::new(Terms { destination, port, lengths: None, action }).unwrap())
    }

    fn entry(route: &Route) -> Entry {
        Entry { key: route.key(), route: Some(route.clone()) }
    }

    fn unconfirmed(route: &Route) -> Entry {
        Entry { key: route.key(), route: None }
    }

    /// Applies a change, and takes this reply after it.
    fn apply(table: &mut Table, change: Change, lines: &[&str]) -> Vec<Entry> {
        table.acknowledge(&change);
        read(table, lines)
    }

    fn read(table: &mut Table, lines: &[&str]) -> Vec<Entry> {
        table.read(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn a_line_is_the_route_with_which_it_appeared_whatever_it_says() {
        let (mut table, [https, ssh]) = (Table::default(), [443, 22].map(|port| rule(port, 9_600)));
        assert_eq!(read(&mut table, &["a banner"]), []);
        let announced = Change::Announce(https.clone());
        assert_eq!(apply(&mut table, announced, &["a banner", "=https"]), [entry(&https)]);
        let announced = Change::Announce(ssh.clone());
        let both = apply(&mut table, announced, &["=22", "=https", "a banner"]);
        assert_eq!(both, [entry(&ssh), entry(&https)]);
        assert_eq!(read(&mut table, &["=22", "=https"]), both);
        assert_eq!(apply(&mut table, Change::Withdraw(ssh.key()), &["=https"]), [entry(&https)]);
    }

    #[test]
    fn a_route_that_is_no_longer_shown_is_gone() {
        let (mut table, route) = (Table::default(), rule(443, 9_600));
        apply(&mut table, Change::Announce(route), &["=https"]);
        assert_eq!(read(&mut table, &[]), []);
    }

    #[test]
    fn what_cannot_be_distinguished_costs_the_confirmation_of_one_route() {
        let (mut table, [first, https]) =
            (Table::default(), [80, 443].map(|port| rule(port, 9_600)));
        apply(&mut table, Change::Announce(first.clone()), &["=http"]);
        let announced = Change::Announce(https.clone());
        let noisy = apply(&mut table, announced, &["=http", "=https", "noise"]);
        assert_eq!(noisy, [entry(&first), unconfirmed(&https)]);
        // Once the noise is over, the line is known.
        assert_eq!(read(&mut table, &["=http", "=https"]), [entry(&first), entry(&https)]);
        // Noise that stays does not keep the route.
        let announced = Change::Announce(rule(22, 9_600));
        apply(&mut table, announced, &["=http", "=https", "=ssh", "noise"]);
        let withdrawn = Change::Withdraw(rule(22, 9_600).key());
        let left = apply(&mut table, withdrawn, &["=http", "=https", "noise"]);
        assert_eq!(left, [entry(&first), entry(&https)]);
    }

    /// ExaBGP has acknowledged it, so the router may have it.
    #[test]
    fn a_route_that_is_never_shown_stays_unconfirmed_until_it_is_withdrawn() {
        let (mut table, route) = (Table::default(), rule(443, 9_600));
        let announced = Change::Announce(route.clone());
        assert_eq!(apply(&mut table, announced.clone(), &[]), [unconfirmed(&route)]);
        assert_eq!(read(&mut table, &[]), [unconfirmed(&route)]);
        assert_eq!(apply(&mut table, Change::Withdraw(route.key()), &[]), []);
        apply(&mut table, announced.clone(), &[]);
        assert_eq!(apply(&mut table, announced, &["=https"]), [entry(&route)]);
    }

    #[test]
    fn a_change_that_is_lost_does_not_show() {
        let (mut table, [slow, fast]) = (Table::default(), [9_600, 12_500].map(|it| rule(443, it)));
        apply(&mut table, Change::Announce(slow.clone()), &["rate-limit:9600"]);
        let replaced = Change::Announce(fast.clone());
        let lost = apply(&mut table, replaced.clone(), &["rate-limit:9600"]);
        assert_eq!(lost, [entry(&slow)]);
        assert_eq!(apply(&mut table, replaced, &["rate-limit:12500"]), [entry(&fast)]);
        let withdrawn = Change::Withdraw(fast.key());
        assert_eq!(apply(&mut table, withdrawn, &["rate-limit:12500"]), [entry(&fast)]);
    }
}
