//! `cargo xtask picture`: the drawing in the README, cut from a page that `tcpguard report` has written.

mod cut;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    environment, process, setup,
    setup::Purpose,
    workspace::Workspace,
};

/// Path of the picture that the README shows.
const PICTURE: &str = "docs/images/report.svg";

/// Draws the picture anew: from `source`, a page of `tcpguard report` (.html) or a capture, or else from
/// a capture of a flood that is made for it.
///
/// # Errors
/// When the build fails, `source` cannot be read, or nothing was drawn of it.
pub fn run(workspace: &Workspace, source: Option<&Path>) -> Result<()> {
    let is_page = |path: &Path| path.extension().is_some_and(|extension| extension == "html");
    let page = match source {
        Some(page) if is_page(page) => {
            fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?
        }
        capture => report(workspace, capture)?,
    };
    let picture = workspace.root.join(PICTURE);
    fs::create_dir_all(picture.parent().context("a path without a directory")?)?;
    fs::write(&picture, cut::cut(&page)?)
        .with_context(|| format!("cannot write {}", picture.display()))?;
    println!("{}", picture.display());
    Ok(())
}

/// The page of a capture, in which rules drop.
fn report(workspace: &Workspace, capture: Option<&Path>) -> Result<String> {
    setup::ensure(&[Purpose::Build])?;
    build::everything(workspace, Profile::Release)?;
    let capture = match capture {
        Some(capture) => capture.to_owned(),
        None => made(workspace)?,
    };
    let mut report = Command::new(workspace.binary(Profile::Release));
    report.arg("report").arg(&capture).args(["--mode", "enforce", "--html", "-"]);
    process::output(report.env("LC_ALL", "C.UTF-8"))
}

/// A capture of a flood among clients, the same ones each time.
fn made(workspace: &Workspace) -> Result<PathBuf> {
    let capture = workspace.target.join("flood.pcap");
    let mut make = environment::host_cargo(workspace);
    make.args(["run", "--quiet", "--release", "--package", "tcpguard-eval", "--bin", "flood"]);
    process::run(make.arg("--").arg(&capture))?;
    Ok(capture)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(Workspace::locate().unwrap().root.join(path)).unwrap()
    }

    /// Asserts that an image is self-contained: a reader of the README sees it without scripts and
    /// without a network.
    #[track_caller]
    fn stands_alone(svg: &str) {
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" "), "{svg:.80}");
        assert!(svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("<svg ").count(), svg.matches("</svg>").count());
        assert_eq!(svg.matches("://").count(), 1, "nothing is fetched");
        assert!(!svg.contains("<script") && !svg.contains("href"));
        assert!(svg.contains("prefers-color-scheme: dark"), "light and dark");
    }

    #[test]
    fn a_page_becomes_one_drawing_of_its_first_plots() {
        let page = read("tcpguard/tests/expected/report-dropped.html");
        let svg = cut::cut(&page).unwrap();
        stands_alone(&svg);
        assert!(page.matches("<svg class=\"plot wide\"").count() >= 2);
        assert_eq!(svg.matches("<svg class=\"plot\" ").count(), 2);
        for told in ["SYNs per second, and what became of them", ">dropped<", ">left to the host<"]
        {
            assert!(svg.contains(told), "{told} is missing in {svg}");
        }
        for shape in ["area dropped", "area passed", "line completed", "class=\"flag\""] {
            assert_eq!(
                svg.matches(shape).count() > 0,
                page.contains(shape),
                "{shape} is drawn as on the page"
            );
        }
        let style = svg.split("</style>").next().unwrap();
        for rule in [".area.dropped", ".line.completed", ".plot text ", "rect.flag"] {
            assert!(style.contains(rule), "{rule} in {style}");
        }
        for of_pages in ["h1", ".plot.narrow", "@page", "@media print", "/*", ".key {"] {
            assert!(!style.contains(of_pages), "{of_pages} in {style}");
        }
    }

    #[test]
    fn a_page_without_plots_is_refused_with_the_reason() {
        let page = "<style>p { color: red; }</style><p>There are no plots: none was kept.</p>";
        let error = cut::cut(page).unwrap_err().to_string();
        assert!(error.contains("has no plots"), "{error}");
        assert!(cut::cut("a text").is_err());
        assert!(cut::cut("<style>p { color: red;</style><figure></figure>").is_err());
    }

    #[test]
    fn the_readme_shows_a_picture_that_stands_alone() {
        assert!(read("README.md").contains(&format!("]({PICTURE})")));
        stands_alone(&read(PICTURE));
    }
}
