//! What the store of a tool holds.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::ToolGrants;
use super::ambient::Ambient;
use super::denials::Denials;
use super::http::{HttpCtx, HttpUsage};
use super::live::Host;
use super::toolbox::Toolbox;
use crate::console::{Stream, WasiOutput};
use crate::engine::Interrupt;
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
    pub interrupt: Arc<Interrupt>,
    memory_left: u64,
    pub memory_refused: bool,
}

impl ToolState {
    /// The state of a new instance, and what it was refused.
    pub fn new(
        toolbox: &Toolbox,
        grants: &Arc<ToolGrants>,
        filesystem: FilesystemCtx,
        usage: &Arc<HttpUsage>,
        host: &Host<'_>,
        denials: Denials,
    ) -> Self {
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
            http: HttpCtx::new(grants, &toolbox.network, usage, &denials),
            ambient: Ambient::new(grants.random, grants.clock),
            denials,
            runtime: host.runtime.clone(),
            interrupt: Interrupt::new(),
            memory_left: grants.limits.memory_bytes,
            memory_refused: false,
        }
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
