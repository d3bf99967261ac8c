//! JSON: an array of objects, one object a line, or an object of arrays.

use std::collections::HashMap;
use std::fmt;

use serde_core::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_core::{Deserialize, Deserializer};

use crate::builder::Builder;
use crate::column::{Column, Kind, Result};
use crate::dates;
use crate::listed;

/// Columns that objects may have together.
const MAX_COLUMNS: usize = 10_000;

/// Rows that are being read.
struct Rows {
    names: Vec<String>,
    positions: HashMap<String, usize>,
    builders: Vec<Builder>,
    /// How many rows each column has.
    filled: Vec<usize>,
    rows: usize,
    /// Columns that are read as text.
    text: Vec<String>,
    made: String,
}

/// Reads a table: names and columns.
pub fn read(text: &[u8]) -> Result<(Vec<String>, Vec<Column>)> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut mixed: Vec<String> = Vec::new();
    loop {
        let rows = parse(text, std::mem::take(&mut mixed))?;
        mixed.extend(rows.text.iter().cloned());
        let before = mixed.len();
        for (name, builder) in rows.names.iter().zip(&rows.builders) {
            if builder.is_mixed() {
                mixed.push(name.clone());
            }
        }
        if mixed.len() == before {
            let columns = rows.builders.into_iter().map(Builder::finish).collect::<Result<Vec<_>>>()?;
            return Ok((rows.names, columns));
        }
    }
}

fn parse(text: &[u8], as_text: Vec<String>) -> Result<Rows> {
    let mut rows = Rows {
        names: Vec::new(),
        positions: HashMap::new(),
        builders: Vec::new(),
        filled: Vec::new(),
        rows: 0,
        text: as_text,
        made: String::new(),
    };
    let wrong = |error: serde_json::Error, line: usize| {
        let place = if line > 0 { format!("line {line}: ") } else { String::new() };
        format!("{place}{error}")
    };
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => {
            let mut json = serde_json::Deserializer::from_slice(text);
            json.deserialize_seq(Array(&mut rows))
                .and_then(|()| json.end())
                .map_err(|error| wrong(error, 0))?;
        }
        Some(b'{') => {
            let lines = text.split(|byte| *byte == b'\n');
            let several = lines.clone().filter(|line| !line.trim_ascii().is_empty()).nth(1).is_some();
            let mut first = serde_json::Deserializer::from_slice(lines.clone().next().unwrap_or_default());
            let first_is_whole = IgnoredAny::deserialize(&mut first).is_ok();
            if several && first_is_whole {
                for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim_ascii().is_empty()) {
                    let mut json = serde_json::Deserializer::from_slice(line);
                    let read = Row(&mut rows).deserialize(&mut json).and_then(|()| json.end());
                    read.map_err(|error| wrong(error, number + 1))?;
                }
            } else {
                let mut json = serde_json::Deserializer::from_slice(text);
                json.deserialize_map(Object(&mut rows))
                    .and_then(|()| json.end())
                    .map_err(|error| wrong(error, 0))?;
            }
        }
        _ => return Err("this is no JSON table; it is an array of objects, or one object a line".into()),
    }
    for (builder, filled) in rows.builders.iter_mut().zip(&rows.filled) {
        for _ in *filled..rows.rows {
            builder.missing()?;
        }
    }
    Ok(rows)
}

impl Rows {
    fn column(&mut self, name: &str) -> Result<usize> {
        if let Some(position) = self.positions.get(name) {
            return Ok(*position);
        }
        let position = self.names.len();
        if position == MAX_COLUMNS {
            return Err(format!("the objects have more than {MAX_COLUMNS} different keys"));
        }
        self.positions.insert(name.to_owned(), position);
        self.names.push(name.to_owned());
        self.builders.push(Builder::new(self.text.iter().any(|text| text == name), 0));
        self.filled.push(0);
        Ok(position)
    }

    /// Adds a value to a column, in this row.
    fn add(&mut self, position: usize, value: &Cell) -> Result<()> {
        let builder = &mut self.builders[position];
        if self.filled[position] > self.rows {
            return Err(format!("the key `{}` is twice in one object", self.names[position]));
        }
        while self.filled[position] < self.rows {
            builder.missing()?;
            self.filled[position] += 1;
        }
        self.filled[position] += 1;
        if builder.is_text() {
            self.made.clear();
            let text = match value {
                Cell::Null => return builder.missing(),
                Cell::Text(text) => text,
                // As text only where the column is one for certain.
                Cell::Bool(_) | Cell::Int(_) | Cell::Float(_)
                    if self.text.contains(&self.names[position]) =>
                {
                    match value {
                        Cell::Bool(value) => self.made.push_str(if *value { "true" } else { "false" }),
                        Cell::Int(value) => crate::column::write_int(*value, &mut self.made),
                        Cell::Float(value) => crate::column::write_float(*value, &mut self.made),
                        _ => {}
                    }
                    &self.made
                }
                other => return plain(builder, other),
            };
            // The first text of a column decides whether these are dates.
            let first = !builder.has_text() && !self.text.contains(&self.names[position]);
            return match date(text) {
                Some((value, kind)) if first => builder.int(value, kind),
                _ => builder.text(text.as_bytes()),
            };
        }
        plain(builder, value)
    }
}

fn date(text: &str) -> Option<(i64, Kind)> {
    let bytes = text.as_bytes();
    dates::parse_date(bytes)
        .map(|days| (days, Kind::Date))
        .or_else(|| dates::parse_datetime(bytes).map(|micros| (micros, Kind::DateTime)))
}

fn plain(builder: &mut Builder, value: &Cell) -> Result<()> {
    match value {
        Cell::Null => builder.missing(),
        Cell::Bool(value) => builder.bool(*value),
        Cell::Int(value) => builder.int(*value, Kind::Number),
        Cell::Float(value) => builder.float(*value),
        Cell::Text(text) => match date(text) {
            Some((value, kind)) => builder.int(value, kind),
            None => builder.text(text.as_bytes()),
        },
    }
}

/// A value of an object; what is nested is its JSON text.
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
        Ok(if value == crate::column::NO_INT { Cell::Float(value as f64) } else { Cell::Int(value) })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cell, E> {
        Ok(i64::try_from(value).map_or(Cell::Float(value as f64), Cell::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
        Ok(Cell::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cell, E> {
        Ok(Cell::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Cell, E> {
        Ok(Cell::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element::<serde_json::Value>()? {
            values.push(value);
        }
        Ok(Cell::Text(serde_json::Value::Array(values).to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Cell, A::Error> {
        let mut map = serde_json::Map::new();
        while let Some((key, value)) = entries.next_entry::<String, serde_json::Value>()? {
            map.insert(key, value);
        }
        Ok(Cell::Text(serde_json::Value::Object(map).to_string()))
    }
}

struct Array<'a>(&'a mut Rows);

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Row(self.0))?.is_some() {}
        Ok(())
    }
}

struct Row<'a>(&'a mut Rows);

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object, as a row of the table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let rows = self.0;
        while let Some(name) = entries.next_key::<std::borrow::Cow<'_, str>>()? {
            let position = rows.column(&name).map_err(A::Error::custom)?;
            let value = entries.next_value::<Cell>()?;
            rows.add(position, &value).map_err(A::Error::custom)?;
        }
        rows.rows += 1;
        Ok(())
    }
}

/// One object of arrays, or one object that is the only row.
struct Object<'a>(&'a mut Rows);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let rows = self.0;
        let mut length = None;
        let mut row = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            match entries.next_value::<Side>()? {
                Side::Value(value) => row.push((name, value)),
                Side::Column(values) => {
                    let position = rows.column(&name).map_err(A::Error::custom)?;
                    if length.is_some_and(|length| length != values.len()) {
                        let message = format!(
                            "the columns have different lengths: `{name}` has {} values, {} have {}",
                            values.len(),
                            listed(rows.names[..position].iter().map(String::as_str)),
                            length.unwrap_or(0)
                        );
                        return Err(A::Error::custom(message));
                    }
                    length = Some(values.len());
                    for (at, value) in values.iter().enumerate() {
                        rows.rows = at;
                        rows.add(position, value).map_err(A::Error::custom)?;
                    }
                    rows.rows = 0;
                }
            }
        }
        if let Some(length) = length {
            if let Some((name, _)) = row.first() {
                return Err(A::Error::custom(format!("`{name}` is not an array, as the other columns are")));
            }
            rows.rows = length;
            return Ok(());
        }
        for (name, value) in row {
            let position = rows.column(&name).map_err(A::Error::custom)?;
            rows.add(position, &value).map_err(A::Error::custom)?;
        }
        rows.rows = 1;
        Ok(())
    }
}

enum Side {
    Column(Vec<Cell>),
    Value(Cell),
}

impl<'de> Deserialize<'de> for Side {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SideVisitor;
        impl<'de> Visitor<'de> for SideVisitor {
            type Value = Side;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an array or a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Side, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = items.next_element()? {
                    values.push(value);
                }
                Ok(Side::Column(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Side, A::Error> {
                CellVisitor.visit_map(entries).map(Side::Value)
            }

            fn visit_unit<E>(self) -> Result<Side, E> {
                Ok(Side::Value(Cell::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Side, E> {
                Ok(Side::Value(Cell::Bool(value)))
            }

            fn visit_i64<E: serde_core::de::Error>(self, value: i64) -> Result<Side, E> {
                CellVisitor.visit_i64(value).map(Side::Value)
            }

            fn visit_u64<E: serde_core::de::Error>(self, value: u64) -> Result<Side, E> {
                CellVisitor.visit_u64(value).map(Side::Value)
            }

            fn visit_f64<E>(self, value: f64) -> Result<Side, E> {
                Ok(Side::Value(Cell::Float(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Side, E> {
                Ok(Side::Value(Cell::Text(value.to_owned())))
            }
        }
        deserializer.deserialize_any(SideVisitor)
    }
}

/// Writes a text as JSON.
pub fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[start..at]);
        start = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => out.push_str(&format!("\\u{byte:04x}")),
        }
    }
    out.push_str(&text[start..]);
    out.push('"');
}
