//! Expressions over whole columns.

use std::rc::Rc;

use super::operators::{arithmetic, compare, contained, negate};
use super::{Expression, Node, NodeKind, calls, pointed};
use crate::table::Table;
use tabular::column::{Column, Kind, NO_BOOL, NO_INT, Result, Text, collect, filled, room};
use tabular::dates;
use tabular::intern::{Interner, MISSING};

/// What a part of an expression gives: a column, or one value for all rows.
#[derive(Clone)]
pub enum Value {
    Column(Column),
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Null,
}

/// An error, and the byte of the expression that it is about.
pub type Failed = (usize, String);

/// The column that an expression gives.
pub fn evaluate(expression: &Expression, table: &Table) -> Result<Column> {
    let context = Context { table };
    let value =
        context.value(&expression.root).map_err(|(at, message)| pointed(&expression.text, at, &message))?;
    value.into_column(table.rows)
}

pub struct Context<'a> {
    pub table: &'a Table,
}

impl Value {
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Column(column) => column.type_name(),
            Value::Int(_) => "int64",
            Value::Float(_) => "float64",
            Value::Bool(_) => "bool",
            Value::Text(_) => "string",
            Value::Null => "null",
        }
    }

    /// The value of every row.
    pub fn into_column(self, rows: usize) -> Result<Column> {
        Ok(match self {
            Value::Column(column) => column,
            Value::Int(value) => Column::Int(Rc::new(filled(value, rows)?), Kind::Number),
            Value::Float(value) => Column::Float(Rc::new(filled(value, rows)?)),
            Value::Bool(value) => Column::Bool(Rc::new(filled(u8::from(value), rows)?)),
            Value::Text(text) => {
                let mut interner = Interner::default();
                let code = interner.add(text.as_bytes())?;
                Column::Text(Text::new(filled(code, rows)?, interner.finish()))
            }
            Value::Null => Column::Float(Rc::new(filled(f64::NAN, rows)?)),
        })
    }

    /// What the only row of a column holds.
    fn only(column: &Column) -> Value {
        if column.is_missing(0) {
            return Value::Null;
        }
        match column {
            Column::Int(values, Kind::Number) => Value::Int(values[0]),
            Column::Float(values) => Value::Float(values[0]),
            Column::Bool(values) => Value::Bool(values[0] == 1),
            Column::Text(text) => Value::Text(text.get(0).unwrap_or_default().to_owned()),
            Column::Int(..) => Value::Column(column.clone()),
        }
    }
}

impl Context<'_> {
    pub fn value(&self, node: &Node) -> Result<Value, Failed> {
        let here = |message: String| (node.at, message);
        Ok(match &node.kind {
            NodeKind::Int(value) => Value::Int(*value),
            NodeKind::Float(value) => Value::Float(*value),
            NodeKind::Text(text) => Value::Text(text.clone()),
            NodeKind::Bool(value) => Value::Bool(*value),
            NodeKind::Null => Value::Null,
            NodeKind::Column(name) => Value::Column(self.table.column(name).map_err(here)?.clone()),
            NodeKind::Negate(inner) => negate(self.value(inner)?).map_err(here)?,
            NodeKind::Arithmetic(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.with_columns([left, right], |[left, right]| arithmetic(*operator, &left, &right))
                    .map_err(here)?
            }
            NodeKind::Compare(comparison, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                if matches!(left, Value::Null) || matches!(right, Value::Null) {
                    return Err(here("nothing is equal to null; write `is null` or `is not null`".into()));
                }
                self.with_columns([left, right], |[left, right]| compare(*comparison, &left, &right))
                    .map_err(here)?
            }
            NodeKind::Not(inner) => {
                let mut values = self.condition(inner)?;
                for value in &mut values {
                    *value = [1, 0, NO_BOOL][usize::from(*value)];
                }
                Value::Column(Column::Bool(Rc::new(values)))
            }
            NodeKind::Logic { all, parts } => {
                let mut values = filled(u8::from(*all), self.table.rows).map_err(here)?;
                for part in parts {
                    let more = self.condition(part)?;
                    for (value, more) in values.iter_mut().zip(more) {
                        *value = match (*value, more) {
                            (0, _) | (_, 0) if *all => 0,
                            (1, _) | (_, 1) if !*all => 1,
                            (NO_BOOL, _) | (_, NO_BOOL) => NO_BOOL,
                            (value, _) => value,
                        };
                    }
                }
                Value::Column(Column::Bool(Rc::new(values)))
            }
            NodeKind::In { value, items, negated } => {
                let column = self.value(value)?.into_column(self.table.rows).map_err(here)?;
                let items = items
                    .iter()
                    .map(|item| match self.value(item)? {
                        Value::Column(_) => {
                            Err((item.at, "only values can be in this list, no columns".to_owned()))
                        }
                        value => Ok(value),
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                contained(&column, &items, *negated).map_err(here)?
            }
            NodeKind::IsNull { value, negated } => {
                let column = self.value(value)?.into_column(self.table.rows).map_err(here)?;
                let found = (0..column.len()).map(|row| u8::from(column.is_missing(row) != *negated));
                Value::Column(Column::Bool(Rc::new(collect(found).map_err(here)?)))
            }
            NodeKind::Call(name, arguments) => calls::call(self, node.at, name, arguments)?,
        })
    }

    /// Computes with one row if no operand is a column.
    pub fn with_columns<const N: usize>(
        &self,
        values: [Value; N],
        compute: impl FnOnce([Value; N]) -> Result<Column>,
    ) -> Result<Value> {
        if values.iter().any(|value| matches!(value, Value::Column(_))) {
            return compute(values).map(Value::Column);
        }
        let mut columns = values;
        for value in &mut columns {
            let constant = std::mem::replace(value, Value::Null);
            *value = Value::Column(constant.into_column(1)?);
        }
        Ok(Value::only(&compute(columns)?))
    }

    /// Truth values, one a row.
    pub fn condition(&self, node: &Node) -> Result<Vec<u8>, Failed> {
        let here = |message: String| (node.at, message);
        match self.value(node)? {
            Value::Bool(value) => filled(u8::from(value), self.table.rows).map_err(here),
            Value::Null => filled(NO_BOOL, self.table.rows).map_err(here),
            Value::Column(Column::Bool(values)) => match Rc::try_unwrap(values) {
                Ok(values) => Ok(values),
                Err(shared) => collect(shared.iter().copied()).map_err(here),
            },
            other => Err(here(format!(
                "expected a condition, found a value of type {}; compare it with something, as in `x > 0`",
                other.type_name()
            ))),
        }
    }
}

/// One column after the other, of the more general of their types.
pub fn concatenate(one: &Column, other: &Column) -> Result<Column> {
    fn joined<T: Copy>(one: &[T], other: &[T]) -> Result<Rc<Vec<T>>> {
        let mut values = room(one.len() + other.len())?;
        values.extend_from_slice(one);
        values.extend_from_slice(other);
        Ok(Rc::new(values))
    }
    let nothing = |column: &Column| column.missing() == column.len();
    Ok(match (one, other) {
        (Column::Int(one, kind), Column::Int(other, same)) if kind == same => {
            Column::Int(joined(one, other)?, *kind)
        }
        (Column::Int(_, Kind::Date), Column::Int(_, Kind::DateTime))
        | (Column::Int(_, Kind::DateTime), Column::Int(_, Kind::Date)) => {
            Column::Int(joined(&micros(one)?, &micros(other)?)?, Kind::DateTime)
        }
        (Column::Bool(one), Column::Bool(other)) => Column::Bool(joined(one, other)?),
        (Column::Text(one), Column::Text(other)) => {
            let mut interner = Interner::default();
            let mut codes = room(one.codes.len() + other.codes.len())?;
            for text in [one, other] {
                codes.extend(text.map(MISSING, |text| interner.add(text.as_bytes()))?);
            }
            Column::Text(Text::new(codes, interner.finish()))
        }
        (
            Column::Int(_, Kind::Number) | Column::Float(_),
            Column::Int(_, Kind::Number) | Column::Float(_),
        ) => {
            let (one, other) = (one.floats()?.unwrap_or_default(), other.floats()?.unwrap_or_default());
            Column::Float(joined(&one, &other)?)
        }
        // Where nothing is there, the type was a guess.
        (empty, other) if nothing(empty) => concatenate(&missing_like(other, empty.len())?, other)?,
        (one, empty) if nothing(empty) => concatenate(one, &missing_like(one, empty.len())?)?,
        (one, other) => {
            return Err(format!(
                "{} and {} do not go together; make one of them the other with `str(…)`, `float(…)` or `date(…)`",
                one.type_name(),
                other.type_name()
            ));
        }
    })
}

fn missing_like(column: &Column, rows: usize) -> Result<Column> {
    column.take(&filled(tabular::column::NO_ROW, rows)?)
}

/// Dates as the times of their midnights.
pub fn micros(column: &Column) -> Result<Rc<Vec<i64>>> {
    Ok(match column {
        Column::Int(values, Kind::Date) => {
            let time = |days: &i64| if *days == NO_INT { NO_INT } else { *days * dates::DAY };
            Rc::new(collect(values.iter().map(time))?)
        }
        Column::Int(values, _) => Rc::clone(values),
        _ => Rc::default(),
    })
}
