//! The release of the running kernel.

use super::{Error, proc_file};

const PATH: &str = "/proc/sys/kernel/osrelease";

/// Reads the release of the running kernel, as `uname -r` prints it. It says little about features, which distributions
/// add to old releases.
pub fn kernel_release() -> Result<String, Error> {
    proc_file::read(PATH, |text| match text.trim_end() {
        "" => Err("it is empty".to_owned()),
        name => Ok(name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_a_release() {
        assert!(kernel_release().expect("a release").contains('.'));
    }
}
