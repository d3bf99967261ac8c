//! Tools that import what other tools export: calls between them, each in its own store with its own
//! grants.
//!
//! An instance has instances of its own of the tools that it needs, as components have that are
//! composed. What they may use is shared with all others of the session.

use std::sync::Arc;

use serde_json::{Map, Value};
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Linker, Val};
use wasmtime::{Engine, StoreContextMut};

use super::ambient;
use super::component::Component;
use super::live::{Callee, Fault, Live, Used};
use super::loaded::{Body, Loaded};
use super::names::snake;
use super::state::ToolState;
use super::toolbox::Toolbox;
use crate::console::Console;
use crate::engine::{Stopped, Watchdog};
use crate::telemetry::spans;
use crate::{Error, ErrorKind, Result};

/// Tools that may call each other in a row: each has native stack of its own, above that of its caller.
const MAX_CHAIN: usize = 4;

/// What an instance has of the tools that it needs.
pub(super) struct Peers {
    pub toolbox: Arc<Toolbox>,
    pub used: Arc<Used>,
    pub live: Vec<Option<Live>>,
    pub watchdog: Watchdog,
    pub console: Console,
}

/// Where a tool finds what it imports: the import, the other tool, and the place of the interface's
/// first function in that tool.
struct Need {
    import: String,
    tool: usize,
    interface: usize,
}

/// Links every component, to WASI and to the tools that export what it imports.
pub(super) fn link(tools: &mut [Loaded]) -> Result<()> {
    let mut bases = Vec::<Linker<ToolState>>::new();
    let mut all = Vec::with_capacity(tools.len());
    for tool in tools.iter() {
        all.push(match &tool.body {
            Body::Component(component) => needs(tools, tool, component)?,
            _ => Vec::new(),
        });
    }
    let mut lengths = vec![None; tools.len()];
    for start in 0..tools.len() {
        check_chain(tools, &all, &mut lengths, &mut Vec::new(), start)?;
    }
    for (position, needs) in all.iter().enumerate() {
        let Body::Component(component) = &tools[position].body else { continue };
        let bad = |message: &str| {
            Error::new(ErrorKind::Tool, format!("the tool `{}` {message}", tools[position].name))
        };
        let engine = component.compiled.engine();
        let known = bases.iter().position(|base| Engine::same(base.engine(), engine));
        let base = match known {
            Some(position) => &bases[position],
            None => bases.push_mut(base(engine)?),
        };
        let needs_http = component.imports.iter().any(|import| import.starts_with("wasi:http/"));
        let linked = match needs.is_empty() && !needs_http {
            true => base.instantiate_pre(&component.compiled),
            false => {
                let mut linker = base.clone();
                for (slot, need) in needs.iter().enumerate() {
                    add(&mut linker, tools, component, need, slot)?;
                }
                let http = match needs_http {
                    // Linked for those alone that import it: it is much.
                    true => wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker),
                    false => Ok(()),
                };
                http.and_then(|()| linker.instantiate_pre(&component.compiled))
            }
        };
        let pre = linked.map_err(|error| {
            bad("imports what this version of WASI does not have")
                .hint("build it for WASI 0.2 (`wasm32-wasip2`)")
                .source(error)
        })?;
        let needs = needs.iter().map(|need| need.tool).collect();
        if let Body::Component(component) = &mut tools[position].body {
            (component.pre, component.needs) = (Some(pre), needs);
        }
    }
    Ok(())
}

/// What every component of an engine is linked to.
fn base(engine: &Engine) -> Result<Linker<ToolState>> {
    let mut linker = Linker::new(engine);
    crate::wasi::add_to_linker::<ToolState>(&mut linker)
        .and_then(|()| ambient::add_to_linker(&mut linker))
        .map_err(|error| Error::new(ErrorKind::System, "cannot link WASI for tools").source(error))?;
    Ok(linker)
}

/// The tools that export what a component imports beside WASI.
fn needs(tools: &[Loaded], tool: &Loaded, component: &Component) -> Result<Vec<Need>> {
    let imports = component.imports.iter().filter(|import| !Component::is_linked(import));
    imports
        .map(|import| {
            let provider = tools.iter().enumerate().find_map(|(position, other)| {
                let Body::Component(_) = other.body else { return None };
                let mut interfaces = other.description.interfaces.iter();
                let interface = interfaces.position(|interface| provides(&interface.export, import))?;
                Some(Need { import: import.clone(), tool: position, interface })
            });
            provider.ok_or_else(|| {
                Error::new(
                    ErrorKind::Tool,
                    format!("the tool `{}` imports `{import}`, which nothing provides", tool.name),
                )
                .hint(format!(
                    "give a tool that exports `{import}`, with `--tools` or in agentkernel.toml, or compose it in with `wac plug`; \
                     of WASI 0.2 a tool may import all but HTTP servers"
                ))
            })
        })
        .collect()
}

/// Whether an export is what is imported: the same interface, in the same version or one that is
/// compatible and not older.
fn provides(export: &str, import: &str) -> bool {
    if export == import {
        return true;
    }
    let (Some((export, offered)), Some((import, wanted))) = (export.split_once('@'), import.split_once('@'))
    else {
        return false;
    };
    let numbers = |version: &str| -> Option<[u64; 3]> {
        let numbers = version.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<_>>>()?;
        numbers.try_into().ok()
    };
    let (Some(offered), Some(wanted)) = (numbers(offered), numbers(wanted)) else { return false };
    // Below 1 each second number is a version of its own, and below 0.1 each third one.
    let same = match wanted {
        [0, 0, _] => 3,
        [0, ..] => 2,
        _ => 1,
    };
    export == import && offered[..same] == wanted[..same] && offered >= wanted
}

/// Refuses tools that need each other, and chains that are too long; gives how long the longest is.
fn check_chain(
    tools: &[Loaded],
    needs: &[Vec<Need>],
    lengths: &mut [Option<usize>],
    way: &mut Vec<usize>,
    tool: usize,
) -> Result<usize> {
    let names = |tools: &[Loaded], way: &[usize]| -> String {
        way.iter().map(|tool| tools[*tool].name.as_str()).collect::<Vec<_>>().join(" → ")
    };
    if let Some(start) = way.iter().position(|passed| *passed == tool) {
        let circle = [&way[start..], &[tool]].concat();
        return Err(Error::new(
            ErrorKind::Tool,
            format!("tools import each other in a circle: {}", names(tools, &circle)),
        )
        .hint("take one of them out, or move what they share into a tool of its own"));
    }
    if let Some(length) = lengths[tool] {
        return Ok(length);
    }
    way.push(tool);
    let mut longest = 1;
    for need in &needs[tool] {
        longest = longest.max(1 + check_chain(tools, needs, lengths, way, need.tool)?);
    }
    if longest > MAX_CHAIN {
        return Err(Error::new(
            ErrorKind::Tool,
            format!("the tool `{}` begins a chain of {longest} tools that import each other, and {MAX_CHAIN} are allowed", tools[tool].name),
        )
        .hint("compose some of them into one with `wac plug`"));
    }
    way.pop();
    lengths[tool] = Some(longest);
    Ok(longest)
}

/// Links the functions of an imported interface to the tool that has them.
fn add(
    linker: &mut Linker<ToolState>,
    tools: &[Loaded],
    component: &Component,
    need: &Need,
    slot: usize,
) -> Result<()> {
    let provider = &tools[need.tool];
    let bad = |message: String| {
        Error::new(ErrorKind::Tool, format!("`{}` of the tool `{}` {message}", need.import, provider.name))
            .hint("compose the two with `wac plug`, or build them of the same WIT")
    };
    let Body::Component(provided) = &provider.body else { return Ok(()) };
    let interface = &provider.description.interfaces[need.interface];
    let first: usize =
        provider.description.interfaces[..need.interface].iter().map(|before| before.functions.len()).sum();
    let ty = component.compiled.component_type();
    let Some(ComponentItem::ComponentInstance(wanted)) = ty
        .imports(component.compiled.engine())
        .find(|(name, _)| *name == need.import)
        .map(|(_, item)| item.ty)
    else {
        return Err(bad("is imported as something else than an interface".into()));
    };
    let offered = provided.compiled.component_type();
    let Some(ComponentItem::ComponentInstance(offered)) = offered
        .exports(provided.compiled.engine())
        .find(|(name, _)| *name == interface.export)
        .map(|(_, item)| item.ty)
    else {
        return Err(bad("is not exported, as it says".into()));
    };
    let mut instance =
        linker.instance(&need.import).map_err(|error| bad("cannot be linked".into()).source(error))?;
    for (name, item) in wanted.exports(component.compiled.engine()) {
        match item.ty {
            ComponentItem::ComponentFunc(wanted) => {
                let offered = offered.exports(provided.compiled.engine()).find(|(other, _)| *other == name);
                let Some(ComponentItem::ComponentFunc(offered)) = offered.map(|(_, item)| item.ty) else {
                    return Err(bad(format!("has no function `{name}`")));
                };
                if !same(&wanted, &offered) {
                    return Err(bad(format!("has a function `{name}` of another type than is imported")));
                }
                let position = interface.functions.iter().position(|function| function.export == name);
                let Some(position) = position else { return Err(bad(format!("has no function `{name}`"))) };
                if interface.functions[position].is_async {
                    return Err(bad(format!(
                        "has an asynchronous function `{name}`, which is not for other tools"
                    )));
                }
                instance
                    .func_new(name, move |store, _, arguments, results| {
                        call(store, slot, first + position, arguments, results)
                    })
                    .map_err(|error| bad("cannot be linked".into()).source(error))?;
            }
            ComponentItem::Resource(_) => {
                return Err(bad("has resources, which cannot be passed between stores".into()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn same(wanted: &ComponentFunc, offered: &ComponentFunc) -> bool {
    wanted.async_() == offered.async_()
        && wanted.params().eq(offered.params())
        && wanted.results().eq(offered.results())
}

/// Calls function `function` of the tool that is the caller's need number `slot`.
fn call(
    mut store: StoreContextMut<'_, ToolState>,
    slot: usize,
    function: usize,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let state = store.data_mut();
    let mut peers = state.peers.take().ok_or_else(|| wasmtime::Error::msg("a tool that calls itself"))?;
    let called = call_peer(state, &mut peers, slot, function, arguments, results);
    state.peers = Some(peers);
    called
}

fn call_peer(
    state: &ToolState,
    peers: &mut Peers,
    slot: usize,
    function: usize,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let (position, used) = &peers.used.needs[slot];
    let tool = &peers.toolbox.tools[*position];
    let Body::Component(component) = &tool.body else { wasmtime::bail!("the tool is no component") };
    let host = state.host(&peers.watchdog, &peers.console);
    let callee = Callee { toolbox: &peers.toolbox, tool, component, used };
    let refused = tool.refusal_of(function, || {
        let named =
            tool.function(function).map(|function| function.parameters.as_slice()).unwrap_or_default();
        named.iter().zip(arguments).map(|((name, _), value)| (snake(name), json(value))).collect()
    });
    let span = spans::tool(|| tool.function_name(function), "extension");
    if let Some(message) = refused {
        tool.ended.add("denied");
        spans::tool_ended(&span, "denied");
        state.denials.add(message);
        wasmtime::bail!("a call of another tool is not allowed");
    }
    let mut live = match peers.live[slot].take() {
        Some(live) => Ok(live),
        None => Live::new(&callee, &host),
    };
    let called = live.as_mut().map_err(|fault| std::mem::replace(fault, Fault::Stopped)).and_then(|live| {
        let told = span.in_scope(|| live.call_dynamic(&callee, function, arguments, results, &host))?;
        told.into_iter().for_each(|told| state.denials.add(told));
        Ok(())
    });
    let outcome = match &called {
        Ok(()) => "ok",
        Err(Fault::Stopped) => "cancelled",
        Err(Fault::Failed(failure) | Fault::Refused(failure)) if failure.kind == "denied" => "denied",
        Err(Fault::Failed(_) | Fault::Refused(_)) => "failed",
    };
    tool.ended.add(outcome);
    spans::tool_ended(&span, outcome);
    match called {
        Ok(()) => {
            peers.live[slot] = live.ok().filter(|_| !component.grants.per_call);
            Ok(())
        }
        Err(Fault::Stopped) => Err(Stopped.into()),
        Err(Fault::Failed(failure) | Fault::Refused(failure)) => Err(wasmtime::Error::msg(failure.message)),
    }
}

/// A value as JSON, as constraints look at it.
fn json(value: &Val) -> Value {
    match value {
        Val::Bool(value) => (*value).into(),
        Val::S8(value) => (*value).into(),
        Val::U8(value) => (*value).into(),
        Val::S16(value) => (*value).into(),
        Val::U16(value) => (*value).into(),
        Val::S32(value) => (*value).into(),
        Val::U32(value) => (*value).into(),
        Val::S64(value) => (*value).into(),
        Val::U64(value) => (*value).into(),
        Val::Float32(value) => super::json::floating(f64::from(*value)),
        Val::Float64(value) => super::json::floating(*value),
        Val::Char(value) => value.to_string().into(),
        Val::String(value) => value.clone().into(),
        Val::List(items) if !items.is_empty() && items.iter().all(|item| matches!(item, Val::U8(_))) => {
            let bytes =
                items.iter().filter_map(|item| if let Val::U8(byte) = item { Some(*byte) } else { None });
            super::json::base64(&bytes.collect::<Vec<u8>>())
        }
        Val::List(items) | Val::FixedLengthList(items) | Val::Tuple(items) => {
            items.iter().map(json).collect()
        }
        Val::Record(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (snake(name), json(value))).collect())
        }
        Val::Variant(case, None) => snake(case).into(),
        Val::Variant(case, Some(value)) => super::json::tagged(&snake(case), json(value)),
        Val::Enum(case) => snake(case).into(),
        Val::Option(None) => Value::Null,
        Val::Option(Some(value)) => json(value),
        Val::Result(result) => {
            let (tag, value) = match result {
                Ok(value) => ("ok", value),
                Err(value) => ("err", value),
            };
            super::json::tagged(tag, value.as_ref().map_or(Value::Null, |value| json(value)))
        }
        Val::Flags(names) => names.iter().map(|name| Value::String(snake(name))).collect(),
        Val::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (json(key).to_string(), json(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::provides;

    #[test]
    fn a_compatible_version_provides_an_import() {
        assert!(provides("a:b/c", "a:b/c"));
        assert!(provides("a:b/c@1.3.0", "a:b/c@1.2.5"));
        assert!(provides("a:b/c@0.2.9", "a:b/c@0.2.0"));
        for (export, import) in [
            ("a:b/c@1.2.0", "a:b/c@1.3.0"),
            ("a:b/c@2.0.0", "a:b/c@1.0.0"),
            ("a:b/c@0.3.0", "a:b/c@0.2.0"),
            ("a:b/c@0.0.2", "a:b/c@0.0.1"),
            ("a:b/d@1.0.0", "a:b/c@1.0.0"),
            ("a:b/c", "a:b/c@1.0.0"),
        ] {
            assert!(!provides(export, import), "{export} {import}");
        }
    }
}
