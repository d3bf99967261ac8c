//! What there is to say about a column.

use crate::exports::agentkernel::data_analysis::data_analysis::Summary;
use crate::table::Table;
use tabular::column::{Column, Result, collect, room};

pub fn describe(table: &Table) -> Result<Vec<Summary>> {
    table.names.iter().zip(&table.columns).map(|(name, column)| summary(name, column)).collect()
}

fn summary(name: &str, column: &Column) -> Result<Summary> {
    let missing = column.missing();
    let mut summary = Summary {
        column: name.to_owned(),
        type_: column.type_name().to_owned(),
        count: (column.len() - missing) as u64,
        missing: missing as u64,
        mean: None,
        std: None,
        min: None,
        q25: None,
        median: None,
        q75: None,
        max: None,
        lowest: None,
        highest: None,
        distinct: None,
        top: None,
        top_count: None,
    };
    let mut numbers: Vec<f64> = match column {
        Column::Int(values, tabular::column::Kind::Number) => {
            let mut numbers = room(summary.count as usize)?;
            numbers.extend(
                values.iter().filter(|value| **value != tabular::column::NO_INT).map(|value| *value as f64),
            );
            numbers
        }
        Column::Float(values) => {
            let mut numbers = room(summary.count as usize)?;
            numbers.extend(values.iter().filter(|value| !value.is_nan()));
            numbers
        }
        other => {
            different(other, &mut summary)?;
            return Ok(summary);
        }
    };
    if numbers.is_empty() {
        return Ok(summary);
    }
    let (mean, std) = moments(&numbers);
    summary.mean = Some(mean);
    summary.std = std;
    let (min, max) = numbers
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(*value), max.max(*value)));
    summary.min = Some(min);
    summary.max = Some(max);
    let length = numbers.len();
    // Each selection leaves the smaller ones on its left, so the next ones look at less.
    summary.median = Some(quantile(&mut numbers, 0.5, length));
    let middle = (length - 1) / 2;
    summary.q75 = Some(quantile(&mut numbers[middle..], 0.75 * (length - 1) as f64 - middle as f64, 0));
    let upper = (middle + 2).min(length);
    summary.q25 = Some(quantile(&mut numbers[..upper], 0.25 * (length - 1) as f64, 0));
    Ok(summary)
}

/// Mean and sample standard deviation.
pub fn moments(numbers: &[f64]) -> (f64, Option<f64>) {
    let count = numbers.len() as f64;
    let mean = sum(numbers.iter().copied()) / count;
    let squares = sum(numbers.iter().map(|value| (value - mean) * (value - mean)));
    (mean, (numbers.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

/// A sum of blocks of sums, whose error stays small.
fn sum(mut numbers: impl Iterator<Item = f64>) -> f64 {
    let mut total = 0.0;
    loop {
        let mut block = 0.0;
        let mut count = 0;
        for number in numbers.by_ref().take(256) {
            block += number;
            count += 1;
        }
        if count == 0 {
            return total;
        }
        total += block;
    }
}

/// An interpolated quantile; moves the numbers. With `length` the fraction is of it, else it is a position.
pub fn quantile(numbers: &mut [f64], fraction: f64, length: usize) -> f64 {
    let place = if length > 0 { fraction * (length - 1) as f64 } else { fraction };
    let below = (place.floor().max(0.0) as usize).min(numbers.len() - 1);
    let (_, low, above) = numbers.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let part = place - below as f64;
    if part <= 0.0 || above.is_empty() {
        return low;
    }
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if high == low { low } else { low + (high - low) * part }
}

/// The different values of a column that has no numbers.
fn different(column: &Column, summary: &mut Summary) -> Result<()> {
    if let Column::Bool(values) = column {
        let (sum, count) = (values.iter().filter(|value| **value == 1).count(), summary.count);
        summary.mean = (count > 0).then(|| sum as f64 / count as f64);
    }
    let rows = column.len();
    let groups = crate::table::groups(std::slice::from_ref(column), rows)?;
    let mut counts: Vec<u64> = collect(groups.first.iter().map(|_| 0))?;
    for group in &groups.of {
        counts[*group as usize] += 1;
    }
    let present = || (0..counts.len()).filter(|group| !column.is_missing(groups.first[*group] as usize));
    summary.distinct = Some(present().count() as u64);
    let written = |group: usize| {
        let mut text = String::new();
        column.write(groups.first[group] as usize, &mut text);
        text
    };
    // Of equally frequent ones the first that came.
    if let Some(top) = present().max_by_key(|group| (counts[*group], std::cmp::Reverse(*group))) {
        summary.top = Some(written(top));
        summary.top_count = Some(counts[top]);
    }
    if !matches!(column, Column::Bool(_)) {
        match column {
            Column::Text(text) => {
                let text = |group: &usize| text.get(groups.first[*group] as usize);
                summary.lowest = present().min_by_key(text).map(written);
                summary.highest = present().max_by_key(text).map(written);
            }
            Column::Int(values, _) => {
                let value = |group: &usize| values[groups.first[*group] as usize];
                summary.lowest = present().min_by_key(value).map(written);
                summary.highest = present().max_by_key(value).map(written);
            }
            _ => {}
        }
    }
    Ok(())
}
