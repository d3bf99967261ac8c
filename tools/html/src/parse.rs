//! Reading CSS selectors.

use crate::selector::{Combinator, Complex, Compound, List, Simple, Test};

/// Compounds of a complex selector: one for each bit of a word.
const COMPOUNDS: usize = 64;
/// Simple selectors in all; each is compared with each element.
const PARTS: usize = 256;
/// Selectors in the parentheses of others.
const NESTED: usize = 8;

/// # Errors
///
/// What is wrong, and at which character.
pub fn list(selector: &str) -> Result<List, String> {
    let mut parser = Parser { text: selector, place: 0, nested: 0, parts: 0 };
    let list = parser.list().and_then(|list| {
        if parser.place < selector.len() { Err("this does not belong here".to_owned()) } else { Ok(list) }
    });
    list.map_err(|why| {
        let place = selector[..parser.place.min(selector.len())].chars().count() + 1;
        let shown: String = selector.chars().take(200).collect();
        format!("wrong selector `{shown}`: {why} (character {place})")
    })
}

struct Parser<'a> {
    text: &'a str,
    place: usize,
    nested: usize,
    parts: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.place..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, part: &str) -> bool {
        let there = self.rest().starts_with(part);
        if there {
            self.place += part.len();
        }
        there
    }

    fn expect(&mut self, part: &str) -> Result<(), String> {
        if self.take(part) { Ok(()) } else { Err(format!("`{part}` is missing")) }
    }

    /// Whether there was white space.
    fn space(&mut self) -> bool {
        let rest = self.rest();
        let length = rest.len() - rest.trim_start().len();
        self.place += length;
        length > 0
    }

    fn list(&mut self) -> Result<List, String> {
        let mut list = Vec::new();
        loop {
            list.push(self.complex()?);
            if !self.take(",") {
                return Ok(list);
            }
        }
    }

    fn complex(&mut self) -> Result<Complex, String> {
        self.space();
        let mut parts = vec![(Combinator::Descendant, self.compound()?)];
        loop {
            let space = self.space();
            let combinator = match self.combinator() {
                Some(combinator) => combinator,
                None if space && !matches!(self.peek(), None | Some(',' | ')')) => Combinator::Descendant,
                None => return Ok(Complex(parts)),
            };
            parts.push((combinator, self.compound()?));
            if parts.len() > COMPOUNDS {
                return Err(format!("more than {COMPOUNDS} parts"));
            }
        }
    }

    fn combinator(&mut self) -> Option<Combinator> {
        let combinator = match self.peek()? {
            '>' => Combinator::Child,
            '+' => Combinator::Next,
            '~' => Combinator::Later,
            _ => return None,
        };
        self.place += 1;
        self.space();
        Some(combinator)
    }

    fn compound(&mut self) -> Result<Compound, String> {
        let mut compound = Vec::new();
        loop {
            let simple = match self.peek() {
                Some('*') if compound.is_empty() => {
                    self.place += 1;
                    Simple::Any
                }
                Some('#') => {
                    self.place += 1;
                    Simple::Id(self.name()?)
                }
                Some('.') => {
                    self.place += 1;
                    Simple::Class(self.name()?)
                }
                Some('[') => self.attribute()?,
                Some(':') => self.pseudo()?,
                Some(letter) if compound.is_empty() && is_name(letter) => {
                    Simple::Tag(self.name()?.to_lowercase())
                }
                _ if compound.is_empty() => {
                    return Err("a tag, `#id`, `.class` or the like is missing".to_owned());
                }
                _ => return Ok(compound),
            };
            self.parts += 1;
            if self.parts > PARTS {
                return Err(format!("more than {PARTS} conditions"));
            }
            compound.push(simple);
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        while let Some(letter) = self.peek() {
            if letter == '\\' {
                self.place += 1;
                let escaped = self.peek().ok_or("it ends in a backslash")?;
                name.push(escaped);
                self.place += escaped.len_utf8();
            } else if is_name(letter) {
                name.push(letter);
                self.place += letter.len_utf8();
            } else {
                break;
            }
        }
        if name.is_empty() { Err("a name is missing".to_owned()) } else { Ok(name) }
    }

    fn attribute(&mut self) -> Result<Simple, String> {
        self.expect("[")?;
        self.space();
        let name = self.name()?.to_lowercase();
        self.space();
        let tests = [
            ("=", Test::Equal),
            ("~=", Test::Word),
            ("|=", Test::Dash),
            ("^=", Test::Start),
            ("$=", Test::End),
            ("*=", Test::Within),
        ];
        let mut test = Test::Present;
        let mut value = String::new();
        let mut ignore_case = false;
        if let Some((_, found)) = tests.into_iter().find(|(sign, _)| self.take(sign)) {
            test = found;
            self.space();
            value = match self.peek() {
                Some(quote @ ('"' | '\'')) => {
                    self.place += 1;
                    let end = self.rest().find(quote).ok_or("a quote is not closed")?;
                    let value = self.rest()[..end].to_owned();
                    self.place += end + 1;
                    value
                }
                _ => self.name()?,
            };
            self.space();
            ignore_case = self.take("i") || self.take("I");
            self.space();
        }
        self.expect("]")?;
        Ok(Simple::Attribute { name, test, value, ignore_case })
    }

    fn pseudo(&mut self) -> Result<Simple, String> {
        self.expect(":")?;
        let start = self.place;
        let name = self.name()?.to_lowercase();
        let nth = |step, offset, from_end| Simple::Nth {
            step,
            offset,
            from_end,
            of_type: name.ends_with("of-type"),
        };
        match &*name {
            "root" => Ok(Simple::Root),
            "empty" => Ok(Simple::Empty),
            "first-child" | "first-of-type" => Ok(nth(0, 1, false)),
            "last-child" | "last-of-type" => Ok(nth(0, 1, true)),
            "only-child" | "only-of-type" => Ok(Simple::Is(vec![Complex(vec![(
                Combinator::Descendant,
                vec![nth(0, 1, false), nth(0, 1, true)],
            )])])),
            "nth-child" | "nth-of-type" | "nth-last-child" | "nth-last-of-type" => {
                self.expect("(")?;
                let end = self.rest().find(')').ok_or("`)` is missing")?;
                let formula = &self.rest()[..end];
                let (step, offset) = formula_of(formula)
                    .ok_or_else(|| format!("`{formula}` is neither a number nor like `2n+1`"))?;
                self.place += end + 1;
                Ok(nth(step, offset, name.contains("last")))
            }
            "not" | "is" | "where" | "has" => {
                self.expect("(")?;
                if self.nested == NESTED {
                    return Err(format!("more than {NESTED} parentheses in each other"));
                }
                self.nested += 1;
                let simple = match &*name {
                    "not" => Simple::Not(self.list()?),
                    "has" => Simple::Has(self.relative()?),
                    _ => Simple::Is(self.list()?),
                };
                self.nested -= 1;
                self.expect(")")?;
                Ok(simple)
            }
            _ => {
                self.place = start;
                Err(format!("`:{name}` is not among the selectors that this tool knows"))
            }
        }
    }

    fn relative(&mut self) -> Result<Vec<(Combinator, Compound)>, String> {
        let mut relative = Vec::new();
        loop {
            self.space();
            let combinator = self.combinator().unwrap_or(Combinator::Descendant);
            relative.push((combinator, self.compound()?));
            self.space();
            if self.peek() == Some(')') {
                return Ok(relative);
            }
            if !self.take(",") {
                return Err("`:has()` takes one part here, such as `a.b` or `> a`".to_owned());
            }
        }
    }
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric()
        || matches!(letter, '-' | '_' | '\\')
        || !letter.is_ascii() && !letter.is_whitespace()
}

/// `odd`, `even`, `3`, `2n+1`, `-n + 3` as step and offset.
fn formula_of(formula: &str) -> Option<(i32, i32)> {
    let formula: String = formula.to_lowercase().split_whitespace().collect();
    match &*formula {
        "odd" => return Some((2, 1)),
        "even" => return Some((2, 0)),
        _ => {}
    }
    let Some((step, offset)) = formula.split_once('n') else { return Some((0, formula.parse().ok()?)) };
    let step = match step {
        "" | "+" => 1,
        "-" => -1,
        step => step.parse().ok()?,
    };
    Some((step, if offset.is_empty() { 0 } else { offset.parse().ok()? }))
}
