//! The results of all kernels, as one table.

use std::collections::BTreeSet;

use super::guest::BLOCK_S;
use super::kernel::Kernel;

/// Programs down, kernels across: instructions verified, or REFUSED with the reason below.
pub fn render(kernels: &[Kernel]) -> String {
    let programs: BTreeSet<_> = kernels.iter().flat_map(|kernel| kernel.programs.keys()).collect();
    let objects: BTreeSet<_> = kernels.iter().flat_map(|kernel| kernel.maps.keys()).collect();
    let line = |title: &str, cell: &dyn Fn(&Kernel) -> String| -> Vec<String> {
        [title.to_owned()].into_iter().chain(kernels.iter().map(cell)).collect()
    };
    let mut lines = vec![line("instructions verified", &|kernel| kernel.name.clone())];
    lines.extend(programs.iter().map(|name| line(name, &|kernel| program(kernel, name))));
    lines.extend(
        objects
            .iter()
            .map(|object| line(&format!("maps of {object}"), &|kernel| map_size(kernel, object))),
    );
    lines.push(line("agent: SYN/SYN-ACK/completed", &handshake));
    lines.push(line("agent: cookies made by", &cookies));
    lines.push(line(&format!("agent: a block of {BLOCK_S} s ended after"), &block));
    let cases: BTreeSet<_> = kernels.iter().flat_map(|kernel| kernel.cases.keys()).collect();
    lines.extend(cases.iter().map(|title| line(title, &|kernel| case(kernel, title))));
    let mut text = align(&lines);
    for kernel in kernels {
        if let Some(Err(why)) = &kernel.agent {
            text.push_str(&format!("FAILED the agent on Linux {}: {why}\n", kernel.name));
        }
        for (case, result) in &kernel.cases {
            if let Err(why) = result {
                text.push_str(&format!("FAILED {case} on Linux {}: {why}\n", kernel.name));
            }
        }
        for (feature, sentence) in &kernel.missing {
            text.push_str(&format!("MISSING {feature} on Linux {}: {sentence}\n", kernel.name));
        }
        for (object, why) in &kernel.left_out {
            text.push_str(&format!("LEFT OUT {object} on Linux {}: {why}\n", kernel.name));
        }
        for (name, result) in &kernel.programs {
            if let Err(reason) = result {
                text.push_str(&format!("REFUSED {name} on Linux {}: {reason}\n", kernel.name));
            }
        }
    }
    text
}

fn program(kernel: &Kernel, name: &str) -> String {
    match kernel.programs.get(name) {
        // Not counted by this kernel.
        Some(Ok(0)) => "loads".to_owned(),
        Some(Ok(instructions)) => instructions.to_string(),
        Some(Err(_)) => "REFUSED".to_owned(),
        None => "-".to_owned(),
    }
}

fn map_size(kernel: &Kernel, object: &str) -> String {
    let mebibytes = |bytes: &u64| format!("{:.1} MiB", *bytes as f64 / f64::from(1 << 20));
    kernel.maps.get(object).map_or_else(|| "-".to_owned(), mebibytes)
}

fn handshake(kernel: &Kernel) -> String {
    match &kernel.agent {
        Some(Ok(agent)) => agent.handshake.clone(),
        Some(Err(_)) => "FAILED".to_owned(),
        None => "-".to_owned(),
    }
}

fn cookies(kernel: &Kernel) -> String {
    match &kernel.agent {
        Some(Ok(agent)) => agent.cookies.clone(),
        _ => "-".to_owned(),
    }
}

fn block(kernel: &Kernel) -> String {
    match &kernel.agent {
        Some(Ok(agent)) => format!("{} s", agent.block),
        _ => "-".to_owned(),
    }
}

fn case(kernel: &Kernel, title: &str) -> String {
    match kernel.cases.get(title) {
        Some(Ok(cell)) => cell.clone(),
        Some(Err(_)) => "FAILED".to_owned(),
        None => "-".to_owned(),
    }
}

/// First column to the left, the others, which hold numbers, to the right.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{:<width$}", line[0], width = widths[0]));
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    text
}
