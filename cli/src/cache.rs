//! `agentkernel cache`.

use agentkernel::CompilationCache;

use crate::arguments::{CacheAction, Engine, Talk};
use crate::failure::{Failure, Result};
use crate::settings;
use crate::terminal;
use crate::units::show_bytes;

pub fn run(action: CacheAction, engine: &Engine) -> Result<i32> {
    settings::check_variables()?;
    let cache = CompilationCache::new(engine.cache_dir.clone());
    let Some(directory) = cache.directory() else {
        return Err(Failure::new("there is no cache directory: neither HOME nor XDG_CACHE_HOME is set")
            .hint("name one with `--cache-dir` or `AGENTKERNEL_CACHE_DIR`"));
    };
    let shown = directory.display();
    match action {
        CacheAction::Info => {
            let entries = cache.entries()?;
            println!("{shown}");
            for entry in &entries {
                let state = entry.problem.as_deref().unwrap_or("sound");
                println!("  {}  {:>10}  {state}", entry.key, show_bytes(entry.bytes));
            }
            if entries.is_empty() {
                println!("  empty; the next start compiles Python, or `agentkernel cache warm` does now");
            }
        }
        CacheAction::Clear => {
            let freed = cache.clear()?;
            println!("{shown}: {} freed", show_bytes(freed));
        }
        CacheAction::Warm => {
            settings::engine(engine).on_progress(terminal::progress(Talk::default())).build()?;
            println!("{shown}: ready");
        }
    }
    Ok(0)
}
