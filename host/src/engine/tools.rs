//! The engine that tools run on: wasmtime's own memories and epochs.

use std::time::Instant;

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

/// Compiles and runs tools. Shared by all sessions of a kernel.
pub(crate) struct ToolEngine(wasmtime::Engine);

impl ToolEngine {
    pub fn new() -> Result<Self> {
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .max_wasm_stack(STACK_BYTES)
            .async_stack_size(2 * STACK_BYTES)
            .wasm_backtrace_max_frames(None)
            .generate_address_map(false)
            .native_unwind_info(false)
            .epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).map_err(|error| {
            Error::new(ErrorKind::System, "cannot set up wasmtime for tools").source(error)
        })?;
        Ok(ToolEngine(engine))
    }

    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0
    }

    /// The compiled component, and the description that `describe` makes of it: both of the cache if
    /// they are there.
    pub fn load<T: serde::de::DeserializeOwned>(
        &self,
        component: &[u8],
        cache: &Cache,
        progress: &dyn Fn(Progress),
        describe: impl Fn() -> Result<Vec<u8>>,
    ) -> Result<(Component, T)> {
        let mut hasher = Sha256::new();
        hasher.update(CACHE_FORMAT.to_le_bytes());
        hasher.update(compatibility(&self.0));
        hasher.update(component);
        let key = format!("tool-{}", &hex(&hasher.finalize())[..32]);
        let build = || {
            let description = describe()?;
            let start = Instant::now();
            let compiled = self
                .0
                .precompile_component(component)
                .map_err(|error| Error::new(ErrorKind::Tool, "a tool cannot be compiled").source(error))?;
            tracing::debug!("compiled a tool in {:?}", start.elapsed());
            Ok(Built { compiled, image: Vec::new(), notes: description })
        };
        cache.get(
            &key,
            || progress(Progress::Waiting),
            build,
            |artefact| {
                // SAFETY: as for the interpreter: the bytes were made by this engine, just now or by an
                // earlier run of this user whose cache entry nobody else can write.
                #[expect(unsafe_code)]
                let component = unsafe {
                    match artefact {
                        Artefact::Stored(entry) => Component::deserialize_file(&self.0, entry.compiled()),
                        Artefact::Fresh(built) => Component::deserialize(&self.0, &built.compiled),
                    }
                }
                .map_err(|error| Error::new(ErrorKind::Tool, "cannot load a compiled tool").source(error))?;
                let description = match artefact {
                    Artefact::Stored(entry) => std::fs::read(entry.notes()).map_err(|error| {
                        Error::new(ErrorKind::Cache, "cannot read the description of a tool").source(error)
                    })?,
                    Artefact::Fresh(built) => built.notes.clone(),
                };
                let description = serde_json::from_slice(&description).map_err(|error| {
                    Error::new(ErrorKind::Cache, "the description of a tool is damaged").source(error)
                })?;
                Ok((component, description))
            },
        )
    }

    /// A store whose guest stops when its interrupt is fired.
    pub fn store(&self, state: ToolState) -> Store<ToolState> {
        let mut store = Store::new(&self.0, state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            if context.data().interrupt.is_fired() {
                return Err(Stopped.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        store
    }

    pub fn control(&self) -> std::sync::Arc<dyn Control> {
        std::sync::Arc::new(Epochs(self.0.clone()))
    }
}
