//! Tables of CSV and JSON, in typed columns.

pub mod builder;
pub mod column;
pub mod csv;
pub mod dates;
pub mod intern;
pub mod json;
pub mod number;
mod scan;
pub mod source;

use std::fs::File;
use std::io;

use column::{Column, Result};
use source::Source;

/// Names of columns, and the columns.
pub type Columns = (Vec<String>, Vec<Column>);

/// Reads a file; its extension says whether it is JSON.
///
/// # Errors
///
/// Says what is wrong, and on which line.
pub fn load(path: &str, mut format: csv::Format) -> Result<Columns> {
    let extension = extension(path);
    if matches!(extension.as_str(), "parquet" | "xlsx" | "xls" | "gz" | "zip" | "feather" | "arrow") {
        return Err(format!(
            "`{path}`: {extension} files are not read; convert it to CSV or JSON lines first"
        ));
    }
    let wrong = |error: io::Error| common::explain("read", path, &error);
    let file = File::open(common::resolve(path)?).map_err(wrong)?;
    if file.metadata().map_err(wrong)?.is_dir() {
        return Err(wrong(io::ErrorKind::IsADirectory.into()));
    }
    let mut source = Source::file(file);
    let read = if matches!(extension.as_str(), "json" | "jsonl" | "ndjson") {
        source.whole().and_then(json::read)
    } else {
        if extension == "tsv" {
            format.delimiter = format.delimiter.or(Some(b'\t'));
        }
        csv::read(&mut source, format)
    };
    read.map_err(|error| format!("cannot load `{path}`: {error}"))
}

/// The part of a path behind its last point, in small letters.
pub fn extension(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// Names in a message, not too many of them.
pub fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const MOST: usize = 30;
    let more = names.len().saturating_sub(MOST);
    let mut text: Vec<String> = names.take(MOST).map(|name| format!("`{name}`")).collect();
    if more > 0 {
        text.push(format!("and {more} more"));
    }
    text.join(", ")
}

/// Gives names that are there already a number.
pub fn make_distinct(names: &mut [String]) {
    let mut taken = std::collections::HashSet::new();
    for name in names {
        let plain = name.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            *name = format!("{plain}_{number}");
        }
    }
}
