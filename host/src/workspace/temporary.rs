//! A private workspace that is removed with its session.

use std::io;
use std::path::Path;

use cap_std::fs::Dir;
use tempfile::TempDir;

use crate::{Error, ErrorKind, Result};

/// An empty directory that nobody else can enter.
pub(crate) struct TempWorkspace(Option<TempDir>);

impl TempWorkspace {
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("agentkernel-").tempdir().map_err(|error| {
            Error::new(ErrorKind::System, "cannot create a temporary workspace")
                .hint("check that the directory for temporary files can be written, or grant a workspace")
                .source(error)
        })?;
        Ok(TempWorkspace(Some(directory)))
    }

    pub fn open(&self) -> Result<Dir> {
        let path = self.0.as_ref().map_or(Path::new(""), |directory| directory.path());
        Dir::open_ambient_dir(path, cap_std::ambient_authority()).map_err(|error| {
            Error::new(ErrorKind::System, "cannot open the temporary workspace").source(error)
        })
    }
}

impl Drop for TempWorkspace {
    fn drop(&mut self) {
        let Some(directory) = self.0.take() else {
            return;
        };
        let path = directory.keep();
        if std::fs::remove_dir(&path).is_err()
            && let Err(error) = Dir::open_ambient_dir(&path, cap_std::ambient_authority())
                .and_then(|root| flatten(&root))
                .and_then(|()| std::fs::remove_dir(&path))
        {
            tracing::warn!("cannot remove the temporary workspace `{}`: {error}", path.display());
        }
    }
}

/// Empties a directory without recursion: a program can nest directories deeper than any stack or
/// number of open files. Whatever lies in a subdirectory is moved up before that is removed.
pub(super) fn flatten(root: &Dir) -> io::Result<()> {
    // Names that no program could have taken before.
    let mut names = std::iter::repeat_with(|| format!(".agentkernel-{:016x}", fastrand::u64(..)));
    loop {
        let mut empty = true;
        for entry in root.entries()? {
            let entry = entry?;
            empty = false;
            let name = entry.file_name();
            if !entry.file_type()?.is_dir() {
                root.remove_file(&name)?;
                continue;
            }
            if root.remove_dir(&name).is_ok() {
                continue;
            }
            let directory = entry.open_dir()?;
            for inner in directory.entries()? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    let target = names.next().expect("there is always another");
                    directory.rename(inner.file_name(), root, target)?;
                } else {
                    directory.remove_file(inner.file_name())?;
                }
            }
            root.remove_dir(&name)?;
        }
        if empty {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_and_wide_tree_is_removed() {
        let workspace = TempWorkspace::new().unwrap();
        let path = workspace.0.as_ref().unwrap().path().to_owned();
        let mut at = Dir::open_ambient_dir(&path, cap_std::ambient_authority()).unwrap();
        for _ in 0..5000 {
            at.create_dir("d").unwrap();
            at.write("file", "x").unwrap();
            at = at.open_dir("d").unwrap();
        }
        drop(at);
        std::os::unix::fs::symlink("/etc", path.join("link")).unwrap();
        // Names like those that removing makes are in nobody's way.
        for name in 0..200 {
            std::fs::create_dir_all(path.join(format!(".agentkernel-{name:016x}/x/y"))).unwrap();
        }
        drop(workspace);
        assert!(!path.exists());
        assert!(Path::new("/etc").exists());
    }
}
