//! Entries, and which of their names may become paths.

use std::collections::HashMap;

use crate::exports::agentkernel::archive::archive::Kind;

/// Directories in each other.
const DEPTH: usize = 64;

#[derive(Clone)]
pub struct Item {
    /// As it is written in the archive.
    pub name: String,
    pub kind: Kind,
    pub size: u64,
    pub compressed: Option<u64>,
    pub modified: Option<i64>,
}

/// The relative path that a name stands for, without `.` and doubled slashes; empty for the directory
/// that is unpacked into.
///
/// # Errors
///
/// Why it may not become a path.
pub fn safe(name: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("refused: the path of the entry `{}` {why}", name.escape_debug()));
    if name.starts_with('/') {
        return refuse("is absolute");
    }
    if name.contains('\\') {
        return refuse("has a backslash");
    }
    if name.chars().any(char::is_control) {
        return refuse("has control characters");
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return refuse("has `..`");
    }
    if parts.first().is_some_and(|part| part.len() == 2 && part.ends_with(':')) {
        return refuse("names a drive");
    }
    if parts.len() > DEPTH || parts.iter().any(|part| part.len() > 255) {
        return refuse("is too long");
    }
    if parts.is_empty() && !name.contains('.') && !name.is_empty() {
        return refuse("is empty");
    }
    Ok(parts.join("/"))
}

/// The paths of an archive so far, and whether each is a directory.
#[derive(Default)]
pub struct Paths(HashMap<String, bool>);

impl Paths {
    /// # Errors
    ///
    /// That the path is there already, or lies within a file.
    pub fn add(&mut self, path: &str, directory: bool) -> Result<(), String> {
        for (end, _) in path.match_indices('/') {
            if !*self.0.entry(path[..end].to_owned()).or_insert(true) {
                return Err(format!("refused: `{}` is both a file and a directory in it", &path[..end]));
            }
        }
        match self.0.insert(path.to_owned(), directory) {
            None => Ok(()),
            Some(true) if directory => Ok(()),
            Some(before) if before == directory => Err(format!("refused: the entry `{path}` is in it twice")),
            Some(_) => Err(format!("refused: `{path}` is both a file and a directory in it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_within_are_safe() {
        for (name, path) in
            [("a/b", "a/b"), ("./a//b/", "a/b"), ("./", ""), ("a..b/...", "a..b/..."), ("ü ✓", "ü ✓")]
        {
            assert_eq!(safe(name).as_deref(), Ok(path), "{name}");
        }
        for name in [
            "/a",
            "../a",
            "a/../../b",
            "a\\b",
            "C:/x",
            "a\0b",
            "a\nb",
            "//",
            &"a/".repeat(100),
            &"a".repeat(256),
        ] {
            assert!(safe(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_path_is_one_thing() {
        let mut paths = Paths::default();
        assert!(
            paths.add("a/b", false).is_ok() && paths.add("a", true).is_ok() && paths.add("a", true).is_ok()
        );
        assert!(
            paths.add("a/b", false).is_err()
                && paths.add("a", false).is_err()
                && paths.add("a/b/c", false).is_err()
        );
    }
}
