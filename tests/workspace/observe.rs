//! What a directory of the host holds.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let names: io::Result<Vec<String>> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    names.map(|mut names| {
        names.sort();
        names
    })
}

/// Visits a directory and all below it except `skip`, with what files hold and links point to.
fn walk(path: &Path, skip: &Path, visit: &mut impl FnMut(&Path, &Metadata, Vec<u8>)) {
    if path == skip {
        return;
    }
    let found = path.symlink_metadata().unwrap();
    let content = match found.file_type() {
        kind if kind.is_file() => fs::read(path).unwrap(),
        kind if kind.is_symlink() => fs::read_link(path).unwrap().as_os_str().as_bytes().into(),
        _ => Vec::new(),
    };
    visit(path, &found, content);
    if found.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), skip, visit);
        }
    }
}

/// Everything about a directory and what is below it, except `skip`, that a change would show.
pub fn snapshot(directory: &Path, skip: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    walk(directory, skip, &mut |path, found, content| {
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        let content = String::from_utf8_lossy(&content);
        all.insert(path.into(), format!("{:o} {} {times:?} {content}", found.mode(), found.nlink()));
    });
    all
}

/// The kinds and contents of all below a directory.
pub fn contents(directory: &Path) -> BTreeMap<PathBuf, (String, Vec<u8>)> {
    let mut all = BTreeMap::new();
    walk(directory, Path::new(""), &mut |path, found, content| {
        let path = path.strip_prefix(directory).unwrap().to_owned();
        all.insert(path, (format!("{:?}", found.file_type()), content));
    });
    all
}
