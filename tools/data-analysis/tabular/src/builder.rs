//! Columns while they are read: the type is that of the values so far.

use std::rc::Rc;

use crate::column::{Column, Kind, NO_BOOL, NO_INT, Result, Text, filled, float, out_of_memory};
use crate::dates;
use crate::intern::{Dictionary, Interner, MISSING};
use crate::number::{Number, is_missing, parse, parse_bool, trim};

/// A column that is being read.
pub struct Builder {
    values: Values,
    /// How many values there will be, as far as one can tell; room is made for so many at once.
    expected: usize,
}

enum Values {
    /// Nothing but missing values so far, and whether one had a word for it.
    Missing(usize, bool),
    Int(Vec<i64>, Kind),
    Float(Vec<f64>),
    Bool(Vec<u8>),
    Text(Vec<u32>, Interner),
    /// Text of which few values are there twice.
    Texts(Vec<u32>, Dictionary),
    /// Values of different types came, whose texts are gone: it must be read again as text.
    Mixed,
}

/// Texts after which it is decided whether a dictionary pays.
const TRIAL: usize = 1 << 16;

#[inline]
fn push<T>(vector: &mut Vec<T>, value: T, expected: usize) -> Result<()> {
    if vector.len() == vector.capacity() {
        make_room(vector, expected)?;
    }
    vector.push(value);
    Ok(())
}

#[inline(never)]
fn make_room<T>(vector: &mut Vec<T>, expected: usize) -> Result<()> {
    // Not by doubling: what was expected was nearly right, and memory given back is not given back to the host.
    let wanted = expected.saturating_sub(vector.len()).max(vector.len() / 8).max(1024);
    vector.try_reserve_exact(wanted).map_err(|_| out_of_memory(wanted * size_of::<T>()))
}

impl Builder {
    pub fn new(text: bool, expected: usize) -> Self {
        let values =
            if text { Values::Text(Vec::new(), Interner::default()) } else { Values::Missing(0, false) };
        Builder { values, expected }
    }

    pub fn expect(&mut self, expected: usize) {
        self.expected = expected;
    }

    pub fn is_mixed(&self) -> bool {
        matches!(self.values, Values::Mixed)
    }

    /// Adds a field of a CSV file. `quoted` fields that are empty are texts.
    #[inline]
    pub fn field(&mut self, field: &[u8], quoted: bool) -> Result<()> {
        match &mut self.values {
            Values::Int(values, Kind::Number) => {
                if let Some(Number::Int(value)) = parse(field) {
                    return push(values, value, self.expected);
                }
            }
            Values::Float(values) => match parse(field) {
                Some(Number::Float(value)) => return push(values, value, self.expected),
                Some(Number::Int(value)) => return push(values, value as f64, self.expected),
                None => {}
            },
            Values::Int(values, Kind::Date) => {
                if let Some(value) = dates::parse_date(field) {
                    return push(values, value, self.expected);
                }
            }
            Values::Text(codes, interner) => {
                let code = if field.is_empty() && !quoted { MISSING } else { interner.add(field)? };
                push(codes, code, self.expected)?;
                if codes.len() == TRIAL {
                    self.judge();
                }
                return Ok(());
            }
            Values::Texts(codes, dictionary) => {
                let code = if field.is_empty() && !quoted { MISSING } else { dictionary.append(field)? };
                return push(codes, code, self.expected);
            }
            _ => {}
        }
        self.other(field, quoted)
    }

    /// Gives the dictionary up if most texts are new.
    fn judge(&mut self) {
        match &mut self.values {
            Values::Text(codes, interner) if interner.count() > codes.len() / 2 => {
                self.values = Values::Texts(std::mem::take(codes), std::mem::take(interner).forget());
            }
            _ => {}
        }
    }

    /// A field that is not of the type of those before.
    #[inline(never)]
    fn other(&mut self, field: &[u8], quoted: bool) -> Result<()> {
        let trimmed = trim(field);
        if is_missing(trimmed) {
            // In a column of text the word is text; whether it is one is not known yet.
            if let Values::Missing(_, word) = &mut self.values {
                *word |= quoted || !field.is_empty();
            }
            return self.missing();
        }
        if let Some(number) = parse(trimmed) {
            return match number {
                Number::Int(value) => self.int(value, Kind::Number),
                Number::Float(value) => self.float(value),
            };
        }
        if let Some(value) = dates::parse_date(trimmed) {
            return self.int(value, Kind::Date);
        }
        if let Some(value) = dates::parse_datetime(trimmed) {
            return self.int(value, Kind::DateTime);
        }
        if let Some(value) = parse_bool(trimmed) {
            return self.bool(value);
        }
        self.text(field)
    }

    pub fn missing(&mut self) -> Result<()> {
        match &mut self.values {
            Values::Missing(count, _) => *count += 1,
            Values::Int(values, _) => push(values, NO_INT, self.expected)?,
            Values::Float(values) => push(values, f64::NAN, self.expected)?,
            Values::Bool(values) => push(values, NO_BOOL, self.expected)?,
            Values::Text(codes, _) | Values::Texts(codes, _) => push(codes, MISSING, self.expected)?,
            Values::Mixed => {}
        }
        Ok(())
    }

    pub fn int(&mut self, value: i64, of: Kind) -> Result<()> {
        match &mut self.values {
            Values::Missing(count, _) => {
                let mut values = filled(NO_INT, *count)?;
                push(&mut values, value, self.expected)?;
                self.values = Values::Int(values, of);
            }
            Values::Int(values, kind) if *kind == of => push(values, value, self.expected)?,
            Values::Int(values, kind @ Kind::Date) if of == Kind::DateTime => {
                for day in values.iter_mut().filter(|day| **day != NO_INT) {
                    *day *= dates::DAY;
                }
                *kind = Kind::DateTime;
                push(values, value, self.expected)?;
            }
            Values::Int(values, Kind::DateTime) if of == Kind::Date => {
                push(values, value * dates::DAY, self.expected)?;
            }
            Values::Float(values) if of == Kind::Number => push(values, value as f64, self.expected)?,
            _ => self.values = Values::Mixed,
        }
        Ok(())
    }

    pub fn float(&mut self, value: f64) -> Result<()> {
        match &mut self.values {
            Values::Missing(count, _) => {
                let mut values = filled(f64::NAN, *count)?;
                push(&mut values, value, self.expected)?;
                self.values = Values::Float(values);
            }
            Values::Float(values) => push(values, value, self.expected)?,
            Values::Int(values, Kind::Number) => {
                let mut floats = Vec::new();
                let wanted = values.capacity().max(values.len() + 1);
                floats.try_reserve_exact(wanted).map_err(|_| out_of_memory(wanted * 8))?;
                floats.extend(values.iter().map(|value| float(*value)));
                floats.push(value);
                self.values = Values::Float(floats);
            }
            _ => self.values = Values::Mixed,
        }
        Ok(())
    }

    pub fn bool(&mut self, value: bool) -> Result<()> {
        match &mut self.values {
            Values::Missing(count, _) => {
                let mut values = filled(NO_BOOL, *count)?;
                push(&mut values, u8::from(value), self.expected)?;
                self.values = Values::Bool(values);
            }
            Values::Bool(values) => push(values, u8::from(value), self.expected)?,
            _ => self.values = Values::Mixed,
        }
        Ok(())
    }

    pub fn text(&mut self, text: &[u8]) -> Result<()> {
        match &mut self.values {
            Values::Missing(count, false) => {
                let mut interner = Interner::default();
                let mut codes = filled(MISSING, *count)?;
                push(&mut codes, interner.add(text)?, self.expected)?;
                self.values = Values::Text(codes, interner);
            }
            Values::Text(codes, interner) => push(codes, interner.add(text)?, self.expected)?,
            Values::Texts(codes, dictionary) => push(codes, dictionary.append(text)?, self.expected)?,
            _ => self.values = Values::Mixed,
        }
        Ok(())
    }

    /// Whether there is text.
    pub fn has_text(&self) -> bool {
        matches!(self.values, Values::Text(..) | Values::Texts(..))
    }

    /// Whether all values so far are text or missing.
    pub fn is_text(&self) -> bool {
        matches!(self.values, Values::Text(..) | Values::Texts(..) | Values::Missing(..))
    }

    pub fn finish(self) -> Result<Column> {
        Ok(match self.values {
            Values::Missing(count, _) => {
                Column::Text(Text::new(filled(MISSING, count)?, Interner::default().finish()))
            }
            Values::Int(values, kind) => Column::Int(Rc::new(values), kind),
            Values::Float(values) => Column::Float(Rc::new(values)),
            Values::Bool(values) => Column::Bool(Rc::new(values)),
            Values::Text(codes, interner) => Column::Text(Text::new(codes, interner.finish())),
            Values::Texts(codes, dictionary) => Column::Text(Text::new(codes, dictionary)),
            Values::Mixed => return Err("a column has values of different types".into()),
        })
    }
}
