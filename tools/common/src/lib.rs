//! What the shipped tools share: paths of the workspace, and file errors that say what to do.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where relative paths start.
const WORKSPACE: &str = "/workspace";

/// The absolute form of a path that a program gave: relative ones start at `/workspace`, `.` and
/// `..` are resolved by their names.
///
/// # Errors
///
/// Says so if the path is empty or holds a NUL.
pub fn resolve(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() || path.contains('\0') {
        return Err(format!("`{}` is not a path", path.escape_debug()));
    }
    let mut resolved = PathBuf::from("/");
    for component in Path::new(WORKSPACE).join(path).components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir => {
                resolved.pop();
            }
            _ => {}
        }
    }
    Ok(resolved)
}

/// What went wrong with a path, and what the tool may touch: ``cannot read `x`: no such file or
/// directory; the tool sees: /workspace``.
pub fn explain(action: &str, path: &str, error: &io::Error) -> String {
    let seen = granted();
    let path = path.escape_debug();
    if seen.is_empty() {
        return format!(
            "cannot {action} `{path}`: the tool was granted no directory; \
             grant one with `mounts = [\"{{workspace}}:/workspace:rw\"]` under [tool.NAME]"
        );
    }
    let inside = resolve(&path.to_string()).is_ok_and(|path| seen.iter().any(|root| path.starts_with(root)));
    let reason = match error.kind() {
        _ if !inside => "it lies outside of what the tool sees".to_owned(),
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the directory was granted read-only".to_owned(),
        io::ErrorKind::AlreadyExists => "it is already there".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::NotADirectory => "a part of the path is not a directory".to_owned(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the limit of what may be written is reached".to_owned()
        }
        _ => error.to_string(),
    };
    format!("cannot {action} `{path}`: {reason}; the tool sees: {}", seen.join(", "))
}

/// The directories that the tool was granted.
#[cfg(target_os = "wasi")]
fn granted() -> Vec<String> {
    wasip2::filesystem::preopens::get_directories().into_iter().map(|(_, path)| path).collect()
}

#[cfg(not(target_os = "wasi"))]
fn granted() -> Vec<String> {
    vec![WORKSPACE.to_owned()]
}

/// The content of a file of at most `limit` bytes.
///
/// # Errors
///
/// What [`explain`] says, or that the file is larger.
pub fn read(path: &str, limit: u64) -> Result<Vec<u8>, String> {
    let wrong = |error: io::Error| explain("read", path, &error);
    let file = fs::File::open(resolve(path)?).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    if metadata.is_dir() {
        return Err(wrong(io::ErrorKind::IsADirectory.into()));
    }
    let mut content = Vec::with_capacity(metadata.len().min(limit) as usize);
    file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(wrong)?;
    if content.len() as u64 > limit {
        return Err(format!("cannot read `{path}`: it has more than {limit} bytes"));
    }
    Ok(content)
}

/// Writes a file so that it is there as a whole or as it was before.
///
/// # Errors
///
/// What [`explain`] says.
pub fn write(path: &str, content: &[u8]) -> Result<(), String> {
    let target = resolve(path)?;
    let wrong = |error: io::Error| explain("write", path, &error);
    if fs::metadata(&target).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(wrong(io::ErrorKind::IsADirectory.into()));
    }
    let beside = beside(&target);
    fs::write(&beside, content).and_then(|()| fs::rename(&beside, &target)).map_err(|error| {
        let _ = fs::remove_file(&beside);
        wrong(error)
    })
}

/// A name in the same directory that nothing has, for a file until it is complete.
pub fn beside(target: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(40).collect();
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let candidate = target.with_file_name(format!(".{name}.part{next}"));
        if fs::symlink_metadata(&candidate).is_err() {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_at_the_workspace() {
        assert_eq!(resolve("a/./b/../c").unwrap(), Path::new("/workspace/a/c"));
        assert_eq!(resolve("/data/x").unwrap(), Path::new("/data/x"));
        assert_eq!(resolve("../../../x").unwrap(), Path::new("/x"));
        assert!(resolve("").is_err() && resolve("a\0b").is_err());
    }

    #[test]
    fn errors_name_the_path_and_what_the_tool_sees() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(
            explain("read", "x", &missing),
            "cannot read `x`: no such file or directory; the tool sees: /workspace"
        );
        assert_eq!(
            explain("read", "/etc/passwd", &missing),
            "cannot read `/etc/passwd`: it lies outside of what the tool sees; the tool sees: /workspace"
        );
    }
}
