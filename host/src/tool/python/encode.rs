//! Python that encodes arguments.

use super::Writer;
use super::code::{Code, letter, letter_of, size_of_code};
use crate::tool::describe::{Shape, Type};
use crate::tool::names::snake;

impl Writer<'_> {
    /// Encodes parameters; gives the expressions of the two parts.
    pub(super) fn arguments(&mut self, code: &mut Code, parameters: &[(String, Type)]) -> (String, String) {
        for (name, ty) in parameters {
            self.encode(code, ty, name);
        }
        // All of a fixed size: one call makes them.
        if code.text.is_empty() {
            if code.pending.is_empty() {
                return ("b\"\"".into(), "b\"\"".into());
            }
            return (self.pack(code), "b\"\"".into());
        }
        self.flush(code);
        // A large last part goes as it is.
        let last = code.text.trim_end().rsplit('\n').next().unwrap_or_default();
        if let Some(part) = last.strip_prefix("_a(").and_then(|rest| rest.strip_suffix(')'))
            && part.starts_with("_t")
            && part[2..].bytes().all(|byte| byte.is_ascii_digit())
        {
            let part = part.to_owned();
            code.text.truncate(code.text.trim_end().len() - last.len());
            code.text.insert_str(0, "_o = []; _a = _o.append\n");
            return ("b\"\".join(_o)".into(), part);
        }
        code.text.insert_str(0, "_o = []; _a = _o.append\n");
        ("b\"\".join(_o)".into(), "b\"\"".into())
    }

    /// A call that makes the pending parts of fixed size.
    fn pack(&mut self, code: &mut Code) -> String {
        let (formats, values): (String, Vec<String>) = code.pending.drain(..).unzip();
        format!("_p{}({})", self.format(&formats), values.join(", "))
    }

    pub(super) fn flush(&mut self, code: &mut Code) {
        if !code.pending.is_empty() {
            let packed = self.pack(code);
            code.line(format!("_a({packed})"));
        }
    }

    pub(super) fn encode(&mut self, code: &mut Code, ty: &Type, value: &str) {
        match ty {
            Type::Bool => code.pend('?', format!("_bool({value})")),
            Type::Char => code.pend('I', format!("_char({value})")),
            Type::F32 | Type::F64 => code.pend(letter(ty), value.into()),
            Type::S8 | Type::U8 | Type::S16 | Type::U16 | Type::S32 | Type::U32 | Type::S64 | Type::U64 => {
                code.pend(letter(ty), value.into());
            }
            Type::String | Type::Json => {
                let bytes = code.temporary();
                let text = if *ty == Type::Json { format!("_r._dumps({value})") } else { value.to_owned() };
                code.line(format!("{bytes} = {text}.encode()"));
                code.pend('I', format!("_len({bytes})"));
                self.flush(code);
                code.line(format!("_a({bytes})"));
            }
            Type::List(element) => match letter_of(element) {
                Some(letter) => {
                    let bytes = code.temporary();
                    code.line(format!("{bytes} = _numbers({value}, \"{letter}\")"));
                    let size = size_of_code(letter);
                    code.pend(
                        'I',
                        if size == 1 { format!("_len({bytes})") } else { format!("_len({bytes}) // {size}") },
                    );
                    self.flush(code);
                    code.line(format!("_a({bytes})"));
                }
                None => {
                    let items = code.temporary();
                    code.line(format!("{items} = _items({value})"));
                    code.pend('I', format!("_len({items})"));
                    self.flush(code);
                    let item = code.temporary();
                    code.line(format!("for {item} in {items}:"));
                    code.deeper();
                    self.encode(code, element, &item);
                    self.flush(code);
                    code.shallower();
                }
            },
            Type::Array(element, length) => {
                let items = code.temporary();
                code.line(format!("{items} = _r._exactly({value}, {length})"));
                self.flush(code);
                let item = code.temporary();
                code.line(format!("for {item} in {items}:"));
                code.deeper();
                self.encode(code, element, &item);
                self.flush(code);
                code.shallower();
            }
            Type::Map(key, entry) => {
                code.pend('I', format!("_len({value})"));
                self.flush(code);
                let (one, other) = (code.temporary(), code.temporary());
                code.line(format!("for {one}, {other} in {value}.items():"));
                code.deeper();
                self.encode(code, key, &one);
                self.encode(code, entry, &other);
                self.flush(code);
                code.shallower();
            }
            Type::Tuple(types) => {
                let names: Vec<String> = types.iter().map(|_| code.temporary()).collect();
                code.line(format!("{}, = {value}", names.join(", ")));
                for (ty, name) in types.iter().zip(&names) {
                    self.encode(code, ty, name);
                }
            }
            Type::Option(inner) => {
                self.flush(code);
                code.line(format!("if {value} is None:"));
                code.deeper();
                code.line("_a(b\"\\0\")".into());
                code.shallower();
                code.line("else:".into());
                code.deeper();
                code.pend('B', "1".into());
                if let Type::Option(_) = **inner {
                    let item = code.temporary();
                    code.line(format!("{item} = _some({value})"));
                    self.encode(code, inner, &item);
                } else {
                    self.encode(code, inner, value);
                }
                self.flush(code);
                code.shallower();
            }
            Type::Result(ok, error) => {
                self.flush(code);
                let (failed, item) = (code.temporary(), code.temporary());
                code.line(format!("{failed}, {item} = _result({value})"));
                code.line(format!("_a(b\"\\1\" if {failed} else b\"\\0\")"));
                for (condition, side) in [("if", error), ("if not", ok)] {
                    if let Some(ty) = side {
                        code.line(format!("{condition} {failed}:"));
                        code.deeper();
                        self.encode(code, ty, &item);
                        self.flush(code);
                        code.shallower();
                    }
                }
            }
            Type::Named(index) => match &self.described.types[*index].shape {
                Shape::Record(fields) if self.fixed(ty).is_some() => {
                    for field in fields {
                        self.encode(code, &field.ty, &format!("{value}.{}", snake(&field.name)));
                    }
                }
                Shape::Record(_) | Shape::Variant(_) => {
                    self.flush(code);
                    code.line(format!("_e{index}(_a, {value}, _g)"));
                }
                Shape::Enum(_) => code.pend('I', format!("_m{index}.index({value})")),
                Shape::Flags(flags) => {
                    let bits = code.temporary();
                    code.line(format!("{bits} = _flags({value}, {})", self.classes[*index]));
                    for word in 0..flags.len().div_ceil(32) {
                        code.pend('I', format!("{bits} >> {} & 0xffffffff", 32 * word));
                    }
                }
                Shape::Resource => code.pend('I', format!("{value}._lend({})", self.classes[*index])),
            },
            Type::Own(index) => {
                code.pend('I', format!("_give({value}, {}, _g)", self.classes[*index]));
            }
            Type::Borrow(index) => {
                code.pend('I', format!("_handle._lend({value}, {})", self.classes[*index]));
            }
        }
    }
}
