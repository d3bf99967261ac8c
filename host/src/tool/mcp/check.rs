//! Whether values are what a server's schemas say, as far as types tell.

use serde_json::{Map, Value};

use super::model::{Function, Listing, Type};

/// Up to here floating point has all integers.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// What is wrong with a value, and where.
type Checked = Result<(), String>;

/// Checks the arguments of a call, by the server's names.
pub fn arguments(listing: &Listing, function: &Function, given: &Map<String, Value>) -> Checked {
    for (name, value) in given {
        match function.parameters.iter().find(|one| one.name == *name) {
            Some(parameter) => check(listing, &parameter.ty, value, &parameter.python)?,
            None if function.open => {}
            None => {
                let names: Vec<&str> = function.parameters.iter().map(|one| one.python.as_str()).collect();
                let there = match names.is_empty() {
                    true => "there are none".to_owned(),
                    false => format!("there are {}", names.join(", ")),
                };
                return Err(format!("there is no parameter `{}`; {there}", shown_name(name)));
            }
        }
    }
    match function.parameters.iter().find(|one| one.required && !given.contains_key(&one.name)) {
        Some(missing) => Err(format!("`{}` is missing", missing.python)),
        None => Ok(()),
    }
}

/// Checks a value against a type.
pub fn check(listing: &Listing, ty: &Type, value: &Value, place: &str) -> Checked {
    let wrong = || Err(format!("`{place}` must be {}, not {}", listing.annotation(ty), shown(value)));
    let fits = match ty {
        Type::Any => true,
        Type::Null => value.is_null(),
        Type::Bool => value.is_boolean(),
        // `1.0` is an integer in JSON Schema. One that is beyond 64 bits was rounded when it was read.
        Type::Int => {
            let whole = |number: f64| number.fract() == 0.0 && number.abs() <= LARGEST_EXACT;
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(whole)
        }
        Type::Number => value.is_number(),
        Type::Str => value.is_string(),
        Type::Literal(values) => values.iter().any(|one| same(one, value)),
        Type::List(element) => match value {
            Value::Array(items) => {
                let mut items = items.iter().enumerate();
                return items
                    .try_for_each(|(at, item)| check(listing, element, item, &format!("{place}[{at}]")));
            }
            _ => false,
        },
        Type::Dict(inner) => match value {
            Value::Object(_) if **inner == Type::Any => true,
            Value::Object(members) => {
                return members.iter().try_for_each(|(name, item)| {
                    check(listing, inner, item, &format!("{place}.{}", shown_name(name)))
                });
            }
            _ => false,
        },
        Type::Class(index) => match value {
            Value::Object(members) => return object(listing, *index, members, place),
            _ => false,
        },
        Type::Union(types) => {
            let mut first = None;
            for ty in types {
                match check(listing, ty, value, place) {
                    Ok(()) => return Ok(()),
                    // What is wrong within says more than that it is none of many.
                    Err(message) if first.is_none() && has_parts(ty, value) => first = Some(message),
                    Err(_) => {}
                }
            }
            return first.map_or_else(wrong, Err);
        }
    };
    if fits { Ok(()) } else { wrong() }
}

fn object(listing: &Listing, class: usize, members: &Map<String, Value>, place: &str) -> Checked {
    let class = &listing.classes[class];
    for field in &class.fields {
        match members.get(&field.name) {
            Some(value) => check(listing, &field.ty, value, &format!("{place}.{}", shown_name(&field.name)))?,
            None if field.required => {
                return Err(format!("`{place}.{}` is missing", shown_name(&field.name)));
            }
            None => {}
        }
    }
    let unknown = members.keys().find(|name| class.fields.iter().all(|field| field.name != **name));
    match unknown {
        Some(name) if !class.open => Err(format!("`{place}` has no member `{}`", shown_name(name))),
        _ => Ok(()),
    }
}

fn has_parts(ty: &Type, value: &Value) -> bool {
    matches!(
        (ty, value),
        (Type::List(_), Value::Array(_)) | (Type::Dict(_) | Type::Class(_), Value::Object(_))
    )
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

fn shown_name(name: &str) -> String {
    super::text::line(name, 60)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a dict".into(),
        value => super::text::line(&super::model::constant(value), 60),
    }
}
