//! What the store of a tool holds.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::ambient::Ambient;
use super::denials::Denials;
use super::http::HttpCtx;
use super::link::Peers;
use super::live::{Callee, Host};
use crate::console::{Console, Stream, WasiOutput};
use crate::engine::{Interrupt, Watchdog};
use crate::wasi::Waits;
use crate::workspace::{FilesystemCtx, FilesystemCtxView, FilesystemView};

/// Handles of all kinds that a tool may hold of the host.
const MAX_HANDLES: usize = 16_384;

/// The data of a tool's store.
pub(crate) struct ToolState {
    table: ResourceTable,
    wasi: WasiCtx,
    pub filesystem: FilesystemCtx,
    http: HttpCtx,
    pub(super) ambient: Ambient,
    pub(super) denials: Denials,
    runtime: Handle,
    /// What it has of tools whose exports it imports; none while one of them is called.
    pub(super) peers: Option<Peers>,
    pub interrupt: Arc<Interrupt>,
    memory_left: u64,
    pub memory_refused: bool,
}

impl ToolState {
    /// The state of a new instance, and what it was refused.
    pub(super) fn new(
        callee: &Callee<'_>,
        filesystem: FilesystemCtx,
        host: &Host<'_>,
        denials: Denials,
    ) -> Self {
        let Callee { toolbox, component, used, .. } = callee;
        let grants = &component.grants;
        // What a tool prints is for whoever reads the program's errors.
        let output = || WasiOutput { console: host.console.clone(), stream: Stream::Stderr };
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(output()).stderr(output()).allow_tcp(false).allow_udp(false);
        for (name, value) in &grants.environment {
            wasi.env(name, value);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        ToolState {
            table,
            wasi: wasi.build(),
            filesystem,
            http: HttpCtx::new(grants, &toolbox.network, &used.http, &denials),
            ambient: Ambient::new(grants.random, grants.clock),
            denials,
            runtime: host.runtime.clone(),
            peers: (!component.needs.is_empty()).then(|| Peers {
                toolbox: Arc::clone(toolbox),
                used: Arc::clone(used),
                live: component.needs.iter().map(|_| None).collect(),
                watchdog: host.watchdog.clone(),
                console: host.console.clone(),
            }),
            interrupt: Interrupt::new(),
            memory_left: grants.limits.memory_bytes,
            memory_refused: false,
        }
    }
}

impl ToolState {
    /// What a tool that this one calls needs of the session.
    pub(super) fn host<'a>(&'a self, watchdog: &'a Watchdog, console: &'a Console) -> Host<'a> {
        Host { runtime: &self.runtime, watchdog, interrupt: &self.interrupt, console }
    }
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
