//! Clients served, packets taken and their cost against the rate of a flood.

use crate::part::{Axis, Figure, Series};

use super::attack::{Delivery, Kind};
use super::record::{Record, Run, Spread};

/// The plot of one type of flood.
struct Plot {
    file: &'static str,
    flood: Kind,
    of: Quantity,
}

#[derive(Clone, Copy)]
enum Quantity {
    Served,
    Taken,
    Cost,
}

const PLOTS: [Plot; 6] = [
    Plot { file: "e2e-crude-served", flood: Kind::Crude, of: Quantity::Served },
    Plot { file: "e2e-crude-taken", flood: Kind::Crude, of: Quantity::Taken },
    Plot { file: "e2e-crude-cost", flood: Kind::Crude, of: Quantity::Cost },
    Plot { file: "e2e-mimic-served", flood: Kind::Mimic, of: Quantity::Served },
    Plot { file: "e2e-mimic-taken", flood: Kind::Mimic, of: Quantity::Taken },
    Plot { file: "e2e-mimic-cost", flood: Kind::Mimic, of: Quantity::Cost },
];

impl Quantity {
    /// `None` where a run did not show it.
    fn of(self, run: &Run) -> Option<f64> {
        match self {
            Self::Served => Some(run.new_clients.percent()?[0]),
            Self::Taken => Some(run.taken),
            Self::Cost => run.ns_per_packet,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Served => "New clients answered within 1 s",
            Self::Taken => "Packets taken from the ring",
            Self::Cost => "CPU time of a packet",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Served => "%",
            Self::Taken => "packets/s",
            Self::Cost => "ns/packet",
        }
    }
}

/// Those of the floods of live frames that were measured, with near clients.
pub fn figures(records: &[Record]) -> Vec<Figure> {
    PLOTS.iter().filter_map(|plot| plot.figure(records)).collect()
}

impl Plot {
    fn figure(&self, records: &[Record]) -> Option<Figure> {
        let mut series: Vec<Series> = Vec::new();
        for record in records.iter().filter(|record| self.shows(record)) {
            let offered = record.spread(|run| Some(run.offered)).map(|spread| spread.median);
            let value = record.spread(|run| self.of.of(run)).map(Spread::point);
            let Some(point) = offered.zip(value) else { continue };
            let name = record.arm.title();
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name: name.to_owned(), points: vec![point] }),
            }
        }
        for series in &mut series {
            series.points.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        let logarithmic = !matches!(self.of, Quantity::Served);
        (!series.is_empty()).then(|| Figure {
            file: self.file,
            title: format!("{}, {} flood", self.of.title(), self.flood.title()),
            x: Axis { title: "offered, SYN/s".to_owned(), logarithmic: true },
            y: Axis { title: self.of.unit().to_owned(), logarithmic },
            series,
        })
    }

    fn shows(&self, record: &Record) -> bool {
        let setting = &record.setting;
        setting.flood == self.flood
            && setting.rate.is_some()
            && setting.delivery == Delivery::Frames
            && !setting.far
            && setting.linear != Some(0)
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_kit::net::lab::Family;

    use super::super::arm::Arm;
    use super::super::attack::Rate;
    use super::super::record::tests::run;
    use super::super::run::Setting;
    use super::*;

    #[test]
    fn each_defence_is_a_line_over_what_was_offered() {
        let record = |arm, rate, runs| {
            let setting = Setting { rate: Some(rate), ..Setting::near(Family::V4) };
            Record { runs, ..Record::new(arm, setting, 2) }
        };
        let most = vec![run(1, 8e6, 100.0), run(2, 6e6, 120.0), run(3, 7e6, 110.0)];
        let records = [
            record(Arm::Drop, Rate::Maximum, most),
            record(Arm::Drop, Rate::Paced(10_000), vec![run(1, 1e4, 900.0)]),
            record(Arm::Ours, Rate::Maximum, Vec::new()),
        ];
        let figures = figures(&records);
        assert_eq!(figures.len(), 3, "of mimic floods there is nothing to show");
        let cost = &figures[2];
        assert_eq!((cost.file, cost.series.len()), ("e2e-crude-cost", 1));
        let points = [(1e4, [900.0; 3]), (7e6, [110.0, 100.0, 120.0])];
        assert_eq!(cost.series[0].points, points);
        assert_eq!(figures[0].series[0].points[0].1, [100.0; 3]);
    }
}
