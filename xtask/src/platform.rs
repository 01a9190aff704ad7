//! Processors for which tcpguard is built, with the names that others give them.

use clap::ValueEnum;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "tcpguard is built on x86-64 and on arm64; a further processor needs its names here"
);

/// Linux with glibc on a processor, by Debian's name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Platform {
    Amd64,
    Arm64,
}

impl Platform {
    /// The platform of this machine.
    pub const OWN: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// Returns the name in a .deb and in an image.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Returns the name in an .rpm, in QEMU and of the kernel.
    pub fn kernel(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Returns Rust's name of the target.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Returns the name of Debian's directories of libraries.
    pub fn multiarch(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Returns the file name of the dynamic linker.
    pub fn loader(self) -> &'static str {
        match self {
            Self::Amd64 => "ld-linux-x86-64.so.2",
            Self::Arm64 => "ld-linux-aarch64.so.1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_platform_is_that_of_this_machine() {
        assert_eq!(Platform::OWN.kernel(), std::env::consts::ARCH);
    }

    #[test]
    fn the_names_on_the_command_line_are_those_of_debian() {
        for platform in Platform::value_variants() {
            let name = platform.to_possible_value().unwrap();
            assert_eq!(name.get_name(), platform.debian());
        }
    }
}
