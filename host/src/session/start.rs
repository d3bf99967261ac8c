//! Starting a session: its directories, its services, its store.

use std::sync::Arc;

use wasmtime::Store;

use super::{Live, Session, SessionBuilder};
use crate::bindings::guest;
use crate::console::{Console, Input};
use crate::context::Contexts;
use crate::engine::Interrupt;
use crate::llm::LlmService;
use crate::replay::Tape;
use crate::skills::{self, SkillsService};
use crate::state::{Shared, State};
use crate::tool::{Instances, Package};
use crate::workspace::{self, FilesystemCtx, FilesystemLimits, Preopen};
use crate::{Error, ErrorKind, Grants, Limits, Result, Workspace, service};

/// Bytes that the guest may hand over in one call, and that the host then holds for a while.
const HANDOVER_BYTES: usize = 32 << 20;

/// Where the workspace stands in the guest.
const WORKSPACE: &str = "/workspace";

impl Session {
    pub(super) fn start(builder: SessionBuilder) -> Result<Self> {
        let SessionBuilder {
            kernel,
            grants,
            stdin,
            output,
            llm,
            budget,
            watch,
            mut services,
            contexts,
            plan,
            at,
            #[cfg(feature = "state")]
                state: kept,
            skills,
        } = builder;
        grants.check(kernel.engine.memory_at_start())?;
        if grants.limits.fuel.is_some() != kernel.metered {
            let (message, hint) = if kernel.metered {
                ("this kernel meters fuel, and no fuel limit is given", "set `Limits::fuel`")
            } else {
                (
                    "a fuel limit has no effect in a kernel that does not meter fuel",
                    "build the kernel with `metered(true)`",
                )
            };
            return Err(Error::new(ErrorKind::Grant, message).hint(hint));
        }
        if llm.is_none() && (budget.is_some() || watch.is_some()) {
            let message = "a budget has no effect in a session without a model";
            return Err(Error::new(ErrorKind::Grant, message).hint("build the kernel with `llm(…)`"));
        }
        let contexts = Contexts::new(contexts);
        let tape = match plan.track(at)? {
            Some(track) => {
                let guest = || kernel.guest_sha256();
                Some(Box::new(Tape::new(track, guest, llm.as_ref(), grants.limits.output_bytes)?))
            }
            None => None,
        };
        let llm = llm.map(|llm| {
            let track = tape.as_ref().map(|tape| tape.track.clone());
            let budget = budget.unwrap_or_else(|| llm.budget());
            Arc::new(LlmService::new(llm.scoped(), budget, watch, contexts.clone(), track))
        });
        if !contexts.is_empty() {
            services.add(Arc::new(contexts));
        }
        if let Some(llm) = &llm {
            services.add(Arc::clone(llm) as _);
        }
        #[cfg(feature = "state")]
        if let Some(kept) = kept {
            if let Some(path) = kept.path() {
                grants.check_outside("state", path)?;
            }
            services.add(Arc::new(crate::state_store::StateService::new(kept)));
        }
        let has_skills = skills.is_some();
        if let Some(skills) = skills {
            grants.check_outside("directory of skills", skills.path())?;
            services.add(Arc::new(SkillsService(skills)));
        }
        let Grants { workspace, mounts, import_paths, environment, limits } = grants;
        let mut preopens = Vec::with_capacity(1 + mounts.len());
        preopens.push(match workspace {
            Workspace::Temporary => Preopen::temporary(WORKSPACE),
            Workspace::Directory(directory) => {
                kernel.check_writable(&directory)?;
                workspace::open_preopen(&directory, WORKSPACE, crate::Access::ReadWrite)?
            }
        });
        for mount in mounts {
            if mount.access == crate::Access::ReadWrite {
                kernel.check_writable(&mount.host)?;
            }
            preopens.push(workspace::open_preopen(&mount.host, &mount.guest, mount.access)?);
        }
        for (name, package) in kernel.tools.iter().flat_map(|tools| tools.packages()) {
            let place = Package::place(name);
            preopens.push(workspace::open_preopen(&package.directory, &place, crate::Access::ReadOnly)?);
        }
        let interrupt = Interrupt::new();
        let is_taped = tape.is_some();
        if is_taped {
            interrupt.set_quiet();
        }
        let state = State::new(
            limits.clone(),
            filesystem(preopens, &limits)?,
            Console::new(output, limits.output_bytes),
            Input::from(stdin),
            Arc::clone(&interrupt),
            Shared {
                runtime: kernel.runtime.handle().clone(),
                watchdog: kernel.watchdog.clone(),
                tools: Instances::new(kernel.tools.clone()),
                services,
                tape,
            },
        );
        let mut store = Store::new(kernel.engine.wasmtime(), state);
        store.limiter(|state| state);
        // What programs pass to tools and models may be large.
        let handover = if kernel.tools.is_some() || llm.is_some() { limits.memory_bytes } else { 0 };
        store.set_hostcall_fuel(HANDOVER_BYTES.max(usize::try_from(handover).unwrap_or(usize::MAX)));
        if kernel.metered {
            // Instantiation runs no guest code of ours, but wasmtime wants fuel to be there.
            store.set_fuel(u64::MAX).map_err(cannot_start)?;
        }
        let (python, control) = kernel.engine.instantiate(&mut store).map_err(cannot_start)?;
        interrupt.set_control(control);
        let settings = guest::Settings {
            environment: environment.into_iter().collect(),
            import_paths,
            modules: std::iter::once(service::PACKAGE)
                .chain(kernel.tools.iter().map(|_| "tools"))
                .chain(has_skills.then_some(skills::PACKAGE))
                .map(str::to_owned)
                .collect(),
            line_buffered: is_taped || !kernel.engine.flushes(),
        };
        Ok(Session {
            kernel,
            interrupt,
            budget: llm.as_ref().map(|llm| llm.budget().clone()),
            live: Some(Box::new(Live { store, python, settings: Some(settings), llm })),
        })
    }
}

fn cannot_start(error: wasmtime::Error) -> Error {
    Error::new(ErrorKind::System, "cannot start the interpreter").source(error)
}

fn filesystem(preopens: Vec<Preopen>, limits: &Limits) -> Result<FilesystemCtx> {
    let limits = FilesystemLimits {
        open_files: limits.open_files,
        write_bytes: limits.write_bytes,
        new_entries: limits.new_entries,
        path_bytes: limits.path_bytes,
    };
    FilesystemCtx::new(preopens, limits)
}
