//! The BPF objects that the binary carries. They are compressed (`build.rs`), to a fifth of their size.
//! The caller that unpacks one needs it for a moment only, and drops it when it is loaded.

use std::io::Read as _;

use flate2::bufread::GzDecoder;

use super::KernelError;

/// Ingress, egress and the tracepoint.
pub(super) static MAIN: Packed = Packed(include_bytes!(env!("TCPGUARD_BPF_OBJECT")));
/// The same programs with debug lines; see `tcpguard-ebpf/src/main.rs`.
pub(super) static LOGGING: Packed = Packed(include_bytes!(env!("TCPGUARD_BPF_LOG_OBJECT")));
/// The program that takes cookies back.
pub(super) static COOKIE: Packed = Packed(include_bytes!(env!("TCPGUARD_BPF_COOKIE_OBJECT")));

/// A BPF object, compressed with gzip.
pub(super) struct Packed(&'static [u8]);

impl Packed {
    /// The object, with the alignment of a `malloc` buffer, which is more than a reader of ELF needs.
    pub(super) fn unpack(&self) -> Result<Vec<u8>, KernelError> {
        let mut object = Vec::new();
        match GzDecoder::new(self.0).read_to_end(&mut object) {
            Ok(_) => Ok(object),
            Err(error) => Err(KernelError::Mismatch(format!("it cannot be unpacked: {error}"))),
        }
    }
}

/// A number that differs between the BPF objects of two versions of this binary: FNV-1a of the carried
/// bytes.
pub fn objects_digest() -> u64 {
    let bytes = [MAIN.0, COOKIE.0].into_iter().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use tcpguard_host::hint::Hint as _;

    use super::*;

    #[test]
    fn every_object_unpacks_to_an_elf_file_that_is_much_larger() {
        for packed in [&MAIN, &LOGGING, &COOKIE] {
            let object = packed.unpack().unwrap();
            assert!(object.starts_with(b"\x7fELF"), "{:?}", &object[..4]);
            assert!(object.len() > 2 * packed.0.len(), "{} of {}", packed.0.len(), object.len());
        }
    }

    #[test]
    fn a_damaged_object_is_refused_with_a_hint() {
        for damaged in [&b""[..], b"\x7fELF", &COOKIE.0[..COOKIE.0.len() / 2]] {
            let error = Packed(damaged).unpack().unwrap_err();
            assert!(error.hint().ends_with("cargo xtask build"), "{error}");
        }
    }
}
