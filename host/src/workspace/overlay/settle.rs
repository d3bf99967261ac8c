//! Settling conflicts: which side holds where the directory was changed meanwhile.

use std::io;

use super::Overlay;
use super::inner::{Inner, Shared};
use super::layers::failed;
use super::lower::Seen;
use super::plan::Conflict;
use super::state::{File, Id, Identity, Link, Node, Op, State};
use crate::{Error, ErrorKind, Result};

/// How often it is looked for conflicts that others were in the way of: a level of directories each time.
const ROUNDS: usize = 2048;

/// What holds at a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The overlay's change: it replaces what is in the directory.
    Overlay,
    /// What is in the directory: the overlay's change is dropped.
    Directory,
}

impl Overlay {
    /// Settles the conflicts at a path and below, `""` for all: [`apply`](Overlay::apply) then does what was said, as long as the
    /// directory is not changed there once more. Gives how many there were. A [`checkpoint`](Overlay::checkpoint) puts
    /// that back.
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// # let place = tempfile::tempdir().unwrap();
    /// # let directory = place.path();
    /// use agentkernel::{Grants, Kernel, Overlay, Side, Workspace};
    ///
    /// let overlay = Overlay::over(directory)?;
    /// let mut grants = Grants::default();
    /// grants.workspace = Workspace::Overlay(overlay.clone());
    /// let mut session = Kernel::new()?.session().grants(grants).start()?;
    /// session.run_blocking("open('notes.txt', 'w').write('ours')")?;
    /// std::fs::write(directory.join("notes.txt"), "theirs").unwrap();
    ///
    /// assert!(overlay.apply().is_err());
    /// assert_eq!(overlay.settle("notes.txt", Side::Overlay)?, 1);
    /// overlay.apply()?;
    /// assert_eq!(std::fs::read(directory.join("notes.txt")).unwrap(), b"ours");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] where it cannot be settled so by itself: the directory cannot hold against a directory or a move of the
    /// overlay, nor the overlay without the directory that its changes are in. Some may be settled then.
    pub fn settle(&self, path: &str, side: Side) -> Result<usize> {
        let cannot = |error| failed("settle a conflict of the overlay", error);
        let mut inner = self.0.lock();
        let mut settled = 0;
        let mut before: Vec<Conflict> = Vec::new();
        for _ in 0..ROUNDS {
            let mut conflicts = self.0.plan(&inner)?.conflicts;
            conflicts.retain(|conflict| is_within(&conflict.path, path));
            let Some(first) = conflicts.first() else { return Ok(settled) };
            if conflicts == before {
                return Err(unsettled(&first.path, "what it is part of is gone, moved or in the way"));
            }
            for Conflict { path, .. } in &conflicts {
                match side {
                    Side::Overlay => self.0.accept(&mut inner, path).map_err(cannot)?,
                    Side::Directory => match self.0.let_be(&mut inner, path).map_err(cannot)? {
                        None => {}
                        Some(why) => return Err(unsettled(path, why)),
                    },
                }
            }
            settled += conflicts.len();
            before = conflicts;
        }
        Err(unsettled(path, "the directory is changed all the time"))
    }
}

/// Whether it is a path or lies below it.
fn is_within(path: &str, top: &str) -> bool {
    match path.strip_prefix(top) {
        Some(rest) => top.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

fn unsettled(path: &str, why: &str) -> Error {
    let message = format!("the conflict at `{}` cannot be settled so: {why}", path.escape_debug());
    Error::new(ErrorKind::Conflict, message)
        .hint("settle it the other way, or change the directory by hand and discard the overlay's changes")
}

impl Shared {
    /// Takes what is at a path below now for what the overlay has changed.
    fn accept(&self, inner: &mut Inner, path: &str) -> io::Result<()> {
        let op = match self.lower.stat(path)? {
            Some(found) => Op::Seen(path.to_owned(), self.lower.look(path, &found)?),
            None => Op::Unseen(path.to_owned()),
        };
        inner.change(vec![op])
    }

    /// Drops the overlay's change at a path; says why, if that cannot be done by itself.
    fn let_be(&self, inner: &mut Inner, path: &str) -> io::Result<Option<&'static str>> {
        let (within, name) = path.rsplit_once('/').unwrap_or(("", path));
        let state = &inner.state;
        let Some((parent, child)) = state.entry_over(within, name) else {
            return Ok(Some("the overlay changes what is around it"));
        };
        if state.nodes.keys().any(|id| Some(*id) != child && state.base(*id) == Some(path)) {
            return Ok(Some("the overlay has moved it"));
        }
        if child.is_some_and(|child| state.directory(child).is_some()) {
            return Ok(Some("the overlay has a directory there"));
        }
        if child.is_some_and(|child| state.came_from_elsewhere(child, path)) {
            return Ok(Some("the overlay has moved something there, which would be lost"));
        }
        let data = child.and_then(|child| Some(state.file(child)?.data.clone()));
        let mut ops = vec![Op::Forget(parent, name.to_owned()), Op::Unseen(path.to_owned())];
        if let Some(child) = child {
            ops.extend(self.unlink_ops(inner, child));
        }
        inner.change(ops)?;
        if let Some(child) = child {
            self.release(inner, child, data);
        }
        Ok(None)
    }
}

impl State {
    /// Whether a node is what was at another path below.
    fn came_from_elsewhere(&self, id: Id, path: &str) -> bool {
        let own = match self.nodes.get(&id).map(|node| &**node) {
            Some(Node::File(File { identity, .. }) | Node::Link(Link { identity, .. })) => *identity,
            _ => return false,
        };
        self.seen.iter().any(|(at, seen)| {
            let (Seen::Directory { device, inode } | Seen::Other { device, inode, .. }) = seen;
            at != path && own == Identity { device: *device, inode: *inode }
        })
    }

    /// What the overlay has at `name` in the directory that shows `within`: the node of that directory, and what is there.
    fn entry_over(&self, within: &str, name: &str) -> Option<(Id, Option<Id>)> {
        let over = |node: &Node| matches!(node, Node::Directory(at) if at.base.as_deref() == Some(within));
        let (parent, _) = self.nodes.iter().find(|(_, node)| over(node))?;
        Some((*parent, *self.directory(*parent)?.entries.get(name)?))
    }
}
