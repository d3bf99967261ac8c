//! Sessions on disk: for each a directory with the memory after its last turn, a file that names it, and the
//! workspace if that is the session's own.
//!
//! The memory is written first, then the file is replaced, which is the step that counts; a server that is
//! killed at any moment leaves the state before or after it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agentkernel::task::TaskId;
use agentkernel::{ContextMark, Image, Kernel, copy_tree, remove_tree};
use serde::{Deserialize, Serialize};

use super::Narrowed;
use crate::error::{Error, Result};
use crate::refusal::Refusal;

const HEAD: &str = "head.json";
const WORKSPACE: &str = "workspace";
/// Says as well that the directory is one of sessions, in which names are given and removed.
const LOCK: &str = ".agentkernel-sessions";
const FORMAT: u32 = 1;

/// A directory of sessions, which no other server uses meanwhile.
pub(crate) struct Store {
    directory: PathBuf,
    /// What the server's context looks like, if it has one.
    context: Option<ContextMark>,
    _lock: File,
}

/// What is known of a session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    format: u32,
    /// Its turns so far.
    pub turn: u64,
    /// The file of its memory; none at its beginning.
    image: Option<String>,
    #[serde(default)]
    pub narrowed: Narrowed,
    #[serde(default)]
    pub owner: Owner,
    /// What the context looked like that its memory is of.
    #[serde(default)]
    context: Option<ContextMark>,
}

/// Whose the tasks are that a session's programs dispatch, as long as there is the session; forks have them in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Owner(pub String);

impl Default for Owner {
    fn default() -> Self {
        Owner(TaskId::new().as_str().to_owned())
    }
}

impl Head {
    /// A session that has run nothing.
    pub fn beginning(narrowed: Narrowed, owner: Owner) -> Self {
        Head { narrowed, owner, ..Head::default() }
    }

    /// Why the memory cannot go on with a context, if so.
    fn difference(&self, now: Option<&ContextMark>) -> Option<String> {
        match (&self.context, now) {
            (None, _) => None,
            (Some(_), None) => Some("the server has none now".to_owned()),
            (Some(before), Some(now)) => before.difference(now),
        }
    }
}

impl Store {
    pub fn open(directory: &Path, context: Option<ContextMark>) -> Result<Self> {
        let shown = directory.display();
        make(directory).map_err(Error::system(format!("cannot make the directory of sessions `{shown}`")))?;
        let directory = directory
            .canonicalize()
            .map_err(Error::system(format!("cannot enter the directory of sessions `{shown}`")))?;
        let mut entries = fs::read_dir(&directory)
            .map_err(Error::system(format!("cannot read the directory of sessions `{shown}`")))?;
        let is_ours = directory.join(LOCK).symlink_metadata().is_ok_and(|found| found.is_file());
        if entries.next().is_some() && !is_ours {
            return Err(Error::setting(
                format!("`{shown}` holds something else than sessions"),
                "name a directory of its own: what bears the name of a session is removed with it",
            ));
        }
        let lock = File::options().write(true).create(true).truncate(false).open(directory.join(LOCK));
        let lock =
            lock.map_err(Error::system(format!("cannot write to the directory of sessions `{shown}`")))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::setting(
                format!("another server keeps its sessions in `{shown}`"),
                "end it first, or name another directory",
            ),
            fs::TryLockError::Error(error) => {
                Error::system(format!("cannot lock the directory of sessions `{shown}`"))(error)
            }
        })?;
        Ok(Store { directory, context, _lock: lock })
    }

    /// The sessions that there are.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> =
            names.filter(|name| super::check(name).is_ok() && self.path(name).join(HEAD).exists()).collect();
        names.sort();
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).join(HEAD).exists()
    }

    /// Where a session has files of its own; made, if that can be done.
    pub fn workspace(&self, name: &str) -> PathBuf {
        let workspace = self.path(name).join(WORKSPACE);
        if let Err(error) = make(&workspace) {
            tracing::warn!("cannot make `{}`: {error}", workspace.display());
        }
        workspace
    }

    pub fn head(&self, name: &str) -> Result<Head, Refusal> {
        let read = fs::read(self.path(name).join(HEAD));
        let damaged = |why: String| {
            Refusal::new(format!("the session `{name}` cannot be read: {why}"))
                .hint("reset it with `session_reset`, which begins anew, or close it")
        };
        let head: Head = match read {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?,
            Err(error) => return Err(damaged(error.to_string())),
        };
        match head.format {
            FORMAT => Ok(head),
            other => Err(damaged(format!("it has format {other}, and this version reads {FORMAT}"))),
        }
    }

    /// The memory of a session, if it is not at its beginning.
    pub fn image(&self, name: &str, head: &Head, kernel: &Kernel) -> Result<Option<Image>, Refusal> {
        let Some(image) = head.image.as_ref().filter(|image| is_image(image)) else { return Ok(None) };
        if let Some(difference) = head.difference(self.context.as_ref()) {
            let message =
                format!("the session `{name}` cannot go on: its context is not what it was: {difference}");
            return Err(Refusal::new(message).hint(
                "start the server with the context as it was; or reset the session with `session_reset`, which takes what is \
                 there now",
            ));
        }
        let image = kernel.load_image(self.path(name).join(image)).map_err(|error| {
            Refusal::new(format!("the session `{name}` cannot be taken up: {error}"))
                .hint("reset it with `session_reset`, which begins anew, or close it")
        })?;
        Ok(Some(image))
    }

    /// Makes what a session is after `head.turn` turns that of the disk.
    pub fn save(&self, name: &str, head: &mut Head, image: Option<&Image>) -> Result<(), Refusal> {
        let directory = self.path(name);
        let cannot = |error: &dyn std::fmt::Display| {
            Refusal::new(format!("the session `{name}` cannot be kept: {error}"))
                .hint("see to it that the server's disk has room and can be written")
        };
        make(&directory).map_err(|error| cannot(&error))?;
        let file = image.map(|_| format!("turn-{}.akimg", head.turn));
        if let (Some(image), Some(file)) = (image, &file) {
            image.save(directory.join(file)).map_err(|error| cannot(&error))?;
        }
        let before = std::mem::replace(&mut head.image, file);
        head.format = FORMAT;
        head.context.clone_from(&self.context);
        let text = serde_json::to_vec(head).map_err(|error| cannot(&error))?;
        replace(&directory.join(HEAD), &text).map_err(|error| cannot(&error))?;
        if let Some(before) = before.filter(|before| head.image.as_ref() != Some(before) && is_image(before))
        {
            let _ = fs::remove_file(directory.join(before));
        }
        Ok(())
    }

    /// Removes a session. It is gone once its head is.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let directory = self.path(name);
        match fs::remove_file(directory.join(HEAD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match remove_tree(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Gives `to` a copy of the files that `from` has for itself.
    pub fn copy_files(&self, from: &str, to: &str) -> io::Result<()> {
        let from = self.workspace(from);
        self.remove(to)?;
        let to = self.path(to).join(WORKSPACE);
        make(&to)?;
        copy_tree(from, to)
    }

    /// Removes memories that no head names: a server was killed between two steps.
    pub fn tidy(&self, name: &str, head: &Head) {
        for entry in fs::read_dir(self.path(name)).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            let is_other = is_image(&file) && head.image.as_deref() != Some(&*file);
            if is_other || file.starts_with(".akimg-") || file.ends_with(".new") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Names are checked where they come in.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Whether a file is a memory of ours.
fn is_image(name: &str) -> bool {
    let number = name.strip_prefix("turn-").and_then(|rest| rest.strip_suffix(".akimg"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Makes a directory that only its owner can enter.
fn make(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Writes a file so that a reader, after a crash too, finds the old one or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(text)?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memories_are_removed() {
        assert!(is_image("turn-12.akimg"));
        for other in ["turn-.akimg", "turn-1.akimg.x", "../turn-1.akimg", "turn-1/../x.akimg", "workspace"] {
            assert!(!is_image(other), "{other}");
        }
    }
}
