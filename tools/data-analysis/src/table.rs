//! Tables: names and columns of one length, and what makes a table of another.

use crate::expression::{self, Expression};
use tabular::column::{Column, NO_ROW, Result, collect, filled, room};
use tabular::intern::Numbering;
use tabular::listed;

/// Named columns of the same length.
#[derive(Clone)]
pub struct Table {
    pub names: Vec<String>,
    pub columns: Vec<Column>,
    pub rows: usize,
}

impl Table {
    pub fn new(names: Vec<String>, columns: Vec<Column>) -> Self {
        let rows = columns.first().map_or(0, Column::len);
        Table { names, columns, rows }
    }

    pub fn find(&self, name: &str) -> Option<&Column> {
        self.names.iter().position(|known| known == name).map(|position| &self.columns[position])
    }

    pub fn no_column(&self, name: &str) -> String {
        let lower = name.to_lowercase();
        let near = self.names.iter().find(|known| known.to_lowercase() == lower);
        let hint = near.map(|known| format!(" (write `{known}`)")).unwrap_or_default();
        format!(
            "there is no column `{name}`{hint}; the columns are {}",
            listed(self.names.iter().map(String::as_str))
        )
    }

    pub fn column(&self, name: &str) -> Result<&Column> {
        self.find(name).ok_or_else(|| self.no_column(name))
    }

    /// A column, or what an expression gives.
    pub fn value(&self, text: &str) -> Result<Column> {
        match self.find(text.trim()) {
            Some(column) => Ok(column.clone()),
            None => expression::evaluate(&Expression::parse(text)?, self),
        }
    }

    pub fn take(&self, rows: &[u32]) -> Result<Table> {
        let columns = self.columns.iter().map(|column| column.take(rows)).collect::<Result<_>>()?;
        Ok(Table { names: self.names.clone(), columns, rows: rows.len() })
    }

    pub fn filter(&self, condition: &str) -> Result<Table> {
        let keep = match self.value(condition)? {
            Column::Bool(keep) => keep,
            other => {
                return Err(format!(
                    "`{condition}` is {}, not a condition; compare it with something, as in `price > 10`",
                    other.type_name()
                ));
            }
        };
        let count = keep.iter().filter(|keep| **keep == 1).count();
        let mut rows = room(count)?;
        rows.extend(keep.iter().enumerate().filter(|(_, keep)| **keep == 1).map(|(row, _)| row as u32));
        self.take(&rows)
    }

    pub fn select(&self, items: &[String]) -> Result<Table> {
        if items.is_empty() {
            return Err("select at least one column".into());
        }
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        for item in items {
            let (text, name) = match self.find(item) {
                Some(_) => (item.as_str(), None),
                None => expression::split_name(item),
            };
            names.push(name.unwrap_or(text.trim()).to_owned());
            columns.push(self.value(text)?);
        }
        if let Some(twice) = (1..names.len()).find(|position| names[..*position].contains(&names[*position]))
        {
            return Err(format!("two columns would be named `{}`; name one of them with `as`", names[twice]));
        }
        Ok(Table { names, columns, rows: self.rows })
    }

    pub fn with_column(&self, name: &str, expression: &str) -> Result<Table> {
        let column = self.value(expression)?;
        let mut table = self.clone();
        match table.names.iter().position(|known| known == name) {
            Some(position) => table.columns[position] = column,
            None => {
                table.names.push(name.to_owned());
                table.columns.push(column);
            }
        }
        Ok(table)
    }

    pub fn sort(&self, by: &[String], descending: bool) -> Result<Table> {
        let mut keys = Vec::new();
        for item in by {
            let (text, turned) = match self.find(item) {
                Some(_) => (item.as_str(), false),
                None => match item.trim_end().rsplit_once(char::is_whitespace) {
                    Some((text, word)) if word.eq_ignore_ascii_case("desc") => (text, true),
                    Some((text, word)) if word.eq_ignore_ascii_case("asc") => (text, false),
                    _ => (item.as_str(), false),
                },
            };
            let mut ranks = self.value(text)?.ranks()?;
            if turned != descending {
                // Missing values stay last.
                for rank in ranks.iter_mut().filter(|rank| **rank != u64::MAX) {
                    *rank = u64::MAX - 1 - *rank;
                }
            }
            keys.push(ranks);
        }
        self.in_order(&keys)
    }

    /// The rows in the order of ranks, the first of which count most.
    pub fn in_order(&self, keys: &[Vec<u64>]) -> Result<Table> {
        let mut rows = collect(0..self.rows as u32)?;
        // Ties are broken by the row: an unstable sort, which needs no memory, is stable then.
        match keys {
            [] => {}
            [key] => rows.sort_unstable_by_key(|row| (key[*row as usize], *row)),
            keys => rows.sort_unstable_by(|one, other| {
                let mut order = keys.iter().map(|key| key[*one as usize].cmp(&key[*other as usize]));
                order.find(|order| order.is_ne()).unwrap_or_else(|| one.cmp(other))
            }),
        }
        self.take(&rows)
    }

    pub fn unique(&self, columns: Option<&[String]>) -> Result<Table> {
        let keys = match columns {
            Some(names) => names.iter().map(|name| self.column(name).cloned()).collect::<Result<Vec<_>>>()?,
            None => self.columns.clone(),
        };
        let groups = groups(&keys, self.rows)?;
        self.take(&groups.first)
    }

    pub fn limit(&self, count: u64, offset: u64) -> Result<Table> {
        let start = offset.min(self.rows as u64);
        let end = start + count.min(self.rows as u64 - start);
        if start == 0 && end == self.rows as u64 {
            return Ok(self.clone());
        }
        self.take(&collect(start as u32..end as u32)?)
    }

    pub fn append(&self, other: &Table) -> Result<Table> {
        let mut columns = Vec::new();
        for (name, column) in self.names.iter().zip(&self.columns) {
            let more =
                other.find(name).ok_or_else(|| format!("in the other table {}", other.no_column(name)))?;
            columns
                .push(expression::concatenate(column, more).map_err(|error| format!("`{name}`: {error}"))?);
        }
        if let Some(name) = other.names.iter().find(|name| !self.names.contains(name)) {
            return Err(format!("in this table {}", self.no_column(name)));
        }
        let rows = self.rows + other.rows;
        if rows >= NO_ROW as usize {
            return Err("a table has at most 4,294,967,294 rows".into());
        }
        Ok(Table { names: self.names.clone(), columns, rows })
    }
}

/// Rows with the same values in some columns.
pub struct Groups {
    /// The group of each row.
    pub of: Vec<u32>,
    /// The first row of each group; groups are in the order of these.
    pub first: Vec<u32>,
}

/// Groups rows by their values in these columns.
pub fn groups(keys: &[Column], rows: usize) -> Result<Groups> {
    let mut of: Vec<u32> = filled(0, rows)?;
    let mut count = usize::from(rows > 0);
    for (position, key) in keys.iter().enumerate() {
        let identities = key.identities()?;
        let mut numbering = Numbering::default();
        if position == 0 {
            for (group, identity) in of.iter_mut().zip(&identities) {
                *group = numbering.add(*identity)?;
            }
        } else {
            // Two numbers of 32 bits make one of 64: first the values get small numbers too.
            let mut small = Numbering::default();
            for (group, identity) in of.iter_mut().zip(&identities) {
                let value = small.add(*identity)?;
                *group = numbering.add(u64::from(*group) << 32 | u64::from(value))?;
            }
        }
        count = numbering.count();
    }
    let mut first: Vec<u32> = filled(NO_ROW, count)?;
    for (row, group) in of.iter().enumerate() {
        if first[*group as usize] == NO_ROW {
            first[*group as usize] = row as u32;
        }
    }
    Ok(Groups { of, first })
}
