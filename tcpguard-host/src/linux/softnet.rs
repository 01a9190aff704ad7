//! Packets that each CPU received and lost between the network card and the stack, from
//! `/proc/net/softnet_stat`.

use super::{Error, proc_file};

/// File with one line per CPU that is online (net/core/net-procfs.c, `softnet_seq_show`).
const PATH: &str = "/proc/net/softnet_stat";
/// The column with the number of the CPU (Linux 5.10).
const CPU: usize = 12;

/// The counters of one CPU, since it is online. They wrap around at 2^32.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SoftnetCpu {
    /// Number of the CPU.
    pub cpu: u32,
    /// Packets it took from network cards and from other CPUs.
    pub processed: u64,
    /// Packets it lost because its backlog was full (`net.core.netdev_max_backlog`).
    pub dropped: u64,
    /// Number of times it stopped with packets left, its time or number being up (`net.core.netdev_budget`,
    /// `netdev_budget_usecs`).
    pub squeezed: u64,
}

/// The counters of every CPU that is online.
pub fn softnet() -> Result<Vec<SoftnetCpu>, Error> {
    proc_file::read(PATH, parse)
}

/// Parses lines of columns, each a 32-bit number in hexadecimal.
fn parse(text: &str) -> Result<Vec<SoftnetCpu>, String> {
    let cpu = |(number, line): (usize, &str)| {
        let columns: Result<Vec<u32>, _> =
            line.split_whitespace().map(|column| u32::from_str_radix(column, 16)).collect();
        let columns = columns.map_err(|error| format!("{line:?}: {error}"))?;
        let [processed, dropped, squeezed, ..] = columns[..] else {
            return Err(format!("{line:?} has fewer than three columns"));
        };
        Ok(SoftnetCpu {
            // Before they were numbered, a CPU that was offline had none.
            cpu: columns.get(CPU).copied().unwrap_or(number as u32),
            processed: processed.into(),
            dropped: dropped.into(),
            squeezed: squeezed.into(),
        })
    };
    text.lines().enumerate().map(cpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_TWO: &str = "\
000f4240 0000000a 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 \
00000000 00000000 00000000 00000000
00000001 000000ff 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 \
00000000 00000003 00000000 00000000
";

    #[test]
    fn each_cpu_has_its_counters_in_hexadecimal() {
        let expected = [
            SoftnetCpu { cpu: 0, processed: 1_000_000, dropped: 10, squeezed: 3 },
            SoftnetCpu { cpu: 3, processed: 1, dropped: 255, squeezed: 0 },
        ];
        assert_eq!(parse(OF_TWO).expect("well formed"), expected);
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn without_numbers_the_cpus_are_counted() {
        let found = parse("1 2 3 0 0 0 0 0 0 0 0\n4 5 6 0 0 0 0 0 0 0 0\n").expect("well formed");
        assert_eq!(found.iter().map(|cpu| cpu.cpu).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_an_error() {
        for text in ["0000\n", "0000 xyz 0\n", "1 2 100000000\n", "1 2 3\n\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let found = softnet().expect("softnet_stat");
        assert!(found.iter().any(|cpu| cpu.processed > 0), "{found:?}");
    }
}
