//! A session's tools: which instance a call goes to.

use std::sync::Arc;

use tracing::Instrument;

use super::ToolResources;
use super::denials;
use super::function::{self, Closure};
use super::json;
use super::live::{Callee, Fault, Host, Live, Used, failure};
use super::loaded::Body;
#[cfg(feature = "mcp")]
use super::mcp::{self, Owned};
use super::pool::Pool;
use super::told::Overlapped;
use super::toolbox::{Target, Toolbox};
use crate::bindings::operations::Failure;
use crate::console::Stream;
use crate::engine::{Stopped, hex};
use crate::modules::TOO_MUCH_HELD;
use crate::operations::{Answer, Held};
use crate::workspace::FilesystemCtx;

/// A session's tools. An instance is made by the first call and serves until one fails.
#[derive(Default)]
pub(crate) struct Instances {
    toolbox: Option<Arc<Toolbox>>,
    slots: Vec<Slot>,
}

/// What a session has of a tool.
#[derive(Default)]
struct Slot {
    live: Option<Live>,
    /// What programs know the instance by, or the one that is made next, where they need to.
    mark: Option<Mark>,
    used: Option<Arc<Used>>,
    /// Instances for calls that overlap.
    pool: Option<Arc<Pool>>,
    /// An MCP server that is the session's own.
    #[cfg(feature = "mcp")]
    server: Option<Owned>,
}

type Mark = [u8; 8];

/// How far the numbers of each tool's resources have come, and of which instance.
pub(crate) type Numbers = Vec<Option<(Mark, u32)>>;

impl Slot {
    fn mark(&mut self) -> Mark {
        *self.mark.get_or_insert_with(|| fastrand::u64(..).to_le_bytes())
    }

    /// Ends the instance; the next call gets a fresh one.
    fn end(&mut self) {
        (self.live, self.mark) = (None, None);
    }
}

/// What a call needs of the session.
pub(crate) struct Caller<'a> {
    pub host: Host<'a>,
    pub filesystem: &'a FilesystemCtx,
    /// Memory for the answer.
    pub buffer: Vec<u8>,
}

impl Instances {
    pub fn new(toolbox: Option<Arc<Toolbox>>) -> Self {
        let count = toolbox.as_ref().map_or(0, |toolbox| toolbox.tools.len());
        Instances { toolbox, slots: std::iter::repeat_with(Slot::default).take(count).collect() }
    }

    pub fn toolbox(&self) -> Option<&Arc<Toolbox>> {
        self.toolbox.as_ref()
    }

    /// Calls function number `number`.
    pub fn call(
        &mut self,
        number: u32,
        head: &[u8],
        tail: &[u8],
        caller: &mut Caller<'_>,
    ) -> Result<Answer, Stopped> {
        match self.toolbox.clone() {
            Some(toolbox) if number == BY_NAME => self.call_by_name(&toolbox, head, caller),
            #[cfg(feature = "mcp")]
            Some(toolbox) if let Some(acting) = self.acting(&toolbox, number, [head, tail]) => {
                caller.host.interrupt.block_on(caller.host.runtime, acting)
            }
            Some(toolbox) => match self.of_instance(&toolbox, number, head) {
                Ok(head) => self.call_in(&toolbox, number, head, tail, caller),
                Err(failure) => Ok(Err(failure)),
            },
            None => Ok(Err(unknown(number))),
        }
    }

    /// The call, if it is one that goes on by itself and that others may overlap.
    pub fn start(
        &mut self,
        number: u32,
        [head, tail]: [&[u8]; 2],
        caller: &Caller<'_>,
        held: &Held,
    ) -> Option<Overlapping> {
        let toolbox = self.toolbox.clone()?;
        #[cfg(feature = "mcp")]
        if let Some(acting) = self.acting(&toolbox, number, [head, tail]) {
            let held = held.clone();
            return Some(Box::pin(async move {
                let bytes = acting.await?;
                match held.add(bytes.len()) {
                    true => Ok(bytes),
                    false => Err(failure("memory", TOO_MUCH_HELD.into())),
                }
            }));
        }
        let (position, Target::Function(function)) = toolbox.target(number)? else { return None };
        let tool = &toolbox.tools[position];
        let described = tool.function(function)?;
        // The call that is made in its place says so.
        if tool.refusal(function, head, tail).is_some() {
            return None;
        }
        match &tool.body {
            Body::Functions(closures) => {
                let Closure::Async(closure) = closures.get(function)? else { return None };
                let arguments = function::arguments(&tool.description, described, head, tail).ok()?;
                let told = Overlapped::start(&toolbox, position, function, [head, tail]);
                let running = told.span.in_scope(|| closure(arguments));
                let held = held.clone();
                Some(overlapping(told, async move {
                    let given = running.await;
                    let tool = &toolbox.tools[position];
                    let described = tool.function(function).ok_or_else(|| unknown(number))?;
                    let bytes = function::answer(&tool.description, described, given)?;
                    match held.add(bytes.len()) {
                        true => Ok(bytes),
                        false => Err(failure("memory", TOO_MUCH_HELD.into())),
                    }
                }))
            }
            Body::Component(component) if !tool.description.passes_resources(described) => {
                let used = used(&mut self.slots, &toolbox, position, caller.filesystem).ok()?;
                let slot = &mut self.slots[position];
                let pool = slot.pool.get_or_insert_with(|| Pool::new(&toolbox, position, component, used));
                let told = Overlapped::start(&toolbox, position, function, [head, tail]);
                let running = pool.start(function, [head, tail].concat(), &caller.host, held.clone());
                Some(overlapping(told, running))
            }
            _ => None,
        }
    }

    /// What is passed without the mark of the instance that it is for. The call is none if that is another one by now: then
    /// the program is told which.
    fn of_instance<'a>(
        &mut self,
        toolbox: &Toolbox,
        number: u32,
        head: &'a [u8],
    ) -> Result<&'a [u8], Failure> {
        let Some(position) = toolbox.names_instance(number) else { return Ok(head) };
        let mark = self.slots[position].mark();
        match head.split_first_chunk() {
            Some((meant, head)) if *meant == mark => Ok(head),
            _ => Err(failure("instance", hex(&mark))),
        }
    }

    /// What the program holds that keeps its state from being kept.
    pub fn held(&mut self) -> Vec<String> {
        let Some(toolbox) = &self.toolbox else { return Vec::new() };
        let tools = self.slots.iter_mut().zip(&toolbox.tools);
        let refused = tools.filter(|(_, tool)| tool.resources == ToolResources::Refused);
        refused
            .filter_map(|(slot, tool)| match (&mut slot.live, &tool.body) {
                (Some(live), Body::Component(component)) => Some(live.open(tool, component)),
                _ => None,
            })
            .flatten()
            .collect()
    }

    /// What tells the resources that the program has from those that it is given later.
    pub fn numbers(&mut self) -> Numbers {
        let number = |slot: &mut Slot| {
            let next = slot.live.as_ref()?.next_number();
            Some((slot.mark(), next))
        };
        self.slots.iter_mut().map(number).collect()
    }

    /// The program is where it was when the numbers had come so far: it knows nothing of what came after.
    pub fn put_back(&mut self, numbers: &Numbers) {
        let Some(toolbox) = &self.toolbox else { return };
        for (position, (slot, tool)) in self.slots.iter_mut().zip(&toolbox.tools).enumerate() {
            match &mut slot.live {
                _ if tool.resources != ToolResources::Kept => slot.end(),
                Some(live) => {
                    let number = numbers.get(position).copied().flatten();
                    let of_this = number.filter(|(mark, _)| slot.mark == Some(*mark));
                    live.take_back(of_this.map(|(_, next)| next));
                }
                None => {}
            }
        }
    }

    /// What function number `number` of an MCP server does, if it is of one.
    #[cfg(feature = "mcp")]
    fn acting(&mut self, toolbox: &Arc<Toolbox>, number: u32, request: [&[u8]; 2]) -> Option<Overlapping> {
        let (position, act) = toolbox.act(number)?;
        let client = toolbox.tools[position].mcp()?.client(&mut self.slots[position].server);
        let (toolbox, request) = (Arc::clone(toolbox), request.concat());
        Some(Box::pin(async move {
            match toolbox.tools[position].mcp() {
                Some(server) => client.act(server, act, &request).await,
                None => Err(unknown(number)),
            }
        }))
    }

    /// Calls a function of an MCP server by its name, if it is of one.
    #[cfg(feature = "mcp")]
    fn call_server(
        &mut self,
        toolbox: &Arc<Toolbox>,
        request: &mut ByName,
        caller: &Caller<'_>,
    ) -> Option<Result<Answer, Stopped>> {
        let (tool, function) = request.function.split_once('.')?;
        let (position, server) = toolbox.server(tool)?;
        let client = server.client(&mut self.slots[position].server);
        let called = client.call_by_name(server, function, request.arguments.take());
        Some(caller.host.interrupt.block_on(caller.host.runtime, called).map(|answer| {
            let given = mcp::json_value(&answer?).map_err(|message| failure("trap", message))?;
            let (key, value) = match given {
                Ok(value) => ("ok", value),
                Err(value) => ("err", value),
            };
            Ok(serde_json::json!({ key: value }).to_string().into_bytes())
        }))
    }

    /// Calls a function with JSON: `{"function": NAME, "arguments": …}`; gives `{"ok": …}` or `{"err": …}`.
    fn call_by_name(
        &mut self,
        toolbox: &Arc<Toolbox>,
        request: &[u8],
        caller: &mut Caller<'_>,
    ) -> Result<Answer, Stopped> {
        let refused = |message: String| Ok(Err(failure("arguments", message)));
        if request.len() > BY_NAME_BYTES {
            return refused(format!("more than {BY_NAME_BYTES} bytes of JSON; call the function itself"));
        }
        #[cfg_attr(not(feature = "mcp"), expect(unused_mut))]
        let mut request: ByName = match serde_json::from_slice(request) {
            Ok(request) => request,
            Err(error) => return refused(format!("this is no call: {error}")),
        };
        #[cfg(feature = "mcp")]
        if let Some(answer) = self.call_server(toolbox, &mut request, caller) {
            return answer;
        }
        let name = &request.function;
        let number = toolbox.number(name);
        let Some((number, (position, Target::Function(function)))) =
            number.and_then(|number| Some((number, toolbox.target(number)?)))
        else {
            return Ok(Err(failure("unknown", format!("there is no function `{name}` in tools"))));
        };
        let tool = &toolbox.tools[position];
        let Some(described) = tool.function(function) else { return Ok(Err(unknown(number))) };
        // Nobody could close it.
        if tool.description.gives_resources(described) {
            return refused(format!("{name} gives a resource, which JSON cannot hold"));
        }
        let encoded = match json::encode_arguments(&tool.description, described, &request.arguments) {
            Ok(encoded) => encoded,
            Err(message) => return refused(format!("{name}: {message}")),
        };
        Ok(self.call_in(toolbox, number, &encoded, &[], caller)?.and_then(|mut bytes| {
            if let Some(told) = tool.may_fail(function).then(|| denials::detach(&mut bytes)).flatten() {
                caller.host.console.write(Stream::Stderr, format!("{told}\n").as_bytes());
            }
            let result = json::result(&tool.description, described, &bytes)
                .map_err(|message| failure("trap", format!("{name}: {message}")))?;
            let (key, value) = match result {
                Ok(value) => ("ok", value),
                Err(value) => ("err", value),
            };
            Ok(serde_json::json!({ key: value }).to_string().into_bytes())
        }))
    }

    fn call_in(
        &mut self,
        toolbox: &Arc<Toolbox>,
        number: u32,
        head: &[u8],
        tail: &[u8],
        caller: &mut Caller<'_>,
    ) -> Result<Answer, Stopped> {
        let Some((position, target)) = toolbox.target(number) else { return Ok(Err(unknown(number))) };
        let Target::Function(function) = target else {
            return self.call_target(toolbox, number, (position, target), [head, tail], caller);
        };
        let span = toolbox.span(position, function, head, tail);
        let call = || self.call_target(toolbox, number, (position, target), [head, tail], caller);
        let result = span.in_scope(call);
        toolbox.ended(&span, position, function, &result);
        result
    }

    fn call_target(
        &mut self,
        toolbox: &Arc<Toolbox>,
        number: u32,
        (position, target): (usize, Target),
        [head, tail]: [&[u8]; 2],
        caller: &mut Caller<'_>,
    ) -> Result<Answer, Stopped> {
        let tool = &toolbox.tools[position];
        if let Target::Function(function) = target
            && let Some(message) = tool.refusal(function, head, tail)
        {
            return Ok(Err(failure("refused", message)));
        }
        let component = match &tool.body {
            Body::Component(component) => component,
            Body::Functions(closures) => {
                let Target::Function(position) = target else { return Ok(Err(unknown(number))) };
                let (Some(closure), Some(described)) = (closures.get(position), tool.function(position))
                else {
                    return Ok(Err(unknown(number)));
                };
                let arguments = function::arguments(&tool.description, described, head, tail);
                let given = match (closure, arguments) {
                    (Closure::Plain(closure), Ok(arguments)) => closure(arguments),
                    (Closure::Async(closure), Ok(arguments)) => {
                        caller.host.interrupt.block_on(caller.host.runtime, closure(arguments))?
                    }
                    (_, Err(message)) => Err(message),
                };
                return Ok(function::answer(&tool.description, described, given));
            }
            _ => return Ok(Err(unknown(number))),
        };
        let used = used(&mut self.slots, toolbox, position, caller.filesystem);
        let slot = &mut self.slots[position];
        let result = used.and_then(|used| {
            let callee = Callee { toolbox, tool, component, used: &used };
            let function = match (target, &mut slot.live) {
                (Target::Function(function), _) => function,
                (Target::Close, Some(live)) => return live.close(&callee, head, &caller.host),
                (Target::Close, None) => {
                    return Err(Fault::Refused(failure("closed", "the resource is closed already".into())));
                }
            };
            let buffer = std::mem::take(&mut caller.buffer);
            if component.grants.per_call {
                return Live::new(&callee, &caller.host)?.call(
                    &callee,
                    function,
                    [head, tail],
                    buffer,
                    &caller.host,
                );
            }
            let live = match &mut slot.live {
                Some(live) => live,
                none => none.insert(Live::new(&callee, &caller.host)?),
            };
            live.call(&callee, function, [head, tail], buffer, &caller.host)
        });
        match result {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(Fault::Refused(failure)) => Ok(Err(failure)),
            Err(Fault::Stopped) => {
                slot.end();
                Err(Stopped)
            }
            Err(Fault::Failed(failure)) => {
                // Nothing is known about its state any more.
                slot.end();
                Ok(Err(failure))
            }
        }
    }
}

/// A call that goes on by itself, within its span.
fn overlapping(told: Overlapped, running: impl Future<Output = Answer> + Send + 'static) -> Overlapping {
    let span = told.span.clone();
    Box::pin(async move { told.end(running.await) }.instrument(span))
}

/// What all instances of a tool share, and of those that it needs.
fn used(
    slots: &mut [Slot],
    toolbox: &Toolbox,
    position: usize,
    session: &FilesystemCtx,
) -> Result<Arc<Used>, Fault> {
    if let Some(used) = &slots[position].used {
        return Ok(Arc::clone(used));
    }
    let tool = &toolbox.tools[position];
    let Body::Component(component) = &tool.body else {
        return Err(Fault::Refused(failure("unknown", "this is no component".into())));
    };
    // There is no circle of needs.
    let needs = component.needs.iter().map(|need| Ok((*need, used(slots, toolbox, *need, session)?)));
    let needs = needs.collect::<Result<Vec<_>, Fault>>()?;
    let used = Arc::new(Used::new(tool, &component.grants, session, needs)?);
    slots[position].used = Some(Arc::clone(&used));
    Ok(used)
}

/// A call that goes on by itself.
pub(crate) type Overlapping = std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The number of the function that calls others by their names, with JSON.
const BY_NAME: u32 = u32::MAX;

/// Length of such a call: JSON takes a multiple of it in memory.
const BY_NAME_BYTES: usize = 8 << 20;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ByName {
    function: String,
    arguments: serde_json::Value,
}

fn unknown(number: u32) -> Failure {
    failure("unknown", format!("the host has no function {number}"))
}
