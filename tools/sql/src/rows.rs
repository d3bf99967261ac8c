//! Rows as JSON and as text.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};

use crate::{RESULT_BYTES, explained};

/// Why there are no rows.
pub enum Failed {
    Sql(rusqlite::Error),
    Other(String),
}

impl Failed {
    pub fn told(self, connection: &Connection) -> String {
        match self {
            Failed::Sql(error) => explained(connection, &error),
            Failed::Other(text) => text,
        }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Failed::Sql(error)
    }
}

/// Characters that a cell of a text table may have.
const WIDEST: usize = 60;

fn names(statement: &Statement<'_>) -> Vec<String> {
    let mut names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    tabular::make_distinct(&mut names);
    names
}

/// All rows as an array of objects.
pub fn json(statement: &mut Statement<'_>) -> Result<String, Failed> {
    let mut keys = Vec::new();
    for (position, name) in names(statement).iter().enumerate() {
        let mut key = String::from(if position == 0 { "{" } else { ", " });
        write_text(name, &mut key);
        key.push_str(": ");
        keys.push(key);
    }
    let mut out = String::from("[");
    let mut rows = statement.raw_query();
    let mut first = true;
    while let Some(row) = rows.next()? {
        out.push_str(if first { "" } else { ",\n " });
        first = false;
        for (position, key) in keys.iter().enumerate() {
            let value = row.get_ref(position)?;
            let more = match value {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() * 2,
                _ => 32,
            };
            if out.len() + more > RESULT_BYTES || out.try_reserve(key.len() + more + 64).is_err() {
                return Err(Failed::Other(
                    "the rows are more than 64 MiB, or than there is memory for; select fewer columns, aggregate, or add \
                     LIMIT and OFFSET"
                        .into(),
                ));
            }
            out.push_str(key);
            match value {
                ValueRef::Null => out.push_str("null"),
                ValueRef::Integer(value) => tabular::column::write_int(value, &mut out),
                // What JSON has no word for is read as infinite, being too large.
                ValueRef::Real(value) if value.is_infinite() => {
                    out.push_str(if value > 0.0 { "1e999" } else { "-1e999" })
                }
                ValueRef::Real(value) => tabular::column::write_float(value, &mut out),
                ValueRef::Text(bytes) => write_text(&String::from_utf8_lossy(bytes), &mut out),
                ValueRef::Blob(bytes) => {
                    out.push('"');
                    hexadecimal(bytes, &mut out);
                    out.push('"');
                }
            }
        }
        // A statement that gives no columns gives no rows.
        out.push('}');
    }
    out.push(']');
    Ok(out)
}

fn hexadecimal(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    tabular::json::write_text(text, out);
}

/// The first rows as a table to be read.
pub fn text(statement: &mut Statement<'_>, count: usize) -> Result<String, Failed> {
    let names = names(statement);
    if names.is_empty() {
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        return Ok("(no rows)\n".into());
    }
    let mut numeric = vec![true; names.len()];
    let mut cells: Vec<Vec<String>> = vec![names];
    let mut rows = statement.raw_query();
    let mut more = false;
    while let Some(row) = rows.next()? {
        if cells.len() > count.min(10_000) {
            more = true;
            break;
        }
        let mut line = Vec::new();
        for (position, numeric) in numeric.iter_mut().enumerate() {
            let mut cell = String::new();
            match row.get_ref(position)? {
                ValueRef::Null => {}
                ValueRef::Integer(value) => tabular::column::write_int(value, &mut cell),
                ValueRef::Real(value) => tabular::column::write_float(value, &mut cell),
                ValueRef::Text(bytes) => {
                    *numeric = false;
                    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(WIDEST * 4)]);
                    cell.extend(text.chars().take(WIDEST).map(|c| if c.is_control() { ' ' } else { c }));
                    if text.chars().count() > WIDEST || bytes.len() > WIDEST * 4 {
                        cell.push('…');
                    }
                }
                ValueRef::Blob(bytes) => {
                    *numeric = false;
                    cell.push_str("x'");
                    hexadecimal(&bytes[..bytes.len().min(WIDEST / 2)], &mut cell);
                    cell.push_str(if bytes.len() > WIDEST / 2 { "…" } else { "'" });
                }
            }
            line.push(cell.replace('|', "\\|"));
        }
        cells.push(line);
    }
    let width =
        |position: usize| cells.iter().map(|line| line[position].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..numeric.len()).map(width).collect();
    let mut out = String::new();
    for (number, line) in cells.iter().enumerate() {
        for ((cell, width), numeric) in line.iter().zip(&widths).zip(&numeric) {
            out.push_str("| ");
            let padding = std::iter::repeat_n(' ', width - cell.chars().count());
            if *numeric {
                out.extend(padding);
                out.push_str(cell);
            } else {
                out.push_str(cell);
                out.extend(padding);
            }
            out.push(' ');
        }
        out.push_str("|\n");
        if number == 0 {
            for (width, numeric) in widths.iter().zip(&numeric) {
                out.push_str(if *numeric { "|-" } else { "| " });
                out.extend(std::iter::repeat_n('-', *width));
                out.push_str(if *numeric { ":" } else { " " });
            }
            out.push_str("|\n");
        }
    }
    if more {
        out.push_str(&format!("(the first {} rows; there are more)\n", cells.len() - 1));
    }
    Ok(out)
}
