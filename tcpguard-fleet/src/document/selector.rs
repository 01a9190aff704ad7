//! The hosts for which an operator's rule is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::names::{HostId, Label, NameError};
use super::string_form::string_form;

/// The hosts for which a rule is: `all`, or a list such as `host=a1b2c3d4,site=fra`. A host is selected by any of the
/// terms.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct HostSelector {
    /// The terms, each once; none: every host.
    terms: BTreeSet<Term>,
}

string_form!(HostSelector, "^(all|((host|site)=[a-z0-9-]+,?)+)$");

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Term {
    Host(HostId),
    Site(Label),
}

/// Reason that a text is not a [`HostSelector`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SelectorError {
    /// A term is neither `host=ID` nor `site=NAME`.
    #[error("not a list of hosts: all, or host=ID and site=NAME, divided by commas")]
    Term,
    /// There are more than [`HostSelector::MAX_TERMS`].
    #[error("more than {} hosts and sites", HostSelector::MAX_TERMS)]
    TooMany,
    /// The name of a host or of a site is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl HostSelector {
    /// Most terms of a list.
    pub const MAX_TERMS: usize = 8;

    /// Returns whether the host with this name, at this site, is selected.
    pub fn matches(&self, host: &HostId, site: Option<&Label>) -> bool {
        self.terms.is_empty()
            || self.terms.iter().any(|term| match term {
                Term::Host(named) => named == host,
                Term::Site(named) => Some(named) == site,
            })
    }
}

impl FromStr for HostSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text == "all" {
            return Ok(Self::default());
        }
        let term = |text: &str| match text.split_once('=') {
            Some(("host", name)) => Ok(Term::Host(name.parse()?)),
            Some(("site", name)) => Ok(Term::Site(name.parse()?)),
            _ => Err(SelectorError::Term),
        };
        let terms = text.split(',').map(term).collect::<Result<BTreeSet<_>, _>>()?;
        match terms.len() <= Self::MAX_TERMS {
            true => Ok(Self { terms }),
            false => Err(SelectorError::TooMany),
        }
    }
}

impl fmt::Display for HostSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return out.write_str("all");
        }
        for (number, term) in self.terms.iter().enumerate() {
            if number > 0 {
                out.write_str(",")?;
            }
            match term {
                Term::Host(name) => write!(out, "host={name}")?,
                Term::Site(name) => write!(out, "site={name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> HostSelector {
        text.parse().expect("a selector")
    }

    #[test]
    fn a_host_is_selected_by_its_name_or_its_site() {
        let host: HostId = "a1b2c3d4".parse().expect("a host");
        let other: HostId = "ffffffff".parse().expect("a host");
        let site: Label = "fra".parse().expect("a site");
        assert!(selector("all").matches(&host, None));
        let one = selector("host=a1b2c3d4");
        assert!(one.matches(&host, None) && !one.matches(&other, Some(&site)));
        let either = selector("site=fra,host=a1b2c3d4");
        assert!(either.matches(&host, None) && either.matches(&other, Some(&site)));
        assert!(!either.matches(&other, None));
    }

    #[test]
    fn lists_of_the_same_hosts_are_equal() {
        let one = selector("site=fra,host=a1b2c3d4,site=fra");
        assert_eq!(one.to_string(), "host=a1b2c3d4,site=fra");
        assert_eq!(one, selector(&one.to_string()));
        assert_eq!(selector("all").to_string(), "all");
    }

    #[test]
    fn a_list_of_nothing_selects_nothing_by_mistake() {
        for text in ["", "fra", "site=", "site=fra,", "all,site=fra", "host=web1", "rack=7"] {
            assert!(text.parse::<HostSelector>().is_err(), "{text:?}");
        }
        let many: Vec<_> = (0..9).map(|number| format!("site=s{number}")).collect();
        assert_eq!(many.join(",").parse::<HostSelector>(), Err(SelectorError::TooMany));
    }
}
