//! Whether values are what a server's schemas say, as far as types tell.

use serde_json::{Map, Value};

use super::model::{Class, Function, Listing, Type, constant};
use super::text;

/// Up to here floating point has all integers.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Comparisons that may go into one value: a server gives both the value and the types that it is compared with.
const MOST_STEPS: u64 = 20_000_000;

/// Letters of a type, and of a value or a name, in a message.
const TYPE_LETTERS: usize = 500;
const SHOWN_LETTERS: usize = 60;

/// What is wrong with a value, and where.
type Checked = Result<(), String>;

/// Checks the arguments of a call, by the server's names.
pub fn arguments(listing: &Listing, function: &Function, given: &Map<String, Value>) -> Checked {
    let checker = Checker { listing, cover: &str::to_owned };
    let is_known = |name: &str| function.parameters.iter().any(|one| one.name == name);
    if !function.open
        && let Some(name) = given.keys().find(|name| !is_known(name))
    {
        let names: Vec<&str> = function.parameters.iter().map(|one| one.python.as_str()).collect();
        let there = match names.is_empty() {
            true => "there are none".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        return Err(format!("there is no parameter `{}`; {there}", checker.name(name)));
    }
    let mut left = MOST_STEPS;
    for parameter in &function.parameters {
        match given.get(&parameter.name) {
            Some(value) => checker.check(&parameter.ty, value, &parameter.python, &mut left)?,
            None if parameter.required => return Err(format!("`{}` is missing", parameter.python)),
            None => {}
        }
    }
    Ok(())
}

/// Checks the result of a call. `cover` takes out of a text of the server's what must not be shown.
pub fn result(listing: &Listing, ty: &Type, value: &Value, cover: &dyn Fn(&str) -> String) -> Checked {
    Checker { listing, cover }.check(ty, value, "result", &mut { MOST_STEPS })
}

struct Checker<'a> {
    listing: &'a Listing,
    cover: &'a dyn Fn(&str) -> String,
}

impl Checker<'_> {
    fn check(&self, ty: &Type, value: &Value, place: &str, left: &mut u64) -> Checked {
        match fits(self.listing, ty, value, left) {
            true => Ok(()),
            false if *left == 0 => Err(format!(
                "`{place}` is too large for its schema: it is not known what it is after {MOST_STEPS} comparisons"
            )),
            false => Err(self.misfit(ty, value, place, &mut { MOST_STEPS })),
        }
    }

    /// What is wrong with a value that does not fit: the first that is, as far within as `left` leads.
    fn misfit(&self, ty: &Type, value: &Value, place: &str, left: &mut u64) -> String {
        let within = match (ty, value) {
            (Type::List(inner), Value::Array(items)) => {
                let at = items.iter().position(|item| !fits(self.listing, inner, item, left));
                at.map(|at| (&**inner, &items[at], format!("{place}[{at}]")))
            }
            (Type::Dict(inner), Value::Object(members)) => {
                let member = members.iter().find(|(_, item)| !fits(self.listing, inner, item, left));
                member.map(|(name, item)| (&**inner, item, format!("{place}.{}", self.name(name))))
            }
            (Type::Class(index), Value::Object(members)) => {
                let class = &self.listing.classes[*index];
                match self.member(class, members, place, left) {
                    Ok(within) => within,
                    Err(message) => return message,
                }
            }
            // What is wrong within says more than that it is none of many.
            (Type::Union(types), _) => {
                let ty = types.iter().find(|ty| has_parts(ty, value));
                ty.map(|ty| (ty, value, place.to_owned()))
            }
            _ => None,
        };
        match within {
            Some((ty, value, place)) if *left > 0 => self.misfit(ty, value, &place, left),
            _ => {
                let ty = text::clean(&self.listing.annotation(ty), TYPE_LETTERS);
                format!("`{place}` must be {ty}, not {}", self.shown(value))
            }
        }
    }

    /// The first member of an object that does not fit; an error says what else is wrong with them.
    fn member<'b>(
        &self,
        class: &'b Class,
        members: &'b Map<String, Value>,
        place: &str,
        left: &mut u64,
    ) -> Result<Option<(&'b Type, &'b Value, String)>, String> {
        for field in &class.fields {
            match members.get(&field.name) {
                Some(value) if fits(self.listing, &field.ty, value, left) => {}
                Some(value) => {
                    return Ok(Some((&field.ty, value, format!("{place}.{}", self.name(&field.name)))));
                }
                None if field.required => {
                    return Err(format!("`{place}.{}` is missing", self.name(&field.name)));
                }
                None => {}
            }
        }
        let unknown = members.keys().find(|name| class.fields.iter().all(|field| field.name != **name));
        match unknown {
            Some(name) if !class.open => Err(format!("`{place}` has no member `{}`", self.name(name))),
            _ => Ok(None),
        }
    }

    // Covered before it is cut: what is left of a secret is not known for one.

    fn name(&self, name: &str) -> String {
        text::line(&(self.cover)(name), SHOWN_LETTERS)
    }

    fn shown(&self, value: &Value) -> String {
        let value = match value {
            Value::Array(_) => return "a list".into(),
            Value::Object(_) => return "a dict".into(),
            Value::String(text) => constant(&Value::String((self.cover)(text))),
            value => (self.cover)(&constant(value)),
        };
        text::line(&value, SHOWN_LETTERS)
    }
}

/// Whether a value is of a type. It gives up, with `false` and nothing left, when that takes more than `left` comparisons.
fn fits(listing: &Listing, ty: &Type, value: &Value, left: &mut u64) -> bool {
    let steps = match ty {
        Type::Literal(values) => values.len() as u64,
        Type::Class(index) => listing.classes[*index].fields.len() as u64,
        _ => 0,
    };
    *left = left.saturating_sub(1 + steps);
    if *left == 0 {
        return false;
    }
    match (ty, value) {
        (Type::Any, _) => true,
        (Type::Null, value) => value.is_null(),
        (Type::Bool, value) => value.is_boolean(),
        // `1.0` is an integer in JSON Schema. One that is beyond 64 bits was rounded when it was read.
        (Type::Int, value) => {
            let whole = |number: f64| number.fract() == 0.0 && number.abs() <= LARGEST_EXACT;
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(whole)
        }
        (Type::Number, value) => value.is_number(),
        (Type::Str, value) => value.is_string(),
        (Type::Literal(values), value) => values.iter().any(|one| same(one, value)),
        (Type::List(inner), Value::Array(items)) => items.iter().all(|item| fits(listing, inner, item, left)),
        (Type::Dict(inner), Value::Object(_)) if **inner == Type::Any => true,
        (Type::Dict(inner), Value::Object(members)) => {
            members.values().all(|item| fits(listing, inner, item, left))
        }
        (Type::Class(index), Value::Object(members)) => {
            let class = &listing.classes[*index];
            let mut known = 0;
            let fit = class.fields.iter().all(|field| match members.get(&field.name) {
                Some(value) => {
                    known += 1;
                    fits(listing, &field.ty, value, left)
                }
                None => !field.required,
            });
            fit && (class.open || members.len() == known)
        }
        (Type::List(_) | Type::Dict(_) | Type::Class(_), _) => false,
        (Type::Union(types), value) => types.iter().any(|ty| fits(listing, ty, value, left)),
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
