//! The compilation cache, as people look after it.

use std::path::{Path, PathBuf};

use crate::engine::{Cache, CacheEntry};
use crate::{Error, ErrorKind, Result};

/// The compilation cache of the default place or another.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// let cache = agentkernel::CompilationCache::new(None);
/// for entry in cache.entries()? {
///     println!("{}: {} bytes, {}", entry.key, entry.bytes, entry.problem.as_deref().unwrap_or("sound"));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CompilationCache(Cache);

impl CompilationCache {
    /// The cache at `directory`, or at the default place.
    pub fn new(directory: Option<PathBuf>) -> Self {
        CompilationCache(Cache::new(directory.or_else(Cache::default_root)))
    }

    /// Its directory; `None` where the user has no home.
    pub fn directory(&self) -> Option<&Path> {
        self.0.root()
    }

    /// Its entries, each checked byte by byte.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Cache`] when the directory cannot be read.
    pub fn entries(&self) -> Result<Vec<CacheEntry>> {
        self.0.entries().map_err(|error| self.unusable("read", error))
    }

    /// Removes all entries and returns the bytes freed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Cache`] when an entry cannot be removed.
    pub fn clear(&self) -> Result<u64> {
        self.0.clear().map_err(|error| self.unusable("clear", error))
    }

    fn unusable(&self, action: &str, error: std::io::Error) -> Error {
        let directory = self.directory().unwrap_or(Path::new("")).display();
        Error::new(ErrorKind::Cache, format!("cannot {action} the compilation cache `{directory}`"))
            .hint("give another directory in `AGENTKERNEL_CACHE_DIR`")
            .source(error)
    }
}
