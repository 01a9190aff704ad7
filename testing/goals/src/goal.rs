//! The promises, by their ids.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! goals {
    ($($name:ident $id:literal $promise:literal,)*) => {
        /// A promise that tests hold.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub enum Goal {
            $(#[doc = $promise] #[serde(rename = $id)] $name,)*
        }

        impl Goal {
            /// All, in the order in which tables list them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name as it is typed and printed, and, in small letters, as names of its tests begin.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// The promise, in one sentence.
            pub fn promise(self) -> &'static str {
                match self { $(Self::$name => $promise,)* }
            }
        }
    };
}

goals! {
    G1 "G1" "An agent that is killed in a flood lets nothing of it in, and no client notices.",
    G2 "G2" "A rule set is replaced as a whole: no kill leaves half of one, or none.",
    G3 "G3" "An upgrade or downgrade under attack lets nothing in, fails no handshake and keeps the rules.",
    G4 "G4" "An agent that hangs is replaced within WatchdogSec + 1 s, and the XDP program stays attached.",
    G5 "G5" "An interface that is made again, renamed, moved or changed is protected within 200 ms, and never shown as protected while it is not.",
    G6 "G6" "Ten million sources take no more memory than a few do, at most 66 MiB, and evict no validated client.",
    G7 "G7" "tcpguard reads each SYN that the kernel answers, or counts it as beyond a declared bound.",
    G8 "G8" "The loaded programs and the host decide alike about every frame.",
    G9 "G9" "No input makes a reader of frames, messages, files or captures panic.",
    G10 "G10" "The programs load on every kernel that is supported, within 100,000 verified instructions.",
    G11 "G11" "The service is not root, holds only capabilities that it needs, and nobody else opens a pin or the control socket.",
    G12 "G12" "A thousand hostile clients of the sockets do not delay the administrator or the detection.",
    G13 "G13" "A flood with spoofed sources gets no rule over protected prefixes and cuts no session.",
    G14 "G14" "A risky change without a confirmation reverts in time, with or without the agent.",
    G15 "G15" "Damaged files, full and read-only disks stop nothing, and each is named.",
    G16 "G16" "No rule lives longer or shorter than its time, whatever clocks do.",
    G17 "G17" "Each frame is passed, dropped or answered, and counted as such. Unreported events are counted, too.",
    G18 "G18" "Unsafe code stands at named edges only, and dependencies have known licences and sources.",
    G19 "G19" "No packet filter makes tcpguard lock clients out.",
    G20 "G20" "No program, interface or user of the host makes tcpguard lock clients out or overlook a flood.",
    G21 "G21" "No innocent source is dropped, and nothing that an attacker sends takes a rule away.",
    Coexistence "Coexistence" "A foreign program is named and left alone. tcpguard's own is not detached by accident, and always on request.",
    Audit "Audit" "A rule that another process deleted or added is found, reported and repaired within 10 s.",
    Soak "Soak" "Hours of mixed traffic and attacks cost no memory and no descriptors, and no incident is missed or invented.",
}

impl Goal {
    /// The goal that the test function `name` belongs to: `g12_…` is one of G12. A path of modules
    /// may stand before it.
    pub fn of_test(name: &str) -> Option<Self> {
        let function = name.rsplit("::").next().unwrap_or(name);
        let (prefix, _) = function.split_once('_')?;
        Self::ALL.iter().copied().find(|goal| goal.id().to_lowercase() == prefix)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

/// No goal has this id.
#[derive(Debug)]
pub struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = Goal::ALL.iter().map(|goal| goal.id()).collect();
        write!(f, "no goal `{}`; there are {}", self.0, ids.join(", "))
    }
}

impl std::error::Error for Unknown {}

impl FromStr for Goal {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let found = Self::ALL.iter().find(|goal| goal.id().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| Unknown(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_known_by_the_beginning_of_its_name() {
        assert_eq!(Goal::of_test("g1_a_kill"), Some(Goal::G1));
        assert_eq!(Goal::of_test("rows::g18_supply"), Some(Goal::G18));
        assert_eq!(Goal::of_test("audit_of_rules"), Some(Goal::Audit));
        for other in ["g22_x", "g1", "good_things", "g1_rows::other", "an_audit_of", "g01_x"] {
            assert_eq!(Goal::of_test(other), None, "{other}");
        }
    }

    #[test]
    fn ids_are_read_as_they_are_written_and_in_small_letters() {
        for goal in Goal::ALL {
            assert_eq!(goal.to_string().parse::<Goal>().unwrap(), *goal);
            assert_eq!(goal.id().to_lowercase().parse::<Goal>().unwrap(), *goal);
        }
        assert!("G0".parse::<Goal>().unwrap_err().to_string().contains("`G0`; there are G1, G2"));
    }
}
