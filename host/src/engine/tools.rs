//! The engines that tools run on: wasmtime's own memories and epochs.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Config, OptLevel, Store, UpdateDeadline};

use super::cache::{Artefact, Built, Cache};
use super::guest::hex;
use super::{CACHE_FORMAT, Control, Epochs, Progress, Stopped, compatibility};
use crate::tool::ToolState;
use crate::{Error, ErrorKind, Result};

/// Native stack of a tool. It lies above the one of the interpreter that calls it.
const STACK_BYTES: usize = 1 << 20;

/// The stack that an `async func` runs on, and the tools that it calls in a row.
const ASYNC_STACK_BYTES: usize = 8 << 20;

/// Compiles and runs tools. Shared by all sessions of a kernel.
pub(crate) struct ToolEngines {
    pub plain: wasmtime::Engine,
    /// For tools with an `async func`: what wasmtime keeps in mind for those makes each call of any
    /// function slower, by 0.25 µs.
    pub concurrent: wasmtime::Engine,
}

impl ToolEngines {
    pub fn new() -> Result<Self> {
        let engine = |concurrent| {
            let mut config = Config::new();
            config
                .cranelift_opt_level(OptLevel::Speed)
                .max_wasm_stack(STACK_BYTES)
                .async_stack_size(ASYNC_STACK_BYTES)
                .wasm_backtrace_max_frames(None)
                .generate_address_map(false)
                .native_unwind_info(false)
                .epoch_interruption(true)
                .concurrency_support(concurrent);
            wasmtime::Engine::new(&config).map_err(|error| {
                Error::new(ErrorKind::System, "cannot set up wasmtime for tools").source(error)
            })
        };
        Ok(ToolEngines { plain: engine(false)?, concurrent: engine(true)? })
    }

    /// The compiled component, and the description that `describe` makes of it: both of the cache if
    /// they are there. The description says whether functions are asynchronous, by `concurrent`.
    pub fn load<T: Serialize + DeserializeOwned>(
        &self,
        component: &[u8],
        cache: &Cache,
        progress: &dyn Fn(Progress),
        describe: impl Fn() -> Result<T>,
        concurrent: impl Fn(&T) -> bool,
    ) -> Result<(Component, T)> {
        let engine = |description: &T| match concurrent(description) {
            true => &self.concurrent,
            false => &self.plain,
        };
        let mut hasher = Sha256::new();
        hasher.update(CACHE_FORMAT.to_le_bytes());
        hasher.update(compatibility(&self.plain));
        hasher.update(compatibility(&self.concurrent));
        hasher.update(component);
        let key = format!("tool-{}", &hex(&hasher.finalize())[..32]);
        let build = || {
            let description = describe()?;
            let start = Instant::now();
            let compiled = engine(&description)
                .precompile_component(component)
                .map_err(|error| Error::new(ErrorKind::Tool, "a tool cannot be compiled").source(error))?;
            tracing::debug!("compiled a tool in {:?}", start.elapsed());
            let notes = serde_json::to_vec(&description)
                .map_err(|error| Error::new(ErrorKind::Tool, "a tool cannot be described").source(error))?;
            Ok(Built { compiled, image: Vec::new(), notes })
        };
        cache.get(
            &key,
            || progress(Progress::Waiting),
            build,
            |artefact| {
                let description = match artefact {
                    Artefact::Stored(entry) => std::fs::read(entry.notes()).map_err(|error| {
                        Error::new(ErrorKind::Cache, "cannot read the description of a tool").source(error)
                    })?,
                    Artefact::Fresh(built) => built.notes.clone(),
                };
                let description: T = serde_json::from_slice(&description).map_err(|error| {
                    Error::new(ErrorKind::Cache, "the description of a tool is damaged").source(error)
                })?;
                let engine = engine(&description);
                // SAFETY: as for the interpreter: the bytes were made by this engine, just now or by an
                // earlier run of this user whose cache entry nobody else can write.
                #[expect(unsafe_code)]
                let component = unsafe {
                    match artefact {
                        Artefact::Stored(entry) => Component::deserialize_file(engine, entry.compiled()),
                        Artefact::Fresh(built) => Component::deserialize(engine, &built.compiled),
                    }
                }
                .map_err(|error| Error::new(ErrorKind::Tool, "cannot load a compiled tool").source(error))?;
                Ok((component, description))
            },
        )
    }
}

/// A store whose guest stops when its interrupt is fired.
pub(crate) fn tool_store(engine: &wasmtime::Engine, state: ToolState) -> Store<ToolState> {
    let mut store = Store::new(engine, state);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|context| {
        if context.data().interrupt.is_fired() {
            return Err(Stopped.into());
        }
        Ok(UpdateDeadline::Continue(1))
    });
    store
}

/// What stops the guests of an engine.
pub(crate) fn tool_control(engine: &wasmtime::Engine) -> Arc<dyn Control> {
    Arc::new(Epochs(engine.clone()))
}
