//! Nothing that a program may write decides what a run is granted or which native code it executes:
//! otherwise one run could prepare the next.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use agentkernel::{Access, CompilationCache, ToolGrants, Workspace};

use crate::failure::{Failure, Result};
use crate::files;
use crate::servers;
use crate::settings::Settings;

/// Links that are followed on one way, as Linux counts them.
const MAX_LINKS: usize = 40;

/// Refuses settings whose configuration, interpreter or cache the program could replace.
pub fn check(settings: &Settings) -> Result<()> {
    if let Some(file) = settings.llm.as_ref().and_then(|granted| granted.secrets.as_deref()) {
        hidden(file, readable(settings))?;
    }
    let engine = &settings.engine;
    let cache = CompilationCache::new(engine.cache_dir.clone());
    let cache = cache.directory().filter(|_| !engine.no_cache);
    let tools = settings
        .tools
        .iter()
        .filter_map(|tool| Some(("tool", Some(tool.file()?), "and name it from elsewhere")));
    for server in settings.tools.iter().filter_map(|tool| tool.server()) {
        for path in servers::paths(server) {
            outside(
                settings,
                "MCP server",
                &path,
                "and name it from elsewhere: it runs outside of the sandbox",
            )?;
        }
    }
    // It has the flags of sessions.
    let sessions = files::sessions().filter(|sessions| sessions.is_dir());
    // An overlay does what it says.
    let applies = files::data().map(|data| data.join("applies")).filter(|applies| applies.is_dir());
    // So has what is to be applied.
    let changes = files::data().map(|data| data.join(files::CHANGES)).filter(|changes| changes.is_dir());
    for (what, path, remedy) in [
        (
            "configuration",
            settings.config_file.as_deref(),
            "name it with `--config` from elsewhere, or run with `--no-config`",
        ),
        ("interpreter", engine.guest.as_deref(), "and name it with `--guest` from elsewhere"),
        ("store of sessions", sessions.as_deref(), "or name another with `AGENTKERNEL_DATA_DIR`"),
        ("store of changes", changes.as_deref(), "or name another with `AGENTKERNEL_DATA_DIR`"),
        (
            "record of applied changes",
            applies.as_deref(),
            "or name another place with `AGENTKERNEL_DATA_DIR`",
        ),
        ("compilation cache", cache, "name another directory with `--cache-dir`, or run with `--no-cache`"),
    ]
    .into_iter()
    .chain(tools)
    {
        if let Some(path) = path {
            outside(settings, what, path, remedy)?;
        }
    }
    Ok(())
}

/// Why files in a directory must not be believed, if so: it, or one of `files` in it, belongs to another user, or others can
/// write to it. A file that others could write to is out of their reach in a directory that they cannot enter.
#[cfg(unix)]
pub fn foreign(directory: &Path, files: impl IntoIterator<Item = PathBuf>) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    // Who may enter (1 of 7) and write (2 of 7) can change something.
    let check = |path: &Path, found: &fs::Metadata, entered: u32| {
        let written = found.mode() & 0o022 & (entered & 0o011) << 1;
        match found.uid() == rustix::process::geteuid().as_raw() {
            false => Some(format!("`{}` belongs to another user", path.display())),
            true if written != 0 => Some(format!("`{}` can be written by others", path.display())),
            true => None,
        }
    };
    // What is not there is no danger, and told of elsewhere.
    let found = fs::metadata(directory).ok()?;
    let file = |path: PathBuf| {
        let file = fs::symlink_metadata(&path).ok()?;
        // What a link leads to is looked at with it.
        let file = if file.is_symlink() { fs::metadata(&path).unwrap_or(file) } else { file };
        check(&path, &file, found.mode())
    };
    check(directory, &found, 0o777).or_else(|| files.into_iter().find_map(file))
}

#[cfg(not(unix))]
pub fn foreign(_directory: &Path, _files: impl IntoIterator<Item = PathBuf>) -> Option<String> {
    None
}

/// Why a file that was only come across must not be believed, if so: somebody else can have written it, or put it there.
#[cfg(unix)]
pub fn planted(file: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    const STICKY: u32 = 0o1000;
    let own = rustix::process::geteuid().as_raw();
    // What root does cannot be kept from anybody.
    let owned = |found: &fs::Metadata| [own, 0].contains(&found.uid());
    // Of a user's own group, which has the same number, nobody else is a member.
    let written =
        |found: &fs::Metadata| found.mode() & if found.gid() == found.uid() { 0o002 } else { 0o022 } != 0;
    let foreign = |path: &Path, why: &str| Some(format!("`{}` {why}", path.display()));
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(link), Ok(found), Ok(above)) =
        (fs::symlink_metadata(file), fs::metadata(file), fs::metadata(directory))
    else {
        // What is not there is told of elsewhere.
        return None;
    };
    match () {
        () if !owned(&link) || !owned(&found) => foreign(file, "belongs to another user"),
        () if written(&found) => foreign(file, "can be written by others"),
        () if !owned(&above) => foreign(directory, "belongs to another user"),
        // In one that is sticky nobody can replace what is another's.
        () if written(&above) && above.mode() & STICKY == 0 => foreign(directory, "can be written by others"),
        () => None,
    }
}

#[cfg(not(unix))]
pub fn planted(_file: &Path) -> Option<String> {
    None
}

/// Refuses a path that the program could replace, or where it could make something.
pub fn outside(settings: &Settings, what: &str, path: &Path, remedy: &str) -> Result<()> {
    beyond(workspace(settings).into_iter().chain(mounted(settings)), what, path, remedy)
}

/// The same for some of the directories that it may write to.
fn beyond<'a>(writable: impl Iterator<Item = &'a Path>, what: &str, path: &Path, remedy: &str) -> Result<()> {
    let mut writable = writable.filter_map(|path| Some((path, identity(path)?))).peekable();
    if writable.peek().is_none() {
        return Ok(());
    }
    let passed: Vec<_> = way(path).iter().filter_map(|place| identity(place)).collect();
    let Some((directory, _)) = writable.find(|(_, identity)| passed.contains(identity)) else {
        return Ok(());
    };
    // `.` would say nothing.
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
    let (shown, directory) = (path.display(), directory.display());
    Err(Failure::new(format!("the {what} `{shown}` lies in a directory that the program may write to"))
        .hint(format!("move it out of `{directory}`, {remedy}")))
}

/// Where sessions write what programs change in their workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// To the directory itself.
    Through,
    /// The same, and `--overlay` would keep it apart.
    Overlayable,
    /// To an overlay, which keeps it apart.
    Apart,
}

/// Refuses data that programs could change whose later turns need it as it was. No overlay keeps apart what is
/// written to mounts.
pub fn apart(settings: &Settings, contexts: &[PathBuf], writes: Writes) -> Result<()> {
    let workspace = workspace(settings).filter(|_| writes != Writes::Apart);
    let remedy = match writes {
        Writes::Overlayable => "or keep what programs change apart with `--overlay`",
        Writes::Through | Writes::Apart => "or name another `--workspace`",
    };
    let workspace = workspace.map(|directory| (directory, remedy));
    let mounted = mounted(settings)
        .map(|directory| (directory, "or let programs read that directory and not write to it"));
    let writable: Vec<_> = workspace.into_iter().chain(mounted).collect();
    for path in contexts {
        let own = identity(path);
        for (directory, remedy) in &writable {
            beyond(std::iter::once(*directory), "context", path, remedy)?;
            if way(directory).iter().any(|place| own.is_some() && identity(place) == own) {
                let (shown, directory) = (path.display(), directory.display());
                return Err(Failure::new(format!(
                    "the directory `{directory}`, which the program may write to, lies in the context `{shown}`"
                ))
                .hint(format!("name parts of the context without it, {remedy}")));
            }
        }
    }
    Ok(())
}

/// Refuses a file with keys that lies in what the program, or what is written by it, can read.
pub fn hidden<'a>(secrets: &Path, readable: impl Iterator<Item = &'a Path>) -> Result<()> {
    let passed: Vec<_> = way(secrets).iter().filter_map(|place| identity(place)).collect();
    let own = identity(secrets);
    let shows =
        |path: &&Path| identity(path).is_some_and(|place| passed.contains(&place) || own == Some(place));
    let mut readable = readable;
    let Some(directory) = readable.find(shows) else { return Ok(()) };
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
    let (shown, directory) = (secrets.display(), directory.display());
    Err(Failure::new(format!("`{shown}`, which has keys, lies in a directory that the program may read")).hint(
        format!("move it out of `{directory}`, beside an agentkernel.toml elsewhere, or set its variables in the environment"),
    ))
}

/// The directories that the program may read, by itself or through a tool.
pub fn readable(settings: &Settings) -> impl Iterator<Item = &Path> {
    let tools = settings.tools.iter().flat_map(|tool| &tool.granted().mounts);
    let mounts = settings.grants.mounts.iter().chain(tools);
    workspace(settings).into_iter().chain(mounts.map(|mount| mount.host.as_path()))
}

/// The workspace, if it outlives the program. What is written to an overlay may be applied to it later.
fn workspace(settings: &Settings) -> Option<&Path> {
    match &settings.grants.workspace {
        Workspace::Directory(directory) => Some(directory),
        Workspace::Overlay(overlay) => Some(overlay.directory()),
        Workspace::Temporary => None,
    }
}

/// The directories beside the workspace that the program may write to, by itself or through a tool.
fn mounted(settings: &Settings) -> impl Iterator<Item = &Path> {
    // The workspace that a tool may be granted is not a path of the host.
    let tools = settings.tools.iter().flat_map(|tool| &tool.granted().mounts);
    let tools = tools.filter(|mount| !mount.host.starts_with(ToolGrants::WORKSPACE));
    let mounts = settings.grants.mounts.iter().chain(tools);
    mounts.filter(|mount| mount.access == Access::ReadWrite).map(|mount| mount.host.as_path())
}

/// The directories in which a name is looked up on the way to `path`, that of each link included, and
/// where the way ends. What does not exist yet is where it would be made.
fn way(path: &Path) -> Vec<PathBuf> {
    let reversed = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|component| component.as_os_str().to_owned()).collect()
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut left = reversed(&path);
    let mut passed = Vec::new();
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(name) = left.pop() {
        match Path::new(&name).components().next() {
            None | Some(Component::CurDir) => {}
            // Links are resolved before, so this is what the system does too.
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Prefix(_) | Component::RootDir) => at.push(name),
            Some(Component::Normal(_)) => {
                passed.push(at.clone());
                at.push(name);
                if links < MAX_LINKS
                    && let Ok(target) = fs::read_link(&at)
                {
                    links += 1;
                    at.pop();
                    left.extend(reversed(&target));
                }
            }
        }
    }
    passed.push(at);
    passed
}

/// The same for all names of a directory, whatever their case and wherever it is mounted.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_and_parents_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for name in ["work", "work/inner", "other"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("../other", root.join("work/link")).unwrap();
        std::os::unix::fs::symlink(root.join("work/link"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        let passes = |path: &str| way(&root.join(path)).contains(&root.join("work"));
        for inside in ["work", "work/x", "work/inner/../../other", "work/link/x", "link/x", "other/../work/x"]
        {
            assert!(passes(inside), "{inside}");
        }
        for outside in ["other", "other/x", "absent/work", "work/../other", "workshop", "loop/x", "."] {
            assert!(!passes(outside), "{outside}");
        }
    }
}
