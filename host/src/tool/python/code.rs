//! Lines of Python that are being written, and how numbers are called there.

use crate::tool::describe::Type;

/// Lines of Python that are being written.
#[derive(Default)]
pub(super) struct Code {
    pub text: String,
    depth: usize,
    temporaries: usize,
    /// Values of one length that are not yet made: their formats and expressions.
    pub pending: Vec<(char, String)>,
}

impl Code {
    pub fn line(&mut self, line: String) {
        self.text.push_str(&"    ".repeat(self.depth));
        self.text.push_str(&line);
        self.text.push('\n');
    }

    pub fn deeper(&mut self) {
        self.depth += 1;
    }

    pub fn shallower(&mut self) {
        self.depth -= 1;
    }

    pub fn temporary(&mut self) -> String {
        self.temporaries += 1;
        format!("_t{}", self.temporaries)
    }

    pub fn pend(&mut self, format: char, value: String) {
        self.pending.push((format, value));
    }

    pub fn indented(&self, depth: usize) -> String {
        let text = if self.text.is_empty() { "pass\n" } else { &self.text };
        text.lines().map(|line| format!("{}{line}\n", "    ".repeat(depth))).collect()
    }
}

/// The letter that `struct` and `array` have for a number.
pub(super) fn letter_of(ty: &Type) -> Option<&'static str> {
    Some(match ty {
        Type::S8 => "b",
        Type::U8 => "B",
        Type::S16 => "h",
        Type::U16 => "H",
        Type::S32 => "i",
        Type::U32 => "I",
        Type::S64 => "q",
        Type::U64 => "Q",
        Type::F32 => "f",
        Type::F64 => "d",
        _ => return None,
    })
}

pub(super) fn letter(ty: &Type) -> char {
    letter_of(ty).and_then(|letter| letter.chars().next()).unwrap_or('q')
}

pub(super) fn size_of_code(letter: &str) -> usize {
    match letter {
        "b" | "B" | "?" => 1,
        "h" | "H" => 2,
        "i" | "I" | "f" => 4,
        _ => 8,
    }
}
