//! The language of conditions and computed columns.

mod calls;
mod evaluate;
mod operators;
mod parse;

pub use evaluate::{concatenate, evaluate};
pub use parse::split_name;

/// An expression, with its text for messages.
pub struct Expression {
    pub text: String,
    pub root: Node,
}

/// A part of an expression, and the byte at which it (or its operator) stands.
pub struct Node {
    pub at: usize,
    pub kind: NodeKind,
}

pub enum NodeKind {
    Int(i64),
    Float(f64),
    Text(String),
    Bool(bool),
    Null,
    Column(String),
    Negate(Box<Node>),
    Not(Box<Node>),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// Many conditions: all of them (`and`), or one of them.
    Logic {
        all: bool,
        parts: Vec<Node>,
    },
    In {
        value: Box<Node>,
        items: Vec<Node>,
        negated: bool,
    },
    IsNull {
        value: Box<Node>,
        negated: bool,
    },
    Call(String, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }

    /// The same with its sides changed.
    pub fn turned(self) -> Self {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }
}

/// A message that points to its place.
pub fn pointed(text: &str, at: usize, message: &str) -> String {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let column = before.chars().count();
    // Only some of a long text, and of its line.
    let start = before.char_indices().rev().nth(60).map_or(0, |(start, _)| start);
    let shown: String =
        text[start..].chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let indent = " ".repeat(text[start..before.len()].chars().count());
    format!("at character {} of the expression: {message}\n  {shown}\n  {indent}^", column + 1)
}
