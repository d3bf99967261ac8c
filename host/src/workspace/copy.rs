//! Copies of temporary workspaces.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use cap_fs_ext::MetadataExt;
use cap_std::fs::{Dir, ReadDir};

/// A program can nest directories deeper than the host has file descriptors.
const MAX_DEPTH: usize = 128;

/// Copies all that is in `from` into `to`, which is empty. Names of one file are names of one copy: as copies of
/// their own they would take more of the disk than the program was granted.
pub(super) fn copy_all(from: &Dir, to: &Dir) -> io::Result<()> {
    let root = to;
    let mut path = PathBuf::new();
    // Where the copies of files with several names are.
    let mut linked: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut open: Vec<(ReadDir, Dir, Dir)> = vec![(from.entries()?, from.try_clone()?, to.try_clone()?)];
    while let Some((entries, from, to)) = open.last_mut() {
        let Some(entry) = entries.next() else {
            open.pop();
            path.pop();
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
            path.push(&name);
        } else if kind.is_symlink() {
            to.symlink_contents(from.read_link_contents(&name)?, &name)?;
        } else if kind.is_file() {
            let found = entry.metadata()?;
            let (links, file) =
                (MetadataExt::nlink(&found), (MetadataExt::dev(&found), MetadataExt::ino(&found)));
            match linked.get(&file).filter(|_| links > 1) {
                Some(copy) => root.hard_link(copy, to, &name)?,
                None => drop(from.copy(&name, to, &name)?),
            }
            if links > 1 {
                linked.entry(file).or_insert_with(|| path.join(&name));
            }
        }
    }
    Ok(())
}
