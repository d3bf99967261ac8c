//! The functions of the language.

use std::rc::Rc;

use super::evaluate::{Context, Failed, Value, concatenate, micros};
use super::{Node, NodeKind};
use tabular::column::{Column, Kind, NO_BOOL, NO_INT, NO_ROW, Result, collect, room};
use tabular::dates;
use tabular::listed;
use tabular::number::{Number, parse, trim};

/// Names, and how many arguments there are at least and at most.
const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("abs", 1, 1),
    ("ceil", 1, 1),
    ("floor", 1, 1),
    ("sqrt", 1, 1),
    ("exp", 1, 1),
    ("log", 1, 1),
    ("round", 1, 2),
    ("lower", 1, 1),
    ("upper", 1, 1),
    ("trim", 1, 1),
    ("length", 1, 1),
    ("contains", 2, 2),
    ("startswith", 2, 2),
    ("endswith", 2, 2),
    ("replace", 3, 3),
    ("substr", 2, 3),
    ("year", 1, 1),
    ("month", 1, 1),
    ("day", 1, 1),
    ("weekday", 1, 1),
    ("hour", 1, 1),
    ("minute", 1, 1),
    ("int", 1, 1),
    ("float", 1, 1),
    ("str", 1, 1),
    ("date", 1, 1),
    ("coalesce", 2, 2),
    ("if", 3, 3),
];

pub fn call(context: &Context<'_>, at: usize, name: &str, arguments: &[Node]) -> Result<Value, Failed> {
    let here = |message: String| (at, message);
    let Some((_, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(here(format!(
            "there is no function `{name}`; the functions are {}",
            listed(FUNCTIONS.iter().map(|(name, ..)| *name))
        )));
    };
    if arguments.len() < *least || arguments.len() > *most {
        let wanted = if least == most { least.to_string() } else { format!("{least} or {most}") };
        return Err(here(format!("`{name}` takes {wanted} arguments, not {}", arguments.len())));
    }
    if name == "if" {
        return choose(context, at, arguments);
    }
    let rows = context.table.rows;
    let value = context.value(&arguments[0])?;
    let constant = !matches!(value, Value::Column(_));
    let column = value.into_column(if constant { 1 } else { rows }).map_err(here)?;
    let result = match name {
        "abs" | "ceil" | "floor" | "sqrt" | "exp" | "log" | "round" => {
            let digits = match arguments.get(1) {
                Some(node) => number(context, node)?,
                None => 0,
            };
            numeric(name, &column, digits).map_err(here)?
        }
        "lower" | "upper" | "trim" | "length" | "contains" | "startswith" | "endswith" | "replace" => {
            let texts =
                arguments[1..].iter().map(|node| text(context, node)).collect::<Result<Vec<_>, _>>()?;
            textual(name, &column, &texts).map_err(here)?
        }
        "substr" => {
            let start = number(context, &arguments[1])?;
            let length = arguments.get(2).map(|node| number(context, node)).transpose()?;
            substr(&column, start, length).map_err(here)?
        }
        "int" | "float" | "str" | "date" => convert(name, column).map_err(here)?,
        "coalesce" => {
            let column = if constant { spread(&column, rows).map_err(here)? } else { column };
            let other = context.value(&arguments[1])?.into_column(rows).map_err(here)?;
            let pick =
                (0..rows).map(|row| if column.is_missing(row) { (rows + row) as u32 } else { row as u32 });
            let both = concatenate(&column, &other).map_err(here)?;
            return both.take(&collect(pick).map_err(here)?).map(Value::Column).map_err(here);
        }
        part => date_part(part, &column).map_err(here)?,
    };
    Ok(Value::Column(if constant { spread(&result, rows).map_err(here)? } else { result }))
}

/// One value for all rows.
fn spread(column: &Column, rows: usize) -> Result<Column> {
    column.take(&tabular::column::filled(0, rows)?)
}

fn text(context: &Context<'_>, node: &Node) -> Result<String, Failed> {
    match context.value(node)? {
        Value::Text(text) => Ok(text),
        other => Err((node.at, format!("expected a text in quotes, found {}", other.type_name()))),
    }
}

fn number(context: &Context<'_>, node: &Node) -> Result<i64, Failed> {
    match context.value(node)? {
        Value::Int(value) => Ok(value),
        other => Err((node.at, format!("expected a whole number, found {}", other.type_name()))),
    }
}

fn choose(context: &Context<'_>, at: usize, arguments: &[Node]) -> Result<Value, Failed> {
    let here = |message: String| (at, message);
    let rows = context.table.rows;
    let condition = context.condition(&arguments[0])?;
    let side = |node: &Node| context.value(node)?.into_column(rows).map_err(|message| (node.at, message));
    let null = |node: &Node| matches!(node.kind, NodeKind::Null);
    let (one, other) = (&arguments[1], &arguments[2]);
    // Null has the type of the other side.
    let (both, first, second) = match (null(one), null(other)) {
        (true, _) => (side(other)?, None, Some(0)),
        (_, true) => (side(one)?, Some(0), None),
        _ => (concatenate(&side(one)?, &side(other)?).map_err(here)?, Some(0), Some(rows)),
    };
    let pick = condition.iter().enumerate().map(|(row, holds)| {
        let start = if *holds == 1 { first } else { second };
        start.map_or(NO_ROW, |start| (start + row) as u32)
    });
    both.take(&collect(pick).map_err(here)?).map(Value::Column).map_err(here)
}

fn numeric(name: &str, column: &Column, digits: i64) -> Result<Column> {
    let keeps = matches!(name, "abs" | "ceil" | "floor" | "round") && digits >= 0;
    match column {
        Column::Int(values, Kind::Number) if keeps => {
            let absolute = |value: &i64| if *value == NO_INT || name != "abs" { *value } else { value.abs() };
            return Ok(Column::Int(Rc::new(collect(values.iter().map(absolute))?), Kind::Number));
        }
        _ => {}
    }
    let numbers =
        column.floats()?.ok_or_else(|| format!("`{name}` needs numbers, not {}", column.type_name()))?;
    let scale = 10f64.powi(digits.clamp(-300, 300) as i32);
    let compute: &dyn Fn(f64) -> f64 = match name {
        "abs" => &f64::abs,
        "ceil" => &f64::ceil,
        "floor" => &f64::floor,
        "sqrt" => &f64::sqrt,
        "exp" => &f64::exp,
        // Of zero there is none.
        "log" => &f64::ln,
        _ => &|value| {
            let rounded = (value * scale).round_ties_even() / scale;
            if rounded.is_finite() { rounded } else { value }
        },
    };
    Ok(Column::Float(Rc::new(collect(numbers.iter().map(|value| compute(*value)))?)))
}

fn textual(name: &str, column: &Column, texts: &[String]) -> Result<Column> {
    let Column::Text(text) = column else {
        return Err(format!(
            "`{name}` needs a text, not {}; make one of it with `str(…)`",
            column.type_name()
        ));
    };
    let part = texts.first().map_or("", String::as_str);
    let holds = |test: &dyn Fn(&str) -> bool| {
        Ok(Column::Bool(Rc::new(text.map(NO_BOOL, |text| Ok(u8::from(test(text))))?)))
    };
    match name {
        "length" => {
            let lengths = text.map(NO_INT, |text| Ok(text.chars().count() as i64))?;
            Ok(Column::Int(Rc::new(lengths), Kind::Number))
        }
        "contains" => holds(&|text| text.contains(part)),
        "startswith" => holds(&|text| text.starts_with(part)),
        "endswith" => holds(&|text| text.ends_with(part)),
        _ => text.map_text(|text, out| {
            match name {
                "lower" => out.push_str(&text.to_lowercase()),
                "upper" => out.push_str(&text.to_uppercase()),
                "trim" => out.push_str(text.trim()),
                _ if part.is_empty() => return Err("there is nothing to be replaced".into()),
                _ => {
                    let with = &texts[1];
                    // A million characters for each of a million would be too many.
                    if text.len().saturating_mul(with.len()) > 64 << 20 {
                        return Err("the replaced text would be too long".into());
                    }
                    out.push_str(&text.replace(part, with));
                }
            }
            Ok(true)
        }),
    }
}

fn substr(column: &Column, start: i64, length: Option<i64>) -> Result<Column> {
    let Column::Text(text) = column else {
        return Err(format!(
            "`substr` needs a text, not {}; make one of it with `str(…)`",
            column.type_name()
        ));
    };
    text.map_text(|text, out| {
        let start = if start < 0 { (text.chars().count() as i64 + start).max(0) } else { start };
        let length = length.map_or(usize::MAX, |length| length.max(0) as usize);
        out.extend(text.chars().skip(start as usize).take(length));
        Ok(true)
    })
}

fn date_part(part: &str, column: &Column) -> Result<Column> {
    let Column::Int(_, kind @ (Kind::Date | Kind::DateTime)) = column else {
        return Err(format!(
            "`{part}` needs a date, not {}; make one of text with `date(…)`",
            column.type_name()
        ));
    };
    if *kind == Kind::Date && matches!(part, "hour" | "minute") {
        return Err(format!("`{part}` needs a time, and these are dates"));
    }
    let get = |micros: &i64| {
        if *micros == NO_INT {
            return NO_INT;
        }
        let days = micros.div_euclid(dates::DAY);
        let seconds = micros.rem_euclid(dates::DAY) / 1_000_000;
        match part {
            "year" => dates::civil(days).0,
            "month" => dates::civil(days).1,
            "day" => dates::civil(days).2,
            // The first of January 1970 was a Thursday.
            "weekday" => (days + 3).rem_euclid(7),
            "hour" => seconds / 3600,
            _ => seconds / 60 % 60,
        }
    };
    Ok(Column::Int(Rc::new(collect(micros(column)?.iter().map(get))?), Kind::Number))
}

fn convert(name: &str, column: Column) -> Result<Column> {
    match (name, &column) {
        ("int", Column::Int(_, Kind::Number)) | ("float", Column::Float(_)) | ("str", Column::Text(_)) => {
            Ok(column)
        }
        ("date", Column::Int(_, Kind::Date)) => Ok(column),
        ("date", Column::Int(values, Kind::DateTime)) => {
            let days = |micros: &i64| if *micros == NO_INT { NO_INT } else { micros.div_euclid(dates::DAY) };
            Ok(Column::Int(Rc::new(collect(values.iter().map(days))?), Kind::Date))
        }
        ("str", column) => {
            let mut interner = tabular::intern::Interner::default();
            let mut codes = room(column.len())?;
            let mut text = String::new();
            for row in 0..column.len() {
                text.clear();
                let there = column.write(row, &mut text);
                codes.push(if there { interner.add(text.as_bytes())? } else { tabular::intern::MISSING });
            }
            Ok(Column::Text(tabular::column::Text::new(codes, interner.finish())))
        }
        ("int", Column::Text(text)) => {
            let values = text.map(NO_INT, |text| match parse(unzeroed(text.as_bytes())) {
                Some(Number::Int(value)) => Ok(value),
                Some(Number::Float(value)) => Ok(truncate(value)),
                None => Ok(NO_INT),
            })?;
            Ok(Column::Int(Rc::new(values), Kind::Number))
        }
        ("float", Column::Text(text)) => {
            let values = text.map(f64::NAN, |text| match parse(unzeroed(text.as_bytes())) {
                Some(Number::Int(value)) => Ok(value as f64),
                Some(Number::Float(value)) => Ok(value),
                None => Ok(f64::NAN),
            })?;
            Ok(Column::Float(Rc::new(values)))
        }
        ("date", Column::Text(text)) => {
            let parse = |text: &str| {
                dates::parse_any(trim(text.as_bytes())).map(|micros| micros.div_euclid(dates::DAY))
            };
            let values = text.map(NO_INT, |text| Ok(parse(text).unwrap_or(NO_INT)))?;
            Ok(Column::Int(Rc::new(values), Kind::Date))
        }
        (name, column) => {
            let numbers = if name == "date" { None } else { column.floats()? };
            let numbers =
                numbers.ok_or_else(|| format!("no {name} can be made of {}", column.type_name()))?;
            Ok(match name {
                "int" => {
                    Column::Int(Rc::new(collect(numbers.iter().map(|value| truncate(*value)))?), Kind::Number)
                }
                _ => Column::Float(numbers),
            })
        }
    }
}

/// A number without the zeros that make it an identifier.
fn unzeroed(text: &[u8]) -> &[u8] {
    let mut text = trim(text);
    while let [b'0', b'0'..=b'9', ..] = text {
        text = &text[1..];
    }
    text
}

fn truncate(value: f64) -> i64 {
    // Casting saturates; what does not fit is missing.
    if value.is_nan() || value.abs() >= 9.223_372_036_854_775e18 { NO_INT } else { value as i64 }
}
