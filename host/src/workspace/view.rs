//! The files of a workspace as the host looks at them: within the same directory as the program, and with limits
//! of its own, since what lies there is the program's.

use std::ops::ControlFlow;

use super::bindings::wasi::filesystem::types::DescriptorType;
use super::descriptor::Node;
use super::error::{ErrorCode, Fault};
use super::listing::Listing;
use super::node::{DirectoryNode, How};
use super::{Budget, FilesystemLimits, Preopen, files};
use crate::{Error, ErrorKind, Result};

/// Directories that are open on the way down, so that no depth takes all file descriptors.
const DEPTH: usize = 64;

/// Entries that are looked at for one listing, before it ends with what was found; and in one directory, of
/// which none are listed if there are more.
const SEEN: usize = 100_000;

/// The files of a session's workspace. Cheap to clone.
///
/// Paths are relative to `/workspace`. None leads out of it: neither `..` nor a link, whoever made it.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::Kernel;
///
/// let mut session = Kernel::new()?.session().start()?;
/// let files = session.files().expect("the session is alive");
/// session.run_blocking("open('a.txt', 'w').write('text')")?;
/// assert_eq!(files.read("a.txt", 100)?, b"text");
/// let (listed, has_more) = files.list(None, 10)?;
/// assert_eq!((listed[0].path.as_str(), listed[0].bytes, has_more), ("a.txt", 4, false));
/// assert!(files.read("../etc/passwd", 100).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Files {
    workspace: Preopen,
    path_bytes: usize,
    budget: Budget,
}

/// A file of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkspaceFile {
    /// Its path below `/workspace`.
    pub path: String,
    /// Its length in bytes when it was listed.
    pub bytes: u64,
}

impl Files {
    pub(super) fn new(workspace: Preopen, path_bytes: usize) -> Self {
        let limits = FilesystemLimits {
            open_files: 2 * DEPTH as u32,
            write_bytes: 0,
            new_entries: 0,
            path_bytes: u32::try_from(path_bytes).unwrap_or(u32::MAX),
        };
        Files { workspace, path_bytes, budget: Budget::new(limits) }
    }

    /// The content of a file of at most `most` bytes. Links in the workspace are followed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when there is no such file, when the path leads out of the workspace, or when the file is
    /// longer.
    pub fn read(&self, path: &str, most: u64) -> Result<Vec<u8>> {
        let cannot = |why: &str| {
            let shown = &path[..path.floor_char_boundary(200)];
            Error::new(
                ErrorKind::Grant,
                format!("cannot read the workspace file `{}`: {why}", shown.escape_debug()),
            )
        };
        let absent = || cannot("there is no such file").hint("list the files, or look with `os.listdir()`");
        if path.len() > self.path_bytes {
            return Err(cannot("the path is too long"));
        }
        let directory = self.workspace.present().ok_or_else(absent)?;
        let how = How { read: true, follow: true, ..How::default() };
        let most = most.min(u64::MAX - 1);
        let file = match directory.open(path, &how, &self.budget) {
            Ok(Node::File(file)) => file,
            Ok(Node::Directory(_) | Node::Recorded) => {
                return Err(cannot("it is a directory").hint("read a file in it"));
            }
            Err(Fault::Code(ErrorCode::NoEntry | ErrorCode::NotDirectory)) => return Err(absent()),
            Err(Fault::Code(ErrorCode::NotPermitted)) => {
                return Err(
                    cannot("it leads out of the workspace, or is no file").hint("give a path in /workspace")
                );
            }
            Err(fault) => return Err(cannot(&told(&fault))),
        };
        let mut content = Vec::new();
        // Its length may change meanwhile.
        while content.len() as u64 <= most {
            let length = content.len() as u64;
            let wanted = (most + 1 - length).min(files::READ_BYTES as u64);
            let piece = files::read_at(&file, wanted, length).map_err(|fault| cannot(&told(&fault)))?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(&piece);
        }
        Err(cannot(&format!("it has more than {most} bytes")).hint("read a part of it with a program"))
    }

    /// At most `most` files in the order of their paths, a directory's between its neighbours, those after `after` if
    /// it is given; and whether there may be more. What is hidden (its name begins with a dot), links, what lies deeper
    /// than 64 directories, and directories with more than 100,000 entries are left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::System`] when a directory cannot be read.
    pub fn list(&self, after: Option<&str>, most: usize) -> Result<(Vec<WorkspaceFile>, bool)> {
        let Some(root) = self.workspace.present() else { return Ok((Vec::new(), false)) };
        let after: Vec<&str> = after.map(|path| path.split('/').collect()).unwrap_or_default();
        let mut walk = Walk { budget: &self.budget, seen: 0, most, found: Vec::new() };
        let is_all = walk.directory(&root, "", &after, 0)?.is_continue();
        // Who finds nothing in so many would find nothing the next time either.
        let has_more = !is_all && !walk.found.is_empty();
        Ok((walk.found, has_more))
    }
}

/// One listing.
struct Walk<'a> {
    budget: &'a Budget,
    seen: usize,
    most: usize,
    found: Vec<WorkspaceFile>,
}

impl Walk<'_> {
    /// Adds the files of a directory that come after `after`, a path in it; breaks when there are enough.
    fn directory(
        &mut self,
        at: &DirectoryNode,
        path: &str,
        after: &[&str],
        depth: usize,
    ) -> Result<ControlFlow<()>> {
        for (name, is_directory) in self.entries(at)? {
            let inner = match after.first() {
                Some(first) if name.as_str() < *first => continue,
                Some(first) if name == *first => Some(&after[1..]),
                _ => None,
            };
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            if is_directory {
                // It may be gone, or be something else by now.
                let Ok(directory) = at.directory(&name) else { continue };
                let inner = inner.unwrap_or_default();
                if depth < DEPTH && self.directory(&directory, &below, inner, depth + 1)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            } else if inner.is_none() {
                let Ok(status) = at.status_at(&name, false) else { continue };
                if self.found.len() >= self.most {
                    return Ok(ControlFlow::Break(()));
                }
                self.found.push(WorkspaceFile { path: below, bytes: status.stat.size });
            }
            if self.seen > SEEN {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The files and directories in a directory, sorted; whether each is a directory.
    fn entries(&mut self, at: &DirectoryNode) -> Result<Vec<(String, bool)>> {
        let unreadable = |fault: Fault| {
            Error::new(
                ErrorKind::System,
                format!("a directory of the workspace cannot be read: {}", told(&fault)),
            )
        };
        let opened = self.budget.open().ok_or_else(|| unreadable(ErrorCode::Quota.into()))?;
        let entries = at.entries().map_err(|error| unreadable(error.into()))?;
        let mut listing = Listing { entries, _opened: opened, taped: None };
        let mut entries = Vec::new();
        let before = self.seen;
        while let Some(entry) = listing.next().map_err(unreadable)? {
            self.seen += 1;
            if self.seen - before > SEEN {
                return Ok(Vec::new());
            }
            match entry.type_ {
                _ if entry.name.starts_with('.') => {}
                DescriptorType::Directory => entries.push((entry.name, true)),
                DescriptorType::RegularFile => entries.push((entry.name, false)),
                _ => {}
            }
        }
        entries.sort();
        Ok(entries)
    }
}

fn told(fault: &Fault) -> String {
    match fault {
        Fault::Code(code) => code.name().replace('-', " "),
        Fault::Trap(error) => error.to_string(),
    }
}
