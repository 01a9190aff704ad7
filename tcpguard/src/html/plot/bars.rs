//! Shares as bars, in a table. The labels stay text, which wraps on a narrow page.

use std::fmt::{self, Write};

use tcpguard_host::units::percent;

use crate::html::markup::escaped;

/// Bars under a heading, of which a whole width means all.
pub(in crate::html) fn table(
    out: &mut impl Write,
    heading: &str,
    bars: &[(String, f64)],
) -> fmt::Result {
    if bars.is_empty() {
        return Ok(());
    }
    writeln!(out, "<table class=\"bars\"><caption>{}</caption>", escaped(heading))?;
    for (label, share) in bars {
        // Not too thin to be seen.
        let width = (100.0 * share).clamp(0.4, 100.0);
        writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"bar\"><svg viewBox=\"0 0 100 10\" \
             preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"whole\" width=\"100\" \
             height=\"10\"/><rect class=\"share\" width=\"{width:.1}\" height=\"10\"/></svg></td><td \
             class=\"number\">{}</td></tr>",
            escaped(label),
            escaped(&percent(*share)),
        )?;
    }
    out.write_str("</table>\n")
}
