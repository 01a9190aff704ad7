//! A real Prometheus, and promtool.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::net::netns::Netns;

const HOW: &str = "install prometheus (`cargo xtask test` does)";
/// Address at which Prometheus listens, in the namespace of the host under test.
const ADDRESS: &str = "127.0.0.1:9090";
/// Configuration and data of Prometheus, below the namespace's own `/run`.
const CONFIG: &str = "/run/prometheus.yml";
const DATA: &str = "/run/prometheus";

/// A running Prometheus that scrapes one target each second. It ends when dropped.
#[derive(Debug)]
pub struct Prometheus<'host> {
    host: &'host Netns,
    server: Child,
}

impl<'host> Prometheus<'host> {
    /// Starts Prometheus in `host`, to scrape `target` and to judge by the alert rules in the file `rules`.
    ///
    /// # Errors
    /// Without Prometheus, or when it does not answer within 15 s.
    pub fn start(host: &'host Netns, target: &str, rules: &Path) -> Result<Self> {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n\
             \x20 - job_name: tcpguard\n\
             \x20   static_configs: [{{ targets: [{target:?}] }}]\n"
        );
        host.write(CONFIG, &config)?;
        let server = host
            .command("prometheus")?
            .arg(format!("--config.file={CONFIG}"))
            .arg(format!("--storage.tsdb.path={DATA}"))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context(HOW)?;
        let mut prometheus = Self { host, server };
        let begun = Instant::now();
        while let Err(error) = prometheus.query("vector(1)") {
            if let Some(status) = prometheus.server.try_wait()? {
                bail!("prometheus ended with {status}");
            }
            ensure!(begun.elapsed() < Duration::from_secs(15), "no answer: {error:#}");
            sleep(Duration::from_millis(100));
        }
        Ok(prometheus)
    }

    /// Present value of an expression: labels and value of each series, as Prometheus writes them.
    pub fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let url = format!("http://{ADDRESS}");
        let output =
            promtool(self.host, &["query", "instant", "-o", "json", &url, expression], "")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        let found: Value = serde_json::from_slice(&output.stdout)?;
        let series = found.as_array().context("no list")?.iter();
        series
            .map(|one| {
                let value = one["value"][1].as_str().context("no value")?;
                Ok((one["metric"].clone(), value.parse()?))
            })
            .collect()
    }

    /// Waits until an expression has a value that fulfils `holds`, and returns it.
    ///
    /// # Errors
    /// When it has none within `limit`.
    pub fn wait_for(
        &self,
        expression: &str,
        limit: Duration,
        holds: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        let begun = Instant::now();
        loop {
            let found = self.query(expression)?;
            if let Some((_, value)) = found.iter().find(|(_, value)| holds(*value)) {
                return Ok(*value);
            }
            ensure!(begun.elapsed() < limit, "not within {limit:?}: {expression} is {found:?}");
            sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait()) {
            eprintln!("prometheus cannot be ended: {error}");
        }
    }
}

/// Runs promtool in `host` with this on its standard input.
///
/// # Errors
/// Without promtool. Its exit code is not checked.
pub fn promtool(host: &Netns, arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = host
        .command("promtool")?
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(HOW)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing has ended, and says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    Ok(child.wait_with_output()?)
}
