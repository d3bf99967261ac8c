//! Writing files so that a reader finds the old one or the new one, whole; and where the user's are.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = beside(path);
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| unwritten(path, &beside, error))
}

/// Writes a file that only its owner can read.
pub fn replace_private(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let beside = beside(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&beside).map_err(|error| unwritten(path, &beside, error))?;
    if let Err(failure) = write(&file) {
        let _ = fs::remove_file(&beside);
        return Err(failure);
    }
    fs::rename(&beside, path).map_err(|error| unwritten(path, &beside, error))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn unwritten(path: &Path, beside: &Path, error: io::Error) -> Failure {
    let _ = fs::remove_file(beside);
    Failure::new(format!("cannot write `{}`: {error}", path.display()))
}

/// Where what outlives runs is kept, sessions and tasks, if the user has a home.
pub fn data() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(own) = variable("AGENTKERNEL_DATA_DIR") {
        return Some(own);
    }
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")))?;
    Some(data.join("agentkernel"))
}

/// Named sessions, below the data.
pub const SESSIONS: &str = "sessions";

/// Changes that could not be applied, below the data.
pub const CHANGES: &str = "changes";

/// Where named sessions are, if the user has a home.
pub fn sessions() -> Option<PathBuf> {
    Some(data()?.join(SESSIONS))
}

/// Makes a directory that only its owner can enter.
pub fn private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Where what is kept of earlier runs is, if the user has a home.
pub fn state() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    Some(state.join("agentkernel"))
}
