//! Where Markdown and plain text are written: white space, indentation, emphasis, escapes.

/// Quotes and lists in each other, beyond which no indentation is added: it would grow with the
/// square of the depth.
const INDENTED: usize = 16;

/// Emphasis or a link that is open.
struct Mark {
    open: &'static str,
    close: String,
    /// Whether `open` was written.
    written: bool,
}

pub struct Writer {
    pub out: String,
    plain: bool,
    /// In a cell of a table: no line may end.
    pub one_line: bool,
    prefix: Vec<String>,
    marks: Vec<Mark>,
    /// Newlines that are due before the next letter.
    newlines: usize,
    space: bool,
    line_start: bool,
}

impl Writer {
    pub fn new(plain: bool, one_line: bool) -> Self {
        Writer {
            out: String::new(),
            plain,
            one_line,
            prefix: Vec::new(),
            marks: Vec::new(),
            newlines: 0,
            space: false,
            line_start: true,
        }
    }

    /// Ends the line and, with two, leaves a blank one.
    pub fn block(&mut self, newlines: usize) {
        if self.one_line {
            self.space = true;
            return;
        }
        for mark in self.marks.iter_mut().rev().filter(|mark| mark.written) {
            self.out.push_str(&mark.close);
            mark.written = false;
        }
        self.space = false;
        self.newlines = self.newlines.max(newlines);
    }

    fn flush(&mut self) {
        if self.newlines > 0 && !self.out.is_empty() && !self.line_start {
            for _ in 0..self.newlines {
                self.out.truncate(self.out.trim_end_matches(' ').len());
                self.out.push('\n');
                self.out.extend(self.prefix.iter().map(String::as_str));
            }
            self.line_start = true;
        }
        self.newlines = 0;
    }

    /// A line break within a paragraph.
    pub fn line_break(&mut self) {
        if self.one_line {
            self.space = true;
        } else if !self.line_start && self.newlines == 0 {
            let close: Vec<_> = self.marks.iter().filter(|mark| mark.written).collect();
            // Two blanks are a break; `flush` would take them away.
            self.out.push_str(if self.plain || !close.is_empty() { "\n" } else { "  \n" });
            self.out.extend(self.prefix.iter().map(String::as_str));
            self.line_start = true;
            self.space = false;
        }
    }

    /// Text of the page: runs of white space are one blank.
    pub fn text(&mut self, text: &str) {
        let mut letters = text.chars().peekable();
        let mut before = ' ';
        while let Some(letter) = letters.next() {
            if letter.is_ascii_whitespace() {
                self.space = true;
            } else {
                self.begin();
                let next = letters.peek().copied().unwrap_or(' ');
                if !self.plain && self.must_escape(letter, before, next) {
                    self.out.push('\\');
                }
                self.out.push(letter);
                self.line_start = false;
            }
            before = letter;
        }
    }

    fn must_escape(&self, letter: char, before: char, next: char) -> bool {
        match letter {
            '\\' | '*' | '`' | '[' | ']' => true,
            '_' => !(before.is_alphanumeric() && next.is_alphanumeric()),
            '<' => next.is_alphabetic() || matches!(next, '/' | '!' | '?'),
            '#' | '+' | '-' | '>' | '=' | '~' => {
                self.line_start && (letter == '>' || next == ' ' || next == letter || next.is_whitespace())
            }
            // A number with a full stop would begin a list.
            '.' | ')' => {
                next.is_whitespace() && {
                    let line = &self.out[self.out.rfind('\n').map_or(0, |end| end + 1)..];
                    let line = self
                        .prefix
                        .iter()
                        .fold(line, |line, part| line.strip_prefix(&**part).unwrap_or(line));
                    (1..=9).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_digit())
                }
            }
            _ => false,
        }
    }

    /// What is due before the next letter: newlines, a blank, marks.
    fn begin(&mut self) {
        self.flush();
        if std::mem::take(&mut self.space) && !self.line_start && !self.out.ends_with([' ', '\n', '\t']) {
            self.out.push(' ');
        }
        for mark in self.marks.iter_mut().filter(|mark| !mark.written) {
            self.out.push_str(mark.open);
            mark.written = true;
        }
    }

    /// Markdown as it is.
    pub fn raw(&mut self, text: &str) {
        self.begin();
        self.out.push_str(text);
        self.line_start = false;
    }

    /// Markdown that has to stand before emphasis and links that are open.
    pub fn lead(&mut self, text: &str) {
        self.flush();
        self.out.push_str(text);
    }

    /// Opens emphasis or a link; says whether it is to be closed.
    pub fn open(&mut self, open: &'static str, close: String) -> bool {
        if self.plain || self.marks.iter().any(|mark| mark.open == open) {
            return false;
        }
        self.marks.push(Mark { open, close, written: false });
        true
    }

    pub fn close(&mut self) {
        if let Some(mark) = self.marks.pop().filter(|mark| mark.written) {
            self.out.push_str(&mark.close);
            self.line_start = false;
        }
    }

    /// Begins an item of a list, or a quote: `first` stands in its first line, `rest` in the others.
    pub fn indent(&mut self, first: &str, rest: &str) {
        self.flush();
        self.space = false;
        let deep = self.prefix.len() >= INDENTED;
        self.prefix.push(if deep || self.one_line { String::new() } else { rest.to_owned() });
        if !self.one_line && !deep {
            self.out.push_str(first);
        }
        self.line_start = true;
    }

    pub fn outdent(&mut self) {
        // An item without content is still a line.
        if self.line_start && self.newlines == 0 {
            self.line_start = false;
        }
        self.block(1);
        self.prefix.pop();
    }

    /// Lines that are copied letter by letter.
    pub fn lines(&mut self, text: &str) {
        self.flush();
        for (index, line) in text.lines().enumerate() {
            if index > 0 {
                self.out.push('\n');
                self.out.extend(self.prefix.iter().map(String::as_str));
            }
            self.out.push_str(line);
        }
        self.line_start = false;
    }

    pub fn finish(mut self) -> String {
        self.newlines = 0;
        while !self.marks.is_empty() {
            self.close();
        }
        let end = self.out.trim_end().len();
        self.out.truncate(end);
        self.out
    }
}
