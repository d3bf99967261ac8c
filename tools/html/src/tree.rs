//! A tree of elements, built from the tokens of a page in time that grows with its length.
//!
//! The tokens are those of the HTML standard. The tree is simpler than a browser's: nothing is moved
//! out of tables, no `html`, `head` or `body` is added, formatting is not carried over the end of the
//! block it was opened in. In return neither deep nor unbalanced pages cost more than flat ones.

use std::convert::Infallible;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

/// How deep elements may lie; what is deeper goes beside each other, as browsers have it.
pub const DEPTH: usize = 256;
/// Attributes of one element; the rest is left out.
const ATTRIBUTES: usize = 256;
/// The number of no node.
pub const NONE: u32 = u32::MAX;

pub struct Element {
    pub tag: String,
    pub attributes: Vec<(String, String)>,
    /// Whether a table lies within this table.
    pub holds_table: bool,
}

impl Element {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

pub enum Kind {
    Element(Element),
    Text(String),
}

pub struct Node {
    pub kind: Kind,
    pub parent: u32,
    pub first: u32,
    pub last: u32,
    pub next: u32,
}

/// The nodes in the order in which they start; the first is the page itself, an element without a name.
pub struct Tree {
    pub nodes: Vec<Node>,
}

impl Tree {
    pub fn parse(html: &str) -> Tree {
        let mut builder = Builder::new();
        let mut emitter =
            CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| -> Option<Infallible> {
                builder.event(&event);
                None
            });
        emitter.naively_switch_states(true);
        let Ok(()) = Tokenizer::new_with_emitter(html, emitter).finish();
        builder.tree
    }

    pub fn element(&self, node: u32) -> Option<&Element> {
        match &self.nodes[node as usize].kind {
            Kind::Element(element) => Some(element),
            Kind::Text(_) => None,
        }
    }

    pub fn tag(&self, node: u32) -> &str {
        self.element(node).map_or("", |element| &element.tag)
    }

    pub fn children(&self, node: u32) -> impl Iterator<Item = u32> {
        let mut next = self.nodes[node as usize].first;
        std::iter::from_fn(move || {
            let child = next;
            (child != NONE).then(|| {
                next = self.nodes[child as usize].next;
                child
            })
        })
    }

    /// The number after that of the last node within `node`.
    pub fn end(&self, node: u32) -> u32 {
        let mut node = node;
        while self.nodes[node as usize].last != NONE {
            node = self.nodes[node as usize].last;
        }
        node + 1
    }

    /// The HTML of what is within `node`.
    pub fn inner(&self, node: u32) -> String {
        let mut output = String::new();
        for child in self.children(node) {
            self.serialise(child, &mut output);
        }
        output
    }

    /// The HTML of `node`.
    pub fn outer(&self, node: u32) -> String {
        let mut output = String::new();
        self.serialise(node, &mut output);
        output
    }

    fn serialise(&self, node: u32, output: &mut String) {
        match &self.nodes[node as usize].kind {
            Kind::Text(text) if is_raw(self.tag(self.nodes[node as usize].parent)) => output.push_str(text),
            Kind::Text(text) => escape(text, false, output),
            Kind::Element(element) => {
                output.push('<');
                output.push_str(&element.tag);
                for (name, value) in &element.attributes {
                    output.push(' ');
                    output.push_str(name);
                    output.push_str("=\"");
                    escape(value, true, output);
                    output.push('"');
                }
                output.push('>');
                if is_void(&element.tag) {
                    return;
                }
                for child in self.children(node) {
                    self.serialise(child, output);
                }
                output.push_str("</");
                output.push_str(&element.tag);
                output.push('>');
            }
        }
    }
}

fn escape(text: &str, quotes: bool, output: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => output.push_str("&amp;"),
            '<' if !quotes => output.push_str("&lt;"),
            '>' if !quotes => output.push_str("&gt;"),
            '"' if quotes => output.push_str("&quot;"),
            '\u{a0}' => output.push_str("&nbsp;"),
            letter => output.push(letter),
        }
    }
}

struct Builder {
    tree: Tree,
    /// The open elements, the page first.
    open: Vec<u32>,
    /// Open elements that lie too deep: all but the last were taken from `open` for the next one, and
    /// their end tags are still to come.
    too_deep: usize,
    tag: String,
    attributes: Vec<(String, String)>,
}

impl Builder {
    fn new() -> Self {
        let page = Element { tag: String::new(), attributes: Vec::new(), holds_table: false };
        let page = Node { kind: Kind::Element(page), parent: NONE, first: NONE, last: NONE, next: NONE };
        Builder {
            tree: Tree { nodes: vec![page] },
            open: vec![0],
            too_deep: 0,
            tag: String::new(),
            attributes: Vec::new(),
        }
    }

    fn event(&mut self, event: &CallbackEvent<'_>) {
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match *event {
            CallbackEvent::OpenStartTag { name } => {
                self.tag = string(name);
                self.attributes.clear();
            }
            CallbackEvent::AttributeName { name } => {
                // A name that is given again keeps its first value: the second goes to nobody.
                let name = string(name);
                let name = if self.attributes.iter().any(|(other, _)| *other == name) {
                    String::new()
                } else {
                    name
                };
                if self.attributes.len() < ATTRIBUTES {
                    self.attributes.push((name, String::new()));
                }
            }
            CallbackEvent::AttributeValue { value } => {
                if let Some(attribute) = self.attributes.last_mut() {
                    attribute.1 = string(value);
                }
            }
            CallbackEvent::CloseStartTag { self_closing } => self.start(self_closing),
            CallbackEvent::EndTag { name } => self.end(&string(name)),
            CallbackEvent::String { value } => self.text(&String::from_utf8_lossy(value)),
            CallbackEvent::Comment { .. } | CallbackEvent::Doctype { .. } | CallbackEvent::Error(_) => {}
        }
    }

    fn current(&self) -> u32 {
        self.open[self.open.len() - 1]
    }

    fn append(&mut self, kind: Kind) -> u32 {
        let (parent, number) = (self.current(), self.tree.nodes.len() as u32);
        self.tree.nodes.push(Node { kind, parent, first: NONE, last: NONE, next: NONE });
        let last = std::mem::replace(&mut self.tree.nodes[parent as usize].last, number);
        if last == NONE {
            self.tree.nodes[parent as usize].first = number;
        } else {
            self.tree.nodes[last as usize].next = number;
        }
        number
    }

    fn text(&mut self, text: &str) {
        let last = self.tree.nodes[self.current() as usize].last;
        if last != NONE {
            if let Kind::Text(before) = &mut self.tree.nodes[last as usize].kind {
                before.push_str(text);
                return;
            }
        }
        self.append(Kind::Text(text.to_owned()));
    }

    fn start(&mut self, self_closing: bool) {
        let tag = std::mem::take(&mut self.tag);
        self.attributes.retain(|(name, _)| !name.is_empty());
        let attributes = std::mem::take(&mut self.attributes);
        if matches!(&*tag, "html" | "body" | "head") && self.place(&tag, &[]).is_some() {
            return;
        }
        self.imply_ends(&tag);
        if tag == "table" {
            let outer = self.open.iter().rev().find(|node| self.tree.tag(**node) == "table");
            if let Some(Kind::Element(outer)) = outer.map(|node| &mut self.tree.nodes[*node as usize].kind) {
                outer.holds_table = true;
            }
        }
        let closed = is_void(&tag)
            || (self_closing && self.open.iter().any(|node| matches!(self.tree.tag(*node), "svg" | "math")));
        if !closed && self.open.len() == DEPTH {
            self.open.pop();
            // Two are too deep at first, this one and the next.
            self.too_deep += usize::from(self.too_deep == 0);
        }
        let number = self.append(Kind::Element(Element { tag, attributes, holds_table: false }));
        if !closed {
            self.open.push(number);
            self.too_deep += usize::from(self.too_deep > 0);
        }
    }

    /// Where the innermost open element of this name is, unless one of `bounds` is around what is open
    /// within it.
    fn place(&self, tag: &str, bounds: &[&str]) -> Option<usize> {
        for (place, node) in self.open.iter().enumerate().skip(1).rev() {
            let open = self.tree.tag(*node);
            if open == tag {
                return Some(place);
            }
            if bounds.contains(&open) {
                return None;
            }
        }
        None
    }

    fn close(&mut self, tag: &str, bounds: &[&str]) {
        if let Some(place) = self.place(tag, bounds) {
            self.open.truncate(place);
        }
    }

    /// Closes what a start tag closes although its end tag is missing.
    fn imply_ends(&mut self, tag: &str) {
        if self.too_deep > 0 {
            return;
        }
        if closes_paragraph(tag) {
            self.close("p", &["button", "td", "th", "table", "caption", "object", "template", "svg"]);
        }
        match tag {
            "li" => self.close("li", &["ul", "ol", "menu", "table", "td", "th"]),
            "dt" | "dd" => {
                self.close("dt", &["dl", "table"]);
                self.close("dd", &["dl", "table"]);
            }
            "td" | "th" => {
                self.close("td", &["tr", "table"]);
                self.close("th", &["tr", "table"]);
            }
            "tr" => self.close("tr", &["table"]),
            "tbody" | "thead" | "tfoot" => {
                for group in ["tbody", "thead", "tfoot"] {
                    self.close(group, &["table"]);
                }
                self.close("caption", &["table"]);
            }
            "option" => self.close("option", &["select", "datalist", "optgroup"]),
            "optgroup" => {
                self.close("option", &["select"]);
                self.close("optgroup", &["select"]);
            }
            "rt" | "rp" => {
                self.close("rt", &["ruby"]);
                self.close("rp", &["ruby"]);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if is_heading(self.tree.tag(self.current())) => {
                self.open.pop();
            }
            // A link within a link: the first one was not closed.
            "a" | "button" => {
                if let Some(place) = self.place(tag, &["td", "th", "li", "table", "div"]) {
                    self.open.remove(place);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: &str) {
        if tag == "br" {
            self.append(Kind::Element(Element {
                tag: "br".to_owned(),
                attributes: Vec::new(),
                holds_table: false,
            }));
            return;
        }
        if is_void(tag) {
            return;
        }
        if self.too_deep > 0 {
            self.too_deep -= 1;
            if self.open.len() == DEPTH {
                self.open.pop();
            }
            return;
        }
        if is_heading(tag) {
            if let Some(place) = self.open.iter().rposition(|node| is_heading(self.tree.tag(*node))) {
                self.open.truncate(place);
            }
            return;
        }
        let bounds: &[&str] = match tag {
            "table" | "html" | "body" => &[],
            "tr" | "tbody" | "thead" | "tfoot" | "caption" => &["table"],
            "td" | "th" => &["tr", "table"],
            "li" => &["ul", "ol", "menu", "td", "th", "table"],
            _ => &["td", "th", "table", "caption"],
        };
        let Some(place) = self.place(tag, bounds) else { return };
        let within_block = self.open[place + 1..].iter().any(|node| closes_paragraph(self.tree.tag(*node)));
        if is_formatting(tag) && within_block {
            // `<b><p>…</b>…`: the paragraph goes on, what comes after it is no longer bold.
            self.open.remove(place);
        } else {
            self.open.truncate(place);
        }
    }
}

fn is_heading(tag: &str) -> bool {
    matches!(tag, "h1" | "h2" | "h3" | "h4" | "h5" | "h6")
}

fn is_formatting(tag: &str) -> bool {
    matches!(
        tag,
        "a" | "b"
            | "big"
            | "code"
            | "em"
            | "font"
            | "i"
            | "nobr"
            | "s"
            | "small"
            | "span"
            | "strike"
            | "strong"
            | "tt"
            | "u"
    )
}

fn is_void(tag: &str) -> bool {
    matches!(
        tag,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Whether the text of an element is no HTML.
fn is_raw(tag: &str) -> bool {
    matches!(tag, "script" | "style" | "xmp" | "iframe" | "noembed" | "noframes" | "noscript" | "plaintext")
}

fn closes_paragraph(tag: &str) -> bool {
    is_heading(tag)
        || matches!(
            tag,
            "address"
                | "article"
                | "aside"
                | "blockquote"
                | "center"
                | "dd"
                | "details"
                | "dialog"
                | "dir"
                | "div"
                | "dl"
                | "dt"
                | "fieldset"
                | "figcaption"
                | "figure"
                | "footer"
                | "form"
                | "header"
                | "hgroup"
                | "hr"
                | "li"
                | "main"
                | "menu"
                | "nav"
                | "ol"
                | "p"
                | "pre"
                | "search"
                | "section"
                | "summary"
                | "table"
                | "ul"
        )
}

/// Whether an element stands in lines of its own.
pub fn is_block(tag: &str) -> bool {
    closes_paragraph(tag)
        || matches!(
            tag,
            "html" | "body" | "caption" | "tr" | "tbody" | "thead" | "tfoot" | "legend" | "option"
        )
}

/// Whether nothing within an element is seen.
pub fn is_hidden(element: &Element) -> bool {
    matches!(
        &*element.tag,
        "head"
            | "script"
            | "style"
            | "template"
            | "noscript"
            | "iframe"
            | "object"
            | "svg"
            | "noembed"
            | "noframes"
            | "title"
            | "datalist"
            | "audio"
            | "video"
            | "canvas"
    ) || element.attribute("hidden").is_some()
        || element.attribute("aria-hidden") == Some("true")
        || element.attribute("style").is_some_and(|style| {
            let style: String = style.split_whitespace().collect();
            style.contains("display:none")
        })
}
