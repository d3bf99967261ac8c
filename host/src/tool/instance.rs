//! A session's instances of its tools, each in a store of its own.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::component::{Func, ResourceTable};
use wasmtime::{ResourceLimiter, Store, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::ambient::Ambient;
use super::component::Component;
use super::denials::{self, Denials};
use super::function::{self, Closure};
use super::http::{HttpCtx, HttpUsage};
use super::json;
use super::toolbox::{Body, Loaded, Target, Toolbox};
use crate::bindings::operations::Failure;
use crate::console::{Console, Stream, WasiOutput};
use crate::engine::{Handles, Interrupt, Malformed, Reason, Stopped, Watchdog, call};
use crate::operations::Answer;
use crate::wasi::Waits;
use crate::workspace::{Budget, FilesystemCtx, FilesystemCtxView, FilesystemLimits, FilesystemView, Preopen};

/// Handles of all kinds that a tool may hold of the host.
const MAX_HANDLES: usize = 16_384;

/// Messages about what a tool was refused that are remembered, so as not to be repeated.
const MOST_TOLD: usize = 64;

/// Bytes that a tool's result may have.
const RESULT_BYTES: usize = 1 << 30;

/// The data of a tool's store.
pub(crate) struct ToolState {
    table: ResourceTable,
    wasi: WasiCtx,
    filesystem: FilesystemCtx,
    http: HttpCtx,
    pub(super) ambient: Ambient,
    pub(super) denials: Denials,
    runtime: Handle,
    pub interrupt: Arc<Interrupt>,
    memory_left: u64,
    memory_refused: bool,
}

impl WasiView for ToolState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl FilesystemView for ToolState {
    fn filesystem(&mut self) -> FilesystemCtxView<'_> {
        FilesystemCtxView { ctx: &mut self.filesystem, table: &mut self.table }
    }
}

impl WasiHttpView for ToolState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let HttpCtx { ctx, hooks } = &mut self.http;
        WasiHttpCtxView { ctx, table: &mut self.table, hooks }
    }
}

impl Waits for ToolState {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    fn waiting(&self) -> (Handle, Arc<Interrupt>) {
        (self.runtime.clone(), Arc::clone(&self.interrupt))
    }
}

impl ResourceLimiter for ToolState {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // All memories of the instance count together.
        let more = desired.saturating_sub(current) as u64;
        let allowed = more <= self.memory_left;
        if allowed {
            self.memory_left -= more;
        } else {
            self.memory_refused = true;
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 1 << 20)
    }
}

/// A session's tools. An instance is made by the first call and serves until one fails.
#[derive(Default)]
pub(crate) struct Instances {
    toolbox: Option<Arc<Toolbox>>,
    live: Vec<Option<Live>>,
    /// What each tool has used, whatever became of its instances.
    used: Vec<Option<Used>>,
}

#[derive(Clone)]
struct Used {
    filesystem: Budget,
    http: Arc<HttpUsage>,
}

struct Live {
    store: Store<ToolState>,
    functions: Vec<Func>,
    handles: Handles,
    interrupt: Arc<Interrupt>,
    denials: Denials,
    /// What the program was told of on standard error.
    told: Vec<String>,
    used: Used,
}

/// What a call needs of the session.
pub(crate) struct Caller<'a> {
    pub runtime: &'a Handle,
    pub watchdog: &'a Watchdog,
    pub interrupt: &'a Arc<Interrupt>,
    pub console: &'a Console,
    pub filesystem: &'a FilesystemCtx,
    /// Memory for the answer.
    pub buffer: Vec<u8>,
}

impl Instances {
    pub fn new(toolbox: Option<Arc<Toolbox>>) -> Self {
        let count = toolbox.as_ref().map_or(0, |toolbox| toolbox.tools.len());
        Instances {
            toolbox,
            live: std::iter::repeat_with(|| None).take(count).collect(),
            used: vec![None; count],
        }
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
            Some(toolbox) => self.call_in(&toolbox, number, head, tail, caller),
            None => Ok(Err(unknown(number))),
        }
    }

    /// The call, if it is one that goes on by itself and that others may overlap.
    pub fn start(
        &self,
        number: u32,
        head: &[u8],
        tail: &[u8],
    ) -> Option<impl Future<Output = Answer> + Send + 'static> {
        let toolbox = self.toolbox.clone()?;
        let (position, Target::Function(function)) = toolbox.target(number)? else { return None };
        let tool = &toolbox.tools[position];
        let Body::Functions(closures) = &tool.body else { return None };
        let Closure::Async(closure) = closures.get(function)? else { return None };
        if tool.refusal(function, head, tail).is_some() {
            return None;
        }
        let running =
            closure(function::arguments(&tool.description, tool.function(function)?, head, tail).ok()?);
        Some(async move {
            let given = running.await;
            let tool = &toolbox.tools[position];
            match tool.function(function) {
                Some(described) => function::answer(&tool.description, described, given),
                None => Err(unknown(number)),
            }
        })
    }

    /// Calls a function with JSON: `{"function": NAME, "arguments": …}`; gives `{"ok": …}` or `{"err": …}`.
    fn call_by_name(
        &mut self,
        toolbox: &Arc<Toolbox>,
        request: &[u8],
        caller: &mut Caller<'_>,
    ) -> Result<Answer, Stopped> {
        let refused = |message: String| Ok(Err(failure("arguments", message)));
        let request: ByName = match serde_json::from_slice(request) {
            Ok(request) => request,
            Err(error) => return refused(format!("this is no call: {error}")),
        };
        let name = &request.function;
        let number = toolbox.number(name);
        let Some((number, (position, Target::Function(function)))) =
            number.and_then(|number| Some((number, toolbox.target(number)?)))
        else {
            return Ok(Err(failure("unknown", format!("there is no function `{name}` in tools"))));
        };
        let tool = &toolbox.tools[position];
        let Some(described) = tool.function(function) else { return Ok(Err(unknown(number))) };
        let encoded = match json::encode_arguments(&tool.description, described, &request.arguments) {
            Ok(encoded) => encoded,
            Err(message) => return refused(format!("{name}: {message}")),
        };
        Ok(self.call_in(toolbox, number, &encoded, &[], caller)?.and_then(|mut bytes| {
            if let Some(told) = tool.may_fail(function).then(|| denials::detach(&mut bytes)).flatten() {
                caller.console.write(Stream::Stderr, format!("{told}\n").as_bytes());
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
        let tool = &toolbox.tools[position];
        if let Target::Function(function) = target
            && let Some(message) = tool.refusal(function, head, tail)
        {
            return Ok(Err(failure("denied", message)));
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
                        caller.interrupt.block_on(caller.runtime, closure(arguments))?
                    }
                    (_, Err(message)) => Err(message),
                };
                return Ok(function::answer(&tool.description, described, given));
            }
            Body::Python(_) => return Ok(Err(unknown(number))),
        };
        let slot = &mut self.live[position];
        let result = match (target, slot.as_mut()) {
            (Target::Close, live) => {
                let handle = head.try_into().map(u32::from_le_bytes);
                let resource = handle
                    .ok()
                    .zip(live)
                    .and_then(|(handle, live)| Some((live.handles.take(handle).ok()?, live)));
                let Some((resource, live)) = resource else {
                    return Ok(Err(failure("closed", "the resource is closed already".into())));
                };
                // Its destructor is the tool's code, like any other.
                let name = format!("closing a resource of {}", tool.name);
                live.guarded(component, caller, &|| name.clone(), |store, _| {
                    resource.resource_drop(store).map(|()| Vec::new())
                })
            }
            (Target::Function(function), Some(live)) => {
                live.call(function, head, tail, tool, component, caller)
            }
            (Target::Function(function), None) => {
                let used = self.used[position].clone();
                Live::new(toolbox, tool, component, used, caller).and_then(|live| {
                    self.used[position] = Some(live.used.clone());
                    slot.insert(live).call(function, head, tail, tool, component, caller)
                })
            }
        };
        match result {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(Fault::Stopped) => {
                *slot = None;
                Err(Stopped)
            }
            Err(Fault::Failed(failure)) => {
                // Nothing is known about its state any more; the next call gets a fresh one.
                *slot = None;
                Ok(Err(failure))
            }
        }
    }
}

/// The number of the function that calls others by their names, with JSON.
const BY_NAME: u32 = u32::MAX;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ByName {
    function: String,
    arguments: serde_json::Value,
}

fn unknown(number: u32) -> Failure {
    failure("unknown", format!("the host has no function {number}"))
}

enum Fault {
    /// The turn is to stop.
    Stopped,
    Failed(Failure),
}

fn failure(kind: &str, message: String) -> Failure {
    Failure { kind: kind.into(), message }
}

impl Live {
    fn new(
        toolbox: &Toolbox,
        tool: &Loaded,
        component: &Component,
        used: Option<Used>,
        caller: &mut Caller<'_>,
    ) -> Result<Self, Fault> {
        let (budget, usage) = match used {
            Some(used) => (Some(used.filesystem), used.http),
            None => (None, Arc::default()),
        };
        let filesystem = filesystem(component, budget, caller).map_err(|error| {
            Fault::Failed(failure("denied", format!("the tool {} cannot start: {error}", tool.name)))
        })?;
        let used = Used { filesystem: filesystem.budget(), http: usage };
        let denials = Denials::new(&tool.name);
        let grants = &component.grants;
        let limits = &grants.limits;
        // What a tool prints is for whoever reads the program's errors.
        let output = || WasiOutput { console: caller.console.clone(), stream: Stream::Stderr };
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(output()).stderr(output()).allow_tcp(false).allow_udp(false);
        for (name, value) in &grants.environment {
            wasi.env(name, value);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let interrupt = Interrupt::new();
        let state = ToolState {
            table,
            wasi: wasi.build(),
            filesystem,
            http: HttpCtx::new(grants, &toolbox.network, &used.http, &denials),
            ambient: Ambient::new(grants.random, grants.clock),
            denials: denials.clone(),
            runtime: caller.runtime.clone(),
            interrupt: Arc::clone(&interrupt),
            memory_left: limits.memory_bytes,
            memory_refused: false,
        };
        let mut store = toolbox.engine.store(state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(RESULT_BYTES);
        interrupt.set_control(toolbox.engine.control());
        let mut live = Live {
            store,
            functions: Vec::new(),
            handles: Handles::default(),
            interrupt,
            denials,
            told: Vec::new(),
            used,
        };
        // Instantiating runs the component's own start functions.
        let name = format!("starting {}", tool.name);
        let functions = live.guarded(component, caller, &|| name.clone(), |store, _| {
            let instance = component.pre.instantiate(&mut *store)?;
            let function = |export| {
                instance
                    .get_func(&mut *store, export)
                    .ok_or_else(|| wasmtime::Error::msg("an export is not a function"))
            };
            component.exports.iter().map(function).collect::<wasmtime::Result<Vec<_>>>()
        })?;
        live.functions = functions;
        Ok(live)
    }

    fn call(
        &mut self,
        function: usize,
        head: &[u8],
        tail: &[u8],
        tool: &Loaded,
        component: &Component,
        caller: &mut Caller<'_>,
    ) -> Result<Vec<u8>, Fault> {
        let buffer = std::mem::take(&mut caller.buffer);
        let called = self.functions[function];
        let interrupt = Arc::clone(&self.interrupt);
        let what = || tool.function_name(function);
        let mut bytes = self.guarded(component, caller, &what, |store, handles| {
            call(store, called, head, tail, handles, &interrupt, buffer)
        })?;
        // Told only where the call ended in an error that nothing else explains: tools try what they need not have.
        if let Some(missed) = self.store.data().filesystem.missed()
            && bytes.first() == Some(&1)
            && tool.may_fail(function)
            && self.denials.is_empty()
        {
            self.denials.missed(missed);
        }
        if let Some(told) = self.denials.take() {
            self.tell(told, function, &mut bytes, tool, caller);
        }
        Ok(bytes)
    }

    /// Tells the program what the tool was refused during a call that ended all the same: in the
    /// exception where it ended in an error, else once on standard error.
    fn tell(
        &mut self,
        told: String,
        function: usize,
        bytes: &mut Vec<u8>,
        tool: &Loaded,
        caller: &Caller<'_>,
    ) {
        if tool.may_fail(function) && denials::attach(bytes, &told) {
            return;
        }
        if !self.told.contains(&told) {
            caller.console.write(Stream::Stderr, format!("{told}\n").as_bytes());
            if self.told.len() < MOST_TOLD {
                self.told.push(told);
            }
        }
    }

    /// Runs code of the tool, within its limits and those of the turn. After an error the instance is
    /// not to be used again.
    fn guarded<T>(
        &mut self,
        component: &Component,
        caller: &Caller<'_>,
        what: &dyn Fn() -> String,
        run: impl FnOnce(&mut Store<ToolState>, &mut Handles) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        self.store.data_mut().memory_refused = false;
        self.interrupt.begin();
        let watch = caller.watchdog.watch(&self.interrupt, component.grants.limits.timeout);
        let Live { store, handles, interrupt, .. } = self;
        let result = caller.interrupt.with_nested(interrupt, || run(store, handles));
        drop(watch);
        let ended = self.interrupt.end();
        if caller.interrupt.is_fired() {
            return Err(Fault::Stopped);
        }
        let error = match result {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let what = what();
        let denied = self.denials.take();
        let mut failure = if ended.reason == Some(Reason::Deadline) {
            let limit = component.grants.limits.timeout.unwrap_or_default().as_secs_f64();
            failure("timeout", format!("{what} was stopped at its time limit of {limit} s"))
        } else if self.store.data().memory_refused {
            let limit = component.grants.limits.memory_bytes;
            failure("memory", format!("{what} needs more than its memory limit of {limit} bytes"))
        } else if let Some(malformed) = error.downcast_ref::<Malformed>() {
            failure("trap", format!("{what} was called with {malformed}"))
        } else {
            match error.downcast_ref::<Trap>() {
                Some(trap) => failure("trap", format!("{what} failed: {trap}")),
                None => failure("trap", format!("{what} failed: {error:#}")),
            }
        };
        if denied.is_some() && failure.kind == "trap" {
            failure.kind = "denied".into();
        }
        // A language's own ways to fail may look for files, so nothing is said of those.
        self.store.data().filesystem.missed();
        if let Some(told) = denied {
            failure.message = format!("{}\n{told}", failure.message);
        }
        Err(Fault::Failed(failure))
    }
}

/// The directories that a tool was granted.
fn filesystem(
    component: &Component,
    budget: Option<Budget>,
    caller: &mut Caller<'_>,
) -> crate::Result<FilesystemCtx> {
    let grants = &component.grants;
    let limits = &grants.limits;
    let mut preopens = Vec::with_capacity(grants.mounts.len());
    for mount in &grants.mounts {
        preopens.push(match mount.host.strip_prefix(super::ToolGrants::WORKSPACE) {
            Ok(below) => {
                let directory = caller.filesystem.workspace(below)?;
                Preopen::shared(directory, &mount.guest, mount.access)
            }
            Err(_) => crate::workspace::open_preopen(&mount.host, &mount.guest, mount.access)?,
        });
    }
    let limits = FilesystemLimits {
        open_files: limits.open_files,
        write_bytes: limits.write_bytes,
        new_entries: limits.new_entries,
        path_bytes: limits.path_bytes,
    };
    FilesystemCtx::sharing(preopens, limits, budget)
}
