//! The verifier cost that the BPF programs may have in a kernel, and the cost that was recorded last. `cargo xtask vm`
//! checks other kernels against it, and the row of G10 checks the running one.

use std::collections::BTreeMap;

use serde_json::Value;

/// Instructions that no program of ours may exceed on any kernel: a tenth of the verifiers' limit, so that a newer
/// kernel that walks more paths still accepts it.
pub const LIMIT: u64 = 100_000;

/// Growth over the recorded cost of a program that needs no new record, in percent. Compilers and kernels of another
/// patch level move the cost by a few.
pub const GROWTH: u64 = 20;

/// Number of verified instructions by "object/program", 0 on a kernel that does not count them (before Linux 5.16), or the
/// reason of the refusal.
pub type Costs = BTreeMap<String, Result<u64, String>>;

/// The lines of the test kit's `load` in `output`, which may hold a kernel's console too.
pub fn answers(output: &str) -> impl Iterator<Item = Value> {
    let lines = output.lines().filter(|line| line.starts_with('{'));
    lines.filter_map(|line| serde_json::from_str(line).ok())
}

/// Cost of the program that an answer is about, or the reason of its refusal. `None` if it is about no program.
pub fn cost(answer: &Value) -> Option<(String, Result<u64, String>)> {
    let (object, program) = (answer["object"].as_str()?, answer["program"].as_str()?);
    let cost = match (answer["instructions"].as_u64(), answer["refused"].as_str()) {
        (Some(instructions), None) => Ok(instructions),
        (_, refused) => Err(refused.unwrap_or("no answer").to_owned()),
    };
    Some((format!("{object}/{program}"), cost))
}

/// Digest of the instructions by object.
pub type Digests = BTreeMap<String, String>;

/// Costs of the programs on each kernel that was tried, `testing/record/kernel-support.json`.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// One for each kernel.
    pub kernels: Vec<Tried>,
}

/// Record of one kernel.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    pub name: String,
    /// Costs of the verified programs.
    pub costs: Costs,
    /// Digests of the objects that were verified.
    pub digests: Digests,
}

impl Record {
    /// Reads it. A missing part counts as empty.
    ///
    /// # Errors
    /// When `text` is not JSON.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        let record: Value = serde_json::from_str(text)?;
        let kernels = record["kernels"].as_array().into_iter().flatten();
        let costs = |kernel: &Value| {
            let programs = kernel["programs"].as_object().into_iter().flatten();
            programs.filter_map(|(name, cost)| Some((name.clone(), Ok(cost.as_u64()?)))).collect()
        };
        let digests = |kernel: &Value| {
            let objects = kernel["digests"].as_object().into_iter().flatten();
            objects.filter_map(|(name, it)| Some((name.clone(), it.as_str()?.to_owned()))).collect()
        };
        let tried = |kernel: &Value| Tried {
            name: kernel["name"].as_str().unwrap_or_default().to_owned(),
            costs: costs(kernel),
            digests: digests(kernel),
        };
        Ok(Self { kernels: kernels.map(tried).collect() })
    }

    /// The recorded costs of the kernel `name`, whatever its patch level.
    pub fn of(&self, name: &str) -> Option<&Costs> {
        let found = self.kernels.iter().find(|tried| series(&tried.name) == series(name));
        found.map(|tried| &tried.costs)
    }

    /// Every program of `costs` that the kernel `name` refused, or that took it longer than it may:
    /// a sentence each.
    pub fn exceeded(&self, name: &str, costs: &Costs) -> Vec<String> {
        let recorded = self.of(name);
        let mut found = Vec::new();
        for (program, cost) in costs {
            let place = format!("{program} on Linux {name}");
            let cost = match cost {
                Ok(cost) => *cost,
                Err(reason) => {
                    found.push(format!("{place}: refused, {reason}"));
                    continue;
                }
            };
            if cost > LIMIT {
                found.push(format!("{place}: {cost} instructions, more than {LIMIT}"));
            }
            let before = recorded.and_then(|recorded| recorded.get(program));
            if let Some(Ok(before)) = before
                && cost * 100 > before * (100 + GROWTH)
            {
                found.push(format!(
                    "{place}: {before} instructions have become {cost}, more than {GROWTH} % on \
                     top; say so by: cargo xtask vm --update"
                ));
            }
        }
        found
    }

    /// The same for every kernel of the record itself, as a check against edits by hand.
    pub fn beyond(&self) -> Vec<String> {
        self.kernels.iter().flat_map(|tried| self.exceeded(&tried.name, &tried.costs)).collect()
    }

    /// Every one of `objects` that differs from the object tried on a kernel of the record that takes any: a sentence
    /// each.
    pub fn untried(&self, objects: &Digests) -> Vec<String> {
        let kernels = self.kernels.iter().filter(|tried| !tried.costs.is_empty());
        let changed = kernels.flat_map(|tried| {
            let other = move |(object, digest): &(&String, &String)| {
                tried.digests.get(*object) != Some(*digest)
            };
            objects.iter().filter(other).map(move |(object, _)| {
                format!(
                    "{object} has changed since it was tried on Linux {}; try it: cargo xtask vm --update",
                    tried.name
                )
            })
        });
        changed.collect()
    }
}

/// The first two numbers of a version and the word behind it, which distinguish kernels. Patch levels come and go, and
/// the kernel of the machine that ran it, `6.18.44 here`, may be one of the others.
fn series(name: &str) -> (Vec<&str>, Option<&str>) {
    let (version, flavour) = name.split_once(' ').unzip();
    let numbers = version.unwrap_or(name).split(|c: char| !c.is_ascii_digit()).take(2);
    (numbers.collect(), flavour.filter(|flavour| *flavour != "here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(cost: u64) -> Costs {
        [("guard/ingress".to_owned(), Ok(cost))].into()
    }

    fn record() -> Record {
        let text = r#"{"kernels": [
            {"name": "5.10.0-32", "programs": {}},
            {"name": "6.1.0-50", "programs": {"guard/ingress": 60000}, "digests": {"guard": "1a"}},
            {"name": "7.2.12", "programs": {"guard/ingress": 70000}, "digests": {"guard": "1a"}}]}"#;
        Record::parse(text).unwrap()
    }

    #[test]
    fn growth_beyond_the_budget_is_reported_with_both_numbers() {
        let record = record();
        for (name, cost) in [("6.1.0-51", 72_000), ("7.2.13", 84_000), ("6.18.1", 99_000)] {
            assert_eq!(record.exceeded(name, &took(cost)), Vec::<String>::new());
        }
        let grown = record.exceeded("6.1.0-51", &took(72_100));
        assert_eq!(grown.len(), 1);
        for part in ["guard/ingress on Linux 6.1.0-51", "60000", "72100", "--update"] {
            assert!(grown[0].contains(part), "{grown:?}");
        }
        let endless = record.exceeded("6.18.1", &took(100_001));
        assert!(endless[0].contains("more than 100000"), "{endless:?}");
    }

    #[test]
    fn a_kernel_is_compared_with_the_one_of_its_series_and_platform() {
        let mut record = record();
        let arm64 =
            Tried { name: "6.1.0-50 arm64".into(), costs: took(50_000), ..Tried::default() };
        record.kernels.push(arm64);
        for (name, recorded) in [
            ("6.1.0-51", Some(60_000)),
            ("6.1.9-local here", Some(60_000)),
            ("6.1.0-51 arm64", Some(50_000)),
            ("6.1.0-51 arm64-16k", None),
        ] {
            assert_eq!(record.of(name), recorded.map(took).as_ref(), "{name}");
        }
    }

    #[test]
    fn a_refusal_is_beyond_any_budget() {
        let refused: Costs = [("guard/ingress".to_owned(), Err("too large".to_owned()))].into();
        let found = record().exceeded("6.1.0-50", &refused);
        assert_eq!(found, ["guard/ingress on Linux 6.1.0-50: refused, too large"]);
    }

    #[test]
    fn a_record_beyond_the_limit_is_no_excuse() {
        let mut record = record();
        assert_eq!(record.beyond(), Vec::<String>::new());
        record.kernels[1].costs = took(100_001);
        assert_eq!(record.beyond().len(), 1);
    }

    #[test]
    fn an_object_that_has_changed_is_to_be_tried_on_each_kernel_that_takes_it() {
        let digests = |digest: &str| [("guard".to_owned(), digest.to_owned())].into();
        assert_eq!(record().untried(&digests("1a")), Vec::<String>::new());
        let changed = record().untried(&digests("1b"));
        assert_eq!(changed.len(), 2, "not on the one that is too old: {changed:?}");
        for part in ["guard", "6.1.0-50", "--update"] {
            assert!(changed[0].contains(part), "{changed:?}");
        }
    }

    #[test]
    fn the_loaders_lines_are_distinguished_from_the_console() {
        let output = "[    1.0] veth: loading\n{\"object\":\"guard\",\"program\":\"ingress\",\
                      \"instructions\":1940}\n{\"object\":\"guard\",\"program\":\"egress\",\
                      \"refused\":\"too large\"}\n{\"object\":\"guard\",\"maps\":3,\"bytes\":9}\n\
                      {no JSON\n";
        assert_eq!(answers(output).count(), 3);
        let costs: Costs = answers(output).filter_map(|answer| cost(&answer)).collect();
        let wanted = [
            ("guard/egress".to_owned(), Err("too large".to_owned())),
            ("guard/ingress".to_owned(), Ok(1940)),
        ];
        assert_eq!(costs, wanted.into());
    }
}
