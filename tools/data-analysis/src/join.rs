//! Rows of two tables that belong together.

use crate::expression::concatenate;
use crate::table::{Table, groups};
use tabular::column::{Column, NO_ROW, Result, filled, room};

pub fn join(left: &Table, right: &Table, on: &[String], how: &str) -> Result<Table> {
    let (keep_left, keep_right) = match how {
        "inner" => (false, false),
        "left" => (true, false),
        "right" => (false, true),
        "outer" | "full" => (true, true),
        other => return Err(format!("`{other}` is no way to join; `how` is inner, left, right or outer")),
    };
    if on.is_empty() {
        return Err("name the columns that must agree, as in `join(other, [\"city\"])`".into());
    }
    let mut pairs = Vec::new();
    for item in on {
        let (one, other) = match item.split_once("==") {
            Some((one, other)) if left.find(item).is_none() => (one.trim(), other.trim()),
            _ => (item.as_str(), item.as_str()),
        };
        let find = |table: &Table, name: &str, which: &str| {
            let position = table.names.iter().position(|known| known == name);
            position.ok_or_else(|| format!("in the {which} table {}", table.no_column(name)))
        };
        pairs.push((find(left, one, "left")?, find(right, other, "right")?));
    }
    // Rows of both tables get the same group where they agree.
    let mut keys = Vec::new();
    for (one, other) in &pairs {
        let joined = concatenate(&left.columns[*one], &right.columns[*other]);
        keys.push(
            joined
                .map_err(|error| format!("the columns `{}` cannot be compared: {error}", left.names[*one]))?,
        );
    }
    let groups = groups(&keys, left.rows + right.rows)?;
    let missing = |row: usize| keys.iter().any(|key| key.is_missing(row));
    let (of_left, of_right) = groups.of.split_at(left.rows);
    let mut ends = filled(0u32, groups.first.len() + 1)?;
    for (row, group) in of_right.iter().enumerate() {
        ends[*group as usize + 1] += u32::from(!missing(left.rows + row));
    }
    for group in 0..groups.first.len() {
        ends[group + 1] += ends[group];
    }
    let mut next = filled(0u32, groups.first.len())?;
    next.copy_from_slice(&ends[..groups.first.len()]);
    let mut rows_of = filled(0u32, ends.last().copied().unwrap_or(0) as usize)?;
    for (row, group) in of_right.iter().enumerate() {
        if !missing(left.rows + row) {
            rows_of[next[*group as usize] as usize] = row as u32;
            next[*group as usize] += 1;
        }
    }
    let matches = |row: usize| {
        let group = of_left[row] as usize;
        if missing(row) { 0..0 } else { ends[group] as usize..ends[group + 1] as usize }
    };
    // How large it becomes is known before anything is made.
    let mut total = 0u64;
    let mut used = filled(false, groups.first.len())?;
    for row in 0..left.rows {
        let count = matches(row).len();
        used[of_left[row] as usize] |= count > 0;
        total += (count as u64).max(u64::from(keep_left));
    }
    let alone = |row: usize| missing(left.rows + row) || !used[of_right[row] as usize];
    if keep_right {
        total += (0..right.rows).filter(|row| alone(*row)).count() as u64;
    }
    let columns = left.names.len() + right.names.len() - pairs.len();
    let too_large = || {
        format!(
            "the join would have {total} rows of {columns} columns, more than there is memory for; \
             `on` does not tell rows apart: join on more columns, or group one of the tables first"
        )
    };
    if total >= u64::from(NO_ROW) {
        return Err(too_large());
    }
    let mut from_left = room(total as usize).map_err(|_| too_large())?;
    let mut from_right = room(total as usize).map_err(|_| too_large())?;
    for row in 0..left.rows {
        let found = matches(row);
        if found.is_empty() && keep_left {
            from_left.push(row as u32);
            from_right.push(NO_ROW);
        }
        for at in found {
            from_left.push(row as u32);
            from_right.push(rows_of[at]);
        }
    }
    if keep_right {
        for row in (0..right.rows).filter(|row| alone(*row)) {
            from_left.push(NO_ROW);
            from_right.push(row as u32);
        }
    }
    let mut names = Vec::new();
    let mut taken: Vec<Column> = Vec::new();
    // Keys of the left table; where it has no row, those of the right one.
    let mut keys_from = from_left.clone();
    for (key, right) in keys_from.iter_mut().zip(&from_right) {
        if *key == NO_ROW {
            *key = left.rows as u32 + right;
        }
    }
    for (position, name) in left.names.iter().enumerate() {
        names.push(name.clone());
        let key = pairs.iter().position(|(one, _)| *one == position);
        taken.push(match key {
            Some(key) => keys[key].take(&keys_from)?,
            None => left.columns[position].take(&from_left)?,
        });
    }
    for (position, name) in right.names.iter().enumerate() {
        if pairs.iter().any(|(_, other)| *other == position) {
            continue;
        }
        names.push(if names.contains(name) { format!("{name}_right") } else { name.clone() });
        taken.push(right.columns[position].take(&from_right)?);
    }
    tabular::make_distinct(&mut names);
    Ok(Table { names, columns: taken, rows: total as usize })
}
