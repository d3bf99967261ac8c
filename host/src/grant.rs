//! What a session may touch: pure data, checked when the session starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::workspace::{Access, Overlay};
use crate::{Error, ErrorKind, Result};

/// Everything a session may touch. The default is an empty temporary workspace, the default
/// [`Limits`], and nothing else.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Access, Grants, Kernel, Mount};
///
/// let mut grants = Grants::default();
/// grants.environment.insert("LANG".into(), "C.UTF-8".into());
/// grants.mounts.push(Mount {
///     host: std::env::temp_dir(),
///     guest: "/data".into(),
///     access: Access::ReadOnly,
/// });
/// let mut session = Kernel::new()?.session().grants(grants).start()?;
/// let outcome = session.run_blocking("import os; print(os.environ['LANG'], os.path.isdir('/data'))")?;
/// assert_eq!(outcome.stdout, b"C.UTF-8 True\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// The directory at `/workspace`, the session's working directory.
    pub workspace: Workspace,
    /// Further directories.
    pub mounts: Vec<Mount>,
    /// Directories of the sandbox that `import` looks in before the working directory.
    pub import_paths: Vec<String>,
    /// All that `os.environ` holds. The host's own environment is never visible.
    pub environment: BTreeMap<String, String>,
    /// How much the session may use.
    pub limits: Limits,
}

/// What stands at `/workspace`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Workspace {
    /// An empty private directory, removed when the session is dropped.
    #[default]
    Temporary,
    /// A directory of the host, read and written.
    Directory(PathBuf),
    /// A directory of the host whose changes are kept apart from it.
    Overlay(Overlay),
}

/// A directory of the host that the program sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory on the host.
    pub host: PathBuf,
    /// Where the program sees it: an absolute path without `.` or `..`.
    pub guest: String,
    /// Whether the program may change it.
    pub access: Access,
}

/// How much a session may use. Time and fuel are counted anew for each turn, the rest over the
/// session's life.
///
/// ```
/// use agentkernel::Limits;
/// use std::time::Duration;
///
/// let mut limits = Limits::default();
/// limits.timeout = Some(Duration::from_secs(5));
/// limits.memory_bytes = 128 << 20;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Wall-clock time of one turn, waiting included. Default: 60 seconds. `None` is no limit.
    pub timeout: Option<Duration>,
    /// Linear memory of the interpreter, in bytes; it starts with about 40 MiB.
    /// Default: 512 MiB. At most 4 GiB, which WebAssembly cannot exceed.
    pub memory_bytes: u64,
    /// Bytes written to standard output and standard error together; the rest is dropped after a
    /// marker, and the program goes on. Default: 10 MiB.
    pub output_bytes: u64,
    /// Units of computation of one turn, counted the same on every machine. Default: none.
    /// A kernel with fuel compiles the interpreter a second time and runs it about 1.4 times slower.
    pub fuel: Option<u64>,
    /// Files and directories open at once. Default: 256.
    pub open_files: u32,
    /// Bytes written to all granted directories. Default: 1 GiB.
    pub write_bytes: u64,
    /// Files, directories and links that the session makes in granted directories, less those it
    /// removes. Default: 20,000. Removing a temporary workspace takes time for each.
    pub new_entries: u32,
    /// Length of a path in bytes. Default: 4096.
    pub path_bytes: u32,
    /// Host calls in flight at once. Default: 256.
    pub operations: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            timeout: Some(Duration::from_secs(60)),
            memory_bytes: 512 << 20,
            output_bytes: 10 << 20,
            fuel: None,
            open_files: 256,
            write_bytes: 1 << 30,
            new_entries: 20_000,
            path_bytes: 4096,
            operations: 256,
        }
    }
}

impl Grants {
    /// Directories of the host that a program with these grants may change.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &Path> {
        let workspace = match &self.workspace {
            Workspace::Directory(directory) => Some(directory.as_path()),
            // It may be applied.
            Workspace::Overlay(overlay) => Some(overlay.directory()),
            Workspace::Temporary => None,
        };
        let mounts = self.mounts.iter().filter(|mount| mount.access == Access::ReadWrite);
        workspace.into_iter().chain(mounts.map(|mount| mount.host.as_path()))
    }

    /// Refuses to let a program write to where `what` of the host lies, which trusts what it reads there.
    pub(crate) fn check_outside(&self, what: &str, path: &Path) -> Result<()> {
        if self.writable().next().is_none() {
            return Ok(());
        }
        // What is not there yet lies where its directory does.
        let absolute = std::path::absolute(path);
        let place = absolute.ok().and_then(|path| path.ancestors().find_map(|path| path.canonicalize().ok()));
        let Some(place) = place else {
            let message = format!("it cannot be told where the {what} `{}` lies", path.display());
            return Err(Error::new(ErrorKind::Grant, message).hint("name it by an absolute path"));
        };
        let inside = |directory: &&Path| directory.canonicalize().is_ok_and(|it| place.starts_with(it));
        match self.writable().find(inside) {
            None => Ok(()),
            Some(directory) => Err(Error::new(
                ErrorKind::Grant,
                format!(
                    "the {what} `{}` lies in `{}`, which the program may write to",
                    path.display(),
                    directory.display()
                ),
            )
            .hint("keep it outside of what is granted")),
        }
    }

    /// Refuses what could never work or would have no effect.
    pub(crate) fn check(&self, memory_at_start: u64) -> Result<()> {
        let bad =
            |message: String, hint: &str| Err(Error::new(ErrorKind::Grant, message).hint(hint.to_owned()));
        let limits = &self.limits;
        if limits.timeout == Some(Duration::ZERO) {
            return bad("a time limit of `0s` lets nothing run".into(), "give at least `1ms`, or no limit");
        }
        if limits.memory_bytes < memory_at_start {
            return bad(
                format!("a memory limit of {} bytes is too small", limits.memory_bytes),
                &format!(
                    "the interpreter alone starts with {memory_at_start} bytes; 64 MiB and more is useful"
                ),
            );
        }
        if limits.memory_bytes > 4 << 30 {
            return bad(
                format!(
                    "a memory limit of {} bytes is more than WebAssembly can address",
                    limits.memory_bytes
                ),
                "give at most 4 GiB",
            );
        }
        if limits.fuel == Some(0) {
            return bad("a fuel limit of `0` lets nothing run".into(), "give a positive number, or no limit");
        }
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return bad(
                    format!("`{name}` cannot be an environment variable"),
                    "a name is not empty and has no `=`; neither name nor value has a NUL byte",
                );
            }
        }
        Ok(())
    }
}
