//! `testing/record/budgets.json`: the last accepted value of each figure, and the growth that needs no new
//! acceptance.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::figures::{Figures, Kind};
use crate::record;
use crate::workspace::Workspace;

const RECORD: &str = "testing/record/budgets.json";
const UPDATE: &str = "cargo xtask budget --update";

/// The accepted value of one figure, and its allowed growth.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Budget {
    value: u64,
    growth_percent: u64,
}

impl Budget {
    fn allows(self, value: u64) -> bool {
        // Rounded up, so that a byte of a small thing is no matter of arithmetic.
        value <= self.value + (self.value * self.growth_percent).div_ceil(100)
    }
}

/// The figures that have been measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    /// All but the packaged program.
    Objects,
}

/// Budget of each figure, by the name of the figure.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Budgets(BTreeMap<String, Budget>);

impl Budgets {
    /// Reads the budgets of the repository.
    pub fn read(workspace: &Workspace) -> Result<Self> {
        record::read(&workspace.root.join(RECORD), UPDATE)
    }

    /// Writes the budgets to the repository.
    pub fn write(&self, workspace: &Workspace) -> Result<()> {
        record::write(&workspace.root.join(RECORD), self)
    }

    /// Returns the budgets with the values of `figures`. The allowed growth of each stays.
    pub fn updated(&self, figures: &Figures) -> Self {
        let budget = |(name, &(kind, value)): (&String, &(Kind, u64))| {
            let growth_percent = self.0.get(name).map_or(kind.growth(), |old| old.growth_percent);
            (name.clone(), Budget { value, growth_percent })
        };
        Self(figures.iter().map(budget).collect())
    }

    /// Compares `figures` with their budgets. Budgets outside `scope` need no figure.
    ///
    /// # Errors
    /// Names all that has grown beyond its budget, that has none, and that is gone.
    pub fn hold(&self, figures: &Figures, scope: Scope) -> Result<()> {
        let mut broken = Vec::new();
        for (name, &(kind, value)) in figures {
            let unit = kind.unit();
            match self.0.get(name) {
                None => broken.push(format!("{name}: {value} {unit}, which nobody has agreed to")),
                Some(budget) if !budget.allows(value) => {
                    let Budget { value: before, growth_percent } = *budget;
                    let growth = 100.0 * (value as f64 / before.max(1) as f64 - 1.0);
                    broken.push(format!(
                        "{name}: from {before} to {value} {unit}, {growth:.1} % more; {growth_percent} % are allowed"
                    ));
                }
                Some(_) => {}
            }
        }
        let measured = |name: &str| scope == Scope::All || !name.ends_with(", packaged");
        let gone = self.0.keys().filter(|name| !figures.contains_key(*name) && measured(name));
        broken.extend(gone.map(|name| format!("{name}: has a budget, and is no more")));
        if !broken.is_empty() {
            bail!(
                "tcpguard has outgrown {RECORD}:\n  {}\nmake it smaller, or accept it: `{UPDATE}`, and say in the commit what it is worth",
                broken.join("\n  ")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(stack: u64) -> Figures {
        Figures::from([
            ("cookie/redeem, stack".to_owned(), (Kind::Stack, stack)),
            ("tcpguard, packaged".to_owned(), (Kind::Program, 4_000_000)),
        ])
    }

    fn complaint(budgets: &Budgets, figures: &Figures, scope: Scope) -> String {
        budgets.hold(figures, scope).unwrap_err().to_string()
    }

    #[test]
    fn planted_growth_is_named_with_both_values_and_the_way_to_accept_it() {
        let budgets = Budgets::default().updated(&figures(320));
        for within in [0, 320, 352] {
            budgets.hold(&figures(within), Scope::All).unwrap();
        }
        let said = complaint(&budgets, &figures(353), Scope::All);
        assert!(
            said.contains(
                "cookie/redeem, stack: from 320 to 353 bytes, 10.3 % more; 10 % are allowed"
            ),
            "{said}"
        );
        assert!(said.contains("cargo xtask budget --update"), "{said}");
        assert!(!said.contains("packaged"), "{said}");
    }

    #[test]
    fn what_has_no_budget_and_what_is_gone_must_be_said() {
        let budgets = Budgets::default().updated(&figures(320));
        let said = complaint(&Budgets::default(), &figures(320), Scope::All);
        assert_eq!(said.matches("nobody has agreed").count(), 2, "{said}");
        let said = complaint(&budgets, &Figures::new(), Scope::All);
        assert_eq!(said.matches("is no more").count(), 2, "{said}");
        // Only the program may be missing where it was not built.
        let said = complaint(&budgets, &Figures::new(), Scope::Objects);
        assert_eq!(said.matches("is no more").count(), 1, "{said}");
    }

    #[test]
    fn an_update_keeps_what_was_agreed_to_about_growth() {
        let text = r#"{"cookie/redeem, stack": {"value": 100, "growth_percent": 1}}"#;
        let budgets: Budgets = serde_json::from_str(text).unwrap();
        let updated = budgets.updated(&figures(320));
        assert_eq!(updated.0["cookie/redeem, stack"], Budget { value: 320, growth_percent: 1 });
        assert_eq!(updated.0["tcpguard, packaged"].growth_percent, Kind::Program.growth());
        let written = serde_json::to_string(&updated).unwrap();
        assert_eq!(serde_json::from_str::<Budgets>(&written).unwrap(), updated);
    }
}
