//! Python that decodes results.

use super::Writer;
use super::code::{Code, letter_of, size_of_code};
use crate::tool::describe::{Function, Kind, Shape, Type};

impl Writer<'_> {
    /// Returns what a call gave, or raises it.
    pub(super) fn results(&mut self, code: &mut Code, function: &Function) {
        if let Kind::Constructor(_) = function.kind {
            let tag = self.format("I");
            // A constructor may fail.
            if let Some(Type::Result(_, error)) = &function.result {
                self.raise(code, error.as_deref());
                code.line(format!("self._open(_u{tag}(_b, 1)[0])"));
            } else {
                code.line(format!("self._open(_u{tag}(_b, 0)[0])"));
            }
            return;
        }
        match &function.result {
            None => {}
            Some(Type::Result(ok, error)) => {
                self.raise(code, error.as_deref());
                if let Some(ok) = ok {
                    code.line("_q = 1".into());
                    let value = self.decode(code, ok);
                    code.line(format!("return {value}"));
                }
            }
            Some(ty) => {
                code.line("_q = 0".into());
                let value = self.decode(code, ty);
                code.line(format!("return {value}"));
            }
        }
    }

    pub(super) fn raise(&mut self, code: &mut Code, error: Option<&Type>) {
        code.line("if _b[0]:".into());
        code.deeper();
        match error {
            None => code.line("raise _r._told(_b, Error(None))".into()),
            Some(error) => {
                let class = match error {
                    Type::Named(index) => self.exceptions[index].clone(),
                    _ => "Error".to_owned(),
                };
                code.line("_q = 1".into());
                let value = self.decode(code, error);
                code.line(format!("raise _r._told(_b, {class}({value}))"));
            }
        }
        code.shallower();
    }

    /// The `struct` format of a type whose encoding has one length, as one letter a value.
    pub(super) fn fixed(&self, ty: &Type) -> Option<String> {
        Some(match ty {
            Type::Bool => "?".into(),
            Type::Char => "I".into(),
            Type::Tuple(types) => types.iter().map(|ty| self.fixed(ty)).collect::<Option<_>>()?,
            Type::Named(index) => match &self.described.types[*index].shape {
                Shape::Record(fields) => {
                    fields.iter().map(|field| self.fixed(&field.ty)).collect::<Option<_>>()?
                }
                Shape::Enum(_) => "I".into(),
                Shape::Flags(flags) if flags.len() <= 32 => "I".into(),
                _ => return None,
            },
            Type::Own(_) | Type::Borrow(_) => "I".into(),
            plain => letter_of(plain)?.into(),
        })
    }

    /// A value of a fixed type, built of what `struct` has read.
    fn build(&self, ty: &Type, values: &mut impl Iterator<Item = String>) -> String {
        let mut next = || values.next().unwrap_or_default();
        match ty {
            Type::Char => format!("_chr({})", next()),
            Type::Tuple(types) => {
                let items: Vec<String> = types.iter().map(|ty| self.build(ty, values)).collect();
                format!("({},)", items.join(", "))
            }
            Type::Named(index) => match &self.described.types[*index].shape {
                Shape::Record(fields) => {
                    let items: Vec<String> =
                        fields.iter().map(|field| self.build(&field.ty, values)).collect();
                    format!("{}({})", self.classes[*index], items.join(", "))
                }
                Shape::Enum(_) => format!("_m{index}[{}]", next()),
                _ => format!("{}({})", self.classes[*index], next()),
            },
            Type::Own(index) | Type::Borrow(index) => format!("{}._of({})", self.classes[*index], next()),
            _ => next(),
        }
    }

    /// Reads a value from `_b` at `_q`, and moves `_q`; gives an expression of it.
    pub(super) fn decode(&mut self, code: &mut Code, ty: &Type) -> String {
        if let Some(format) = self.fixed(ty) {
            let position = self.format(&format);
            let names: Vec<String> = format.chars().map(|_| code.temporary()).collect();
            code.line(format!("{}, = _u{position}(_b, _q)", names.join(", ")));
            code.line(format!(
                "_q += {}",
                format.chars().map(|letter| size_of_code(&letter.to_string())).sum::<usize>()
            ));
            return self.build(ty, &mut names.into_iter());
        }
        let tag = self.format("I");
        match ty {
            Type::String | Type::Json => {
                let (length, text) = (code.temporary(), code.temporary());
                code.line(format!("{length} = _u{tag}(_b, _q)[0] + _q + 4"));
                code.line(format!("{text} = _b[_q + 4:{length}].decode()"));
                code.line(format!("_q = {length}"));
                if *ty == Type::Json { format!("_r._loads({text})") } else { text }
            }
            Type::List(element) => {
                let (count, items) = (code.temporary(), code.temporary());
                code.line(format!("{count}, = _u{tag}(_b, _q)"));
                code.line("_q += 4".into());
                if let Some(letter) = letter_of(element) {
                    let end = code.temporary();
                    code.line(format!("{end} = _q + {count} * {}", size_of_code(letter)));
                    match letter {
                        "B" => code.line(format!("{items} = _b[_q:{end}]")),
                        letter => code.line(format!("{items} = _array(\"{letter}\", _b, _q, {end})")),
                    }
                    code.line(format!("_q = {end}"));
                } else {
                    code.line(format!("{items} = []"));
                    code.line(format!("for _ in _range({count}):"));
                    code.deeper();
                    let value = self.decode(code, element);
                    code.line(format!("{items}.append({value})"));
                    code.shallower();
                }
                items
            }
            Type::Array(element, length) => {
                let items = code.temporary();
                code.line(format!("{items} = []"));
                code.line(format!("for _ in _range({length}):"));
                code.deeper();
                let value = self.decode(code, element);
                code.line(format!("{items}.append({value})"));
                code.shallower();
                items
            }
            Type::Map(key, entry) => {
                let (count, items) = (code.temporary(), code.temporary());
                code.line(format!("{count}, = _u{tag}(_b, _q)"));
                code.line("_q += 4".into());
                code.line(format!("{items} = {{}}"));
                code.line(format!("for _ in _range({count}):"));
                code.deeper();
                let one = self.decode(code, key);
                let name = code.temporary();
                code.line(format!("{name} = {one}"));
                let other = self.decode(code, entry);
                code.line(format!("{items}[{name}] = {other}"));
                code.shallower();
                items
            }
            Type::Tuple(types) => {
                let items: Vec<String> = types
                    .iter()
                    .map(|ty| {
                        let value = self.decode(code, ty);
                        let name = code.temporary();
                        code.line(format!("{name} = {value}"));
                        name
                    })
                    .collect();
                format!("({},)", items.join(", "))
            }
            Type::Option(inner) => {
                let item = code.temporary();
                code.line(format!("{item} = None"));
                code.line("_q += 1".into());
                code.line("if _b[_q - 1]:".into());
                code.deeper();
                let value = self.decode(code, inner);
                match **inner {
                    Type::Option(_) => code.line(format!("{item} = _r.Some({value})")),
                    _ => code.line(format!("{item} = {value}")),
                }
                code.shallower();
                item
            }
            Type::Result(ok, error) => {
                let item = code.temporary();
                code.line("_q += 1".into());
                for (head, class, side) in [("if _b[_q - 1]:", "_r.Err", error), ("else:", "_r.Ok", ok)] {
                    code.line(head.into());
                    code.deeper();
                    let value = side.as_ref().map_or("None".to_owned(), |ty| self.decode(code, ty));
                    code.line(format!("{item} = {class}({value})"));
                    code.shallower();
                }
                item
            }
            Type::Named(index) => match &self.described.types[*index].shape {
                Shape::Flags(flags) => {
                    let bits = code.temporary();
                    let bytes = 4 * flags.len().div_ceil(32);
                    code.line(format!("{bits} = _int.from_bytes(_b[_q:_q + {bytes}], \"little\")"));
                    code.line(format!("_q += {bytes}"));
                    format!("{}({bits})", self.classes[*index])
                }
                _ => {
                    let item = code.temporary();
                    code.line(format!("{item}, _q = _d{index}(_b, _q)"));
                    item
                }
            },
            _ => unreachable!("its encoding has one length"),
        }
    }
}
