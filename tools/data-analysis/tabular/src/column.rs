//! Columns: typed values in one piece each, shared between tables. A missing value has a value of its own in
//! each type, so that no second array is needed.

use std::rc::Rc;

use crate::dates;
use crate::intern::{Dictionary, Interner, MISSING};

/// What went wrong, for the program that called.
pub type Result<T, E = String> = std::result::Result<T, E>;

/// A missing whole number, date or time.
pub const NO_INT: i64 = i64::MIN;
/// A missing truth value; 0 and 1 are the others.
pub const NO_BOOL: u8 = 2;
/// The row that [`Column::take`] has a missing value for.
pub const NO_ROW: u32 = u32::MAX;

/// What whole numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since 1970-01-01.
    DateTime,
}

/// The values of a column.
#[derive(Clone, Debug)]
pub enum Column {
    Int(Rc<Vec<i64>>, Kind),
    /// NaN is missing.
    Float(Rc<Vec<f64>>),
    Bool(Rc<Vec<u8>>),
    Text(Text),
}

/// Texts as positions in a dictionary.
#[derive(Clone, Debug)]
pub struct Text {
    pub codes: Rc<Vec<u32>>,
    pub dictionary: Rc<Dictionary>,
}

/// An empty vector with room for `length` items.
pub fn room<T>(length: usize) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(length).map_err(|_| out_of_memory(length.saturating_mul(size_of::<T>())))?;
    Ok(vector)
}

/// A vector of `length` equal items.
pub fn filled<T: Clone>(value: T, length: usize) -> Result<Vec<T>> {
    let mut vector = room(length)?;
    vector.resize(length, value);
    Ok(vector)
}

/// Collects what an iterator gives, whose length is known.
pub fn collect<T>(items: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut vector = room(items.len())?;
    vector.extend(items);
    Ok(vector)
}

pub fn out_of_memory(bytes: usize) -> String {
    format!(
        "out of memory: {bytes} more bytes are needed; close tables that are not used any more, select fewer columns, \
         or give the tool more in its configuration (`memory = \"1GiB\"`)"
    )
}

impl Column {
    pub fn len(&self) -> usize {
        match self {
            Column::Int(values, _) => values.len(),
            Column::Float(values) => values.len(),
            Column::Bool(values) => values.len(),
            Column::Text(text) => text.codes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Column::Int(_, Kind::Number) => "int64",
            Column::Int(_, Kind::Date) => "date",
            Column::Int(_, Kind::DateTime) => "datetime",
            Column::Float(_) => "float64",
            Column::Bool(_) => "bool",
            Column::Text(_) => "string",
        }
    }

    pub fn missing(&self) -> usize {
        match self {
            Column::Int(values, _) => values.iter().filter(|value| **value == NO_INT).count(),
            Column::Float(values) => values.iter().filter(|value| value.is_nan()).count(),
            Column::Bool(values) => values.iter().filter(|value| **value == NO_BOOL).count(),
            Column::Text(text) => text.codes.iter().filter(|code| **code == MISSING).count(),
        }
    }

    pub fn is_missing(&self, row: usize) -> bool {
        match self {
            Column::Int(values, _) => values[row] == NO_INT,
            Column::Float(values) => values[row].is_nan(),
            Column::Bool(values) => values[row] == NO_BOOL,
            Column::Text(text) => text.codes[row] == MISSING,
        }
    }

    /// The values at these rows; [`NO_ROW`] gives a missing one.
    pub fn take(&self, rows: &[u32]) -> Result<Column> {
        fn pick<T: Copy>(values: &[T], rows: &[u32], missing: T) -> Result<Rc<Vec<T>>> {
            // `NO_ROW` is past the end of any column.
            Ok(Rc::new(collect(
                rows.iter().map(|row| values.get(*row as usize).copied().unwrap_or(missing)),
            )?))
        }
        Ok(match self {
            Column::Int(values, kind) => Column::Int(pick(values, rows, NO_INT)?, *kind),
            Column::Float(values) => Column::Float(pick(values, rows, f64::NAN)?),
            Column::Bool(values) => Column::Bool(pick(values, rows, NO_BOOL)?),
            Column::Text(text) => Column::Text(Text {
                codes: pick(&text.codes, rows, MISSING)?,
                dictionary: Rc::clone(&text.dictionary),
            }),
        })
    }

    /// Appends what the value is written as; false if it is missing.
    pub fn write(&self, row: usize, out: &mut String) -> bool {
        match self {
            Column::Int(values, _) if values[row] == NO_INT => return false,
            Column::Int(values, Kind::Number) => write_int(values[row], out),
            Column::Int(values, Kind::Date) => dates::write_date(values[row], out),
            Column::Int(values, Kind::DateTime) => dates::write_datetime(values[row], out),
            Column::Float(values) if values[row].is_nan() => return false,
            Column::Float(values) => write_float(values[row], out),
            Column::Bool(values) => match values[row] {
                NO_BOOL => return false,
                0 => out.push_str("false"),
                _ => out.push_str("true"),
            },
            Column::Text(text) => match text.codes[row] {
                MISSING => return false,
                code => out.push_str(text.dictionary.get(code)),
            },
        }
        true
    }

    pub fn is_text(&self) -> bool {
        matches!(self, Column::Text(_))
    }

    /// Numbers of any type as floats.
    pub fn floats(&self) -> Result<Option<Rc<Vec<f64>>>> {
        Ok(match self {
            Column::Float(values) => Some(Rc::clone(values)),
            Column::Int(values, Kind::Number) => {
                Some(Rc::new(collect(values.iter().map(|value| float(*value)))?))
            }
            Column::Bool(values) => {
                let float = |value: &u8| if *value == NO_BOOL { f64::NAN } else { f64::from(*value) };
                Some(Rc::new(collect(values.iter().map(float))?))
            }
            _ => None,
        })
    }

    /// A number a row whose order is that of the values; equal values have equal ones, a missing one has the largest.
    pub fn ranks(&self) -> Result<Vec<u64>> {
        match self {
            Column::Int(values, _) => collect(values.iter().map(|value| match *value {
                NO_INT => u64::MAX,
                value => (value as u64 ^ 1 << 63) - 1,
            })),
            Column::Float(values) => collect(values.iter().map(|value| float_rank(*value))),
            Column::Bool(values) => collect(values.iter().map(|value| match *value {
                NO_BOOL => u64::MAX,
                value => u64::from(value),
            })),
            Column::Text(text) => {
                let text = text.compact()?;
                let dictionary = &text.dictionary;
                let mut order: Vec<u32> = collect(0..dictionary.count() as u32)?;
                order.sort_unstable_by(|one, other| dictionary.get(*one).cmp(dictionary.get(*other)));
                let mut ranks = filled(0u64, dictionary.count())?;
                let mut rank = 0;
                for pair in 0..order.len() {
                    if pair > 0 && dictionary.get(order[pair - 1]) != dictionary.get(order[pair]) {
                        rank += 1;
                    }
                    ranks[order[pair] as usize] = rank;
                }
                collect(text.codes.iter().map(|code| ranks.get(*code as usize).copied().unwrap_or(u64::MAX)))
            }
        }
    }

    /// A number a row that is equal exactly where the values are; a missing one has the largest.
    pub fn identities(&self) -> Result<Vec<u64>> {
        match self {
            Column::Text(text) => {
                let text = text.distinct()?;
                collect(text.codes.iter().map(|code| match *code {
                    MISSING => u64::MAX,
                    code => u64::from(code),
                }))
            }
            other => other.ranks(),
        }
    }
}

impl Text {
    pub fn new(codes: Vec<u32>, dictionary: Dictionary) -> Self {
        Text { codes: Rc::new(codes), dictionary: Rc::new(dictionary) }
    }

    pub fn get(&self, row: usize) -> Option<&str> {
        match self.codes[row] {
            MISSING => None,
            code => Some(self.dictionary.get(code)),
        }
    }

    /// The same texts, of a dictionary that is not much larger than the column.
    pub fn compact(&self) -> Result<Text> {
        if self.dictionary.count() <= self.codes.len().saturating_mul(2) + 64 {
            Ok(self.clone())
        } else {
            self.interned()
        }
    }

    /// The same texts, in whose dictionary none is twice.
    pub fn distinct(&self) -> Result<Text> {
        if self.dictionary.distinct { self.compact() } else { self.interned() }
    }

    fn interned(&self) -> Result<Text> {
        let mut interner = Interner::default();
        let mut codes = room(self.codes.len())?;
        for code in self.codes.iter() {
            codes.push(match *code {
                MISSING => MISSING,
                code => interner.add(self.dictionary.get(code).as_bytes())?,
            });
        }
        Ok(Text::new(codes, interner.finish()))
    }

    /// Applies a function to every text; once to each of the dictionary if that is the smaller one.
    pub fn map<T: Clone>(&self, missing: T, mut apply: impl FnMut(&str) -> Result<T>) -> Result<Vec<T>> {
        let mut values = room(self.codes.len())?;
        if self.dictionary.count() <= self.codes.len() {
            let mut each = room(self.dictionary.count())?;
            for code in 0..self.dictionary.count() as u32 {
                each.push(apply(self.dictionary.get(code))?);
            }
            values.extend(self.codes.iter().map(|code| each.get(*code as usize).unwrap_or(&missing).clone()));
        } else {
            for code in self.codes.iter() {
                values.push(match *code {
                    MISSING => missing.clone(),
                    code => apply(self.dictionary.get(code))?,
                });
            }
        }
        Ok(values)
    }

    /// Applies a function that makes a text of each.
    pub fn map_text(&self, mut apply: impl FnMut(&str, &mut String) -> Result<bool>) -> Result<Column> {
        let mut interner = Interner::default();
        let mut made = String::new();
        let codes = self.map(MISSING, |text| {
            made.clear();
            if apply(text, &mut made)? { interner.add(made.as_bytes()) } else { Ok(MISSING) }
        })?;
        Ok(Column::Text(Text::new(codes, interner.finish())))
    }
}

/// A whole number as a float.
pub fn float(value: i64) -> f64 {
    if value == NO_INT { f64::NAN } else { value as f64 }
}

fn float_rank(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    // Zero has two signs and is one number.
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

pub fn write_int(value: i64, out: &mut String) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.extend(digits[start..].iter().map(|digit| char::from(*digit)));
}

/// The shortest digits that are read as the same number.
pub fn write_float(value: f64, out: &mut String) {
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "inf" } else { "-inf" });
    } else {
        out.push_str(ryu::Buffer::new().format_finite(value));
    }
}
