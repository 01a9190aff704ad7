//! The cost of a packet, beside its cost in other projects' programs, held to `testing/record/performance.json`. Needs
//! root, `TCPGUARD_BPF_DIR` and xdp-tools. On an otherwise idle machine it takes a minute and a half.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../record/performance.json");

/// Has the benchmark hold the programs' costs to a record.
fn held(arguments: &[&str]) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    let output = bench.args(["programs", "--held"]).args(arguments).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    output
}

/// Writes a record in which our programs are so many times as fast as on record.
fn record_of_a_faster_agent(times: f64, path: &Path) {
    let mut record: Value = serde_json::from_slice(&fs::read(RECORD).unwrap()).unwrap();
    let mut runs = record["runs"].as_array_mut().unwrap().iter_mut();
    let programs = runs.find_map(|run| {
        run["parts"].as_array_mut()?.iter_mut().find(|part| part["part"] == "programs")
    });
    let goals = programs.unwrap()["goals"].as_array_mut().unwrap().iter_mut();
    for case in goals.filter_map(|goal| goal.get_mut("cases")?.as_array_mut()).flatten() {
        // The name, the median, and more.
        let mut cells = case.as_str().unwrap().splitn(3, '|');
        let [name, median, rest] = [(); 3].map(|()| cells.next().unwrap());
        let median = median.parse::<f64>().unwrap() / times;
        *case = json!(format!("{name}|{median}|{rest}"));
    }
    fs::write(path, record.to_string()).unwrap();
}

/// One measurement serves both: it is most of the time.
#[test]
#[ignore = "long form: cargo xtask test --full"]
fn a_packet_costs_no_more_than_on_record_and_what_does_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (measured, faster) = (file("measured.json"), file("faster.json"));
    let output = held(&["--quick", "--rounds=3", "--json", &measured]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    record_of_a_faster_agent(100.0, Path::new(&faster));
    let output = held(&["--from", &measured, "--record", &faster]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for sentence in [
        "established ACK, idle, exact, IPv4: ",
        "what every packet of a connection pays has grown",
        "what dropping a SYN by its source costs has grown",
    ] {
        assert!(said.contains(sentence), "{sentence}: {said}");
    }
}
