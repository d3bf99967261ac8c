//! Arithmetic and comparisons of columns and values.

use std::collections::HashSet;
use std::rc::Rc;

use super::evaluate::{Value, micros};
use super::{Arithmetic, Comparison};
use tabular::column::{Column, Kind, NO_BOOL, NO_INT, Result, Text, filled, float, room};
use tabular::dates;
use tabular::intern::{Interner, MISSING};

/// The farthest day from 1970: some 9,999 years.
const MAX_DAY: i64 = 3_652_424;

/// Whole numbers of a column, or one for all rows.
enum Ints<'a> {
    Each(&'a [i64]),
    One(i64),
}

enum Floats<'a> {
    Each(&'a [f64]),
    Ints(&'a [i64]),
    One(f64),
}

impl Ints<'_> {
    #[inline]
    fn get(&self, row: usize) -> i64 {
        match self {
            Ints::Each(values) => values[row],
            Ints::One(value) => *value,
        }
    }
}

impl Floats<'_> {
    #[inline]
    fn get(&self, row: usize) -> f64 {
        match self {
            Floats::Each(values) => values[row],
            Floats::Ints(values) => float(values[row]),
            Floats::One(value) => *value,
        }
    }
}

fn ints(value: &Value) -> Option<Ints<'_>> {
    match value {
        Value::Column(Column::Int(values, Kind::Number)) => Some(Ints::Each(values)),
        Value::Int(value) => Some(Ints::One(*value)),
        _ => None,
    }
}

fn floats(value: &Value) -> Option<Floats<'_>> {
    match value {
        Value::Column(Column::Float(values)) => Some(Floats::Each(values)),
        Value::Column(Column::Int(values, Kind::Number)) => Some(Floats::Ints(values)),
        Value::Int(value) => Some(Floats::One(*value as f64)),
        Value::Float(value) => Some(Floats::One(*value)),
        Value::Null => Some(Floats::One(f64::NAN)),
        _ => None,
    }
}

fn rows(one: &Value, other: &Value) -> usize {
    match (one, other) {
        (Value::Column(column), _) | (_, Value::Column(column)) => column.len(),
        _ => 1,
    }
}

pub fn negate(value: Value) -> Result<Value> {
    Ok(match value {
        Value::Int(value) => Value::Int(value.checked_neg().ok_or("too large a number")?),
        Value::Float(value) => Value::Float(-value),
        Value::Null => Value::Null,
        column => Value::Column(arithmetic(Arithmetic::Subtract, &Value::Int(0), &column)?),
    })
}

pub fn arithmetic(operator: Arithmetic, left: &Value, right: &Value) -> Result<Column> {
    let count = rows(left, right);
    match (ints(left), ints(right)) {
        (Some(one), Some(other)) if !matches!(operator, Arithmetic::Divide | Arithmetic::Power) => {
            return whole(operator, &one, &other, count);
        }
        _ => {}
    }
    if let (Some(one), Some(other)) = (floats(left), floats(right)) {
        let mut values = room(count)?;
        macro_rules! each {
            ($compute:expr) => {
                for row in 0..count {
                    let compute: fn(f64, f64) -> f64 = $compute;
                    values.push(compute(one.get(row), other.get(row)));
                }
            };
        }
        match operator {
            Arithmetic::Add => each!(|a, b| a + b),
            Arithmetic::Subtract => each!(|a, b| a - b),
            Arithmetic::Multiply => each!(|a, b| a * b),
            Arithmetic::Divide => each!(|a, b| a / b),
            Arithmetic::FloorDivide => each!(|a, b| (a / b).floor()),
            Arithmetic::Remainder => each!(|a, b| a - b * (a / b).floor()),
            Arithmetic::Power => each!(f64::powf),
        }
        return Ok(Column::Float(Rc::new(values)));
    }
    if operator == Arithmetic::Add && is_text(left) && is_text(right) {
        return append(left, right, count);
    }
    if let Some(column) = with_dates(operator, left, right, count)? {
        return Ok(column);
    }
    let hint = match (is_text(left), is_text(right)) {
        (true, true) => "; make numbers of them with `float(…)`",
        (true, false) | (false, true) if operator == Arithmetic::Add => {
            "; use `str(…)` or `float(…)` on one of them"
        }
        (true, false) | (false, true) => "; make a number of the text with `float(…)`",
        _ => "",
    };
    Err(format!("{} and {} cannot be computed with{hint}", left.type_name(), right.type_name()))
}

fn whole(operator: Arithmetic, one: &Ints, other: &Ints, count: usize) -> Result<Column> {
    let compute = |a: i64, b: i64| match operator {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        // As in a division of floats, there is no result; but whole numbers have no infinity.
        _ if b == 0 => Some(NO_INT),
        Arithmetic::FloorDivide => Some(a.wrapping_div(b) - i64::from(a % b != 0 && (a < 0) != (b < 0))),
        _ => Some(a.wrapping_rem(b) + if a % b != 0 && (a < 0) != (b < 0) { b } else { 0 }),
    };
    let mut values = room(count)?;
    for row in 0..count {
        let (a, b) = (one.get(row), other.get(row));
        values.push(if a == NO_INT || b == NO_INT {
            NO_INT
        } else {
            compute(a, b).ok_or_else(|| {
                format!(
                    "the result for row {row} is too large for int64; compute with `float(…)` of one of them"
                )
            })?
        });
    }
    Ok(Column::Int(Rc::new(values), Kind::Number))
}

fn is_text(value: &Value) -> bool {
    matches!(value, Value::Text(_) | Value::Column(Column::Text(_)))
}

fn append(left: &Value, right: &Value, count: usize) -> Result<Column> {
    fn get(value: &Value, row: usize) -> Option<&str> {
        match value {
            Value::Text(text) => Some(text),
            Value::Column(Column::Text(text)) => text.get(row),
            _ => None,
        }
    }
    let mut interner = Interner::default();
    let mut codes = room(count)?;
    let mut text = String::new();
    for row in 0..count {
        codes.push(match (get(left, row), get(right, row)) {
            (Some(one), Some(other)) => {
                text.clear();
                text.push_str(one);
                text.push_str(other);
                interner.add(text.as_bytes())?
            }
            _ => MISSING,
        });
    }
    Ok(Column::Text(Text::new(codes, interner.finish())))
}

/// Days between dates, seconds between times, and a date some days later or earlier.
fn with_dates(operator: Arithmetic, left: &Value, right: &Value, count: usize) -> Result<Option<Column>> {
    let Value::Column(column @ Column::Int(values, kind)) = left else { return Ok(None) };
    if *kind == Kind::Number || !matches!(operator, Arithmetic::Add | Arithmetic::Subtract) {
        return Ok(None);
    }
    if let Some(days) = ints(right) {
        let unit = if *kind == Kind::Date { 1 } else { dates::DAY };
        let mut moved = room(count)?;
        for row in 0..count {
            let (value, days) = (values[row], days.get(row));
            let days = if operator == Arithmetic::Add { days } else { days.wrapping_neg() };
            moved.push(if value == NO_INT || days == NO_INT {
                NO_INT
            } else {
                let fits = |value: &i64| value.abs() <= MAX_DAY * unit;
                let sum = days.checked_mul(unit).and_then(|days| value.checked_add(days)).filter(fits);
                sum.ok_or_else(|| format!("the date of row {row} would be more than 9,999 years away"))?
            });
        }
        return Ok(Some(Column::Int(Rc::new(moved), *kind)));
    }
    let Value::Column(other @ Column::Int(_, to)) = right else { return Ok(None) };
    if operator == Arithmetic::Add || *to == Kind::Number {
        return Ok(None);
    }
    if *kind == Kind::Date && *to == Kind::Date {
        let Column::Int(days, _) = other else { return Ok(None) };
        return whole(operator, &Ints::Each(values), &Ints::Each(days), count).map(Some);
    }
    let (one, other) = (micros(column)?, micros(other)?);
    let mut seconds = room(count)?;
    for row in 0..count {
        let known = one[row] != NO_INT && other[row] != NO_INT;
        seconds.push(if known { (one[row] - other[row]) as f64 / 1e6 } else { f64::NAN });
    }
    Ok(Some(Column::Float(Rc::new(seconds))))
}

fn truth(holds: bool) -> u8 {
    u8::from(holds)
}

pub fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<Column> {
    let count = rows(left, right);
    let mut found: Vec<u8> = room(count)?;
    if let (Some(one), Some(other)) = (ints(left), ints(right)) {
        // A missing value is the least there is, which must not count.
        macro_rules! each {
            ($holds:tt) => {
                for row in 0..count {
                    let (a, b) = (one.get(row), other.get(row));
                    found.push(truth(a $holds b && a != NO_INT && b != NO_INT));
                }
            };
        }
        match comparison {
            Comparison::Equal => each!(==),
            Comparison::NotEqual => each!(!=),
            Comparison::Less => each!(<),
            Comparison::LessOrEqual => each!(<=),
            Comparison::Greater => each!(>),
            Comparison::GreaterOrEqual => each!(>=),
        }
        return Ok(Column::Bool(Rc::new(found)));
    }
    if let (Some(one), Some(other)) = (floats(left), floats(right)) {
        macro_rules! each {
            ($holds:tt) => {
                for row in 0..count {
                    let (a, b) = (one.get(row), other.get(row));
                    // NaN is unequal to all, and still a missing value.
                    found.push(truth(a $holds b && !a.is_nan() && !b.is_nan()));
                }
            };
        }
        match comparison {
            Comparison::Equal => each!(==),
            Comparison::NotEqual => each!(!=),
            Comparison::Less => each!(<),
            Comparison::LessOrEqual => each!(<=),
            Comparison::Greater => each!(>),
            Comparison::GreaterOrEqual => each!(>=),
        }
        return Ok(Column::Bool(Rc::new(found)));
    }
    match (left, right) {
        (Value::Column(Column::Text(text)), Value::Text(constant)) => {
            found = text.map(0, |text| Ok(truth(comparison.holds(text.cmp(constant.as_str())))))?;
        }
        (Value::Text(_), Value::Column(Column::Text(_)))
        | (Value::Text(_) | Value::Bool(_), Value::Column(Column::Int(..) | Column::Bool(_))) => {
            return compare(comparison.turned(), right, left);
        }
        (Value::Column(Column::Text(one)), Value::Column(Column::Text(other))) => {
            for row in 0..count {
                let order = one.get(row).zip(other.get(row)).map(|(one, other)| one.cmp(other));
                found.push(truth(order.is_some_and(|order| comparison.holds(order))));
            }
        }
        (Value::Column(Column::Bool(one)), Value::Bool(constant)) => {
            let holds = |value: u8| value != NO_BOOL && comparison.holds(value.cmp(&u8::from(*constant)));
            found.extend(one.iter().map(|value| truth(holds(*value))));
        }
        (Value::Column(Column::Bool(one)), Value::Column(Column::Bool(other))) => {
            let holds =
                |one: u8, other: u8| one != NO_BOOL && other != NO_BOOL && comparison.holds(one.cmp(&other));
            found.extend(one.iter().zip(other.iter()).map(|(one, other)| truth(holds(*one, *other))));
        }
        (Value::Column(column @ Column::Int(_, Kind::Date | Kind::DateTime)), Value::Text(text)) => {
            let time = dates::parse_any(text.as_bytes()).ok_or_else(|| {
                format!("'{text}' is not a date; write it as '2024-01-31' or '2024-01-31T12:30:00'")
            })?;
            let holds = |value: &i64| *value != NO_INT && comparison.holds(value.cmp(&time));
            found.extend(micros(column)?.iter().map(|value| truth(holds(value))));
        }
        (
            Value::Column(one @ Column::Int(_, Kind::Date | Kind::DateTime)),
            Value::Column(other @ Column::Int(_, Kind::Date | Kind::DateTime)),
        ) => {
            let holds =
                |one: i64, other: i64| one != NO_INT && other != NO_INT && comparison.holds(one.cmp(&other));
            let (one, other) = (micros(one)?, micros(other)?);
            found.extend(one.iter().zip(other.iter()).map(|(one, other)| truth(holds(*one, *other))));
        }
        _ => {
            let hint = match (is_text(left), is_text(right)) {
                (true, false) | (false, true) => {
                    "; a text stands in quotes, and `float(…)` makes a number of one"
                }
                _ => "",
            };
            return Err(format!("{} and {} cannot be compared{hint}", left.type_name(), right.type_name()));
        }
    }
    Ok(Column::Bool(Rc::new(found)))
}

/// Whether each value is one of some.
pub fn contained(column: &Column, items: &[Value], negated: bool) -> Result<Value> {
    let mut found = match column {
        // Looked up, where comparing with each item would take long.
        Column::Text(text) => {
            let mut wanted = HashSet::new();
            for item in items {
                match item {
                    Value::Text(item) => wanted.insert(item.as_str()),
                    other => {
                        return Err(format!("a string is not {}; put quotes around it", other.type_name()));
                    }
                };
            }
            text.map(NO_BOOL, |text| Ok(truth(wanted.contains(text))))?
        }
        other => {
            let mut found = filled(0, other.len())?;
            let int = |item: &Value| if let Value::Int(item) = item { Some(*item) } else { None };
            match (other, items.iter().map(int).collect::<Option<HashSet<i64>>>()) {
                (Column::Int(values, Kind::Number), Some(wanted)) => {
                    for (found, value) in found.iter_mut().zip(values.iter()) {
                        *found = truth(wanted.contains(value));
                    }
                }
                _ => {
                    for item in items {
                        let equal = compare(Comparison::Equal, &Value::Column(other.clone()), item)?;
                        if let Column::Bool(equal) = equal {
                            for (found, equal) in found.iter_mut().zip(equal.iter()) {
                                *found |= equal;
                            }
                        }
                    }
                }
            }
            for (row, found) in found.iter_mut().enumerate() {
                if other.is_missing(row) {
                    *found = NO_BOOL;
                }
            }
            found
        }
    };
    for value in &mut found {
        // A missing value is neither in the list nor not in it.
        *value = truth(*value != NO_BOOL && (*value == 1) != negated);
    }
    Ok(Value::Column(Column::Bool(Rc::new(found))))
}
