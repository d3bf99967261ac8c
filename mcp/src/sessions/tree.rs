//! Directories that programs have filled: they may be deeper than paths can be long, and than files can be open.

use std::fs;
use std::io;
use std::path::Path;

/// Copies files, directories and links, which are not followed; a program can make nothing else.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        match fs::create_dir(&to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push((from, to));
            } else if kind.is_file() {
                fs::copy(&from, &to)?;
            } else if kind.is_symlink() {
                #[cfg(unix)]
                std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
            }
        }
    }
    Ok(())
}

/// Removes a directory with all that is in it, without recursion: what lies in a subdirectory is moved up before
/// that is removed.
pub(crate) fn remove(root: &Path) -> io::Result<()> {
    let mut next = 0u64;
    loop {
        let entries = match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut is_empty = true;
        for entry in entries {
            let (path, kind) = {
                let entry = entry?;
                (entry.path(), entry.file_type()?)
            };
            is_empty = false;
            if !kind.is_dir() {
                fs::remove_file(&path)?;
                continue;
            }
            for inner in fs::read_dir(&path)? {
                let inner = inner?;
                if !inner.file_type()?.is_dir() {
                    fs::remove_file(inner.path())?;
                    continue;
                }
                let target = loop {
                    let target = root.join(format!(".removed-{next:016x}"));
                    next += 1;
                    if fs::symlink_metadata(&target).is_err() {
                        break target;
                    }
                };
                fs::rename(inner.path(), target)?;
            }
            fs::remove_dir(&path)?;
        }
        if is_empty {
            return fs::remove_dir(root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_copied_and_removed() {
        let root = std::env::temp_dir().join(format!("agentkernel-mcp-tree-{}", std::process::id()));
        remove(&root).unwrap();
        let (from, to) = (root.join("from"), root.join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/file"), "x").unwrap();
        fs::create_dir_all(from.join(".removed-0000000000000000/x")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc", from.join("link")).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "x");
        #[cfg(unix)]
        assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
        let mut deep = from.clone();
        for _ in 0..300 {
            deep.push("d");
            fs::create_dir(&deep).unwrap();
        }
        remove(&root).unwrap();
        assert!(!root.exists() && Path::new("/etc").exists());
    }
}
