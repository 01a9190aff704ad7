//! The one list of thresholds. The ranges that [`Settings::validate`](super::Settings::validate)
//! enforces come from it, and so do the keys of the configuration file, its explanations, and
//! `docs/thresholds.md`.
//!
//! A new field of [`Settings`](super::Settings) gets an entry here; a test fails without one.

mod detection;
mod fixed;
mod gate;
mod lifecycle;
mod policy;
mod scan;

use super::Threshold;

const SECTIONS: [&[Threshold]; 6] = [
    &detection::THRESHOLDS,
    &gate::THRESHOLDS,
    &lifecycle::THRESHOLDS,
    &scan::THRESHOLDS,
    &policy::THRESHOLDS,
    &fixed::THRESHOLDS,
];

/// Every threshold, those of one section of the configuration file together.
pub fn thresholds() -> impl Iterator<Item = &'static Threshold> {
    SECTIONS.into_iter().flatten()
}

/// The threshold that is the field `name` of [`Settings`](super::Settings).
pub fn threshold(name: &str) -> Option<&'static Threshold> {
    thresholds().find(|threshold| threshold.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Settings;
    use super::*;

    /// The fields of [`Settings`], in alphabetical order, as their `Debug` names them.
    fn fields(settings: &Settings) -> Vec<(String, String)> {
        let text = format!("{settings:#?}");
        let mut fields: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        fields.sort();
        fields
    }

    #[test]
    fn every_field_is_listed_once() {
        let mut listed: Vec<_> = thresholds().map(|threshold| threshold.name).collect();
        listed.sort_unstable();
        let fields = fields(&Settings::default());
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(listed, names);
    }

    /// An entry that reads or writes its neighbour's field would change that one instead.
    #[test]
    fn each_sets_the_field_that_it_names_and_no_other() {
        for threshold in thresholds() {
            for value in [threshold.least, threshold.most] {
                let mut settings = Settings::default();
                threshold.set(&mut settings, value);
                assert_eq!(threshold.get(&settings), value, "{}", threshold.name);
                for (new, old) in fields(&settings).into_iter().zip(fields(&Settings::default())) {
                    assert!(new == old || new.0 == threshold.name, "{}: {new:?}", threshold.name);
                }
            }
        }
    }

    #[test]
    fn each_has_a_key_of_its_own_and_says_what_it_is_and_why() {
        let mut keys = BTreeSet::new();
        for threshold in thresholds() {
            if let Some(key) = threshold.key {
                let (section, name) = key.split_once('.').expect(key);
                let sections = ["detection", "policy"];
                assert!(sections.contains(&section) && keys.insert(key), "{key}");
                let suffix = ["ns", "ms", "s"]
                    .into_iter()
                    .find(|unit| name.rsplit_once('_').is_some_and(|(_, suffix)| suffix == *unit));
                let symbol = threshold.unit.symbol().filter(|symbol| *symbol != "/s");
                assert_eq!(suffix, symbol, "{key} ends in its unit");
            }
            for text in [threshold.doc, threshold.source] {
                assert!(text.len() > 10 && text.ends_with('.'), "{}: {text}", threshold.name);
            }
            let default = threshold.get(&Settings::default());
            assert!(threshold.allows(default) && threshold.least < threshold.most);
        }
    }
}
