//! Functions of the embedding program that programs call like those of any tool.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::describe::{Description, Function, Kind, Type};
use super::json;
use crate::bindings::operations::Failure;
use crate::operations::Answer;
use crate::{Error, ErrorKind, Result};

/// What a function gives, as JSON, or why its arguments or its result are none.
type Given = std::result::Result<Value, String>;

/// A closure under the name that it has in WIT.
#[derive(Clone)]
pub(crate) enum Closure {
    Plain(Arc<dyn Fn(Value) -> Given + Send + Sync>),
    Async(Arc<dyn Fn(Value) -> Running + Send + Sync>),
}

type Running = Pin<Box<dyn Future<Output = Given> + Send>>;

impl std::fmt::Debug for Closure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Closure")
    }
}

impl Closure {
    pub fn plain<A, R>(function: impl Fn(A) -> R + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        Closure::Plain(Arc::new(move |arguments| give(&function(take(arguments)?))))
    }

    pub fn asynchronous<A, F>(function: impl Fn(A) -> F + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        F: Future<Output: Serialize> + Send + 'static,
    {
        Closure::Async(Arc::new(move |arguments| match take(arguments) {
            Ok(arguments) => {
                let result = function(arguments);
                Box::pin(async move { give(&result.await) })
            }
            Err(message) => Box::pin(std::future::ready(Err(message))),
        }))
    }
}

fn take<A: DeserializeOwned>(arguments: Value) -> std::result::Result<A, String> {
    serde_json::from_value(arguments)
        .map_err(|error| format!("the host's function does not take what its WIT says: {error}"))
}

fn give(result: &impl Serialize) -> Given {
    serde_json::to_value(result)
        .map_err(|error| format!("the host's function gave what JSON cannot hold: {error}"))
}

/// A closure for each function of a description, in its order.
pub(super) fn matched(
    described: &Description,
    closures: Vec<(String, Closure)>,
    tool: &str,
) -> Result<Vec<Closure>> {
    let bad = |message: String| Error::new(ErrorKind::Tool, message);
    let functions: Vec<&Function> =
        described.interfaces.iter().flat_map(|interface| &interface.functions).collect();
    if let Some((name, _)) =
        closures.iter().find(|(name, _)| functions.iter().all(|function| function.name != *name))
    {
        return Err(bad(format!("the WIT of the tool `{tool}` has no function `{name}`"))
            .hint("describe it there, or correct the name"));
    }
    functions
        .into_iter()
        .map(|function| {
            if function.kind != Kind::Free {
                return Err(bad(format!(
                    "the tool `{tool}` has a resource, which a host function cannot have"
                ))
                .hint("pass a number or a name for it"));
            }
            let name = &function.name;
            let closure = closures.iter().find(|(given, _)| given == name);
            let (_, closure) = closure.ok_or_else(|| {
                bad(format!("nothing was given for the function `{name}` of the tool `{tool}`"))
                    .hint("give a closure with `Tool::function`")
            })?;
            match (closure, function.is_async) {
                (Closure::Plain(_), true) => {
                    Err(bad(format!("`{name}` is `async func` in WIT, and the closure is not"))
                        .hint("give it with `Tool::async_function`"))
                }
                (Closure::Async(_), false) => {
                    Err(bad(format!("`{name}` is `func` in WIT, and the closure is async"))
                        .hint("write `async func`"))
                }
                _ => Ok(closure.clone()),
            }
        })
        .collect()
}

/// What a closure takes: its arguments in order, nothing if there are none.
pub(super) fn arguments(described: &Description, function: &Function, head: &[u8], tail: &[u8]) -> Given {
    let arguments = json::arguments(described, function, head, tail)?;
    Ok(match arguments.is_empty() {
        true => Value::Null,
        false => Value::Array(arguments.into_iter().map(|(_, value)| value).collect()),
    })
}

/// The answer that what a closure gave stands for.
pub(super) fn answer(described: &Description, function: &Function, given: Given) -> Answer {
    let encoded = given.and_then(|value| match &function.result {
        // As serde writes a `Result`.
        Some(Type::Result(..)) => match (value.get("Ok"), value.get("Err")) {
            (Some(value), None) => json::encode_result(described, function, Ok(value)),
            (None, Some(value)) => json::encode_result(described, function, Err(value)),
            _ => Err("its WIT says that it gives a result, and it does not".to_owned()),
        },
        _ => json::encode_result(described, function, Ok(&value)),
    });
    encoded
        .map_err(|message| Failure { kind: "trap".into(), message: format!("{}: {message}", function.name) })
}
