//! What the arguments of a call must be like, whoever calls.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::describe::{Description, Function, Shape, Type};
use super::names::snake;
use crate::{Error, ErrorKind, Result};

/// What an argument, or a part of one, must be like. Everything that is given must hold.
///
/// ```
/// use agentkernel::{Constraint, ToolGrants};
///
/// let mut limit = Constraint::default();
/// limit.max = Some(100.0);
/// let mut grants = ToolGrants::default();
/// grants.allow.entry("search".into()).or_default().insert("limit".into(), limit);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Constraint {
    /// A regular expression that must match the whole string.
    pub pattern: Option<String>,
    /// The lowest number.
    pub min: Option<f64>,
    /// The highest number.
    pub max: Option<f64>,
    /// The values there may be: strings, numbers, names of enum and variant cases; of flags, those
    /// that may be set.
    pub one_of: Option<Vec<Value>>,
    /// How many characters a string, bytes a `list<u8>`, or elements a list may have.
    pub max_length: Option<u64>,
    /// Whether an option may be left out. Default: no, since what is left out has been checked by nobody.
    pub or_none: bool,
}

/// Constraints of one function: paths of parameters and their fields (`options.limit`), with what
/// must hold there. A path reaches into each element of a list.
pub type Constraints = BTreeMap<String, Constraint>;

/// The constraints of a function, checked and compiled.
#[derive(Debug)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    path: Vec<String>,
    pattern: Option<Regex>,
    is_bytes: bool,
    /// Whether values are JSON of which no type is known, and not what a type of WIT has become.
    is_json: bool,
    constraint: Constraint,
}

impl Rules {
    /// # Errors
    ///
    /// When a path leads nowhere, or to something that a constraint cannot apply to.
    pub fn compile(
        described: &Description,
        function: &Function,
        name: &str,
        given: &Constraints,
    ) -> Result<Self> {
        let rules = given.iter().map(|(path, constraint)| {
            let bad = |message: String| {
                Error::new(ErrorKind::Grant, format!("the constraint on `{path}` of `{name}` {message}"))
            };
            let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
            let ty = find(described, function, &steps).map_err(|there| {
                bad("names nothing that is there".into()).hint(format!("there are {}", there.join(", ")))
            })?;
            if passes_nested_option(described, function, &steps) {
                return Err(bad("reaches into an option within an option".into())
                    .hint("constrain something else, or change the function's WIT"));
            }
            check_applies(described, &ty, constraint).map_err(|message| {
                bad(message).hint("docs/tools.md says which constraints there are, and of what")
            })?;
            let pattern = compiled(constraint, bad)?;
            let is_bytes = matches!(&ty, Type::List(element) if **element == Type::U8);
            Ok(Rule { path: steps, pattern, is_bytes, is_json: false, constraint: constraint.clone() })
        });
        rules.collect::<Result<_>>().map(Rules)
    }

    /// Constraints on arguments in JSON, of which no type is known yet: what is not of a kind that a constraint is about is
    /// refused, and so is what is not there.
    #[cfg(feature = "mcp")]
    pub fn of_json(name: &str, given: &Constraints) -> Result<Self> {
        let rules = given.iter().map(|(path, constraint)| {
            let bad = |message: String| {
                Error::new(ErrorKind::Grant, format!("the constraint on `{path}` of `{name}` {message}"))
            };
            if says_nothing(constraint) {
                return Err(bad(NOTHING.into()).hint("docs/tools.md says which constraints there are"));
            }
            Ok(Rule {
                path: path.split('.').map(str::to_owned).collect(),
                pattern: compiled(constraint, bad)?,
                is_bytes: false,
                is_json: true,
                constraint: constraint.clone(),
            })
        });
        rules.collect::<Result<_>>().map(Rules)
    }

    /// The parameters that constraints are about.
    #[cfg(feature = "mcp")]
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|rule| rule.path.first().map(String::as_str))
    }

    /// As [`Rules::check`]; `argument` gives what a parameter was given.
    #[cfg(feature = "mcp")]
    pub fn check_json<'a>(
        &self,
        argument: impl Fn(&str) -> Option<&'a Value>,
    ) -> std::result::Result<(), String> {
        self.0.iter().try_for_each(|rule| {
            let value = argument(&rule.path[0]).unwrap_or(&Value::Null);
            rule.reach(value, 1).map_err(|message| format!("`{}` {message}", rule.path.join(".")))
        })
    }

    /// Checks the arguments of a call; says what is not allowed.
    pub fn check(&self, arguments: &Map<String, Value>) -> std::result::Result<(), String> {
        self.0.iter().try_for_each(|rule| {
            let value = arguments.get(&rule.path[0]).unwrap_or(&Value::Null);
            rule.reach(value, 1).map_err(|message| format!("`{}` {message}", rule.path.join(".")))
        })
    }
}

/// The expression of a pattern.
fn compiled(constraint: &Constraint, bad: impl Fn(String) -> Error) -> Result<Option<Regex>> {
    let pattern = constraint.pattern.as_ref().map(|pattern| {
        Regex::new(&format!("\\A(?:{pattern})\\z")).map_err(|error| {
            bad(format!("is no regular expression: {error}"))
                .hint("correct `pattern`; it has no look-around and no back-references")
        })
    });
    pattern.transpose()
}

const NOTHING: &str = "says nothing; give `pattern`, `min`, `max`, `one-of` or `max-length`";

fn says_nothing(constraint: &Constraint) -> bool {
    *constraint == (Constraint { or_none: constraint.or_none, ..Constraint::default() })
}

/// The type at the end of a path, without options and lists around it; or what there is where the
/// path goes astray.
fn find(
    described: &Description,
    function: &Function,
    path: &[String],
) -> std::result::Result<Type, Vec<String>> {
    let parameters = || function.parameters.iter().map(|(name, ty)| (snake(name), Some(ty.clone())));
    let mut level: Vec<(String, Option<Type>)> = parameters().collect();
    let mut found = None;
    for (position, step) in path.iter().enumerate() {
        let names = || level.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let Some((_, Some(ty))) = level.iter().find(|(name, _)| name == step) else { return Err(names()) };
        let ty = match position + 1 == path.len() {
            true => bare(ty, &[]),
            false => bare(ty, &path[position + 1..]),
        };
        level = members(described, &ty);
        found = Some(ty);
    }
    found.ok_or_else(|| level.into_iter().map(|(name, _)| name).collect())
}

/// Whether a path goes through or ends at an option within an option: there is a value that says
/// neither that something is there nor that nothing is.
fn passes_nested_option(described: &Description, function: &Function, path: &[String]) -> bool {
    fn nested(ty: &Type) -> bool {
        match ty {
            Type::Option(inner) => matches!(**inner, Type::Option(_)) || nested(inner),
            Type::List(inner) | Type::Array(inner, _) => nested(inner),
            _ => false,
        }
    }
    let mut level: Vec<(String, Option<Type>)> =
        function.parameters.iter().map(|(name, ty)| (snake(name), Some(ty.clone()))).collect();
    for (position, step) in path.iter().enumerate() {
        let Some((_, Some(ty))) = level.iter().find(|(name, _)| name == step) else { return false };
        if nested(ty) {
            return true;
        }
        level = members(described, &bare(ty, &path[position + 1..]));
    }
    false
}

/// A type without the options around it, and without the lists if the path goes on inside them.
fn bare(ty: &Type, rest: &[String]) -> Type {
    match ty {
        Type::Option(inner) => bare(inner, rest),
        Type::List(inner) | Type::Array(inner, _) if !rest.is_empty() => bare(inner, rest),
        ty => ty.clone(),
    }
}

fn members(described: &Description, ty: &Type) -> Vec<(String, Option<Type>)> {
    match ty {
        Type::Named(index) => match &described.types[*index].shape {
            Shape::Record(fields) => {
                fields.iter().map(|field| (snake(&field.name), Some(field.ty.clone()))).collect()
            }
            Shape::Variant(cases) => cases.iter().map(|case| (snake(&case.name), case.ty.clone())).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Whether the values of a type can be what a constraint says; those of a list, its elements.
fn check_applies(
    described: &Description,
    ty: &Type,
    constraint: &Constraint,
) -> std::result::Result<(), String> {
    let element = match ty {
        Type::List(inner) | Type::Array(inner, _) if **inner != Type::U8 => bare(inner, &[]),
        ty => ty.clone(),
    };
    let numeric = matches!(
        element,
        Type::S8
            | Type::U8
            | Type::S16
            | Type::U16
            | Type::S32
            | Type::U32
            | Type::S64
            | Type::U64
            | Type::F32
            | Type::F64
    );
    let text = matches!(element, Type::String | Type::Char);
    let named = matches!(&element, Type::Named(index)
        if matches!(described.types[*index].shape, Shape::Enum(_) | Shape::Variant(_) | Shape::Flags(_)));
    if constraint.pattern.is_some() && !text {
        return Err("has a pattern, which only strings can have".into());
    }
    if (constraint.min.is_some() || constraint.max.is_some()) && !numeric {
        return Err("has a range, which only numbers can have".into());
    }
    if constraint.one_of.is_some() && !(text || numeric || named || element == Type::Bool) {
        return Err("has a set, which strings, numbers, enums, variants and flags can have".into());
    }
    if constraint.max_length.is_some() && !(text || matches!(ty, Type::List(_) | Type::Map(..))) {
        return Err("has a length, which strings and lists can have".into());
    }
    if says_nothing(constraint) {
        return Err(NOTHING.into());
    }
    Ok(())
}

impl Rule {
    /// Follows the path from `step` on, into every element of lists.
    fn reach(&self, value: &Value, step: usize) -> std::result::Result<(), String> {
        match value {
            Value::Null if self.constraint.or_none => Ok(()),
            Value::Null => Err("was left out, which is not allowed (`or-none = true` would allow it)".into()),
            _ if step == self.path.len() => self.holds(value),
            Value::Array(items) => items.iter().try_for_each(|item| self.reach(item, step)),
            // A variant that has another case carries nothing to check.
            Value::Object(fields) => match fields.get(&self.path[step]) {
                Some(inner) => self.reach(inner, step + 1),
                None if self.is_json => self.reach(&Value::Null, step + 1),
                None => Ok(()),
            },
            Value::String(_) if !self.is_json => Ok(()),
            _ => Err("is not what the constraint is about".into()),
        }
    }

    fn holds(&self, value: &Value) -> std::result::Result<(), String> {
        let constraint = &self.constraint;
        if let Some(limit) = constraint.max_length {
            let length = match value {
                // Base64: three bytes in four letters.
                Value::String(text) if self.is_bytes => {
                    (text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count()) as u64
                }
                Value::String(text) => text.chars().count() as u64,
                Value::Array(items) => items.len() as u64,
                Value::Object(fields) => fields.len() as u64,
                _ if self.is_json => return Err("has no length, and is limited in it".into()),
                _ => 0,
            };
            if length > limit {
                return Err(format!("has a length of {length}, and {limit} are allowed"));
            }
        }
        match value {
            // Of flags a set says which may be there; other lists are checked element by element.
            Value::Array(items) => items.iter().try_for_each(|item| self.one(item)),
            value => self.one(value),
        }
    }

    fn one(&self, value: &Value) -> std::result::Result<(), String> {
        let constraint = &self.constraint;
        let value = match value {
            Value::Object(fields) if !self.is_json => {
                fields.keys().next().map_or(Value::Null, |case| Value::String(case.clone()))
            }
            value => value.clone(),
        };
        if value.is_null() && constraint.or_none {
            return Ok(());
        }
        if let Some(pattern) = &self.pattern
            && !value.as_str().is_some_and(|text| pattern.is_match(text))
        {
            return Err(format!(
                "is {value}, and must match `{}`",
                constraint.pattern.as_deref().unwrap_or("")
            ));
        }
        if constraint.min.is_some() || constraint.max.is_some() {
            let (low, high) =
                (constraint.min.unwrap_or(f64::NEG_INFINITY), constraint.max.unwrap_or(f64::INFINITY));
            let within = match integer(&value) {
                // Whole numbers beyond 2^53 are not rounded.
                Some(number) => number >= low.ceil() as i128 && number <= high.floor() as i128,
                // What is not a number, NaN for one, is in no range.
                None => value.as_f64().is_some_and(|number| (low..=high).contains(&number)),
            };
            if !within {
                return Err(match (constraint.min, constraint.max) {
                    (Some(low), Some(high)) => format!("is {value}, and must be from {low} to {high}"),
                    (Some(low), None) => format!("is {value}, and must be at least {low}"),
                    (_, _) => format!("is {value}, and must be at most {high}"),
                });
            }
        }
        if let Some(allowed) = &constraint.one_of {
            let same = |allowed: &Value| match (integer(allowed), integer(&value)) {
                (Some(one), Some(other)) => one == other,
                _ => match (allowed.as_f64(), value.as_f64()) {
                    (Some(one), Some(other)) => one == other,
                    _ => *allowed == value,
                },
            };
            if !allowed.iter().any(same) {
                let shown: Vec<String> = allowed.iter().map(Value::to_string).collect();
                return Err(format!("is {value}, and must be one of {}", shown.join(", ")));
            }
        }
        Ok(())
    }
}

fn integer(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}
