//! The guard's costs and the reference's, as a table.

use tcpguard_e2e::bare::Sources;

use crate::packet::median;

/// What the guard may cost of what the reference does: as it is shipped, with random sources, which is
/// what a flood is.
const TARGET: f64 = 0.8;

/// What a packet cost in a round, in ns net of what makes it again.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// In all of the guard's programs that it goes through.
    pub ours: f64,
    /// In the reference: cookies by the kernel's helpers.
    pub helpers: f64,
    /// In the reference after a look-up in the connection tracking; `None` where there is none.
    pub tracked: Option<f64>,
}

/// A packet that both take, and its rounds.
pub struct Comparison {
    name: &'static str,
    sources: Sources,
    rounds: Vec<Costs>,
}

/// Of the rounds' ratios.
struct Ratio {
    median: f64,
    min: f64,
    max: f64,
}

impl Ratio {
    fn of(mut ratios: Vec<f64>) -> Self {
        let median = median(&mut ratios);
        Self { median, min: ratios[0], max: ratios[ratios.len() - 1] }
    }

    fn is_above(&self) -> bool {
        self.median > TARGET
    }

    fn columns(&self) -> String {
        let mark = if self.is_above() { '*' } else { ' ' };
        let span = format!("{:.2}-{:.2}", self.min, self.max);
        format!("{:>5.2}{mark} {span:>10}", self.median)
    }
}

impl Comparison {
    /// Nothing of `name` yet.
    pub fn of(name: &'static str, sources: Sources) -> Self {
        Self { name, sources, rounds: Vec::new() }
    }

    pub fn sources(&self) -> Sources {
        self.sources
    }

    pub fn push(&mut self, round: Costs) {
        self.rounds.push(round);
    }

    /// Median and least of the rounds.
    fn column(&self, of: impl Fn(&Costs) -> Option<f64>) -> String {
        let mut times: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        let median = median(&mut times);
        format!("{median:.0} ({:.0})", times[0])
    }

    /// To the reference with connection tracking; `None` without it.
    fn tracked(&self) -> Option<Ratio> {
        let pairs = self.rounds.iter().filter_map(|costs| Some(costs.ours / costs.tracked?));
        let ratios: Vec<f64> = pairs.collect();
        (!ratios.is_empty()).then(|| Ratio::of(ratios))
    }

    /// Whether it misses the target where that is judged; `None` where it is not.
    fn misses(&self) -> Option<bool> {
        let judged = self.sources == Sources::Random;
        self.tracked().filter(|_| judged).map(|ratio| ratio.is_above())
    }

    fn line(&self) -> String {
        let ratios = self.rounds.iter().map(|costs| costs.ours / costs.helpers).collect();
        let ours = self.column(|costs| Some(costs.ours));
        let helpers = self.column(|costs| Some(costs.helpers));
        let tracked = match self.tracked() {
            Some(ratio) => {
                format!("{:>10} {}", self.column(|costs| costs.tracked), ratio.columns())
            }
            None => "no conntrack here".to_owned(),
        };
        let verdict = if self.misses() == Some(true) { "  above the target" } else { "" };
        let ratio = Ratio::of(ratios).columns();
        let name = self.name;
        format!("{name:<34} {ours:>10} {helpers:>10} {ratio}  {tracked}{verdict}")
    }
}

/// Prints median and least time, median, least and greatest ratio of the rounds, and what comes of the
/// target.
pub fn print(comparisons: &[Comparison]) {
    println!(
        "\nbeside a SYN proxy with the kernel's cookie helpers, alone and after a look-up in conntrack\n\
         (as the kernel's sample is shipped): ns net of what makes the packet again, median and (least);\n\
         *: above {TARGET}"
    );
    for (title, sources) in
        [("one flow", Sources::One), ("random sources, as in a flood", Sources::Random)]
    {
        println!(
            "\n{title:<34} {:>10} {:>10} {:>5}  {:>10}  {:>10} {:>5}  {:>10}",
            "tcpguard", "helpers", "ratio", "min-max", "conntrack", "ratio", "min-max"
        );
        for comparison in comparisons.iter().filter(|one| one.sources == sources) {
            println!("{}", comparison.line());
        }
    }
    println!("\n{}", verdict(comparisons));
}

/// What is judged, and how many miss it.
fn verdict(comparisons: &[Comparison]) -> String {
    let misses: Vec<bool> = comparisons.iter().filter_map(Comparison::misses).collect();
    if misses.is_empty() {
        return format!(
            "not judged: no conntrack here; the target is {TARGET} of the sample as shipped"
        );
    }
    let above = misses.iter().filter(|&&misses| misses).count();
    format!(
        "judged by the sample as shipped, with random sources: {above} of {} above the target of {TARGET}",
        misses.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(sources: Sources, rounds: &[(f64, f64, Option<f64>)]) -> Comparison {
        let mut comparison = Comparison::of("SYN", sources);
        for &(ours, helpers, tracked) in rounds {
            comparison.push(Costs { ours, helpers, tracked });
        }
        comparison
    }

    fn words(comparison: &Comparison) -> String {
        comparison.line().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_line_holds_both_comparisons() {
        let rounds =
            [(150.0, 100.0, Some(200.0)), (160.0, 80.0, Some(400.0)), (120.0, 100.0, Some(200.0))];
        let line = words(&comparison(Sources::Random, &rounds));
        assert_eq!(line, "SYN 150 (120) 100 (80) 1.50* 1.20-2.00 200 (200) 0.60 0.40-0.75");
    }

    #[test]
    fn the_target_is_judged_with_random_sources_and_conntrack() {
        let rounds = [(90.0, 100.0, Some(100.0))];
        let flood = comparison(Sources::Random, &rounds);
        assert!(flood.line().ends_with("above the target"), "{}", flood.line());
        let flow = comparison(Sources::One, &rounds);
        assert_eq!(words(&flow), "SYN 90 (90) 100 (100) 0.90* 0.90-0.90 100 (100) 0.90* 0.90-0.90");
        let good = comparison(Sources::Random, &[(90.0, 100.0, Some(200.0))]);
        assert!(verdict(&[flow, flood, good]).contains("1 of 2 above the target of 0.8"));
    }

    #[test]
    fn the_target_itself_is_met() {
        let met = comparison(Sources::Random, &[(80.0, 80.0, Some(100.0))]);
        assert_eq!(words(&met), "SYN 80 (80) 80 (80) 1.00* 1.00-1.00 100 (100) 0.80 0.80-0.80");
    }

    #[test]
    fn without_conntrack_nothing_is_judged() {
        let flood = comparison(Sources::Random, &[(90.0, 100.0, None)]);
        assert_eq!(words(&flood), "SYN 90 (90) 100 (100) 0.90* 0.90-0.90 no conntrack here");
        assert!(verdict(&[flood]).starts_with("not judged"));
    }
}
