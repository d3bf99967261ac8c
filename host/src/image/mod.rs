//! Images: kept states of the interpreter that sessions start from.

mod builder;
mod file;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use builder::ImageBuilder;

use crate::context::ContextMark;
use crate::engine::Frozen;
use crate::kernel::{Inner, Kernel};
use crate::tool::ToolMark;
use crate::{Error, ErrorKind, Result};

/// A kept state of the interpreter: modules, variables, generators half consumed, whatever lies in its
/// memory. Sessions start from it ([`SessionBuilder::image`](crate::SessionBuilder::image)) as they do from an interpreter that has
/// run nothing. Cheap to clone.
///
/// It holds no file, no grant and no secret of the host; what a program has read, and the variables of its environment,
/// are part of it, and of its contexts what they were called and looked like.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// # let kernel = agentkernel::Kernel::new()?;
/// # if !kernel.info().host_owned_memory { return Ok(()) }
/// let mut session = kernel.session().start()?;
/// session.run_blocking("import statistics\nrows = [1, 2, 3]")?;
/// let image = session.snapshot()?;
/// for _ in 0..3 {
///     let mut fork = kernel.session().image(&image).start()?;
///     assert_eq!(fork.run_blocking("print(statistics.mean(rows))")?.stdout, b"2\n");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Image(Arc<Content>);

struct Content {
    memory: Arc<Frozen>,
    /// What the monotonic clock showed.
    clock: Duration,
    /// SHA-256 of the interpreter.
    guest: String,
    /// The tools whose modules the program may have imported.
    tools: Arc<[ToolMark]>,
    /// What the contexts looked like that the program had, by their names.
    contexts: Contexts,
    /// The memory as it is in other kernels that use it at the moment.
    elsewhere: Mutex<Vec<Weak<Frozen>>>,
}

pub(crate) type Contexts = BTreeMap<String, ContextMark>;

impl Image {
    pub(crate) fn new(
        kernel: &Inner,
        memory: Arc<Frozen>,
        clock: Duration,
        contexts: Contexts,
    ) -> Result<Self> {
        let (guest, tools) = (kernel.guest_sha256()?, marks(kernel));
        Ok(Image::of(Content { memory, clock, guest, tools, contexts, elsewhere: Mutex::default() }))
    }

    fn of(content: Content) -> Self {
        Image(Arc::new(content))
    }

    /// Linear memory that a session starts with, in bytes. What was not changed is shared.
    pub fn memory_bytes(&self) -> u64 {
        self.0.memory.size() as u64
    }

    /// Bytes of memory that differ from an interpreter that has run nothing.
    pub fn changed_bytes(&self) -> u64 {
        self.0.memory.changed() as u64
    }

    /// What the context looked like that the session had under `name`, which is `context` for that of
    /// [`SessionBuilder::context`](crate::SessionBuilder::context). Memory has positions in it, so compare: a session that is
    /// started from the image is given another one without a word.
    pub fn context_mark(&self, name: &str) -> Option<&ContextMark> {
        self.0.contexts.get(name)
    }

    /// Writes it to a file, by convention `NAME.akimg`: whole or not at all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`] when the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::save(&self.0, path.as_ref())
    }

    pub(crate) fn clock(&self) -> Duration {
        self.0.clock
    }

    /// Its memory, for an instance in this kernel.
    pub(crate) fn memory_for(&self, kernel: &Inner) -> Result<Arc<Frozen>> {
        let Content { memory, guest, tools, .. } = &*self.0;
        check_guest(kernel, guest)?;
        check_tools(kernel, tools)?;
        if kernel.engine.owns(memory) {
            return Ok(Arc::clone(memory));
        }
        // One for all sessions and for the pool, which knows an image by its memory.
        let mut elsewhere = self.0.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.retain(|memory| memory.strong_count() > 0);
        let here = elsewhere.iter().filter_map(Weak::upgrade).find(|memory| kernel.engine.owns(memory));
        if let Some(memory) = here {
            return Ok(memory);
        }
        let thawed = kernel.engine.thaw(memory.size(), memory.flat());
        let thawed = thawed.map(Arc::new).ok_or_else(|| no_memory(kernel))?;
        elsewhere.push(Arc::downgrade(&thawed));
        Ok(thawed)
    }
}

impl Kernel {
    /// An image to be made of tools that are imported and programs that are run, so that sessions start
    /// with all of it done.
    pub fn image(&self) -> ImageBuilder {
        ImageBuilder::new(self.clone())
    }

    /// Reads an image that [`Image::save`] has written, of this process or another one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Image`] when the file cannot be read, is damaged, or was made with another interpreter
    /// or with tools that this kernel does not have as they were.
    pub fn load_image(&self, path: impl AsRef<Path>) -> Result<Image> {
        file::load(self.inner(), path.as_ref())
    }
}

fn no_memory(kernel: &Inner) -> Error {
    let owned = kernel.engine.owns_memory();
    let error = match owned {
        true => Error::new(ErrorKind::Image, "the image does not fit the interpreter's memory"),
        false => {
            Error::new(ErrorKind::Image, "this kernel cannot start from images: the memory is not its own")
        }
    };
    match owned {
        true => error.hint("make it anew"),
        false => error.hint("this needs Linux, and a kernel without `metered` and `portable` (on the command line: no `--fuel`, no `--portable`)"),
    }
}

fn marks(kernel: &Inner) -> Arc<[ToolMark]> {
    kernel.tools.as_ref().map_or_else(Default::default, |tools| tools.marks())
}

fn check_guest(kernel: &Inner, guest: &str) -> Result<()> {
    match kernel.guest_sha256()? == guest {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Image, "the image was made with another interpreter")
            .hint("use it with the version of AgentKernel that made it, or make it anew")),
    }
}

fn check_tools(kernel: &Inner, tools: &[ToolMark]) -> Result<()> {
    let present = marks(kernel);
    for tool in tools {
        let name = &tool.name;
        let same = present.iter().find(|present| present.name == *name);
        let (problem, remedy) = match same {
            None => (
                format!("the image was made with the tool `{name}`, which this kernel does not have"),
                "give the kernel the same tools in the same order",
            ),
            Some(present) if present == tool => continue,
            // Its modules are others then.
            Some(present) if present.is_but_for_resources(tool) => match tool.recreated {
                true => (
                    format!(
                        "`resources` of the tool `{name}` were \"recreated\" when the image was made, and are not now"
                    ),
                    "declare them \"recreated\" again",
                ),
                false => (
                    format!(
                        "`resources` of the tool `{name}` are \"recreated\", and were not when the image was made"
                    ),
                    "declare them as they were, \"kept\" if nothing was said",
                ),
            },
            Some(_) => (
                format!(
                    "the tool `{name}` is not as it was when the image was made, or stands at another place"
                ),
                "give the kernel the same tools in the same order",
            ),
        };
        return Err(Error::new(ErrorKind::Image, problem).hint(format!("{remedy}, or make the image anew")));
    }
    Ok(())
}
