//! `agentkernel cache`.

use agentkernel::{CompilationCache, Progress};

use crate::arguments::{CacheAction, Configuration, Engine, Sandbox, Talk};
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::terminal::{self, say};
use crate::units::show_bytes;

pub fn run(action: CacheAction, engine: Engine, configuration: Configuration) -> Result<i32> {
    let fuel = matches!(action, CacheAction::Warm { fuel: true }).then_some(1);
    let settings = Settings::resolve(Sandbox { engine, configuration, fuel, ..Sandbox::default() })?;
    let cache = CompilationCache::new(settings.engine.cache_dir.clone());
    let directory = cache.directory().filter(|_| !settings.engine.no_cache);
    let Some(directory) = directory else {
        let failure = match settings.engine.no_cache {
            true => Failure::new("`--no-cache` leaves no cache to look after").hint("leave it out"),
            false => Failure::new("there is no cache directory: neither HOME nor XDG_CACHE_HOME is set")
                .hint("name one with `--cache-dir` or `AGENTKERNEL_CACHE_DIR`"),
        };
        return Err(failure);
    };
    let shown = directory.display();
    match action {
        CacheAction::Info => {
            let entries = cache.entries()?;
            say!("{shown}");
            for entry in &entries {
                let state = entry.problem.as_deref().unwrap_or("sound");
                say!("  {}  {:>10}  {state}", entry.key, show_bytes(entry.bytes));
            }
            if entries.is_empty() {
                say!("  empty; the next start compiles Python, or `agentkernel cache warm` does now");
            }
        }
        CacheAction::Clear => {
            let freed = cache.clear()?;
            say!("{shown}: {} freed", show_bytes(freed));
        }
        CacheAction::Warm { .. } => {
            settings.kernel().on_progress(terminal::progress(Talk::default())).build()?;
            // What could not be kept is compiled again by the next start, and so by this one.
            let again = std::rc::Rc::new(std::cell::Cell::new(false));
            let compiles = std::rc::Rc::clone(&again);
            let notice = move |progress| {
                if progress == Progress::Compiling {
                    compiles.set(true);
                }
            };
            settings.kernel().on_progress(notice).build()?;
            if again.get() {
                return Err(Failure::new(format!("`{shown}` cannot keep what was compiled")).hint(
                    "make it a directory that only you can write, or name another with `--cache-dir`",
                ));
            }
            say!("{shown}: ready");
        }
    }
    Ok(0)
}
