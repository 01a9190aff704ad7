//! A headless browser in a namespace without a network: the document and the console messages of a page, and
//! its rendering.

use std::fs;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};

use crate::net::netns::Netns;

const CHROMIUM: &str = "chromium";
/// Flags: headless, without any service of its own, and with the messages of a page's console on stderr.
/// Chromium's own sandbox does not work for root, and the namespace is a sandbox.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--allow-file-access-from-files",
];
/// Time limit in s, longer than a run ever takes; `timeout` ends it then.
const SECONDS: &str = "60";
/// The page, inside the namespace. The namespace's `/run` vanishes with it.
const PAGE: &str = "/run/page.html";
/// A page that shows the other in a frame, and says how much wider than the frame it is.
const FRAME: &str = "/run/frame.html";

/// Color scheme that a reader's system prefers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    pub const BOTH: [Self; 2] = [Self::Light, Self::Dark];

    /// The value of Blink's setting `preferredColorScheme`.
    const fn blink(self) -> u8 {
        match self {
            Self::Dark => 0,
            Self::Light => 1,
        }
    }
}

/// A browser that looks at one page.
#[derive(Debug)]
pub struct Browser {
    room: Netns,
}

impl Browser {
    /// Opens `page`, an HTML document.
    pub fn open(page: &str) -> Result<Self> {
        let room = Netns::new("browser")?;
        room.write(PAGE, page)?;
        Ok(Self { room })
    }

    /// The page as the browser has parsed it, as HTML again, and the messages of its console.
    pub fn read(&self) -> Result<(String, Vec<String>)> {
        let output = self.run(&["--dump-dom"], PAGE)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let complaints = said.lines().filter(|line| line.contains("CONSOLE"));
        let complaints = complaints.map(str::to_owned).collect();
        Ok((String::from_utf8(output.stdout)?, complaints))
    }

    /// Takes a picture of the page in a window of so many pixels, as PNG.
    pub fn picture(&self, width: u32, height: u32, scheme: Scheme) -> Result<Vec<u8>> {
        let scheme = format!("--blink-settings=preferredColorScheme={}", scheme.blink());
        let size = format!("--window-size={width},{height}");
        self.run(&[&scheme, &size, "--screenshot=/run/picture.png"], PAGE)?;
        let picture = self.take("/run/picture.png")?;
        ensure!(size_of(&picture) == Some((width, height)), "{:?}", size_of(&picture));
        Ok(picture)
    }

    /// The page on paper, as PDF.
    pub fn printed(&self) -> Result<Vec<u8>> {
        self.run(&["--print-to-pdf=/run/page.pdf", "--no-pdf-header-footer"], PAGE)?;
        self.take("/run/page.pdf")
    }

    /// Pixels by which the page is wider than a window of `width` pixels, which a reader must scroll.
    pub fn overhang(&self, width: u32) -> Result<u32> {
        let frame = format!(
            "<!doctype html><title></title><iframe src=\"page.html\" width=\"{width}\" height=\"900\" \
             frameborder=\"0\"></iframe><script>onload = () => {{ const page = document\
             .querySelector('iframe').contentDocument.documentElement; document.title = \
             page.scrollWidth - page.clientWidth; }}</script>"
        );
        self.room.write(FRAME, &frame)?;
        let output = self.run(&["--dump-dom", "--window-size=1600,1000"], FRAME)?;
        let read = String::from_utf8(output.stdout)?;
        let title = read.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        let (title, _) = title.with_context(|| format!("no title in {read}"))?;
        title.parse().with_context(|| format!("{title:?} is no width"))
    }

    /// Runs it with a profile of its own.
    fn run(&self, flags: &[&str], page: &str) -> Result<Output> {
        self.room.exec("rm -rf /run/profile")?;
        let output = self
            .room
            .command("timeout")?
            .args(["--kill-after=5", SECONDS, CHROMIUM])
            .args(FLAGS)
            .args(["--user-data-dir=/run/profile"])
            .args(flags)
            .arg(format!("file://{page}"))
            .env("HOME", "/run")
            .stdin(Stdio::null())
            .output()
            .context("cannot run `timeout`")?;
        ensure!(
            output.status.success(),
            "{CHROMIUM} (Debian's package chromium): {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output)
    }

    fn take(&self, path: &str) -> Result<Vec<u8>> {
        self.room.run(|| fs::read(path).with_context(|| format!("cannot read {path}")))
    }
}

/// Width and height of a PNG (RFC 2083, 11.2.1: the first chunk, behind eight bytes of signature).
fn size_of(picture: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(picture.get(at..at + 4)?.try_into().ok()?));
    picture.starts_with(b"\x89PNG\r\n\x1a\n").then_some(())?;
    Some((number(16)?, number(20)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_picture_is_in_its_head() {
        let mut picture = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        picture.extend([0, 0, 5, 0, 0, 0, 3, 0x20]);
        assert_eq!(size_of(&picture), Some((1280, 800)));
        assert_eq!(size_of(&picture[..20]), None);
        assert_eq!(size_of(b"%PDF-1.4"), None);
    }
}
