//! Keeps the filter in front of the validated clients sparse.
//!
//! The kernel sets a mark for every client that completes a handshake and never removes one. After enough different
//! clients, the filter therefore lets every unvalidated source through to the look-up that it is to save. Then the
//! other filter is filled from the clients that are still in the table, and is used from then on.

use std::time::Duration;

use tcpguard_common::abi::Addr;
use tcpguard_common::abi::maps::{CLIENT_MARK_WORDS, CLIENT_MARKS};
use tcpguard_common::fastpath::clients::{self, Marks};
use tcpguard_engine::Timestamp;

use crate::bpf::{Dataplane, KernelError, Position};

/// Time between two checks of the filter.
const PERIOD: Duration = Duration::from_secs(60);
/// Number of marks from which the filter lets through too much, and is made anew: one in four.
const CROWDED: usize = CLIENT_MARKS / 4;
/// Attempts to find every client in the new filter. Each attempt adds the clients that the one before lost to a
/// handshake that completed between reading the marks and writing them, so two are nearly always enough.
const ROUNDS: usize = 8;

/// The kernel's two filters, and the clients they stand for.
pub trait Filters {
    /// The marks of filter 0 or 1.
    fn read(&self, filter: u32) -> Result<Box<Marks>, KernelError>;
    /// Overwrites filter 0 or 1. Marks that the kernel sets meanwhile may be lost.
    fn write(&self, filter: u32, marks: &Marks) -> Result<(), KernelError>;
    /// Every client now known.
    fn clients(&self) -> Result<Vec<Addr>, KernelError>;
}

impl Filters for Dataplane {
    fn read(&self, filter: u32) -> Result<Box<Marks>, KernelError> {
        self.client_filter(filter)
    }

    fn write(&self, filter: u32, marks: &Marks) -> Result<(), KernelError> {
        self.set_client_filter(filter, marks)
    }

    fn clients(&self) -> Result<Vec<Addr>, KernelError> {
        let (mut clients, mut position) = (Vec::new(), Position::default());
        while self.clients_from(&mut position, |addr, _| clients.push(addr))? {}
        Ok(clients)
    }
}

/// Upkeep of the filter: the time of the last check, and the marks that are needed.
#[derive(Debug, Default)]
pub struct ClientFilter {
    checked: Option<Timestamp>,
    /// Marks of the clients known when it was last made anew.
    needed: usize,
}

impl ClientFilter {
    /// The filter to ask from now on, if it is to change.
    pub fn tend(
        &mut self,
        now: Timestamp,
        asked: u32,
        filters: &impl Filters,
    ) -> Result<Option<u32>, KernelError> {
        if self.checked.is_some_and(|last| now.since(last) < PERIOD) {
            return Ok(None);
        }
        self.checked = Some(now);
        let set = clients::marked(&*filters.read(asked)?);
        // Making it anew pays where at least a third of the marks may go.
        if set < CROWDED || 2 * set < 3 * self.needed {
            return Ok(None);
        }
        let other = 1 - asked.min(1);
        filters.write(other, &[0; CLIENT_MARK_WORDS])?;
        for _ in 0..ROUNDS {
            // The clients first: one that completes after this sets its mark itself.
            let clients = filters.clients()?;
            let mut marks = filters.read(other)?;
            if !add(&mut marks, &clients) {
                self.needed = clients::marked(&marks);
                return Ok(Some(other));
            }
            filters.write(other, &marks)?;
        }
        log::debug!("client filter stays crowded: clients complete faster than it is rebuilt");
        Ok(None)
    }
}

/// Sets the marks of `clients`. Returns whether any was missing.
fn add(marks: &mut Marks, clients: &[Addr]) -> bool {
    let mut missing = false;
    for client in clients {
        let mark = clients::mark(client);
        missing |= !clients::is_marked(marks, mark);
        clients::set_mark(marks, mark);
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Loses, as a kernel may, the mark of a client that completes while a filter is overwritten.
    struct Racing {
        filters: RefCell<[Box<Marks>; 2]>,
        clients: RefCell<Vec<Addr>>,
        races: RefCell<u32>,
    }

    /// Each in a /16 of its own.
    fn client(number: u32) -> Addr {
        Addr::from_v4((number << 16).to_be_bytes())
    }

    impl Racing {
        fn new(clients: u32, crowded: bool, races: u32) -> Self {
            let asked = [if crowded { u64::MAX } else { 0 }; CLIENT_MARK_WORDS];
            Self {
                filters: RefCell::new([Box::new(asked), Box::new([u64::MAX; CLIENT_MARK_WORDS])]),
                clients: RefCell::new((0..clients).map(client).collect()),
                races: RefCell::new(races),
            }
        }

        fn knows_all(&self, filter: usize) -> bool {
            !add(&mut self.filters.borrow_mut()[filter].clone(), &self.clients.borrow())
        }
    }

    impl Filters for Racing {
        fn read(&self, filter: u32) -> Result<Box<Marks>, KernelError> {
            Ok(self.filters.borrow()[filter as usize].clone())
        }

        fn write(&self, filter: u32, marks: &Marks) -> Result<(), KernelError> {
            let races = *self.races.borrow();
            if let Some(left) = races.checked_sub(1) {
                self.races.replace(left);
                self.clients.borrow_mut().push(client(50_000 + left));
            }
            *self.filters.borrow_mut()[filter as usize] = *marks;
            Ok(())
        }

        fn clients(&self) -> Result<Vec<Addr>, KernelError> {
            Ok(self.clients.borrow().clone())
        }
    }

    fn tend(filter: &mut ClientFilter, seconds: u64, filters: &Racing) -> Option<u32> {
        filter.tend(Timestamp::from_millis(seconds * 1000), 0, filters).unwrap()
    }

    #[test]
    fn a_sparse_filter_stays() {
        assert_eq!(tend(&mut ClientFilter::default(), 1, &Racing::new(1000, false, 0)), None);
    }

    #[test]
    fn a_crowded_filter_is_replaced_by_one_that_knows_exactly_the_clients() {
        let filters = Racing::new(1000, true, 0);
        assert_eq!(tend(&mut ClientFilter::default(), 1, &filters), Some(1));
        assert!(filters.knows_all(1));
        let set = clients::marked(&filters.filters.borrow()[1]);
        assert_eq!(set, 1000);
    }

    #[test]
    fn a_filter_that_is_crowded_with_clients_is_left_alone() {
        let (mut filter, filters) = (ClientFilter::default(), Racing::new(60_000, true, 0));
        assert_eq!(tend(&mut filter, 1, &filters), Some(1));
        assert_eq!(tend(&mut filter, 61, &filters), None, "it would be as crowded again");
    }

    #[test]
    fn no_client_is_lost_that_completes_while_the_filter_is_written() {
        let filters = Racing::new(1000, true, 3);
        assert_eq!(tend(&mut ClientFilter::default(), 1, &filters), Some(1));
        assert!(filters.knows_all(1));
    }

    #[test]
    fn a_filter_that_could_not_be_completed_is_not_asked() {
        let (mut filter, filters) = (ClientFilter::default(), Racing::new(10, true, 100));
        assert_eq!(tend(&mut filter, 1, &filters), None);
        filters.races.replace(0);
        assert_eq!(tend(&mut filter, 30, &filters), None, "not looked at again so soon");
        assert_eq!(tend(&mut filter, 61, &filters), Some(1));
    }
}
