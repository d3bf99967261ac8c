//! Tables as text.

use crate::table::Table;
use tabular::column::{Column, Result, out_of_memory};
use tabular::json::write_text;

/// Where text goes that may become large: the buffer is emptied when it is full.
pub trait Sink {
    fn spill(&mut self, buffer: &mut String) -> Result<()>;
}

/// Keeps all of it.
pub struct Whole;

impl Sink for Whole {
    fn spill(&mut self, buffer: &mut String) -> Result<()> {
        if buffer.capacity() - buffer.len() < ROW_ROOM {
            let wanted = buffer.len() / 2 + ROW_ROOM;
            buffer.try_reserve_exact(wanted).map_err(|_| out_of_memory(wanted))?;
        }
        Ok(())
    }
}

impl Sink for std::fs::File {
    fn spill(&mut self, buffer: &mut String) -> Result<()> {
        if buffer.len() >= 1 << 20 {
            finish(self, buffer)?;
        }
        Ok(())
    }
}

/// Room that is made for a row before it is written.
const ROW_ROOM: usize = 64 << 10;

/// Writes what is left.
pub fn finish(file: &mut std::fs::File, buffer: &mut String) -> Result<()> {
    std::io::Write::write_all(file, buffer.as_bytes())
        .map_err(|error| format!("the file cannot be written: {error}"))?;
    buffer.clear();
    Ok(())
}

/// The form of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Csv(char),
    Json,
    JsonLines,
    Markdown,
}

pub fn write(table: &Table, form: Form, out: &mut String, sink: &mut impl Sink) -> Result<()> {
    match form {
        Form::Csv(delimiter) => csv(table, delimiter, out, sink),
        Form::Json | Form::JsonLines => json(table, form == Form::JsonLines, out, sink),
        Form::Markdown => markdown(table, table.rows, out, sink),
    }
}

fn csv(table: &Table, delimiter: char, out: &mut String, sink: &mut impl Sink) -> Result<()> {
    for (position, name) in table.names.iter().enumerate() {
        if position > 0 {
            out.push(delimiter);
        }
        csv_field(name, delimiter, out);
    }
    out.push('\n');
    let alone = table.columns.len() == 1;
    for row in 0..table.rows {
        for (position, column) in table.columns.iter().enumerate() {
            if position > 0 {
                out.push(delimiter);
            }
            match column {
                Column::Text(text) => match text.get(row) {
                    Some("") => out.push_str("\"\""),
                    Some(text) => csv_field(text, delimiter, out),
                    // A blank line would be no row.
                    None if alone => out.push_str("\"\""),
                    None => {}
                },
                other => {
                    if !other.write(row, out) && alone {
                        out.push_str("NaN");
                    }
                }
            }
        }
        out.push('\n');
        sink.spill(out)?;
    }
    Ok(())
}

fn csv_field(text: &str, delimiter: char, out: &mut String) {
    let special = |byte: u8| matches!(byte, b'"' | b'\n' | b'\r') || byte == delimiter as u8;
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte == b' ' || *byte == b'\t');
    let bytes = text.as_bytes();
    if bytes.iter().copied().any(special) || edge(bytes.first()) || edge(bytes.last()) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

fn json(table: &Table, lines: bool, out: &mut String, sink: &mut impl Sink) -> Result<()> {
    let mut keys = Vec::new();
    for (position, name) in table.names.iter().enumerate() {
        let mut key = String::from(if position == 0 { "{" } else { ", " });
        write_text(name, &mut key);
        key.push_str(": ");
        keys.push(key);
    }
    if !lines {
        out.push('[');
    }
    for row in 0..table.rows {
        if !lines && row > 0 {
            out.push_str(",\n ");
        }
        for (key, column) in keys.iter().zip(&table.columns) {
            out.push_str(key);
            match column {
                Column::Text(_)
                | Column::Int(_, tabular::column::Kind::Date | tabular::column::Kind::DateTime) => {
                    if let Column::Text(text) = column {
                        match text.get(row) {
                            Some(text) => write_text(text, out),
                            None => out.push_str("null"),
                        }
                        continue;
                    }
                    out.push('"');
                    if column.write(row, out) {
                        out.push('"');
                    } else {
                        out.pop();
                        out.push_str("null");
                    }
                }
                // JSON has no infinity.
                Column::Float(values) if values[row].is_infinite() => out.push_str("null"),
                other => {
                    if !other.write(row, out) {
                        out.push_str("null");
                    }
                }
            }
        }
        out.push('}');
        if lines {
            out.push('\n');
        }
        sink.spill(out)?;
    }
    if !lines {
        out.push_str("]\n");
    }
    Ok(())
}

/// A Markdown table of the first rows, whose columns are of one width.
pub fn markdown(table: &Table, rows: usize, out: &mut String, sink: &mut impl Sink) -> Result<()> {
    const WIDEST: usize = 60;
    let rows = rows.min(table.rows);
    let cell = |column: &Column, row: usize, text: &mut String| {
        text.clear();
        match column {
            // Sums of prices have more digits than anybody reads; all are in the other forms.
            Column::Float(values) if values[row].is_finite() && values[row].abs() < 1e15 => {
                let rounded = (values[row] * 1e6).round() / 1e6;
                let shown = if rounded == 0.0 && values[row] != 0.0 { values[row] } else { rounded };
                tabular::column::write_float(shown, text);
            }
            other => {
                other.write(row, text);
            }
        }
        if text.bytes().any(|byte| matches!(byte, b'|' | b'\n' | b'\r')) {
            *text = text.replace('|', "\\|").replace(['\n', '\r'], " ");
        }
        text.chars().count()
    };
    let mut text = String::new();
    let names: Vec<String> =
        table.names.iter().map(|name| name.replace('|', "\\|").replace(['\n', '\r'], " ")).collect();
    let mut widths: Vec<usize> = names.iter().map(|name| name.chars().count().max(3)).collect();
    // The widest of many rows would need all of them to be written twice.
    for row in 0..rows.min(1000) {
        for (column, width) in table.columns.iter().zip(&mut widths) {
            *width = (*width).max(cell(column, row, &mut text).min(WIDEST));
        }
    }
    let pad = |out: &mut String, count: usize| out.extend(std::iter::repeat_n(' ', count));
    for (position, (name, width)) in names.iter().zip(&widths).enumerate() {
        out.push_str("| ");
        let padding = width.saturating_sub(name.chars().count());
        if table.columns[position].is_text() {
            out.push_str(name);
            pad(out, padding);
        } else {
            pad(out, padding);
            out.push_str(name);
        }
        out.push(' ');
    }
    out.push_str("|\n");
    for (column, width) in table.columns.iter().zip(&widths) {
        out.push_str(if column.is_text() { "| " } else { "|-" });
        out.extend(std::iter::repeat_n('-', *width));
        out.push_str(if column.is_text() { " " } else { ":" });
    }
    out.push_str("|\n");
    for row in 0..rows {
        for (column, width) in table.columns.iter().zip(&widths) {
            let padding = width.saturating_sub(cell(column, row, &mut text));
            out.push_str("| ");
            if column.is_text() {
                out.push_str(&text);
                pad(out, padding);
            } else {
                pad(out, padding);
                out.push_str(&text);
            }
            out.push(' ');
        }
        out.push_str("|\n");
        sink.spill(out)?;
    }
    Ok(())
}
