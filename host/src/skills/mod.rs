//! Programs that are kept: a directory of Python modules that sessions import as `skills.NAME`.

mod directory;
mod format;
mod name;
mod search;
mod service;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::{Access, Error, ErrorKind, Result, workspace};
use directory::Directory;
pub(crate) use service::{PACKAGE, SkillsService};

/// Bytes of a skill's code.
pub(crate) const MAX_CODE: usize = 256 << 10;

/// Bytes of a description.
const MAX_DESCRIPTION: usize = 300;

/// Skills in one directory.
const MAX_SKILLS: usize = 500;

/// Earlier versions of a skill that are kept.
const MAX_VERSIONS: usize = 10;

/// Deleted skills whose last versions are kept.
const MAX_DELETED: usize = 100;

/// Python modules that sessions import as `skills.NAME`, in a directory: a file `NAME.py` each, and below
/// `.history` what they were before. Cheap to clone.
///
/// Programs may read them, or save and delete too, as the directory is opened. What a program saves
/// is code that later programs run: look at it before you rely on it.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Kernel, Skills};
///
/// let directory = std::env::temp_dir().join(format!("skills-{}", std::process::id()));
/// std::fs::create_dir_all(&directory).unwrap();
/// let kernel = Kernel::builder().skills(Skills::open_writable(&directory)?).build()?;
/// let save = "from agentkernel import skills
/// skills.save('greeting', 'def greet(name):\\n    return f\"Hello {name}\"', 'Greets by name')";
/// kernel.session().start()?.run_blocking(save)?;
/// let later = "from skills import greeting\nprint(greeting.greet('Ada'))";
/// assert_eq!(kernel.session().start()?.run_blocking(later)?.stdout, b"Hello Ada\n");
/// # std::fs::remove_dir_all(directory).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Skills {
    path: PathBuf,
    directory: Arc<Directory>,
    access: Access,
}

/// What is known of a skill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skill {
    /// Its name.
    pub name: String,
    /// What it does, in a line, without what a terminal would obey.
    pub description: String,
    /// Its version, from 1.
    pub version: u64,
}

impl Skills {
    /// The skills in a directory, for programs that may read them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when the directory cannot be opened.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::with(path.into(), Access::ReadOnly)
    }

    /// The skills in a directory, for programs that may save and delete them as well.
    ///
    /// # Errors
    ///
    /// As [`Skills::open`].
    pub fn open_writable(path: impl Into<PathBuf>) -> Result<Self> {
        Self::with(path.into(), Access::ReadWrite)
    }

    fn with(path: PathBuf, access: Access) -> Result<Self> {
        let directory = Arc::new(Directory(workspace::open_directory(&path)?));
        Ok(Skills { path, directory, access })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of them, by name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Skill`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Skill>> {
        self.directory.list()
    }

    /// Those that have the words in their name, description or code, the best first.
    ///
    /// # Errors
    ///
    /// As [`Skills::list`].
    pub fn search(&self, words: &str) -> Result<Vec<Skill>> {
        search::search(&self.directory, words)
    }

    /// A skill and its code.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Skill`] when there is none of the name, or it cannot be read.
    pub fn get(&self, name: &str) -> Result<(Skill, String)> {
        self.directory.read(name)
    }

    /// Keeps code under a name; what was kept before is an earlier version. It is not checked to be Python.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Skill`] when the name, the code or the description cannot be kept, when there are too many
    /// skills, when the directory may only be read, or cannot be written.
    pub fn save(&self, name: &str, code: &str, description: &str) -> Result<Skill> {
        self.check_writable()?;
        self.directory.save(name, code, description)
    }

    /// Deletes a skill. Its earlier versions stay in `.history`, and the last with them.
    ///
    /// # Errors
    ///
    /// As [`Skills::save`], and when there is none of the name.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.check_writable()?;
        self.directory.delete(name)
    }

    /// Whether programs may save and delete them.
    pub(crate) fn is_writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    fn check_writable(&self) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Error::new(ErrorKind::Grant, "the skills may only be read")
                .hint("open them with `Skills::open_writable`")),
        }
    }
}

impl fmt::Debug for Skills {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Skills");
        shown.field("path", &self.path).field("access", &self.access).finish_non_exhaustive()
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Skill, message)
}
