//! Tables as people read them.

use std::fmt;

use crate::measure::Summary;

/// A title, rows of cells in aligned columns, and remarks.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
    remarks: Vec<String>,
}

impl Table {
    /// A table with a title and the names of its columns; the first column holds the names of the rows.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| column.to_string()).collect();
        Table { title: title.into(), rows: vec![columns], remarks: Vec::new() }
    }

    /// Adds a row; cells that are left out at the end stay empty.
    pub fn row(mut self, name: impl Into<String>, cells: impl IntoIterator<Item = String>) -> Self {
        self.rows.push(std::iter::once(name.into()).chain(cells).collect());
        self
    }

    /// Adds a row with the least time and the median.
    pub fn times(self, name: impl Into<String>, times: &Summary) -> Self {
        self.row(name, [seconds(times.min_seconds), seconds(times.median_seconds)])
    }

    /// Adds a line below the table.
    pub fn remark(mut self, remark: impl Into<String>) -> Self {
        self.remarks.push(remark.into());
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        writeln!(f, "{}", self.title)?;
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                line += &match column {
                    0 => format!("  {cell:<width$}"),
                    _ => format!("  {cell:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        for remark in &self.remarks {
            writeln!(f, "  {remark}")?;
        }
        Ok(())
    }
}

/// A time with three digits that count.
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let places = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.places$} {unit}")
}

/// What all ratios mean.
pub const RATIO: &str = "ratio: how many times as long agentkernel takes; below 1 it is faster";

/// How many times as long something took.
pub fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

/// A size in KiB.
pub fn kibibytes(bytes: f64) -> String {
    format!("{:.0} KiB", bytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let table = Table::new("Title", &["", "min", "median"])
            .row("a", ["1.00 µs".to_owned(), "20.0 µs".to_owned()])
            .row("longer", ["100 ms".to_owned()])
            .remark("Remark.");
        let text =
            "Title\n              min   median\n  a       1.00 µs  20.0 µs\n  longer   100 ms\n  Remark.\n";
        assert_eq!(table.to_string(), text);
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!(seconds(0.000_012_34), "12.3 µs");
        assert_eq!(seconds(0.123_4), "123 ms");
        assert_eq!(seconds(1.5), "1.50 s");
    }
}
