//! Stack use of the programs of a BPF object, with the deepest chain of functions that each calls: a verifier
//! allows 512 bytes of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use object::{
    File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind,
    SymbolKind,
};

/// The unit in bytes to which kernels round up a frame, for the kernels that round most.
const FRAME: u64 = 32;
/// Deepest chain of calls that a verifier follows: a longer one is a circle.
const DEEPEST: usize = 8;
/// The register that holds the address of the end of the frame.
const R10: u8 = 10;
/// Bytes of an instruction; one that loads 64 bits takes two.
const INSTRUCTION: usize = 8;

// `linux/bpf.h`: operations, classes, and the values of a call's source register.
const CALL: u8 = 0x85;
const LOAD_64: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNCTION: u8 = 4;

/// Position of code: number of its section, offset in it.
type Place = (usize, u64);

/// A function: the bytes of its own frame, and the functions that it calls or hands to a helper
/// that calls them.
#[derive(Debug, Default, PartialEq)]
struct Function {
    frame: u64,
    calls: Vec<Place>,
}

/// Returns the stack use of each program in bytes. A program is a function that stands in a section of its own.
pub fn depths(object: &File<'_>) -> Result<BTreeMap<String, u64>> {
    let mut functions = BTreeMap::new();
    let mut programs = Vec::new();
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let index = symbol.section_index().context("a function without a section")?;
        let section = object.section_by_index(index)?;
        if section.kind() != SectionKind::Text || symbol.size() == 0 {
            continue;
        }
        let code = section.data()?;
        let (from, to) = (symbol.address() as usize, (symbol.address() + symbol.size()) as usize);
        let code = code.get(from..to).context("a function that leaves its section")?;
        let targets: BTreeMap<u64, Place> = section
            .relocations()
            .filter_map(|(offset, relocation)| {
                let RelocationTarget::Symbol(index) = relocation.target() else { return None };
                let symbol = object.symbol_by_index(index).ok()?;
                Some((offset, (symbol.section_index()?.0, symbol.address())))
            })
            .collect();
        functions.insert(
            (index.0, symbol.address()),
            function(code, (index.0, symbol.address()), &targets),
        );
        if section.name()? != ".text" {
            programs.push((symbol.name()?.to_owned(), (index.0, symbol.address())));
        }
    }
    let depth = |(name, place)| Ok((name, depth(&functions, place, DEEPEST)?));
    programs.into_iter().map(depth).collect()
}

/// Reads a function at `place`. `targets` holds the destinations of its calls to elsewhere, by
/// their offset in the section.
fn function(code: &[u8], place: Place, targets: &BTreeMap<u64, Place>) -> Function {
    let (section, start) = place;
    let mut function = Function::default();
    // Which registers are copies of r10, before something is added.
    let mut copies = [false; 16];
    let mut lowest = 0;
    for (number, instruction) in code.chunks_exact(INSTRUCTION).enumerate() {
        let offset = start + (number * INSTRUCTION) as u64;
        let (operation, registers) = (instruction[0], instruction[1]);
        let (to, from) = (registers & 0xf, registers >> 4);
        let displacement = i64::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let [.., a, b, c, d] = *instruction else { continue };
        let immediate = i64::from(i32::from_le_bytes([a, b, c, d]));
        // Classes 0 to 3: loads and stores.
        let base = match operation & 7 {
            1 => Some(from),
            2 | 3 => Some(to),
            _ => None,
        };
        if base == Some(R10) {
            lowest = lowest.min(displacement);
        }
        if operation == ADD && copies[usize::from(to)] {
            lowest = lowest.min(immediate);
        }
        // Arithmetic and loads leave something else in their register.
        if matches!(operation & 7, 0 | 1 | 4 | 7) {
            copies[usize::from(to)] = operation == MOVE && from == R10;
        }
        let target = targets.get(&offset).copied();
        match (operation, from) {
            (CALL, PSEUDO_CALL) => {
                let (section, base) = target.unwrap_or((section, offset));
                function.calls.push((
                    section,
                    base.wrapping_add_signed((immediate + 1) * INSTRUCTION as i64),
                ));
            }
            (LOAD_64, PSEUDO_FUNCTION) => {
                let place = target.unwrap_or((section, offset));
                function.calls.push((place.0, place.1.wrapping_add_signed(immediate)));
            }
            _ => {}
        }
    }
    function.frame = lowest.unsigned_abs();
    function
}

fn depth(functions: &BTreeMap<Place, Function>, place: Place, left: usize) -> Result<u64> {
    ensure!(left > 0, "functions call one another more than {DEEPEST} deep");
    let function = functions.get(&place).context("a call that leads to no function")?;
    let mut deepest = 0;
    for &called in &function.calls {
        deepest = deepest.max(depth(functions, called, left - 1)?);
    }
    Ok(function.frame.max(1).next_multiple_of(FRAME) + deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: usize = 2;

    fn instruction(operation: u8, to: u8, from: u8, displacement: i16, immediate: i32) -> Vec<u8> {
        let mut bytes = vec![operation, from << 4 | to];
        bytes.extend(displacement.to_le_bytes());
        bytes.extend(immediate.to_le_bytes());
        bytes
    }

    fn read(instructions: &[Vec<u8>]) -> Function {
        function(&instructions.concat(), (TEXT, 0), &BTreeMap::new())
    }

    #[test]
    fn a_frame_reaches_down_to_the_lowest_byte_that_is_used() {
        let store = instruction(0x7b, R10, 1, -40, 0);
        let load = instruction(0x79, 1, R10, -16, 0);
        let elsewhere = instruction(0x7b, 2, 1, -400, 0);
        assert_eq!(read(std::slice::from_ref(&load)).frame, 16);
        assert_eq!(read(&[store, load, elsewhere]).frame, 40);
        assert_eq!(read(&[]).frame, 0);
    }

    #[test]
    fn what_is_handed_on_by_address_counts() {
        let copy = instruction(MOVE, 2, R10, 0, 0);
        let add = instruction(ADD, 2, 0, 0, -64);
        assert_eq!(read(&[copy.clone(), add.clone()]).frame, 64);
        // Something else stands in the register by then.
        let other = instruction(0xb7, 2, 0, 0, 5);
        assert_eq!(read(&[copy, other, add]).frame, 0);
    }

    #[test]
    fn calls_lead_into_the_section_and_by_relocation_to_others() {
        let near = instruction(CALL, 0, PSEUDO_CALL, 0, 3);
        let far = instruction(CALL, 0, PSEUDO_CALL, 0, -1);
        let helper = instruction(CALL, 0, 0, 0, 5);
        let handed = instruction(LOAD_64, 2, PSEUDO_FUNCTION, 0, 24);
        let targets = BTreeMap::from([(8, (4, 80)), (24, (5, 0))]);
        let code = [near, far, helper, handed].concat();
        let calls = function(&code, (TEXT, 0), &targets).calls;
        assert_eq!(calls, [(TEXT, 32), (4, 80), (5, 24)]);
    }

    #[test]
    fn the_deepest_chain_counts_and_a_circle_is_none() {
        let place = |offset| (TEXT, offset);
        let function = |frame, calls: &[u64]| Function {
            frame,
            calls: calls.iter().map(|&offset| place(offset)).collect(),
        };
        let mut functions = BTreeMap::from([
            (place(0), function(40, &[8, 16])),
            (place(8), function(100, &[])),
            (place(16), function(32, &[24])),
            (place(24), function(0, &[])),
        ]);
        assert_eq!(depth(&functions, place(0), DEEPEST).unwrap(), 64 + 128);
        assert!(depth(&functions, place(99), DEEPEST).is_err());
        functions.insert(place(24), function(0, &[0]));
        assert!(depth(&functions, place(0), DEEPEST).is_err());
    }
}
