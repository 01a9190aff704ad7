//! Blocks of a page about an incident: the same for text and for HTML.

use std::fmt::{self, Write};

use tcpguard_host::units::percent;

use super::super::incidents::paragraph;
use super::super::table::{Cell, Table};
use super::super::view::View;

/// Share of the failed flows, from 0 to 1, from which a source or network stands out.
const STANDS_OUT: f64 = 0.05;

/// A part of a page with a heading of its own.
#[derive(Clone, Debug)]
pub struct Section {
    /// Heading, where the page has headings.
    pub title: &'static str,
    /// Content, in order.
    pub blocks: Vec<Block>,
}

/// A block of a page.
#[derive(Clone, Debug)]
pub enum Block {
    /// One fact: a label and its value.
    Fact(&'static str, String),
    /// Items under a label.
    List(&'static str, Vec<Item>),
    /// Rows under headings.
    Table([&'static str; 5], Vec<[String; 5]>),
    /// Shares of the failed handshakes under a label, each with its subject.
    Bars(&'static str, Vec<(String, f64)>),
}

/// An item of a list.
#[derive(Clone, Debug)]
pub struct Item {
    /// True if it holds, false if it does not; `None` where that is no question.
    pub holds: Option<bool>,
    /// The item.
    pub text: String,
}

impl Item {
    /// An item for which it is no question whether it holds.
    pub(in crate::text) fn plain(text: String) -> Self {
        Self { holds: None, text }
    }
}

impl Section {
    /// A section, if it has any content.
    pub(super) fn of(title: &'static str, blocks: Vec<Block>) -> Option<Self> {
        (!blocks.is_empty()).then_some(Self { title, blocks })
    }
}

/// Writes sections as text, with a blank line between two.
pub(in crate::text) fn write(
    out: &mut impl Write,
    sections: &[Section],
    view: &View,
) -> fmt::Result {
    for (number, section) in sections.iter().enumerate() {
        if number > 0 {
            out.write_char('\n')?;
        }
        for block in &section.blocks {
            write_block(out, block, view)?;
        }
    }
    Ok(())
}

fn write_block(out: &mut impl Write, block: &Block, view: &View) -> fmt::Result {
    match block {
        Block::Fact(label, value) => paragraph(out, view, label, value),
        Block::List(label, items) => {
            for (number, item) in items.iter().enumerate() {
                let sign = match item.holds {
                    Some(true) => "✓ ",
                    Some(false) => "✗ ",
                    None => "",
                };
                let label = if number == 0 { label } else { "" };
                paragraph(out, view, label, &format!("{sign}{}", item.text))?;
            }
            Ok(())
        }
        Block::Table(headings, rows) => {
            let mut table = Table::new(*headings);
            for row in rows {
                table.row(row.clone().map(Cell::from));
            }
            table.write(out, view)
        }
        Block::Bars(label, bars) => {
            // The most frequent of many random ones is an accident.
            let bars = bars.iter().filter(|(_, share)| *share >= STANDS_OUT);
            let bars: Vec<_> =
                bars.map(|(subject, share)| format!("{subject} {}", percent(*share))).collect();
            match bars.as_slice() {
                [] => Ok(()),
                bars => paragraph(out, view, label, &bars.join(", ")),
            }
        }
    }
}
