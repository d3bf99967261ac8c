//! Groups of rows, and one row for each.

use std::rc::Rc;

use crate::describe::{moments, quantile};
use crate::expression::split_name;
use crate::table::{Groups, Table, groups};
use tabular::column::{Column, Kind, NO_BOOL, NO_INT, NO_ROW, Result, collect, filled, room};
use tabular::intern::Numbering;
use tabular::listed;

const FUNCTIONS: &[&str] =
    &["count", "sum", "mean", "median", "std", "min", "max", "first", "last", "nunique"];

pub fn group_by(table: &Table, keys: &[String], aggregates: &[String]) -> Result<Table> {
    let mut names: Vec<String> = keys.to_vec();
    let mut columns = keys.iter().map(|key| table.column(key).cloned()).collect::<Result<Vec<_>>>()?;
    let mut groups = groups(&columns, table.rows)?;
    if keys.is_empty() {
        // One group, even of nothing.
        groups.first = vec![if table.rows == 0 { NO_ROW } else { 0 }];
    }
    for column in &mut columns {
        *column = column.take(&groups.first)?;
    }
    for aggregate in aggregates {
        let (name, column) = compute(table, aggregate, &groups)?;
        names.push(name);
        columns.push(column);
    }
    if let Some(twice) = (1..names.len()).find(|position| names[..*position].contains(&names[*position])) {
        return Err(format!("two columns would be named `{}`; name one of them with `as`", names[twice]));
    }
    if columns.is_empty() {
        return Err("give keys or aggregates".into());
    }
    let grouped = Table { names, columns, rows: groups.first.len() };
    let ranks = grouped.columns[..keys.len()].iter().map(Column::ranks).collect::<Result<Vec<_>>>()?;
    grouped.in_order(&ranks)
}

fn compute(table: &Table, aggregate: &str, groups: &Groups) -> Result<(String, Column)> {
    let (call, name) = split_name(aggregate);
    let call = call.trim();
    let wrong = || {
        format!(
            "`{aggregate}` is not an aggregate; write `function(expression) as name` with one of {}",
            listed(FUNCTIONS.iter().copied())
        )
    };
    let (function, inner) = call.strip_suffix(')').and_then(|call| call.split_once('(')).ok_or_else(wrong)?;
    let function = function.trim().to_ascii_lowercase();
    let function = match function.as_str() {
        "avg" | "average" => "mean",
        "n_unique" | "distinct" => "nunique",
        known => known,
    };
    if !FUNCTIONS.contains(&function) {
        return Err(wrong());
    }
    let inner = inner.trim();
    let count = groups.first.len();
    let column = if inner.is_empty() || inner == "*" {
        if function != "count" {
            return Err(format!("`{aggregate}`: {function} of what? Write `{function}(column)`"));
        }
        let mut counts = filled(0i64, count)?;
        for group in &groups.of {
            counts[*group as usize] += 1;
        }
        Column::Int(Rc::new(counts), Kind::Number)
    } else {
        let values = table.value(inner).map_err(|error| format!("in `{aggregate}`: {error}"))?;
        of_column(function, &values, groups).map_err(|error| format!("`{aggregate}`: {error}"))?
    };
    Ok((name.unwrap_or(call).to_owned(), column))
}

fn of_column(function: &str, column: &Column, groups: &Groups) -> Result<Column> {
    let count = groups.first.len();
    let rows = || groups.of.iter().map(|group| *group as usize).enumerate();
    match function {
        "count" => {
            let mut counts = filled(0i64, count)?;
            for (row, group) in rows() {
                counts[group] += i64::from(!column.is_missing(row));
            }
            Ok(Column::Int(Rc::new(counts), Kind::Number))
        }
        "nunique" => {
            let mut seen = Numbering::default();
            let mut values = Numbering::default();
            let mut counts = filled(0i64, count)?;
            for (row, identity) in column.identities()?.into_iter().enumerate() {
                if identity != u64::MAX {
                    let group = groups.of[row];
                    let value = values.add(identity)?;
                    let before = seen.count();
                    seen.add(u64::from(group) << 32 | u64::from(value))?;
                    counts[group as usize] += (seen.count() - before) as i64;
                }
            }
            Ok(Column::Int(Rc::new(counts), Kind::Number))
        }
        "first" | "last" | "min" | "max" => {
            // The row that has it.
            let mut best = filled(NO_ROW, count)?;
            if matches!(function, "first" | "last") {
                for (row, group) in rows().filter(|(row, _)| !column.is_missing(*row)) {
                    if function == "last" || best[group] == NO_ROW {
                        best[group] = row as u32;
                    }
                }
            } else {
                let ranks = column.ranks()?;
                for (row, group) in rows().filter(|(row, _)| ranks[*row] != u64::MAX) {
                    let better = match best.get(group) {
                        Some(&NO_ROW) | None => true,
                        Some(best) if function == "min" => ranks[row] < ranks[*best as usize],
                        Some(best) => ranks[row] > ranks[*best as usize],
                    };
                    if better {
                        best[group] = row as u32;
                    }
                }
            }
            column.take(&best)
        }
        "sum" => match column {
            Column::Int(values, Kind::Number) => whole_sums(values.iter().copied(), groups),
            Column::Bool(values) => {
                let number = |value: &u8| if *value == NO_BOOL { NO_INT } else { i64::from(*value) };
                whole_sums(values.iter().map(number), groups)
            }
            _ => {
                let mut sums = filled(0.0, count)?;
                let numbers = numbers(function, column)?;
                for (row, group) in rows().filter(|(row, _)| !numbers[*row].is_nan()) {
                    sums[group] += numbers[row];
                }
                Ok(Column::Float(Rc::new(sums)))
            }
        },
        _ => {
            let numbers = numbers(function, column)?;
            if function == "mean" {
                let mut sums = filled((0.0, 0u32), count)?;
                for (row, group) in rows().filter(|(row, _)| !numbers[*row].is_nan()) {
                    sums[group].0 += numbers[row];
                    sums[group].1 += 1;
                }
                let means = sums.iter().map(|(sum, count)| sum / f64::from(*count));
                return Ok(Column::Float(Rc::new(collect(means)?)));
            }
            // The numbers of each group side by side.
            let mut ends = filled(0usize, count + 1)?;
            for (_, group) in rows().filter(|(row, _)| !numbers[*row].is_nan()) {
                ends[group + 1] += 1;
            }
            for group in 0..count {
                ends[group + 1] += ends[group];
            }
            let mut next = collect(ends.iter().copied())?;
            let mut sorted = filled(0.0, ends[count])?;
            for (row, group) in rows().filter(|(row, _)| !numbers[*row].is_nan()) {
                sorted[next[group]] = numbers[row];
                next[group] += 1;
            }
            let mut results = room(count)?;
            for group in 0..count {
                let of_group = &mut sorted[ends[group]..ends[group + 1]];
                results.push(match function {
                    _ if of_group.is_empty() => f64::NAN,
                    "std" => moments(of_group).1.unwrap_or(f64::NAN),
                    _ => quantile(of_group, 0.5, ends[group + 1] - ends[group]),
                });
            }
            Ok(Column::Float(Rc::new(results)))
        }
    }
}

fn numbers(function: &str, column: &Column) -> Result<Rc<Vec<f64>>> {
    column.floats()?.ok_or_else(|| {
        let hint = if column.is_text() { "; make numbers of them with `float(…)`" } else { "" };
        format!("there is no {function} of {}{hint}", column.type_name())
    })
}

fn whole_sums(values: impl Iterator<Item = i64>, groups: &Groups) -> Result<Column> {
    let mut sums = filled(0i128, groups.first.len())?;
    for (value, group) in values.zip(&groups.of) {
        if value != NO_INT {
            sums[*group as usize] += i128::from(value);
        }
    }
    let fits = |sum: &i128| i64::try_from(*sum).is_ok_and(|sum| sum != NO_INT);
    if sums.iter().all(fits) {
        return Ok(Column::Int(Rc::new(collect(sums.iter().map(|sum| *sum as i64))?), Kind::Number));
    }
    Ok(Column::Float(Rc::new(collect(sums.iter().map(|sum| *sum as f64))?)))
}
