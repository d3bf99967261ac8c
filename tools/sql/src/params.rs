//! Values for statements, from JSON.

use rusqlite::Statement;
use rusqlite::types::{Null, ToSqlOutput, Value as SqlValue};
use serde_json::Value;

use crate::{Result, message};

/// Hands the values of a JSON text to a statement.
pub fn bind(statement: &mut Statement<'_>, params: Option<&str>) -> Result<()> {
    let values = match params {
        Some(text) => parse(text)?,
        None => Value::Array(Vec::new()),
    };
    bind_value(statement, values)
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        format!("`params` is not JSON ({error}); give a list for `?`, or a dict for `:name`")
    })
}

/// Calls a function with each set of values of a JSON array, whose positions count from 0.
pub fn each(params: &str, mut call: impl FnMut(usize, Value) -> Result<()>) -> Result<()> {
    let Value::Array(sets) = parse(params)? else {
        return Err("`params` must be a list of lists or dicts, one for each time".into());
    };
    for (position, values) in sets.into_iter().enumerate() {
        call(position, values)?;
    }
    Ok(())
}

/// Hands values to a statement: an array by position, an object by name.
pub fn bind_value(statement: &mut Statement<'_>, values: Value) -> Result<()> {
    let count = statement.parameter_count();
    match values {
        Value::Array(values) => {
            if values.len() != count {
                return Err(format!(
                    "the statement has {count} places for values, and {} are given",
                    values.len()
                ));
            }
            for (position, value) in values.into_iter().enumerate() {
                bind_one(statement, position + 1, value)?;
            }
        }
        Value::Object(mut values) => {
            for position in 1..=count {
                let name = statement.parameter_name(position).unwrap_or_default().to_owned();
                let plain = name.get(1..).unwrap_or_default();
                if plain.is_empty() || name.starts_with('?') {
                    return Err("the statement has `?` for its values; give a list, or write `:name`".into());
                }
                let value = values.remove(plain).or_else(|| values.remove(&name));
                let value = value.ok_or_else(|| format!("there is no value for `{name}`"))?;
                bind_one(statement, position, value)?;
            }
            if let Some((name, _)) = values.iter().next() {
                return Err(format!("the statement has no place `:{name}`"));
            }
        }
        other => return Err(format!("values must be a list or a dict, not `{other}`")),
    }
    Ok(())
}

fn bind_one(statement: &mut Statement<'_>, position: usize, value: Value) -> Result<()> {
    let value = match value {
        Value::Null => ToSqlOutput::from(Null),
        Value::Bool(value) => ToSqlOutput::from(value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => ToSqlOutput::from(value),
            None if number.is_u64() => {
                return Err(format!(
                    "{number} is too large for SQLite, whose whole numbers have 64 bits; give text"
                ));
            }
            None => ToSqlOutput::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => ToSqlOutput::Owned(SqlValue::Text(text)),
        nested => ToSqlOutput::Owned(SqlValue::Text(nested.to_string())),
    };
    statement.raw_bind_parameter(position, value).map_err(|error| message(&error))
}
