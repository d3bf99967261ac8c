//! Starting a session: its directories, its services, its store.

use std::sync::Arc;

use wasmtime::Store;

use super::builder::Recipe;
use super::keep::Point;
use super::told::Told;
use super::transaction::no_overlay;
use super::{Live, Session, SessionBuilder};
use crate::bindings::{Python, guest};
use crate::clock::Clock;
use crate::console::{Console, Input};
use crate::context::Contexts;
use crate::engine::{Frozen, Instance, Interrupt, Memory};
use crate::kernel::Inner;
use crate::llm::LlmService;
use crate::pool::{self, Ready};
use crate::replay::{FileTape, Tape};
use crate::skills::{self, SkillsService};
use crate::state::{Shared, State};
use crate::telemetry::{Start as From, spans};
use crate::tool::{Instances, Package};
use crate::workspace::{self, FilesystemCtx, FilesystemLimits, Preopen};
use crate::{Error, ErrorKind, Grants, Image, Limits, Overlay, Result, Workspace, service};

/// Bytes that the guest may hand over in one call, and that the host then holds for a while.
const HANDOVER_BYTES: usize = 32 << 20;

/// Where the workspace stands in the guest.
const WORKSPACE: &str = "/workspace";

impl Session {
    pub(super) fn start(builder: SessionBuilder) -> Result<Self> {
        let SessionBuilder { kernel, mut recipe, stdin, output, is_fork } = builder;
        let from = match &recipe.image {
            _ if is_fork => From::Fork,
            Some(_) => From::Image,
            None => From::Base,
        };
        let span = spans::session(from);
        let _starting = spans::start(&span).entered();
        let overlay = match recipe.transactional {
            true => Some(recipe.take_overlay()?),
            false => None,
        };
        // A fork has an image of its own, and this one may be large.
        let again = Recipe { image: None, ..recipe.clone() };
        let Recipe {
            grants,
            llm,
            budget,
            watch,
            mut services,
            contexts,
            plan,
            at,
            image,
            rollback,
            rollback_bytes,
            transactional: _,
            below: _,
            #[cfg(feature = "state")]
                state: kept_values,
            skills,
            #[cfg(feature = "tasks")]
            tasks,
        } = recipe;
        // Its tasks get what it was granted in the end.
        #[cfg(feature = "tasks")]
        if let Some(access) = tasks {
            services.add(access.service(&grants)?);
        }
        let kept = image.as_ref().map(|image| image.memory_for(&kernel)).transpose()?;
        let at_start = kept.as_ref().map_or(0, |kept| kept.size() as u64);
        grants.check(kernel.engine.memory_at_start().max(at_start))?;
        if let Some(records) = workspace::records() {
            grants.check_outside("record of applied changes", &records)?;
        }
        if let Some(cassette) = plan.cassette() {
            grants.check_outside("cassette", cassette)?;
        }
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
        if let Some(values) = kept_values {
            if let Some(path) = values.path() {
                grants.check_outside("state", path)?;
            }
            services.add(Arc::new(crate::state_store::StateService::new(values)));
        }
        let has_skills = skills.is_some();
        if let Some(skills) = skills {
            grants.check_outside("directory of skills", skills.path())?;
            services.add(Arc::new(SkillsService(skills)));
        }
        let is_replay = plan.is_replay();
        let grants = match is_replay {
            // The recording has what is in them.
            true => Grants { workspace: Workspace::Temporary, mounts: Vec::new(), ..grants },
            false => grants,
        };
        let Grants { workspace, mounts, import_paths, environment, limits } = grants;
        let mut preopens = Vec::with_capacity(1 + mounts.len());
        preopens.push(match workspace {
            Workspace::Temporary => Preopen::temporary(WORKSPACE),
            Workspace::Directory(directory) => {
                kernel.check_writable(&directory)?;
                workspace::open_preopen(&directory, WORKSPACE, crate::Access::ReadWrite)?
            }
            Workspace::Overlay(overlay) => {
                // What it writes may be applied to the directory later.
                kernel.check_writable(overlay.directory())?;
                Preopen::overlay(&overlay, WORKSPACE)
            }
        });
        for mount in mounts {
            if mount.access == crate::Access::ReadWrite {
                kernel.check_writable(&mount.host)?;
            }
            preopens.push(workspace::open_preopen(&mount.host, &mount.guest, mount.access)?);
        }
        let packages = kernel.tools.iter().filter(|_| !is_replay).flat_map(|tools| tools.packages());
        for (name, package) in packages {
            let place = Package::place(name);
            preopens.push(workspace::open_preopen(&package.directory, &place, crate::Access::ReadOnly)?);
        }
        let interrupt = Interrupt::new();
        let is_taped = tape.is_some();
        let track = tape.as_ref().map(|tape| tape.track.clone());
        let clock = image.as_ref().map(Image::clock).unwrap_or_default();
        if let Some(tape) = &tape {
            tape.begin_at(clock);
        }
        if is_taped {
            interrupt.set_quiet();
        }
        let mut files = filesystem(preopens, &limits)?;
        if let Some(tape) = tape.as_ref().filter(|tape| tape.track.is_kept()) {
            files.set_tape(FileTape::new(tape.track.clone(), Arc::clone(&interrupt)));
        }
        let state = State::new(
            limits.clone(),
            files,
            Console::new(output, limits.output_bytes),
            Input::from(stdin),
            Arc::clone(&interrupt),
            Shared {
                clock: Clock::at(clock),
                runtime: kernel.runtime.handle().clone(),
                watchdog: kernel.watchdog.clone(),
                tools: Instances::new(kernel.tools.clone()),
                services,
                tape,
            },
        );
        let (store, python, memory) = instantiate(&kernel, &interrupt, state, kept.as_ref())?;
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
        let kernel_owns_memory = memory.is_owned();
        if let Some(track) = track {
            track.begun()?;
        }
        Ok(Session {
            told: Told::new(&kernel, span, from),
            kernel,
            interrupt,
            budget: llm.as_ref().map(|llm| llm.budget().clone()),
            live: Some(Box::new(Live {
                store,
                python,
                memory,
                settings,
                is_configured: false,
                has_run: false,
                llm,
                rollback: rollback && kernel_owns_memory,
                rollback_bytes,
                overlay,
                point: Point::Start(kept),
                latest: None,
            })),
            recipe: again,
            forks: 0,
            held: Vec::new(),
        })
    }
}

impl Recipe {
    /// The overlay that is the workspace, or is made of a temporary one.
    fn take_overlay(&mut self) -> Result<Overlay> {
        match &self.grants.workspace {
            Workspace::Overlay(overlay) => Ok(overlay.clone()),
            Workspace::Directory(_) => Err(no_overlay()),
            Workspace::Temporary => {
                let below = tempfile::Builder::new().prefix("agentkernel-").tempdir();
                let below = below.map_err(|error| {
                    Error::new(ErrorKind::System, "cannot create a temporary workspace").source(error)
                })?;
                let overlay = Overlay::over(below.path())?;
                self.below = Some(Arc::new(below));
                self.grants.workspace = Workspace::Overlay(overlay.clone());
                Ok(overlay)
            }
        }
    }
}

/// A store and an instance in it, whose memory starts as `kept` if that is given.
pub(super) fn instantiate(
    kernel: &Inner,
    interrupt: &Interrupt,
    mut state: State,
    kept: Option<&Arc<Frozen>>,
) -> Result<(Store<State>, Python, Memory)> {
    let at_start = kept.map_or(kernel.engine.memory_at_start(), |kept| kept.size() as u64);
    state.peak_memory_bytes = state.peak_memory_bytes.max(at_start);
    // What programs pass to tools and models may be large.
    let handover = if state.hands_over() { state.limits.memory_bytes } else { 0 };
    let Ready { mut store, instance } = match kernel.pool.take(kept) {
        Some(mut ready) => {
            *ready.store.data_mut() = state;
            ready
        }
        None => pool::instantiate(kernel, state, kept)?,
    };
    store.set_hostcall_fuel(HANDOVER_BYTES.max(usize::try_from(handover).unwrap_or(usize::MAX)));
    let Instance { python, control, memory } = instance;
    interrupt.set_control(control);
    Ok((store, python, memory))
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
