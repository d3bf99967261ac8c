//! Pages as Markdown or plain text.

use crate::address;
use crate::tree::{Element, Kind, Tree, is_block, is_hidden};
use crate::writer::Writer;

/// Columns of a table, and how many of them one cell may take.
const COLUMNS: usize = 256;
/// Letters of a URL in a link; a longer one is left out.
const URL: usize = 8192;

pub struct Page<'a> {
    pub tree: &'a Tree,
    pub base: Option<&'a str>,
    pub plain: bool,
}

impl Page<'_> {
    pub fn render(&self, nodes: &[u32]) -> String {
        let mut writer = Writer::new(self.plain, false);
        for node in nodes {
            writer.block(2);
            self.node(*node, &mut writer);
        }
        writer.finish()
    }

    /// What is seen of `node` in one line.
    pub fn line(&self, node: u32) -> String {
        let mut writer = Writer::new(self.plain, true);
        self.children(node, &mut writer);
        writer.finish()
    }

    fn children(&self, node: u32, writer: &mut Writer) {
        for child in self.tree.children(node) {
            self.node(child, writer);
        }
    }

    fn node(&self, node: u32, writer: &mut Writer) {
        match &self.tree.nodes[node as usize].kind {
            Kind::Text(text) => writer.text(text),
            Kind::Element(element) if is_hidden(element) => {}
            Kind::Element(element) => self.element(node, element, writer),
        }
    }

    fn element(&self, node: u32, element: &Element, writer: &mut Writer) {
        let mark = |writer: &mut Writer, sign: &'static str| {
            let opened = writer.open(sign, sign.to_owned());
            self.children(node, writer);
            if opened {
                writer.close();
            }
        };
        match &*element.tag {
            "b" | "strong" => mark(writer, "**"),
            "i" | "em" | "cite" | "dfn" | "var" => mark(writer, "*"),
            "s" | "del" | "strike" => mark(writer, "~~"),
            "code" | "kbd" | "samp" | "tt" if !self.plain => code(writer, &self.content(node)),
            "q" => {
                writer.text("“");
                self.children(node, writer);
                writer.text("”");
            }
            "a" => self.link(node, element, writer),
            "img" => self.image(element, writer),
            "br" => writer.line_break(),
            "hr" => {
                writer.block(2);
                if !self.plain {
                    writer.raw("---");
                }
                writer.block(2);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                writer.block(2);
                let text = self.line(node);
                if !text.is_empty() {
                    let level = usize::from(element.tag.as_bytes()[1] - b'0');
                    if !self.plain {
                        writer.lead(&format!("{} ", "#".repeat(level)));
                    }
                    writer.raw(&text);
                }
                writer.block(2);
            }
            "pre" => self.preformatted(node, element, writer),
            "blockquote" if !self.plain => {
                writer.block(2);
                writer.indent("> ", "> ");
                self.children(node, writer);
                writer.outdent();
                writer.block(2);
            }
            "ul" | "ol" | "menu" | "dir" => self.list(node, element, writer),
            "table" => {
                writer.block(2);
                self.table(node, element, writer);
                writer.block(2);
            }
            "dt" | "dd" | "option" | "legend" | "summary" | "figcaption" | "tr" | "li" => {
                writer.block(1);
                if element.tag == "dd" && !self.plain {
                    writer.raw(": ");
                }
                self.children(node, writer);
                writer.block(1);
            }
            "td" | "th" => {
                writer.text(" ");
                self.children(node, writer);
                writer.text(" ");
            }
            "input" | "select" | "textarea" | "wbr" => {}
            tag => {
                let newlines = if self.plain && tag != "p" { 1 } else { 2 };
                if is_block(tag) {
                    writer.block(newlines);
                }
                self.children(node, writer);
                if is_block(tag) {
                    writer.block(newlines);
                }
            }
        }
    }

    /// All text within a node, as it is.
    fn content(&self, node: u32) -> String {
        let mut content = String::new();
        for index in node + 1..self.tree.end(node) {
            match &self.tree.nodes[index as usize].kind {
                Kind::Text(text) => content.push_str(text),
                Kind::Element(element) if element.tag == "br" => content.push('\n'),
                Kind::Element(_) => {}
            }
        }
        content
    }

    fn link(&self, node: u32, element: &Element, writer: &mut Writer) {
        let url = element.attribute("href").filter(|url| address::is_inert(url));
        let url = url.map(|url| address::resolve(self.base, url)).filter(|url| url.len() <= URL);
        let opened = url.is_some_and(|url| writer.open("[", format!("]({})", target(&url, element))));
        self.children(node, writer);
        if opened {
            writer.close();
        }
    }

    fn image(&self, element: &Element, writer: &mut Writer) {
        let alternative = element.attribute("alt").unwrap_or_default();
        let url = element.attribute("src").filter(|url| !url.is_empty() && address::is_inert(url));
        let url = url.map(|url| address::resolve(self.base, url)).filter(|url| url.len() <= URL);
        match url {
            Some(url) if !self.plain => {
                let mut text = Writer::new(false, true);
                text.text(alternative);
                writer.raw(&format!("![{}]({})", text.finish(), target(&url, element)));
            }
            _ => writer.text(alternative),
        }
    }

    fn preformatted(&self, node: u32, element: &Element, writer: &mut Writer) {
        let content = self.content(node);
        let content = content.strip_prefix('\n').unwrap_or(&content).trim_end();
        writer.block(2);
        if content.is_empty() {
            return;
        }
        if writer.one_line {
            code(writer, content);
        } else if self.plain {
            writer.lines(content);
        } else {
            let inner = self.tree.children(node).find_map(|child| self.tree.element(child));
            let classes =
                [Some(element), inner].into_iter().flatten().filter_map(|element| element.attribute("class"));
            let language = classes
                .flat_map(str::split_ascii_whitespace)
                .find_map(|class| class.strip_prefix("language-").or_else(|| class.strip_prefix("lang-")))
                .filter(|language| !language.contains('`'))
                .unwrap_or_default();
            let fence = "`".repeat(longest_run(content, '`').max(2) + 1);
            writer.lines(&format!("{fence}{language}\n{content}\n{fence}"));
        }
        writer.block(2);
    }

    fn list(&self, node: u32, element: &Element, writer: &mut Writer) {
        let nested = {
            let parent = self.tree.nodes[node as usize].parent;
            parent != crate::tree::NONE && self.tree.tag(parent) == "li"
        };
        let newlines = if nested { 1 } else { 2 };
        writer.block(newlines);
        let mut number: i64 =
            element.attribute("start").and_then(|start| start.trim().parse().ok()).unwrap_or(1);
        for child in self.tree.children(node) {
            match self.tree.element(child) {
                Some(item) if item.tag == "li" && !is_hidden(item) => {
                    writer.block(1);
                    let marker = if element.tag == "ol" {
                        let marker = format!("{}. ", number.max(0));
                        number = number.saturating_add(1);
                        marker
                    } else {
                        "- ".to_owned()
                    };
                    let indentation = if self.plain { "  ".to_owned() } else { " ".repeat(marker.len()) };
                    writer.indent(&marker, &indentation);
                    self.children(child, writer);
                    writer.outdent();
                }
                _ => self.node(child, writer),
            }
        }
        writer.block(newlines);
    }

    fn table(&self, node: u32, element: &Element, writer: &mut Writer) {
        // A table that holds tables, or has one column, is there for the layout. The first is found out
        // before any cell is rendered: each level would double the time.
        let (caption, rows) = if element.holds_table { (None, Vec::new()) } else { self.rows(node) };
        if rows.iter().all(|(_, cells)| cells.len() < 2) {
            for child in self.tree.children(node) {
                self.node(child, writer);
            }
            return;
        }
        if let Some(caption) = caption {
            self.children(caption, writer);
            writer.block(2);
        }
        if self.plain {
            for (_, cells) in &rows {
                writer.block(1);
                writer.lines(&cells.join("\t"));
            }
            return;
        }
        let columns = rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
        let mut lines = Vec::with_capacity(rows.len() + 2);
        let mut rows = rows.into_iter().peekable();
        let head = rows.next_if(|(head, _)| *head).map_or_else(Vec::new, |(_, cells)| cells);
        let mut first = head;
        first.resize(columns, String::new());
        lines.push(format!("| {} |", first.join(" | ")));
        lines.push(format!("|{}", " --- |".repeat(columns)));
        lines.extend(rows.map(|(_, cells)| format!("| {} |", cells.join(" | "))));
        writer.lines(&lines.join("\n"));
    }

    /// The caption, and for each row whether it is a head, and its cells.
    fn rows(&self, table: u32) -> (Option<u32>, Vec<(bool, Vec<String>)>) {
        let (mut caption, mut rows) = (None, Vec::new());
        for child in self.tree.children(table) {
            match self.tree.tag(child) {
                "caption" => caption = Some(child),
                "tr" => rows.push(self.row(child, false)),
                group @ ("thead" | "tbody" | "tfoot") => {
                    let rows_of = self.tree.children(child).filter(|row| self.tree.tag(*row) == "tr");
                    rows.extend(rows_of.map(|row| self.row(row, group == "thead")));
                }
                _ => {}
            }
        }
        rows.retain(|(_, cells): &(bool, Vec<String>)| !cells.is_empty());
        (caption, rows)
    }

    fn row(&self, row: u32, head: bool) -> (bool, Vec<String>) {
        let mut cells = Vec::new();
        let mut heads = true;
        for child in self.tree.children(row) {
            let Some(cell) = self.tree.element(child).filter(|cell| matches!(&*cell.tag, "td" | "th")) else {
                continue;
            };
            if cells.len() >= COLUMNS || is_hidden(cell) {
                continue;
            }
            heads &= cell.tag == "th";
            let line = self.line(child);
            cells.push(if self.plain { line } else { line.replace('|', "\\|") });
            let span: usize =
                cell.attribute("colspan").and_then(|span| span.trim().parse().ok()).unwrap_or(1);
            // Few cells are wider than this, and each takes three letters for nothing.
            cells.resize((cells.len() + span.clamp(1, 16) - 1).min(COLUMNS), String::new());
        }
        (head || heads, cells)
    }
}

fn code(writer: &mut Writer, content: &str) {
    let content = content.split_whitespace().collect::<Vec<_>>().join(" ");
    if content.is_empty() {
        return;
    }
    let fence = "`".repeat(longest_run(&content, '`') + 1);
    let space = if content.starts_with('`') || content.ends_with('`') { " " } else { "" };
    writer.raw(&format!("{fence}{space}{content}{space}{fence}"));
}

fn longest_run(text: &str, letter: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for other in text.chars() {
        run = if other == letter { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// A URL, with the title of its element, as they stand in the parentheses of a link.
fn target(url: &str, element: &Element) -> String {
    let mut target = String::with_capacity(url.len());
    for letter in url.chars() {
        match letter {
            ' ' => target.push_str("%20"),
            '(' => target.push_str("%28"),
            ')' => target.push_str("%29"),
            '<' => target.push_str("%3C"),
            '>' => target.push_str("%3E"),
            '\\' => target.push_str("%5C"),
            letter if letter.is_control() => {}
            letter => target.push(letter),
        }
    }
    if let Some(title) = element.attribute("title").filter(|title| !title.trim().is_empty()) {
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        target.push_str(&format!(" \"{}\"", title.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    target
}
