//! Values as JSON has them, from and to the encoding that calls have (`engine::dynamic` says how).
//!
//! | WIT | JSON |
//! |---|---|
//! | integers, `f32`, `f64` | a number; `"NaN"`, `"Infinity"` and `"-Infinity"` where it is none |
//! | `list<u8>` | a string in base64; an array of numbers is taken too |
//! | records | an object; a field that is an option may be left out |
//! | variants | `"case"`, or `{"case": value}` |
//! | enums, flags | a string, an array of strings |
//! | options | the value or `null`; within an option `{"some": value}` |
//! | results | `{"ok": value}`, `{"err": value}` |
//! | an alias of `string` called `json` | the value that it is |
//!
//! Names are those of Python. A resource has no JSON form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::describe::{Description, Function, Kind, Shape, Type};
use super::names::snake;

/// What is wrong with a value, and where.
pub(crate) type Read<T> = Result<T, String>;

/// The arguments of a call, by name.
pub(crate) fn arguments(
    described: &Description,
    function: &Function,
    head: &[u8],
    tail: &[u8],
) -> Read<Map<String, Value>> {
    read_arguments(Reader::new(described, [head, tail]), function)
}

/// As [`arguments`], for checks: what is JSON itself is a string, which need not be valid.
pub(crate) fn arguments_to_check(
    described: &Description,
    function: &Function,
    head: &[u8],
    tail: &[u8],
) -> Read<Map<String, Value>> {
    read_arguments(Reader { opaque: true, ..Reader::new(described, [head, tail]) }, function)
}

fn read_arguments(mut reader: Reader<'_>, function: &Function) -> Read<Map<String, Value>> {
    if let Kind::Method(_) = function.kind {
        reader.take(4)?;
    }
    let mut arguments = Map::new();
    for (name, ty) in &function.parameters {
        arguments.insert(snake(name), reader.value(ty)?);
    }
    Ok(arguments)
}

/// What a function gave, or the error that it ended in.
pub(crate) fn result(
    described: &Description,
    function: &Function,
    bytes: &[u8],
) -> Read<Result<Value, Value>> {
    let mut reader = Reader::new(described, [bytes, &[]]);
    match &function.result {
        None => Ok(Ok(Value::Null)),
        Some(Type::Result(ok, error)) => {
            let failed = reader.take(1)?[0] != 0;
            let value = match if failed { error } else { ok } {
                Some(ty) => reader.value(ty)?,
                None => Value::Null,
            };
            Ok(if failed { Err(value) } else { Ok(value) })
        }
        Some(ty) => Ok(Ok(reader.value(ty)?)),
    }
}

/// Encodes arguments: an array of them in order, or an object by name.
pub(crate) fn encode_arguments(described: &Description, function: &Function, given: &Value) -> Read<Vec<u8>> {
    let mut writer = Writer { described, out: Vec::new() };
    let parameters = &function.parameters;
    match given {
        Value::Array(values) => {
            if values.len() > parameters.len() {
                return Err(format!(
                    "there are {} arguments, and {} are taken",
                    values.len(),
                    parameters.len()
                ));
            }
            for (position, (name, ty)) in parameters.iter().enumerate() {
                let value = values.get(position).or(function.is_optional(position).then_some(&Value::Null));
                writer.value(
                    ty,
                    value.ok_or_else(|| format!("`{}` is missing", snake(name)))?,
                    &snake(name),
                )?;
            }
        }
        Value::Object(values) => {
            let known: Vec<String> = parameters.iter().map(|(name, _)| snake(name)).collect();
            if let Some(unknown) = values.keys().find(|key| !known.contains(key)) {
                return Err(format!("there is no parameter `{unknown}`; there are {}", known.join(", ")));
            }
            for ((_, ty), name) in parameters.iter().zip(&known) {
                let missing = matches!(ty, Type::Option(_)).then_some(&Value::Null);
                let value = values.get(name).or(missing).ok_or_else(|| format!("`{name}` is missing"))?;
                writer.value(ty, value, name)?;
            }
        }
        _ => return Err("arguments are an array or an object".to_owned()),
    }
    Ok(writer.out)
}

/// Encodes what a function gives.
pub(crate) fn encode_result(
    described: &Description,
    function: &Function,
    given: Result<&Value, &Value>,
) -> Read<Vec<u8>> {
    let mut writer = Writer { described, out: Vec::new() };
    match (&function.result, given) {
        (Some(Type::Result(ok, error)), given) => {
            let (tag, side, value) = match given {
                Ok(value) => (0, ok, value),
                Err(value) => (1, error, value),
            };
            writer.out.push(tag);
            if let Some(ty) = side {
                writer.value(ty, value, "result")?;
            }
        }
        (_, Err(_)) => return Err("it failed, and its type has no error".to_owned()),
        (None, Ok(_)) => {}
        (Some(ty), Ok(value)) => writer.value(ty, value, "result")?,
    }
    Ok(writer.out)
}

/// Values that are read of one call: each takes many times its bytes.
const MAX_VALUES: usize = 1 << 20;

struct Reader<'a> {
    described: &'a Description,
    parts: [&'a [u8]; 2],
    /// Whether JSON is left as text.
    opaque: bool,
    values_left: usize,
}

impl<'a> Reader<'a> {
    fn new(described: &'a Description, parts: [&'a [u8]; 2]) -> Self {
        Reader { described, parts, opaque: false, values_left: MAX_VALUES }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        // The second part begins where a value does.
        if self.parts[0].is_empty() {
            self.parts.swap(0, 1);
        }
        let taken = self.parts[0].split_at_checked(count).ok_or("the encoding is too short")?;
        self.parts[0] = taken.1;
        Ok(taken.0)
    }

    fn word(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| "a word is cut")?))
    }

    fn count(&mut self) -> Read<usize> {
        let count = self.word()? as usize;
        let left = self.parts[0].len() + self.parts[1].len();
        // Elements without bytes are none that a list has.
        if count > left { Err("a list is longer than its bytes".to_owned()) } else { Ok(count) }
    }

    fn value(&mut self, ty: &Type) -> Read<Value> {
        self.values_left = self.values_left.checked_sub(1).ok_or_else(|| {
            format!("there are more than {MAX_VALUES} values in it; pass numbers as bytes, or less at once")
        })?;
        macro_rules! number {
            ($ty:ty) => {{
                let bytes = self.take(size_of::<$ty>())?;
                <$ty>::from_le_bytes(bytes.try_into().map_err(|_| "a number is cut")?).into()
            }};
        }
        Ok(match ty {
            Type::Bool => Value::Bool(self.take(1)?[0] != 0),
            Type::S8 => number!(i8),
            Type::U8 => number!(u8),
            Type::S16 => number!(i16),
            Type::U16 => number!(u16),
            Type::S32 => number!(i32),
            Type::U32 => number!(u32),
            Type::S64 => number!(i64),
            Type::U64 => number!(u64),
            Type::F32 => {
                let number: f32 = number!(f32);
                floating(number.into())
            }
            Type::F64 => {
                let number: f64 = number!(f64);
                floating(number)
            }
            Type::Char => {
                let letter = char::from_u32(self.word()?).ok_or("a char is none")?;
                Value::String(letter.into())
            }
            Type::String => {
                let length = self.word()? as usize;
                let bytes = self.take(length)?;
                Value::String(std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8")?.to_owned())
            }
            Type::Json if self.opaque => self.value(&Type::String)?,
            Type::Json => {
                let length = self.word()? as usize;
                serde_json::from_slice(self.take(length)?)
                    .map_err(|error| format!("it is not JSON: {error}"))?
            }
            Type::List(element) if **element == Type::U8 => {
                let count = self.count()?;
                base64(self.take(count)?)
            }
            Type::List(element) => {
                let count = self.count()?;
                Value::Array((0..count).map(|_| self.value(element)).collect::<Read<_>>()?)
            }
            Type::Array(element, count) => {
                Value::Array((0..*count).map(|_| self.value(element)).collect::<Read<_>>()?)
            }
            Type::Map(key, entry) => {
                let mut map = Map::new();
                for _ in 0..self.count()? {
                    let key = match self.value(key)? {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    map.insert(key, self.value(entry)?);
                }
                Value::Object(map)
            }
            Type::Tuple(types) => Value::Array(types.iter().map(|ty| self.value(ty)).collect::<Read<_>>()?),
            Type::Option(inner) => match (self.take(1)?[0], &**inner) {
                (0, _) => Value::Null,
                (_, Type::Option(_)) => tagged("some", self.value(inner)?),
                _ => self.value(inner)?,
            },
            Type::Result(ok, error) => {
                let failed = self.take(1)?[0] != 0;
                let value = match if failed { error } else { ok } {
                    Some(ty) => self.value(ty)?,
                    None => Value::Null,
                };
                tagged(if failed { "err" } else { "ok" }, value)
            }
            Type::Named(index) => self.named(*index)?,
            Type::Own(_) | Type::Borrow(_) => {
                self.take(4)?;
                Value::String("<resource>".to_owned())
            }
        })
    }

    fn named(&mut self, index: usize) -> Read<Value> {
        let described = self.described;
        Ok(match &described.types[index].shape {
            Shape::Record(fields) => {
                let mut map = Map::new();
                for field in fields {
                    map.insert(snake(&field.name), self.value(&field.ty)?);
                }
                Value::Object(map)
            }
            Shape::Variant(cases) => {
                let case = cases.get(self.word()? as usize).ok_or("a variant has no such case")?;
                match &case.ty {
                    None => Value::String(snake(&case.name)),
                    Some(ty) => tagged(&snake(&case.name), self.value(ty)?),
                }
            }
            Shape::Enum(cases) => {
                let case = cases.get(self.word()? as usize).ok_or("an enum has no such case")?;
                Value::String(snake(&case.name))
            }
            Shape::Flags(flags) => {
                let words = (0..flags.len().div_ceil(32)).map(|_| self.word()).collect::<Read<Vec<_>>>()?;
                let set = flags.iter().enumerate();
                let set = set.filter(|(position, _)| words[position / 32] >> (position % 32) & 1 == 1);
                Value::Array(set.map(|(_, flag)| Value::String(snake(&flag.name))).collect())
            }
            Shape::Resource => {
                self.take(4)?;
                Value::String("<resource>".to_owned())
            }
        })
    }
}

pub(super) fn tagged(tag: &str, value: Value) -> Value {
    Value::Object([(tag.to_owned(), value)].into_iter().collect())
}

/// Bytes as JSON has them.
pub(super) fn base64(bytes: &[u8]) -> Value {
    Value::String(STANDARD.encode(bytes))
}

pub(super) fn floating(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

struct Writer<'a> {
    described: &'a Description,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn word(&mut self, value: usize) -> Read<()> {
        let value = u32::try_from(value).map_err(|_| "there is too much of it")?;
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// Encodes `value`, which lies at `place`.
    fn value(&mut self, ty: &Type, value: &Value, place: &str) -> Read<()> {
        let wrong = |wanted: &str| format!("`{place}` must be {wanted}, not {}", shown(value));
        macro_rules! integer {
            ($ty:ty, $name:literal) => {{
                let number = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
                let number = number.and_then(|number| <$ty>::try_from(number).ok());
                self.out.extend_from_slice(&number.ok_or_else(|| wrong($name))?.to_le_bytes());
            }};
        }
        match ty {
            Type::Bool => self.out.push(value.as_bool().ok_or_else(|| wrong("true or false"))?.into()),
            Type::S8 => integer!(i8, "s8"),
            Type::U8 => integer!(u8, "u8"),
            Type::S16 => integer!(i16, "s16"),
            Type::U16 => integer!(u16, "u16"),
            Type::S32 => integer!(i32, "s32"),
            Type::U32 => integer!(u32, "u32"),
            Type::S64 => integer!(i64, "s64"),
            Type::U64 => integer!(u64, "u64"),
            Type::F32 | Type::F64 => {
                let number = match value {
                    Value::String(text) if text == "NaN" => Some(f64::NAN),
                    Value::String(text) if text == "Infinity" => Some(f64::INFINITY),
                    Value::String(text) if text == "-Infinity" => Some(f64::NEG_INFINITY),
                    other => other.as_f64(),
                };
                let number = number.ok_or_else(|| wrong("a number"))?;
                match ty {
                    Type::F32 if number.is_finite() && !(number as f32).is_finite() => {
                        return Err(wrong("a number that f32 can hold"));
                    }
                    Type::F32 => self.out.extend_from_slice(&(number as f32).to_le_bytes()),
                    _ => self.out.extend_from_slice(&number.to_le_bytes()),
                }
            }
            Type::Char => {
                let mut letters = value.as_str().unwrap_or_default().chars();
                match (letters.next(), letters.next()) {
                    (Some(letter), None) => self.out.extend_from_slice(&(letter as u32).to_le_bytes()),
                    _ => return Err(wrong("a string of one character")),
                }
            }
            Type::String => {
                let text = value.as_str().ok_or_else(|| wrong("a string"))?;
                self.word(text.len())?;
                self.out.extend_from_slice(text.as_bytes());
            }
            Type::Json => {
                let text = value.to_string();
                self.word(text.len())?;
                self.out.extend_from_slice(text.as_bytes());
            }
            Type::List(element) => match value {
                Value::String(text) if **element == Type::U8 => {
                    let bytes = STANDARD.decode(text).map_err(|_| wrong("a string in base64"))?;
                    self.word(bytes.len())?;
                    self.out.extend_from_slice(&bytes);
                }
                Value::Array(items) => {
                    self.word(items.len())?;
                    self.items(element, items, place)?;
                }
                _ => return Err(wrong("an array")),
            },
            Type::Array(element, count) => match value {
                Value::Array(items) if items.len() == *count as usize => self.items(element, items, place)?,
                _ => return Err(wrong(&format!("an array of {count}"))),
            },
            Type::Map(key, entry) => {
                let map = value.as_object().ok_or_else(|| wrong("an object"))?;
                self.word(map.len())?;
                for (name, value) in map {
                    let key_value = match **key {
                        Type::String | Type::Char => Value::String(name.clone()),
                        _ => serde_json::from_str(name)
                            .map_err(|_| format!("`{place}`: `{name}` is no key"))?,
                    };
                    self.value(key, &key_value, &format!("{place}: a key"))?;
                    self.value(entry, value, &format!("{place}.{name}"))?;
                }
            }
            Type::Tuple(types) => match value {
                Value::Array(items) if items.len() == types.len() => {
                    for (position, (ty, item)) in types.iter().zip(items).enumerate() {
                        self.value(ty, item, &format!("{place}[{position}]"))?;
                    }
                }
                _ => return Err(wrong(&format!("an array of {}", types.len()))),
            },
            Type::Option(inner) => {
                if value.is_null() {
                    self.out.push(0);
                    return Ok(());
                }
                self.out.push(1);
                match **inner {
                    Type::Option(_) => {
                        let some = value.get("some").ok_or_else(|| wrong("null or {\"some\": value}"))?;
                        self.value(inner, some, place)?;
                    }
                    _ => self.value(inner, value, place)?,
                }
            }
            Type::Result(ok, error) => {
                let (tag, side, value) = match (value.get("ok"), value.get("err")) {
                    (Some(value), None) => (0, ok, value),
                    (None, Some(value)) => (1, error, value),
                    _ => return Err(wrong("{\"ok\": value} or {\"err\": value}")),
                };
                self.out.push(tag);
                if let Some(ty) = side {
                    self.value(ty, value, place)?;
                }
            }
            Type::Named(index) => self.named(*index, value, place)?,
            Type::Own(_) | Type::Borrow(_) => {
                return Err(format!("`{place}` is a resource, which JSON cannot hold: call it from Python"));
            }
        }
        Ok(())
    }

    fn items(&mut self, element: &Type, items: &[Value], place: &str) -> Read<()> {
        items
            .iter()
            .enumerate()
            .try_for_each(|(position, item)| self.value(element, item, &format!("{place}[{position}]")))
    }

    fn named(&mut self, index: usize, value: &Value, place: &str) -> Read<()> {
        let described = self.described;
        let wrong = |wanted: &str| format!("`{place}` must be {wanted}, not {}", shown(value));
        let one_of = |names: Vec<String>| format!("one of {}", names.join(", "));
        match &described.types[index].shape {
            Shape::Record(fields) => {
                let map = value.as_object().ok_or_else(|| wrong("an object"))?;
                let known: Vec<String> = fields.iter().map(|field| snake(&field.name)).collect();
                if let Some(unknown) = map.keys().find(|key| !known.contains(key)) {
                    return Err(format!(
                        "`{place}` has no field `{unknown}`; there are {}",
                        known.join(", ")
                    ));
                }
                for (field, name) in fields.iter().zip(&known) {
                    let missing = matches!(field.ty, Type::Option(_)).then_some(&Value::Null);
                    let value = map.get(name).or(missing);
                    let value = value.ok_or_else(|| format!("`{place}.{name}` is missing"))?;
                    self.value(&field.ty, value, &format!("{place}.{name}"))?;
                }
            }
            Shape::Variant(cases) => {
                let (name, payload) = match value {
                    Value::String(name) => (name.as_str(), &Value::Null),
                    Value::Object(map) if map.len() == 1 => map
                        .iter()
                        .next()
                        .map(|(name, value)| (name.as_str(), value))
                        .unwrap_or(("", &Value::Null)),
                    _ => ("", &Value::Null),
                };
                let Some(position) = cases.iter().position(|case| snake(&case.name) == name) else {
                    return Err(wrong(&one_of(cases.iter().map(|case| snake(&case.name)).collect())));
                };
                self.word(position)?;
                match &cases[position].ty {
                    Some(ty) => self.value(ty, payload, &format!("{place}.{name}"))?,
                    None if payload.is_null() => {}
                    None => return Err(format!("`{place}` is the case `{name}`, which carries nothing")),
                }
            }
            Shape::Enum(cases) => {
                let position = cases.iter().position(|case| value.as_str() == Some(&snake(&case.name)));
                let names = || one_of(cases.iter().map(|case| snake(&case.name)).collect());
                self.word(position.ok_or_else(|| wrong(&names()))?)?;
            }
            Shape::Flags(flags) => {
                let mut words = vec![0u32; flags.len().div_ceil(32)];
                for name in value.as_array().ok_or_else(|| wrong("an array of flags"))? {
                    let position = flags.iter().position(|flag| name.as_str() == Some(&snake(&flag.name)));
                    let names = || one_of(flags.iter().map(|flag| snake(&flag.name)).collect());
                    let position = position.ok_or_else(|| wrong(&names()))?;
                    words[position / 32] |= 1 << (position % 32);
                }
                words.iter().for_each(|word| self.out.extend_from_slice(&word.to_le_bytes()));
            }
            Shape::Resource => return Err(format!("`{place}` is a resource, which JSON cannot hold")),
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
