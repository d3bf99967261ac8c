//! Images made of tools that are imported and programs that are run.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Contexts, Image};
use crate::engine::{Kept, hex};
use crate::kernel::Kernel;
use crate::outcome::Ending;
use crate::telemetry::spans;
use crate::{Error, ErrorKind, Grants, Result, Turn};

/// Changes when sessions that are started in the same way do.
const FORMAT: u32 = 1;

/// What a prelude may take by default. It is run once.
const PRELUDE_TIMEOUT: Duration = Duration::from_secs(300);

/// An image to be made; see [`Kernel::image`].
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// # let kernel = agentkernel::Kernel::new()?;
/// # if !kernel.info().host_owned_memory { return Ok(()) }
/// let image = kernel.image().prelude("import statistics\nprimes = [2, 3, 5, 7]").build()?;
/// let mut session = kernel.session().image(&image).start()?;
/// assert_eq!(session.run_blocking("print(statistics.median(primes))")?.stdout, b"4.0\n");
/// # Ok(())
/// # }
/// ```
pub struct ImageBuilder {
    kernel: Kernel,
    steps: Vec<(String, String)>,
    tools: Vec<String>,
    grants: Option<Grants>,
}

/// What is kept beside the memory in the compilation cache.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notes {
    clock_ns: u64,
    /// Where it differs from the interpreter's own image: offsets and lengths in bytes.
    runs: Vec<(u64, u64)>,
}

impl ImageBuilder {
    pub(crate) fn new(kernel: Kernel) -> Self {
        ImageBuilder { kernel, steps: Vec::new(), tools: Vec::new(), grants: None }
    }

    /// Imports the modules of a tool of the kernel, so that sessions find them imported. Default: none.
    pub fn tool(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.steps.push((format!("import tools.{name}"), "<image>".into()));
        self.tools.push(name);
        self
    }

    /// Runs a program: sessions have what it imports and defines. Files that it writes to its temporary
    /// workspace are gone after it. Default: none.
    pub fn prelude(mut self, code: impl Into<String>) -> Self {
        self.steps.push((code.into(), "<prelude>".into()));
        self
    }

    /// What the prelude may touch while it is run; the sessions have grants of their own. An image with
    /// grants is made anew by each process, because what it reads may have changed. Default: nothing, and 300 s.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = Some(grants);
        self
    }

    /// Makes the image, or finds it in the compilation cache.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`] when a tool is not there, when the prelude fails or leaves a file open, and where the host does not own the
    /// guest's memory; errors of starting a session.
    pub fn build(self) -> Result<Image> {
        let _span = spans::image().entered();
        let inner = self.kernel.inner();
        if !inner.engine.owns_memory() {
            return Err(super::no_memory(inner));
        }
        let known = self.kernel.tools();
        if let Some(missing) = self.tools.iter().find(|name| known.iter().all(|tool| tool.name != **name)) {
            let message = format!("there is no tool `{missing}` to be imported in the image");
            return Err(
                Error::new(ErrorKind::Image, message).hint("give the kernel the tool, or correct the name")
            );
        }
        // What a server offers may be something else the next time.
        if self.grants.is_some() || inner.tools.as_ref().is_some_and(|tools| tools.has_servers()) {
            let image = self.make()?;
            image.0.memory.map().map_err(unmapped)?;
            return Ok(image);
        }
        let build = || {
            let image = self.make()?;
            let (whole, runs) = image.0.memory.whole();
            let clock_ns = u64::try_from(image.clock().as_nanos()).unwrap_or(u64::MAX);
            let notes = serde_json::to_vec(&Notes { clock_ns, runs });
            Ok(Kept { memory: whole, notes: notes.map_err(|error| unmapped(error.into()))? })
        };
        let (memory, notes) = inner.engine.kept(&inner.cache, &self.key()?, build)?;
        let notes: Notes = serde_json::from_slice(&notes).map_err(|error| unmapped(error.into()))?;
        let memory = inner.engine.map(memory, &notes.runs).map_err(unmapped)?;
        Image::new(inner, memory.into(), Duration::from_nanos(notes.clock_ns), Contexts::new())
    }

    /// A name for all that shapes the image.
    fn key(&self) -> Result<String> {
        let inner = self.kernel.inner();
        let mut hash = Sha256::new();
        hash.update(FORMAT.to_le_bytes());
        // Modules that the host writes are in it.
        hash.update(env!("CARGO_PKG_VERSION"));
        hash.update(inner.guest_sha256()?);
        // Where resources are refused, there may be none.
        let refusing = inner.tools.as_ref().map(|tools| tools.refusing().collect::<Vec<_>>());
        let parts = serde_json::to_vec(&(&*super::marks(inner), &self.steps, refusing.unwrap_or_default()));
        hash.update(parts.unwrap_or_default());
        Ok(format!("image-{}", &hex(&hash.finalize())[..32]))
    }

    fn make(&self) -> Result<Image> {
        let mut grants = self.grants.clone().unwrap_or_default();
        if self.grants.is_none() {
            grants.limits.timeout = Some(PRELUDE_TIMEOUT);
        }
        let mut session =
            self.kernel.session().grants(grants).without_llm().without_lasting().rollback(false).start()?;
        for (code, name) in &self.steps {
            let outcome =
                session.run_blocking(Turn::new(code.as_str()).file(name.as_str()).without_value())?;
            let problem = match &outcome.ending {
                Ending::Completed(_) => continue,
                Ending::Raised(exception) => exception.traceback.trim_end().to_owned(),
                ending => format!("it ended as {}", ending.name()),
            };
            return Err(Error::new(ErrorKind::Image, format!("the image's prelude failed: {problem}"))
                .hint("run the prelude as a program of its own to see what it does"));
        }
        session.snapshot()
    }
}

fn unmapped(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Image, "the image cannot be kept in a file")
        .hint("check the space in the compilation cache and in the directory for temporary files")
        .source(error)
}
