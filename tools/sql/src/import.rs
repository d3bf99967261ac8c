//! Files as tables.

use rusqlite::Connection;
use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use tabular::column::{Column, Kind};
use tabular::csv::Format;
use tabular::source::Source;

use crate::{Result, message};

/// The name of the table for a file: that of the file, as a word.
pub fn table_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let word: String = stem.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) { format!("t_{word}") } else { word }
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a database file's tables known under their own names.
pub fn attach(connection: &Connection, path: &str) -> Result<()> {
    let resolved = common::resolve(path)?;
    if let Err(reason) = std::fs::File::open(&resolved) {
        return Err(common::explain("read", path, &reason));
    }
    let sql = format!("ATTACH ? AS {}", quoted(&table_name(path)));
    let resolved = resolved.to_string_lossy();
    connection
        .execute(&sql, [resolved.as_ref()])
        .map_err(|error| format!("cannot read `{path}`: {}", message(&error)))?;
    Ok(())
}

/// Makes a table of a file; its extension says whether it is JSON.
pub fn load(connection: &mut Connection, path: &str, table: &str, delimiter: Option<char>) -> Result<u64> {
    let format = Format { delimiter: tabular::csv::delimiter(delimiter)?, header: None };
    fill(connection, table, tabular::load(path, format)?)
}

/// Makes a table of a file that is JSON whatever its name is.
pub fn load_json(connection: &mut Connection, path: &str, table: &str) -> Result<u64> {
    let file =
        std::fs::File::open(common::resolve(path)?).map_err(|error| common::explain("read", path, &error))?;
    let mut source = Source::file(file);
    let columns = source.whole().and_then(tabular::json::read);
    fill(connection, table, columns.map_err(|error| format!("cannot load `{path}`: {error}"))?)
}

fn fill(connection: &mut Connection, table: &str, (names, columns): tabular::Columns) -> Result<u64> {
    let told = |error: rusqlite::Error| match message(&error) {
        text if text.contains("already exists") => {
            format!(
                "there is a table `{table}` already; choose another name, or drop it: `DROP TABLE {}`",
                quoted(table)
            )
        }
        text => text,
    };
    let mut names = names;
    distinct_to_sql(&mut names);
    let kind = |column: &Column| match column {
        Column::Int(_, Kind::Number) | Column::Bool(_) => "INTEGER",
        Column::Float(_) => "REAL",
        _ => "TEXT",
    };
    let defined: Vec<String> = names
        .iter()
        .zip(&columns)
        .map(|(name, column)| format!("{} {}", quoted(name), kind(column)))
        .collect();
    let savepoint = connection.savepoint().map_err(told)?;
    savepoint
        .execute_batch(&format!("CREATE TABLE {} ({})", quoted(table), defined.join(", ")))
        .map_err(told)?;
    let rows = columns.first().map_or(0, Column::len);
    {
        let places = vec!["?"; columns.len()].join(", ");
        let mut insert =
            savepoint.prepare(&format!("INSERT INTO {} VALUES ({places})", quoted(table))).map_err(told)?;
        let mut text = String::new();
        for row in 0..rows {
            for (position, column) in columns.iter().enumerate() {
                let value = match column {
                    column if column.is_missing(row) => ToSqlOutput::from(Null),
                    Column::Int(values, Kind::Number) => ToSqlOutput::from(values[row]),
                    Column::Float(values) => ToSqlOutput::from(values[row]),
                    Column::Bool(values) => ToSqlOutput::from(values[row] == 1),
                    Column::Text(texts) => {
                        ToSqlOutput::Borrowed(ValueRef::Text(texts.get(row).unwrap_or_default().as_bytes()))
                    }
                    other => {
                        text.clear();
                        other.write(row, &mut text);
                        ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
                    }
                };
                insert.raw_bind_parameter(position + 1, value).map_err(told)?;
            }
            insert.raw_execute().map_err(told)?;
        }
    }
    savepoint.commit().map_err(told)?;
    Ok(rows as u64)
}

/// To SQL the names of columns are the same in capital and small letters.
fn distinct_to_sql(names: &mut [String]) {
    let mut taken = std::collections::HashSet::new();
    for name in names {
        let plain = name.clone();
        let mut number = 1;
        while !taken.insert(name.to_ascii_lowercase()) {
            number += 1;
            *name = format!("{plain}_{number}");
        }
    }
}
