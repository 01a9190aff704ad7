//! The BPF object for kernels that lack features without which the agent runs as well.
//!
//! Such a kernel refuses an object for the name of a section or for an instruction, also where the program never gets
//! there. Both are replaced before the object is loaded.

use super::KernelError;
use super::elf::{INSTRUCTION, code};
use super::features::Features;

/// Section of an XDP program that takes frames in several buffers, and of one that does not. The names end in the object
/// as they do here.
const MULTI_BUFFER: &[u8] = b"xdp.frags\0";
const SINGLE_BUFFER: &[u8] = b"xdp\0";
/// `BPF_STX | BPF_ATOMIC | BPF_DW` and `BPF_STX | BPF_MEM | BPF_DW` (RFC 9669 §5).
const ATOMIC: u8 = 0xdb;
const STORE: u8 = 0x7b;
// Immediates of atomic instructions: `BPF_ADD`, `BPF_OR` and `BPF_CMPXCHG`.
const ADD: u32 = 0;
const OR: u32 = 0x40;
const COMPARE_EXCHANGE: u32 = 0xf1;
/// `call bpf_tail_call`, and `r0 = 0`.
const TAIL_CALL: [u8; INSTRUCTION] = [0x85, 0, 0, 0, 12, 0, 0, 0];
const NO_TAIL_CALL: [u8; INSTRUCTION] = [0xb7, 0, 0, 0, 0, 0, 0, 0];

impl Features {
    /// Returns `object` without the parts that a kernel with these features refuses.
    ///
    /// # Errors
    /// [`KernelError::Mismatch`] when it is no BPF object.
    pub fn adapt(self, mut object: Vec<u8>) -> Result<Vec<u8>, KernelError> {
        if !self.multi_buffer {
            drop_multi_buffer(&mut object);
        }
        for range in code(&object)? {
            for instruction in object[range].chunks_exact_mut(INSTRUCTION) {
                if !self.atomics {
                    drop_atomic(instruction);
                }
                if !self.tail_calls && *instruction == TAIL_CALL {
                    instruction.copy_from_slice(&NO_TAIL_CALL);
                }
            }
        }
        Ok(object)
    }
}

/// Renames the section, and with it its relocations and its entries in the type information.
fn drop_multi_buffer(object: &mut [u8]) {
    let mut at = 0;
    let find = |rest: &[u8]| rest.windows(MULTI_BUFFER.len()).position(|it| it == MULTI_BUFFER);
    while let Some(found) = find(&object[at..]) {
        at += found;
        object[at..at + SINGLE_BUFFER.len()].copy_from_slice(SINGLE_BUFFER);
    }
}

/// Replaces an instruction that came with Linux 5.12 by one that has the same effect as long as no other CPU comes
/// between.
fn drop_atomic(instruction: &mut [u8]) {
    let &mut [ATOMIC, _, _, _, a, b, c, d] = instruction else { return };
    match u32::from_le_bytes([a, b, c, d]) {
        // r0 keeps the expected value, as after an exchange.
        COMPARE_EXCHANGE => {
            instruction[0] = STORE;
            instruction[4..].fill(0);
        }
        // The programs set a bit only where it is not set.
        OR => instruction[4..].copy_from_slice(&ADD.to_le_bytes()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::embedded::{LOGGING, MAIN};

    const ALL: Features =
        Features { multi_buffer: true, atomics: true, tail_calls: true, tcx: true };
    const NONE: Features =
        Features { multi_buffer: false, atomics: false, tail_calls: false, tcx: false };

    fn count(object: &[u8], is_it: impl Fn(&[u8]) -> bool) -> usize {
        let code = code(object).unwrap();
        let instructions = code.into_iter().flat_map(|range| object[range].chunks_exact(8));
        instructions.filter(|instruction| is_it(instruction)).count()
    }

    /// Instructions of 64 or 32 bits that kernels before 5.12 do not know.
    fn atomics(object: &[u8]) -> usize {
        count(object, |it| matches!(it[0], ATOMIC | 0xc3) && it[4..] != ADD.to_le_bytes())
    }

    #[test]
    fn a_kernel_with_all_features_gets_the_object_as_it_is() {
        let object = MAIN.unpack().unwrap();
        assert!(ALL.adapt(object.clone()).unwrap() == object);
    }

    #[test]
    fn an_older_kernel_gets_no_section_and_no_instruction_that_it_refuses() {
        for packed in [&MAIN, &LOGGING] {
            let object = packed.unpack().unwrap();
            let before = atomics(&object);
            assert!(before > 0);
            let adapted = NONE.adapt(object.clone()).unwrap();
            assert_eq!((adapted.len(), atomics(&adapted)), (object.len(), 0));
            assert!(!adapted.windows(MULTI_BUFFER.len()).any(|bytes| bytes == MULTI_BUFFER));
            let tail_calls = |object: &[u8]| count(object, |it| *it == TAIL_CALL);
            assert_eq!((tail_calls(&object), tail_calls(&adapted)), (1, 0));
            let stores = |object: &[u8]| count(object, |it| it[0] == STORE);
            let sums = |object: &[u8]| count(object, |it| it[0] == ATOMIC);
            assert_eq!(stores(&adapted) + sums(&adapted), stores(&object) + sums(&object));
        }
    }

    #[test]
    fn the_name_of_the_section_is_replaced_wherever_it_ends_one() {
        let mut object = b"..relxdp.frags\0xdp.frags\0xdp.fragment\0xdp.frags".to_vec();
        drop_multi_buffer(&mut object);
        assert_eq!(object, b"..relxdp\0frags\0xdp\0frags\0xdp.fragment\0xdp.frags");
    }

    #[test]
    fn bytes_that_are_no_object_are_refused() {
        assert!(matches!(NONE.adapt(b"#!/bin/sh".to_vec()), Err(KernelError::Mismatch(_))));
    }
}
