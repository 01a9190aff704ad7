//! A strict reader of pages. It takes HTML as it is written here, which is XML but for the elements
//! that have no end. A flaw that a browser would repair is a fault.

/// Elements that have no end.
const VOID: [&str; 2] = ["meta", "br"];

pub struct Markup {
    elements: Vec<Element>,
    text: String,
}

pub struct Element {
    name: String,
    /// Names and values, as they are meant.
    pub attributes: Vec<(String, String)>,
}

impl Element {
    /// Returns whether it has this attribute.
    pub fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|(its, _)| its == name)
    }

    /// The value of an attribute; empty without it.
    pub fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(its, _)| its == name);
        found.map_or("", |(_, value)| value)
    }
}

impl Markup {
    /// Reads a page, or names its fault.
    pub fn read(page: &str) -> Result<Self, String> {
        let mut rest = page.strip_prefix("<!doctype html>\n").ok_or("no doctype")?;
        let mut open: Vec<String> = Vec::new();
        let mut read = Self { elements: Vec::new(), text: String::new() };
        while let Some(at) = rest.find('<') {
            let (text, tag) = rest.split_at(at);
            if open.last().is_none_or(|name| name != "style") {
                read.text.push_str(&meant(text)?);
                read.text.push(' ');
            }
            let end = end_of(tag).ok_or_else(|| format!("no end of {:.60}", tag))?;
            let inside = &tag[1..end];
            rest = &tag[end + 1..];
            if let Some(name) = inside.strip_prefix('/') {
                let last = open.pop().unwrap_or_default();
                if last != name {
                    return Err(format!("</{name}> ends <{last}>"));
                }
                continue;
            }
            let (inside, closed) = match inside.strip_suffix('/') {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            let element = element(inside)?;
            if !closed && !VOID.contains(&element.name.as_str()) {
                open.push(element.name.clone());
            }
            read.elements.push(element);
        }
        match open.as_slice() {
            [] if rest.trim().is_empty() => Ok(read),
            [] => Err(format!("after the end: {rest}")),
            open => Err(format!("not ended: {open:?}")),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Element> {
        self.elements.iter()
    }

    /// Every element with this name.
    pub fn elements<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements.iter().filter(move |element| element.name == name)
    }

    /// Returns whether there is one with this name.
    pub fn has(&self, name: &str) -> bool {
        self.elements(name).next().is_some()
    }

    /// The readable text of the page, in one line.
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        words.join(" ")
    }
}

/// Returns the end of a tag: the offset of the first `>` that is not within quotes.
fn end_of(tag: &str) -> Option<usize> {
    let mut quoted = false;
    tag.char_indices().find_map(|(at, char)| {
        quoted ^= char == '"';
        (char == '>' && !quoted).then_some(at)
    })
}

fn element(inside: &str) -> Result<Element, String> {
    let (name, mut rest) = inside.split_once(' ').unwrap_or((inside, ""));
    if name.is_empty() || !name.chars().all(|char| char.is_ascii_alphanumeric()) {
        return Err(format!("<{name}> is no element"));
    }
    let mut attributes = Vec::new();
    while !rest.trim().is_empty() {
        let (attribute, value) =
            rest.split_once("=\"").ok_or_else(|| format!("{rest:?} in <{inside}>"))?;
        let attribute = attribute.trim_start();
        if !attribute.chars().all(|char| char.is_ascii_alphanumeric() || char == '-') {
            return Err(format!("attribute {attribute:?} in <{inside}>"));
        }
        let (value, after) =
            value.split_once('"').ok_or_else(|| format!("{value:?} in <{inside}>"))?;
        if value.contains('<') {
            return Err(format!("{value:?} in <{inside}>"));
        }
        attributes.push((attribute.to_owned(), meant(value)?));
        rest = after;
    }
    Ok(Element { name: name.to_owned(), attributes })
}

/// `text` with its references resolved.
fn meant(text: &str) -> Result<String, String> {
    const NAMES: [(&str, char); 5] =
        [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("#39", '\'')];
    let mut parts = text.split('&');
    let mut meant = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or_else(|| format!("a bare & in {text:?}"))?;
        let known = NAMES.iter().find(|(its, _)| *its == name);
        meant.push(known.ok_or_else(|| format!("&{name}; in {text:?}"))?.1);
        meant.push_str(rest);
    }
    Ok(meant)
}
