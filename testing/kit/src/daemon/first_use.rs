//! Time from the package to its first output, on a machine that has never had it.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::daemon::machine::Machine;
use crate::daemon::package::Package;
use tcpguard_support::contents::{AGENT, Format};

const CONFIG: &str = "/etc/tcpguard/tcpguard.toml";
/// The line of the configuration as it is shipped that names no interface, and one that does.
const SHIPPED: &str = "#names = []";
const NAMED: &str = "names = [\"eth0\"]";

/// Waiting times of a new user, each counted from `dpkg -i` on.
#[derive(Clone, Debug)]
pub struct FirstUse {
    /// The package is installed.
    pub installed: Duration,
    /// `tcpguard doctor` has named the obstacles.
    pub doctor: Duration,
    /// The interface is named, the service runs, and `tcpguard status` has shown its page.
    pub status: Duration,
    /// The page that `tcpguard status` has shown.
    pub page: String,
}

impl FirstUse {
    /// Does everything that the package asks a new user to do, in a machine of its own, as fast as it goes:
    /// reading and typing take no time here.
    ///
    /// # Errors
    /// Without root, systemd, dpkg or `TCPGUARD_DIST`, or when one of the steps fails.
    pub fn of_package() -> Result<Self> {
        let deb = Package::made(&AGENT, Format::Deb)?;
        let machine = Machine::bare(&[])?;
        // Images of containers forbid to start services.
        machine.exec("rm -f /usr/sbin/policy-rc.d")?;
        machine.exec("ip link add eth0 type veth peer name wire")?;
        machine.exec("ip link set eth0 up")?;
        machine.exec("ip link set wire up")?;
        let path = deb.put_on(&machine)?;

        let begun = Instant::now();
        machine.exec(&format!("dpkg -i {path}"))?;
        let installed = begun.elapsed();
        let doctor = machine.output("tcpguard doctor")?;
        ensure!(!doctor.stdout.is_empty(), "{}", String::from_utf8_lossy(&doctor.stderr));
        let doctor = begun.elapsed();
        let config = fs::read_to_string(machine.path(CONFIG)).context("no configuration")?;
        ensure!(config.contains(SHIPPED), "{SHIPPED} is not in {config}");
        fs::write(machine.path(CONFIG), config.replace(SHIPPED, NAMED))?;
        machine.exec("systemctl enable --now tcpguard")?;
        let page = machine.exec("tcpguard status")?;
        Ok(Self { installed, doctor, status: begun.elapsed(), page })
    }
}

impl fmt::Display for FirstUse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [installed, doctor, status] =
            [self.installed, self.doctor, self.status].map(|span| span.as_secs_f64());
        write!(
            out,
            "from dpkg -i: {installed:.1} s to the end of the installation, {doctor:.1} s to tcpguard \
             doctor, {status:.1} s to tcpguard status"
        )
    }
}
