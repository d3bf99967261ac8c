//! Directories that programs have written, copied and removed as a whole. A program can nest directories deeper than any
//! stack, number of open files or path is long, so nothing here recurses, keeps all directories on the way open, or
//! names a file by its whole path.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cap_fs_ext::MetadataExt;
use cap_std::fs::Dir;

use super::temporary::flatten;

/// Bytes of a path that are passed to the system at once.
const PATH_BYTES: usize = 3000;

/// Directories that are kept open, of each side.
const NEAR: usize = 32;

/// Removes a directory with all in it, however deep programs have nested that.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let place = tempfile::tempdir()?;
/// let workspace = place.path().join("workspace");
/// std::fs::create_dir_all(workspace.join("some/files"))?;
/// agentkernel::remove_tree(&workspace)?;
/// assert!(!workspace.exists());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of the file system; then some of it may be left, under other names.
pub fn remove_tree(directory: impl AsRef<Path>) -> io::Result<()> {
    let directory = directory.as_ref();
    if fs::symlink_metadata(directory)?.is_symlink() {
        return fs::remove_file(directory);
    }
    flatten(&Dir::open_ambient_dir(directory, cap_std::ambient_authority())?)?;
    fs::remove_dir(directory)
}

/// Copies all that is in a directory into another one, which is there and empty, however deep programs have nested that:
/// files with their modes, directories, and links as they are. What has several names in it is one file in
/// the copy too.
///
/// # Errors
///
/// Those of the file system; then some of it may have been copied.
pub fn copy_tree(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let open = |path: &Path| Dir::open_ambient_dir(path, cap_std::ambient_authority());
    copy_all(&open(from.as_ref())?, &open(to.as_ref())?)
}

/// Copies all that is in `from` into `to`, which is empty. Names of one file are names of one copy: as copies of
/// their own they would take more of the disk than the program was granted.
pub(super) fn copy_all(from: &Dir, to: &Dir) -> io::Result<()> {
    // Where the copies of files with several names are.
    let mut linked: HashMap<(u64, u64), (PathBuf, PathBuf)> = HashMap::new();
    let mut left = vec![PathBuf::new()];
    // The last of the directories on the way to the next one.
    let mut near: VecDeque<(PathBuf, Dir, Dir)> = VecDeque::new();
    while let Some(path) = left.pop() {
        while near.back().is_some_and(|(above, ..)| path.parent() != Some(above)) {
            near.pop_back();
        }
        let (source, target) = match (near.back(), path.file_name()) {
            (Some((_, from, to)), Some(name)) => (from.open_dir(name)?, to.open_dir(name)?),
            _ => (open_below(from, &path)?, open_below(to, &path)?),
        };
        for entry in source.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                target.create_dir(&name)?;
                left.push(path.join(name));
            } else if kind.is_symlink() {
                target.symlink_contents(source.read_link_contents(&name)?, &name)?;
            } else if kind.is_file() {
                let found = entry.metadata()?;
                let file = (MetadataExt::dev(&found), MetadataExt::ino(&found));
                match linked.get(&file) {
                    Some((path, first)) => open_below(to, path)?.hard_link(first, &target, &name)?,
                    None => {
                        source.copy(&name, &target, &name)?;
                        if MetadataExt::nlink(&found) > 1 {
                            linked.insert(file, (path.clone(), name.into()));
                        }
                    }
                }
            }
        }
        near.push_back((path, source, target));
        if near.len() > NEAR {
            near.pop_front();
        }
    }
    Ok(())
}

/// Opens a directory at any depth below another one.
fn open_below(root: &Dir, path: &Path) -> io::Result<Dir> {
    let mut at = root.try_clone()?;
    let mut part = PathBuf::new();
    for name in path {
        part.push(name);
        if part.as_os_str().len() > PATH_BYTES {
            at = at.open_dir(&part)?;
            part.clear();
        }
    }
    if part.as_os_str().is_empty() { Ok(at) } else { at.open_dir(&part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTH: usize = 4000;

    fn open(path: &Path) -> Dir {
        Dir::open_ambient_dir(path, cap_std::ambient_authority()).unwrap()
    }

    #[test]
    fn a_deep_tree_is_copied_as_it_is_and_removed() {
        let parent = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| parent.path().join(name));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let name = "d".repeat(20);
        let mut at = open(&from);
        at.write("first", "of two").unwrap();
        for number in 0..DEPTH {
            at.create_dir(&name).unwrap();
            at.create_dir("empty").unwrap();
            at.write("file", number.to_string()).unwrap();
            at = at.open_dir(&name).unwrap();
        }
        open(&from).hard_link("first", &at, "second").unwrap();
        at.symlink_contents("../nowhere", "link").unwrap();
        drop(at);
        copy_tree(&from, &to).unwrap();
        for root in [&from, &to] {
            let mut at = open(root);
            for number in 0..DEPTH {
                assert_eq!(at.read_to_string("file").unwrap(), number.to_string());
                assert_eq!(at.entries().unwrap().count(), if number == 0 { 4 } else { 3 });
                at = at.open_dir(&name).unwrap();
            }
            assert_eq!(at.read_to_string("second").unwrap(), "of two");
            assert_eq!(MetadataExt::nlink(&at.metadata("second").unwrap()), 2);
            assert_eq!(at.read_link_contents("link").unwrap(), Path::new("../nowhere"));
            drop(at);
            remove_tree(root).unwrap();
            assert!(!root.exists());
        }
        // A link is removed and not what it leads to.
        fs::create_dir(&from).unwrap();
        std::os::unix::fs::symlink(&from, &to).unwrap();
        remove_tree(&to).unwrap();
        assert!(from.exists() && fs::symlink_metadata(&to).is_err());
    }
}
