//! Calls of the kernel's own functions (kfuncs), which aya 0.14 cannot link.
//!
//! A program names such a function by a placeholder; see `tcpguard_common::abi::Kfunc`. Before an
//! object is loaded, each call of one gets the form that the kernel expects: `BPF_PSEUDO_KFUNC_CALL`
//! with the id of the function's type in the kernel's BTF (Documentation/bpf/kfuncs.rst).

use tcpguard_common::abi::KFUNCS;
use tcpguard_host::linux::{functions, kernel_release};

use super::elf::{INSTRUCTION, code};
use super::{KernelError, Result};

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL` as source register, the upper half of the byte.
const KFUNC_CALL: u8 = 2 << 4;

/// `object` with every call of a kernel function linked to the running kernel.
///
/// # Errors
/// [`KernelError::MissingFunction`] when this kernel has no such function, or no BTF to find it in.
pub fn link_kfuncs(object: Vec<u8>) -> Result<Vec<u8>> {
    let names: Vec<&str> = KFUNCS.iter().map(|kfunc| kfunc.name).collect();
    let missing = |function: &str, reason: String| KernelError::MissingFunction {
        release: kernel_release().unwrap_or_else(|_| "unknown".to_owned()),
        function: function.to_owned(),
        reason,
    };
    let found = functions(&names);
    link(object, |name| match &found {
        Ok(ids) => ids
            .get(name)
            .copied()
            .ok_or_else(|| missing(name, "it is not in the kernel's BTF".to_owned())),
        Err(error) => Err(missing(name, error.to_string())),
    })
}

/// Links the calls as [`link_kfuncs`] does, with ids from `id_of`.
fn link(mut object: Vec<u8>, id_of: impl Fn(&'static str) -> Result<u32>) -> Result<Vec<u8>> {
    for range in code(&object)? {
        for instruction in object[range].chunks_exact_mut(INSTRUCTION) {
            let &mut [CALL, registers, _, _, a, b, c, d] = instruction else { continue };
            let number = u32::from_le_bytes([a, b, c, d]);
            let Some(kfunc) = KFUNCS.iter().find(|kfunc| kfunc.placeholder == number) else {
                continue;
            };
            if registers != 0 {
                continue;
            }
            instruction[1] = KFUNC_CALL;
            instruction[4..].copy_from_slice(&id_of(kfunc.name)?.to_le_bytes());
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::embedded::{COOKIE, MAIN};

    fn calls(object: &[u8], registers: u8, number: u32) -> usize {
        let code = code(object).unwrap();
        let instructions = code.into_iter().flat_map(|range| object[range].chunks_exact(8));
        instructions
            .filter(|i| (i[0], i[1]) == (CALL, registers) && i[4..] == number.to_le_bytes())
            .count()
    }

    #[test]
    fn every_call_of_a_placeholder_becomes_one_of_the_kernels_function() {
        let [kfunc] = KFUNCS;
        let object = COOKIE.unpack().unwrap();
        assert_eq!(calls(&object, 0, kfunc.placeholder), 1);
        let linked = link(object.clone(), |_| Ok(0x0001_2345)).unwrap();
        assert_eq!(calls(&linked, 0, kfunc.placeholder), 0);
        assert_eq!(calls(&linked, KFUNC_CALL, 0x0001_2345), 1);
        let differing = linked.iter().zip(&object).filter(|(new, old)| new != old).count();
        assert!(differing <= 5, "{differing} bytes changed");
    }

    #[test]
    fn the_main_object_calls_none_and_loads_on_kernels_without_them() {
        let object = MAIN.unpack().unwrap();
        let linked = link(object.clone(), |name| panic!("{name} is called")).unwrap();
        assert!(linked == object);
    }

    #[test]
    fn a_kernel_without_the_function_is_a_reason_and_names_it() {
        let missing = |function: &str| KernelError::MissingFunction {
            release: "6.1.0".to_owned(),
            function: function.to_owned(),
            reason: "it is not in the kernel's BTF".to_owned(),
        };
        let object = COOKIE.unpack().unwrap();
        let error = link(object, |name| Err(missing(name))).unwrap_err().to_string();
        assert!(error.contains("6.1.0") && error.contains("bpf_sk_assign_tcp_reqsk"), "{error}");
    }

    #[test]
    fn what_is_no_object_is_refused_at_any_length() {
        let object = COOKIE.unpack().unwrap();
        for length in 0..object.len().min(200) {
            let cut = object[..length].to_vec();
            assert!(matches!(link(cut, |_| Ok(1)), Err(KernelError::Mismatch(_))), "{length}");
        }
        assert!(link(b"#!/bin/sh".to_vec(), |_| Ok(1)).is_err());
    }
}
