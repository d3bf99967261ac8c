//! Text to expression.

use super::{Arithmetic, Comparison, Expression, Node, NodeKind, pointed};
use tabular::column::Result;

/// How deep expressions may be.
const MAX_DEPTH: usize = 100;
/// Parts that an expression may have.
const MAX_PARTS: usize = 10_000;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Int(i64),
    Float(f64),
    Text(String),
    /// A name, and whether it stands in backquotes.
    Name(String, bool),
    Sign(&'static str),
    End,
}

/// Longer ones before those that they begin with.
const SIGNS: &[&str] = &[
    "**", "//", "==", "!=", "<>", "<=", ">=", "&&", "||", "+", "-", "*", "/", "%", "<", ">", "=", "(", ")",
    "[", "]", ",", "&", "|", "~", "!",
];

impl Expression {
    pub fn parse(text: &str) -> Result<Self> {
        let tokens = tokens(text).map_err(|(at, message)| pointed(text, at, &message))?;
        if tokens.len() > MAX_PARTS {
            return Err(format!("the expression has more than {MAX_PARTS} parts"));
        }
        let mut parser = Parser { tokens, next: 0, depth: 0 };
        let root = parser.either().and_then(|root| match parser.peek() {
            Token::End => Ok(root),
            _ => Err(parser.unexpected("an operator or the end")),
        });
        root.map(|root| Expression { text: text.to_owned(), root })
            .map_err(|(at, message)| pointed(text, at, &message))
    }
}

/// Separates `expression as name`.
pub fn split_name(item: &str) -> (&str, Option<&str>) {
    let Some(at) = item.to_ascii_lowercase().rfind(" as ") else { return (item, None) };
    let name = item[at + 4..].trim();
    if let Some(inner) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) {
        return (&item[..at], Some(inner));
    }
    let plain = !name.is_empty() && !name.contains(['\'', '"', '`', '(', ')', ',']);
    if plain { (&item[..at], Some(name)) } else { (item, None) }
}

type Failed = (usize, String);

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Failed> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let start = at;
        let token = match first {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '\'' | '"' => {
                let (value, end) = quoted(text, start)?;
                at = end;
                Token::Text(value)
            }
            '`' => {
                let length =
                    text[start + 1..].find('`').ok_or((start, "this backquote is not closed".to_owned()))?;
                at = start + length + 2;
                Token::Name(text[start + 1..at - 1].to_owned(), true)
            }
            c if c.is_ascii_digit() || c == '.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                let mut end = at;
                while let Some(byte) = bytes.get(end) {
                    let exponent = matches!(byte, b'+' | b'-') && matches!(bytes[end - 1], b'e' | b'E');
                    if !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'_') && !exponent {
                        break;
                    }
                    end += 1;
                }
                at = end;
                let digits = text[start..end].replace('_', "");
                let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
                let int = if whole { digits.parse().ok() } else { None };
                match int {
                    Some(value) => Token::Int(value),
                    None => Token::Float(digits.parse().map_err(|_| {
                        (start, format!("`{}` is not a number; quote it if it is text", &text[start..end]))
                    })?),
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                at += text[at..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - at);
                Token::Name(text[start..at].to_owned(), false)
            }
            c => {
                let sign = SIGNS.iter().find(|sign| text[at..].starts_with(**sign));
                let sign = sign.ok_or_else(|| (start, format!("`{c}` has no meaning here")))?;
                at += sign.len();
                Token::Sign(sign)
            }
        };
        tokens.push((start, token));
    }
    tokens.push((text.len(), Token::End));
    Ok(tokens)
}

/// Reads a quoted text, with the escapes of Python or doubled quotes.
fn quoted(text: &str, start: usize) -> Result<(String, usize), Failed> {
    let mut value = String::new();
    let mut characters = text[start..].char_indices();
    let quote = characters.next().map_or('\'', |(_, quote)| quote);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            if text[start + at + 1..].starts_with(quote) {
                characters.next();
                value.push(quote);
                continue;
            }
            return Ok((value, start + at + 1));
        }
        if character == '\\' {
            match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, other @ ('\\' | '\'' | '"'))) => value.push(other),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            }
            continue;
        }
        value.push(character);
    }
    Err((start, "this quote is not closed".into()))
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

type Parsed = Result<Node, Failed>;

impl Node {
    /// A copy of a column or a value.
    fn plain(&self) -> Option<Node> {
        let kind = match &self.kind {
            NodeKind::Int(value) => NodeKind::Int(*value),
            NodeKind::Float(value) => NodeKind::Float(*value),
            NodeKind::Text(text) => NodeKind::Text(text.clone()),
            NodeKind::Column(name) => NodeKind::Column(name.clone()),
            _ => return None,
        };
        Some(Node { at: self.at, kind })
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    fn take(&mut self) -> (usize, Token) {
        let token = self.tokens[self.next].clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn sign(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), Token::Sign(there) if *there == sign);
        if there {
            self.take();
        }
        there
    }

    fn word(&mut self, word: &str) -> bool {
        let there = self.is_word(self.next, word);
        if there {
            self.take();
        }
        there
    }

    fn is_word(&self, position: usize, word: &str) -> bool {
        matches!(self.tokens.get(position), Some((_, Token::Name(name, false))) if name.eq_ignore_ascii_case(word))
    }

    fn unexpected(&self, wanted: &str) -> Failed {
        let found = match self.peek() {
            Token::Int(value) => format!("`{value}`"),
            Token::Float(value) => format!("`{value}`"),
            Token::Text(text) => format!("the text '{text}'"),
            Token::Name(name, _) => format!("`{name}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".into(),
        };
        (self.at(), format!("expected {wanted}, found {found}"))
    }

    fn expect(&mut self, sign: &str) -> Result<(), Failed> {
        if self.sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn deeper(&mut self) -> Result<(), Failed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            Err((self.at(), format!("this is nested deeper than {MAX_DEPTH}")))
        } else {
            Ok(())
        }
    }

    fn either(&mut self) -> Parsed {
        self.deeper()?;
        let node = self
            .logic(false, &["|", "||"], "or", |parser| parser.logic(true, &["&", "&&"], "and", Self::not));
        self.depth -= 1;
        node
    }

    fn logic(&mut self, all: bool, signs: &[&str], word: &str, part: impl Fn(&mut Self) -> Parsed) -> Parsed {
        let first = part(self)?;
        let at = self.at();
        let mut parts = vec![first];
        while self.word(word) || signs.iter().any(|sign| self.sign(sign)) {
            parts.push(part(self)?);
        }
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        Ok(Node { at, kind: NodeKind::Logic { all, parts } })
    }

    fn not(&mut self) -> Parsed {
        let at = self.at();
        if self.word("not") || self.sign("~") || self.sign("!") {
            self.deeper()?;
            let node = self.not()?;
            self.depth -= 1;
            return Ok(Node { at, kind: NodeKind::Not(Box::new(node)) });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed {
        let mut left = self.sum()?;
        let mut parts = Vec::new();
        loop {
            let at = self.at();
            if self.word("is") {
                let negated = self.word("not");
                if !["null", "none", "na"].iter().any(|word| self.word(word)) {
                    return Err(self.unexpected("`null` after `is`"));
                }
                return Ok(Node { at, kind: NodeKind::IsNull { value: Box::new(left), negated } });
            }
            let negated = self.is_word(self.next, "not") && self.is_word(self.next + 1, "in");
            if negated {
                self.take();
            }
            if self.word("in") {
                let items = self.items()?;
                return Ok(Node { at, kind: NodeKind::In { value: Box::new(left), items, negated } });
            }
            let operator = match self.peek() {
                Token::Sign("==" | "=") => Comparison::Equal,
                Token::Sign("!=" | "<>") => Comparison::NotEqual,
                Token::Sign("<") => Comparison::Less,
                Token::Sign("<=") => Comparison::LessOrEqual,
                Token::Sign(">") => Comparison::Greater,
                Token::Sign(">=") => Comparison::GreaterOrEqual,
                _ => break,
            };
            self.take();
            let right = self.sum()?;
            let middle = right.plain();
            parts.push(Node { at, kind: NodeKind::Compare(operator, Box::new(left), Box::new(right)) });
            if !matches!(self.peek(), Token::Sign("==" | "=" | "!=" | "<>" | "<" | "<=" | ">" | ">=")) {
                return Ok(match parts.len() {
                    1 => parts.swap_remove(0),
                    _ => Node { at, kind: NodeKind::Logic { all: true, parts } },
                });
            }
            // `1 < x < 5` is two comparisons. What stands in the middle is computed twice, so it is kept plain.
            left = middle
                .ok_or_else(|| (self.at(), "compare with one thing at a time, joined by `and`".to_owned()))?;
        }
        Ok(left)
    }

    fn items(&mut self) -> Result<Vec<Node>, Failed> {
        let close = if self.sign("(") {
            ")"
        } else if self.sign("[") {
            "]"
        } else {
            return Err(self.unexpected("a list in parentheses after `in`"));
        };
        self.list(close)
    }

    fn list(&mut self, close: &str) -> Result<Vec<Node>, Failed> {
        let mut items = Vec::new();
        while !self.sign(close) {
            items.push(self.either()?);
            if !self.sign(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn sum(&mut self) -> Parsed {
        let operators = [("+", Arithmetic::Add), ("-", Arithmetic::Subtract)];
        self.chain(&operators, Self::product)
    }

    fn product(&mut self) -> Parsed {
        let operators = [
            ("*", Arithmetic::Multiply),
            ("/", Arithmetic::Divide),
            ("//", Arithmetic::FloorDivide),
            ("%", Arithmetic::Remainder),
        ];
        self.chain(&operators, Self::sign_of)
    }

    fn chain(&mut self, operators: &[(&str, Arithmetic)], part: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = part(self)?;
        let mut length = 0;
        loop {
            let at = self.at();
            let Some((_, operator)) = operators.iter().find(|(sign, _)| self.sign(sign)) else {
                return Ok(left);
            };
            length += 1;
            if length > MAX_DEPTH {
                return Err((at, format!("more than {MAX_DEPTH} operators in a row; use parentheses")));
            }
            let right = part(self)?;
            left = Node { at, kind: NodeKind::Arithmetic(*operator, Box::new(left), Box::new(right)) };
        }
    }

    fn sign_of(&mut self) -> Parsed {
        let at = self.at();
        let minus = self.sign("-");
        if minus || self.sign("+") {
            self.deeper()?;
            let node = self.sign_of()?;
            self.depth -= 1;
            return Ok(if minus { Node { at, kind: NodeKind::Negate(Box::new(node)) } } else { node });
        }
        let base = self.primary()?;
        let at = self.at();
        if self.sign("**") {
            self.deeper()?;
            let exponent = self.sign_of()?;
            self.depth -= 1;
            let kind = NodeKind::Arithmetic(Arithmetic::Power, Box::new(base), Box::new(exponent));
            return Ok(Node { at, kind });
        }
        Ok(base)
    }

    fn primary(&mut self) -> Parsed {
        let wrong = self.unexpected("a column, a value or `(`");
        let (at, token) = self.take();
        let kind = match token {
            Token::Int(value) => NodeKind::Int(value),
            Token::Float(value) => NodeKind::Float(value),
            Token::Text(text) => NodeKind::Text(text),
            Token::Sign("(") => {
                let node = self.either()?;
                self.expect(")")?;
                return Ok(node);
            }
            Token::Name(name, true) => NodeKind::Column(name),
            Token::Name(name, false) => {
                if self.sign("(") {
                    NodeKind::Call(name.to_ascii_lowercase(), self.list(")")?)
                } else {
                    match name.to_ascii_lowercase().as_str() {
                        "true" => NodeKind::Bool(true),
                        "false" => NodeKind::Bool(false),
                        "null" | "none" => NodeKind::Null,
                        "and" | "or" | "not" | "in" | "is" => return Err(wrong),
                        _ => NodeKind::Column(name),
                    }
                }
            }
            Token::Sign(_) | Token::End => return Err(wrong),
        };
        Ok(Node { at, kind })
    }
}
