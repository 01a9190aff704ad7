//! Identity of the attached interfaces. An attached interface is tracked by its index, which it keeps when it is
//! renamed. A missing interface is looked for by the name that the operator gave it.

use tcpguard_host::linux::Interface;

/// An entry in the list of attached interfaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place<'a> {
    /// The operator's name of the interface.
    pub wanted: &'a str,
    /// Index of the interface that it was last; `None`: it did not exist.
    pub index: Option<u32>,
}

/// Present state of the entries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Followed<'a> {
    /// Index of the interface that each is now; `None`: it does not exist.
    pub indices: Vec<Option<u32>>,
    /// Interfaces that bear a wanted name and have no entry: the interface that had the name was renamed, and keeps its
    /// own entry.
    pub new: Vec<&'a Interface>,
}

/// Finds the interface of each entry among those that are `found`, which are all there are.
pub fn follow<'a>(places: &[Place<'_>], wanted: &[&str], found: &'a [Interface]) -> Followed<'a> {
    let exists = |index: &u32| found.iter().any(|one| one.index == *index);
    let mut indices: Vec<Option<u32>> =
        places.iter().map(|place| place.index.filter(exists)).collect();
    let called = |name: &str| found.iter().find(|one| one.name == name);
    for (number, place) in places.iter().enumerate() {
        let named = called(place.wanted).map(|one| one.index);
        if indices[number].is_none() && named.is_some_and(|one| !indices.contains(&Some(one))) {
            indices[number] = named;
        }
    }
    let named = wanted.iter().filter_map(|name| called(name));
    let new = named.filter(|one| !indices.contains(&Some(one.index))).collect();
    Followed { indices, new }
}

/// Returns whether the entry with this number is obsolete: its interface has gone, and another entry is, or waits
/// for, the interface with its name.
pub fn is_spare(number: usize, places: &[Place<'_>]) -> bool {
    let place = places[number];
    let stands_in = |(other, it): (usize, &Place<'_>)| {
        other != number && it.wanted == place.wanted && (it.index.is_some() || other < number)
    };
    place.index.is_none() && places.iter().enumerate().any(stands_in)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_host::linux::Below;
    use tcpguard_host::linux::Xdp;
    use tcpguard_host::linux::interfaces::OperState;

    fn interfaces(all: &[(u32, &str)]) -> Vec<Interface> {
        let interface = |&(index, name): &(u32, &str)| Interface {
            index,
            name: name.to_owned(),
            link_type: 1,
            mtu: 1500,
            loopback: false,
            state: OperState::Up,
            kind: None,
            xdp: Xdp::None,
            xdp_program: None,
            master: None,
            below: Below::default(),
        };
        all.iter().map(interface).collect()
    }

    /// The indices of the entries, and the names of interfaces that need one.
    fn followed(places: &[(&str, Option<u32>)], found: &[(u32, &str)]) -> (Vec<u32>, Vec<String>) {
        let places: Vec<Place<'_>> =
            places.iter().map(|(wanted, index)| Place { wanted, index: *index }).collect();
        let mut wanted: Vec<&str> = places.iter().map(|place| place.wanted).collect();
        wanted.dedup();
        let found = interfaces(found);
        let followed = follow(&places, &wanted, &found);
        let indices = followed.indices.into_iter().map(Option::unwrap_or_default).collect();
        (indices, followed.new.iter().map(|one| one.name.clone()).collect())
    }

    #[test]
    fn a_renamed_interface_is_the_same_one() {
        let none = Vec::new;
        assert_eq!(followed(&[("eth0", Some(5))], &[(5, "wan0")]), (vec![5], none()));
        // Two that exchange their names.
        let both = [("eth0", Some(5)), ("eth1", Some(6))];
        assert_eq!(followed(&both, &[(5, "eth1"), (6, "eth0")]), (vec![5, 6], none()));
    }

    #[test]
    fn one_that_is_made_anew_is_found_by_its_name() {
        let none = Vec::new;
        assert_eq!(followed(&[("eth0", Some(5))], &[(5, "eth0")]), (vec![5], none()));
        assert_eq!(followed(&[("eth0", Some(5))], &[(6, "eth0")]), (vec![6], none()));
        assert_eq!(followed(&[("eth0", Some(5))], &[(6, "eth1")]), (vec![0], none()));
        assert_eq!(followed(&[("eth0", None)], &[(6, "eth0")]), (vec![6], none()));
    }

    #[test]
    fn a_new_bearer_of_the_name_gets_a_place_of_its_own() {
        let (indices, new) = followed(&[("eth0", Some(5))], &[(5, "wan0"), (6, "eth0")]);
        assert_eq!((indices, new), (vec![5], vec!["eth0".to_owned()]));
        // And then both are followed.
        let both = [("eth0", Some(5)), ("eth0", Some(6))];
        let (indices, new) = followed(&both, &[(5, "wan0"), (6, "eth0")]);
        assert_eq!((indices, new), (vec![5, 6], Vec::new()));
    }

    #[test]
    fn a_place_is_spare_when_its_interface_has_gone_and_its_name_is_another_places() {
        let place = |index| Place { wanted: "eth0", index };
        assert!(is_spare(0, &[place(None), place(Some(6))]));
        assert!(!is_spare(0, &[place(None)]), "it is waited for");
        assert!(!is_spare(0, &[place(Some(5)), place(Some(6))]), "it is attached");
        let both = [place(None), place(None)];
        assert_eq!([0, 1].map(|number| is_spare(number, &both)), [false, true], "one waits");
    }
}
