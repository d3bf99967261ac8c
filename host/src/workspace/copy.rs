//! Copies of temporary workspaces.

use std::io;

use cap_std::fs::{Dir, ReadDir};

/// A program can nest directories deeper than the host has file descriptors.
const MAX_DEPTH: usize = 128;

/// Copies all that is in `from` into `to`, which is empty.
pub(super) fn copy_all(from: &Dir, to: &Dir) -> io::Result<()> {
    let mut open: Vec<(ReadDir, Dir, Dir)> = vec![(from.entries()?, from.try_clone()?, to.try_clone()?)];
    while let Some((entries, from, to)) = open.last_mut() {
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            to.create_dir(&name)?;
            let (from, to) = (entry.open_dir()?, to.open_dir(&name)?);
            if open.len() == MAX_DEPTH {
                return Err(io::Error::other(format!("directories are nested more than {MAX_DEPTH} deep")));
            }
            open.push((from.entries()?, from, to));
        } else if kind.is_symlink() {
            to.symlink_contents(from.read_link_contents(&name)?, &name)?;
        } else if kind.is_file() {
            from.copy(&name, to, &name)?;
        }
    }
    Ok(())
}
