//! One instance of a tool in a store of its own: made, called, and stopped at its limits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle;
use wasmtime::component::{Func, Instance, ResourceAny, Val};
use wasmtime::{Store, Trap};

use super::component::Component;
use super::denials::{self, Denials};
use super::http::HttpUsage;
use super::loaded::Loaded;
use super::state::ToolState;
use super::toolbox::Toolbox;
use super::{ToolGrants, ToolLimits};
use crate::bindings::operations::Failure;
use crate::console::{Console, Stream};
use crate::engine::{
    Handles, Interrupt, Malformed, Reason, Watchdog, call, call_async, tool_control, tool_store,
};
use crate::workspace::{Budget, FilesystemCtx, FilesystemLimits, Preopen};

/// Messages about what a tool was refused that are remembered, so as not to be repeated.
const MOST_TOLD: usize = 64;

/// Bytes that a tool's result may have.
const RESULT_BYTES: usize = 1 << 30;

/// An instance.
pub(super) struct Live {
    store: Store<ToolState>,
    instance: Option<Instance>,
    functions: Vec<Func>,
    /// Which of them are called of a resource, their first argument.
    methods: Vec<bool>,
    handles: Handles,
    /// Resources that nobody knows of any more, to be closed by the next call.
    left: Vec<ResourceAny>,
    interrupt: Arc<Interrupt>,
    denials: Denials,
    /// What the program was told of on standard error.
    told: Vec<String>,
}

/// What a call needs of the session.
pub(crate) struct Host<'a> {
    pub runtime: &'a Handle,
    pub watchdog: &'a Watchdog,
    /// What stops the call from outside.
    pub interrupt: &'a Arc<Interrupt>,
    pub console: &'a Console,
}

/// A tool that is called, and what all its instances in the session share.
pub(super) struct Callee<'a> {
    pub toolbox: &'a Arc<Toolbox>,
    pub tool: &'a Loaded,
    pub component: &'a Component,
    pub used: &'a Arc<Used>,
}

/// What all instances of a tool in one session share, whatever became of them: its directories, and
/// what it has used of its limits.
pub(super) struct Used {
    directories: Vec<Preopen>,
    filesystem: Budget,
    pub http: Arc<HttpUsage>,
    /// The same of the tools that it needs, with their positions.
    pub needs: Vec<(usize, Arc<Used>)>,
}

impl Used {
    /// # Errors
    ///
    /// When a directory cannot be opened.
    pub fn new(
        tool: &Loaded,
        grants: &ToolGrants,
        session: &FilesystemCtx,
        needs: Vec<(usize, Arc<Used>)>,
    ) -> Result<Self, Fault> {
        let open = || -> crate::Result<Self> {
            let mut directories = Vec::with_capacity(grants.mounts.len());
            for mount in &grants.mounts {
                directories.push(match mount.host.strip_prefix(ToolGrants::WORKSPACE) {
                    Ok(below) => Preopen::shared(session.workspace(below)?, &mount.guest, mount.access),
                    Err(_) => crate::workspace::open_preopen(&mount.host, &mount.guest, mount.access)?,
                });
            }
            let filesystem = FilesystemCtx::new(Vec::new(), limits(&grants.limits))?.budget();
            Ok(Used { directories, filesystem, http: Arc::default(), needs })
        };
        open().map_err(|error| cannot_start(tool, &error))
    }

    fn filesystem(&self, of: &ToolLimits) -> crate::Result<FilesystemCtx> {
        let preopens = self.directories.iter().map(Preopen::again).collect::<crate::Result<_>>()?;
        FilesystemCtx::sharing(preopens, limits(of), Some(self.filesystem.clone()))
    }
}

fn limits(of: &ToolLimits) -> FilesystemLimits {
    FilesystemLimits {
        open_files: of.open_files,
        write_bytes: of.write_bytes,
        new_entries: of.new_entries,
        path_bytes: of.path_bytes,
    }
}

/// Why a call gave nothing.
pub(super) enum Fault {
    /// The turn is to stop.
    Stopped,
    /// The instance failed, and cannot be used again.
    Failed(Failure),
    /// The call was none; the instance is as before.
    Refused(Failure),
}

pub(super) fn failure(kind: &str, message: String) -> Failure {
    Failure { kind: kind.into(), message }
}

fn cannot_start(tool: &Loaded, error: &crate::Error) -> Fault {
    Fault::Failed(failure("denied", format!("the tool {} cannot start: {error}", tool.name)))
}

impl Live {
    /// A new instance. Instantiating runs the component's own start functions.
    pub fn new(call: &Callee<'_>, host: &Host<'_>) -> Result<Self, Fault> {
        let Callee { tool, component, used, .. } = call;
        let engine = component.compiled.engine();
        let filesystem =
            used.filesystem(&component.grants.limits).map_err(|error| cannot_start(tool, &error))?;
        let denials = Denials::new(&tool.name);
        let state = ToolState::new(call, filesystem, host, denials.clone());
        let interrupt = Arc::clone(&state.interrupt);
        let mut store = tool_store(engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(RESULT_BYTES);
        interrupt.set_control(tool_control(engine));
        let mut live = Live {
            store,
            instance: None,
            functions: Vec::new(),
            methods: tool.methods(),
            handles: Handles::default(),
            left: Vec::new(),
            interrupt,
            denials,
            told: Vec::new(),
        };
        let what = || format!("starting {}", tool.name);
        let (instance, functions) = live.guarded(component, host, &what, |store, _| {
            let pre = component.pre.as_ref().ok_or_else(|| wasmtime::Error::msg("it is not linked"))?;
            let instance = pre.instantiate(&mut *store)?;
            let function = |export| {
                instance
                    .get_func(&mut *store, export)
                    .ok_or_else(|| wasmtime::Error::msg("an export is not a function"))
            };
            let functions = component.exports.iter().map(function).collect::<wasmtime::Result<Vec<_>>>()?;
            Ok((instance, functions))
        })?;
        (live.instance, live.functions) = (Some(instance), functions);
        Ok(live)
    }

    /// Calls a function; what it gives is in the memory of `buffer`.
    pub fn call(
        &mut self,
        callee: &Callee<'_>,
        function: usize,
        arguments: [&[u8]; 2],
        buffer: Vec<u8>,
        host: &Host<'_>,
    ) -> Result<Vec<u8>, Fault> {
        self.close_left(callee, host)?;
        let Callee { tool, component, .. } = callee;
        // A program that was forked or put back may use what is gone. That must not cost it what is there.
        if self.methods[function]
            && let Some(handle) = arguments[0].first_chunk()
            && !self.handles.has(u32::from_le_bytes(*handle))
        {
            let message = format!("{} was called of a resource that is closed", tool.function_name(function));
            return Err(Fault::Refused(failure("closed", message)));
        }
        let called = self.functions[function];
        let interrupt = Arc::clone(&self.interrupt);
        let what = || tool.function_name(function);
        let registers = component.registers[function];
        let mut bytes = self.guarded(component, host, &what, |store, handles| match registers {
            None => call(store, called, arguments, handles, &interrupt, buffer),
            Some(registers) => call_async(store, called, registers, arguments, handles, &interrupt, buffer),
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
            tool.denied.fetch_add(1, Ordering::Relaxed);
            self.tell(told, function, &mut bytes, tool, host);
        }
        Ok(bytes)
    }

    /// Calls a function with values of another component; gives what the tool was refused meanwhile.
    pub fn call_dynamic(
        &mut self,
        callee: &Callee<'_>,
        function: usize,
        arguments: &[Val],
        results: &mut [Val],
        host: &Host<'_>,
    ) -> Result<Option<String>, Fault> {
        let called = self.functions[function];
        let what = || callee.tool.function_name(function);
        self.guarded(callee.component, host, &what, |store, _| called.call(store, arguments, results))?;
        Ok(self.denials.take())
    }

    /// Closes a resource. Its destructor is the tool's code, like any other.
    pub fn close(&mut self, callee: &Callee<'_>, handle: &[u8], host: &Host<'_>) -> Result<Vec<u8>, Fault> {
        let handle = handle.try_into().map(u32::from_le_bytes);
        let Some(resource) = handle.ok().and_then(|handle| self.handles.take(handle).ok()) else {
            return Err(Fault::Refused(failure("closed", "the resource is closed already".into())));
        };
        let what = || format!("closing a resource of {}", callee.tool.name);
        self.guarded(callee.component, host, &what, |store, _| {
            resource.resource_drop(store).map(|()| Vec::new())
        })
    }

    /// The number that its next resource gets.
    pub fn next_number(&self) -> u32 {
        self.handles.next()
    }

    /// The program knows nothing of what it was given since `number` was the next one, or of anything.
    pub fn take_back(&mut self, number: Option<u32>) {
        self.left.extend(self.handles.take_since(number));
    }

    fn close_left(&mut self, callee: &Callee<'_>, host: &Host<'_>) -> Result<(), Fault> {
        if self.left.is_empty() {
            return Ok(());
        }
        let left = std::mem::take(&mut self.left);
        let what = || format!("closing what a turn that was taken back has left of {}", callee.tool.name);
        self.guarded(callee.component, host, &what, |store, _| {
            left.into_iter().try_for_each(|resource| resource.resource_drop(&mut *store))
        })
    }

    /// What the program holds of it, named as in Python.
    pub fn open(&mut self, tool: &Loaded, component: &Component) -> Vec<String> {
        let mut counts = BTreeMap::<String, usize>::new();
        let classes = match self.instance {
            Some(instance) if self.handles.resources().next().is_some() => {
                component.resource_types(&tool.description, instance, &mut self.store)
            }
            _ => Vec::new(),
        };
        let names = tool.class_names();
        for resource in self.handles.resources() {
            let class = classes.iter().find(|(_, ty)| *ty == resource.ty());
            let name = class.map_or(tool.name.as_str(), |(index, _)| names[*index].as_str());
            *counts.entry(format!("tools.{name}")).or_default() += 1;
        }
        let told = counts.into_iter().map(|(name, count)| match count {
            1 => format!("a resource of a tool, `{name}`"),
            _ => format!("{count} resources of a tool, `{name}`"),
        });
        told.collect()
    }

    /// Tells the program what the tool was refused during a call that ended all the same: in the
    /// exception where it ended in an error, else once on standard error.
    fn tell(&mut self, told: String, function: usize, bytes: &mut Vec<u8>, tool: &Loaded, host: &Host<'_>) {
        if tool.may_fail(function) && denials::attach(bytes, &told) {
            return;
        }
        if !self.told.contains(&told) {
            host.console.write(Stream::Stderr, format!("{told}\n").as_bytes());
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
        host: &Host<'_>,
        what: &dyn Fn() -> String,
        run: impl FnOnce(&mut Store<ToolState>, &mut Handles) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        self.store.data_mut().memory_refused = false;
        self.interrupt.begin();
        let watch = host.watchdog.watch(&self.interrupt, component.grants.limits.timeout);
        let Live { store, handles, interrupt, .. } = self;
        let result = host.interrupt.with_nested(interrupt, || run(store, handles));
        drop(watch);
        let ended = self.interrupt.end();
        if host.interrupt.is_fired() {
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
            let kind = if malformed.is_closed() { "closed" } else { "trap" };
            failure(kind, format!("{what} was called with {malformed}"))
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
