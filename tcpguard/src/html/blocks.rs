//! Sections about an incident as HTML.

use std::fmt::{self, Write};

use super::chapter::Setting;
use super::markup::escaped;
use super::plot::bars;
use crate::text::{Block, Item, Section};

/// Writes sections, each under its heading.
pub(super) fn write(out: &mut impl Write, sections: &[Section], setting: Setting) -> fmt::Result {
    for section in sections {
        out.write_str("<section>\n")?;
        setting.heading(out, 1, section.title)?;
        facts(out, &section.blocks)?;
        for block in &section.blocks {
            match block {
                Block::Fact(..) => {}
                Block::List(label, items) => list(out, label, items)?,
                Block::Table(headings, rows) => table(out, headings, rows)?,
                Block::Bars(label, shares) => bars::table(out, label, shares)?,
            }
        }
        out.write_str("</section>\n")?;
    }
    Ok(())
}

fn facts(out: &mut impl Write, blocks: &[Block]) -> fmt::Result {
    if !blocks.iter().any(|block| matches!(block, Block::Fact(..))) {
        return Ok(());
    }
    out.write_str("<dl class=\"facts\">\n")?;
    for block in blocks {
        if let Block::Fact(label, value) = block {
            writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(label), escaped(value))?;
        }
    }
    out.write_str("</dl>\n")
}

fn list(out: &mut impl Write, label: &str, items: &[Item]) -> fmt::Result {
    writeln!(out, "<p class=\"label\">{}</p>\n<ul class=\"items\">", escaped(label))?;
    for item in items {
        let (class, sign) = match item.holds {
            Some(true) => ("yes", "✓"),
            Some(false) => ("no", "✗"),
            None => ("plain", ""),
        };
        writeln!(
            out,
            "<li class=\"{class}\"><span class=\"sign\">{sign}</span> {}</li>",
            escaped(&item.text)
        )?;
    }
    out.write_str("</ul>\n")
}

fn table(out: &mut impl Write, headings: &[&str; 5], rows: &[[String; 5]]) -> fmt::Result {
    out.write_str("<div class=\"scroll\"><table><thead><tr>")?;
    for heading in headings {
        write!(out, "<th>{}</th>", escaped(heading))?;
    }
    out.write_str("</tr></thead>\n")?;
    for row in rows {
        out.write_str("<tr>")?;
        for cell in row {
            write!(out, "<td>{}</td>", escaped(cell))?;
        }
        out.write_str("</tr>\n")?;
    }
    out.write_str("</table></div>\n")
}
