//! Blocks of code in a page of Markdown: the tests of the documentation and the root tests read pages by them.

/// A block, fenced or indented by four columns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// The text behind its fence, such as `sh attack`; empty if there is none.
    pub info: String,
    /// Its lines, each with its number in the page, counted from 1.
    pub lines: Vec<(usize, String)>,
}

/// Every block of `page`, in their order. Only a line that follows an empty one begins an indented
/// block, as CommonMark has it (§4.4).
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    // Whether it is fenced, and its content so far.
    let mut open: Option<(bool, Block)> = None;
    let mut empty_before = true;
    for (number, line) in (1..).zip(page.lines()) {
        let fenced = open.as_ref().map(|(fenced, _)| *fenced);
        let (fence, indented) = (line.strip_prefix("```"), line.strip_prefix("    "));
        let content = match fenced {
            Some(true) => fence.is_none().then_some(line),
            Some(false) => indented,
            None => None,
        };
        if let (Some(content), Some((_, block))) = (content, &mut open) {
            block.lines.push((number, content.to_owned()));
        } else {
            blocks.extend(open.take().map(|(_, block)| block));
            let mut begin = |by_fence, info: &str, lines| {
                open = Some((by_fence, Block { info: info.to_owned(), lines }));
            };
            match (fence, indented) {
                // This fence has ended one.
                _ if fenced == Some(true) => {}
                (Some(info), _) => begin(true, info, Vec::new()),
                (None, Some(first)) if empty_before => {
                    begin(false, "", vec![(number, first.to_owned())]);
                }
                _ => {}
            }
        }
        empty_before = line.trim().is_empty();
    }
    blocks.extend(open.map(|(_, block)| block));
    blocks
}
