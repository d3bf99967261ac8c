//! Settling conflicts: which side holds where the directory was changed meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::Overlay;
use super::inner::{Inner, Shared, now};
use super::layers::failed;
use super::lower::Seen;
use super::plan::Conflict;
use super::state::{Data, Directory, File, Id, Identity, Link, Node, Op, State, join};
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
    /// [`ErrorKind::Conflict`] where it cannot be settled so by itself: the directory cannot hold against a move of the overlay, nor the
    /// overlay where contents that it has moved are gone. Some may be settled then.
    pub fn settle(&self, path: &str, side: Side) -> Result<usize> {
        Ok(self.settle_each(&[(path, side)])?.into_iter().sum())
    }

    /// As [`settle`](Overlay::settle), for several paths in one step: at each conflict, that side holds whose path is the
    /// longest that it is at or below; conflicts at none are left. Gives how many there were at or below each path.
    /// [`Checkpoint::apply`](super::Checkpoint::apply) settles and applies in one step.
    ///
    /// # Errors
    ///
    /// As [`settle`](Overlay::settle).
    pub fn settle_each(&self, sides: &[(&str, Side)]) -> Result<Vec<usize>> {
        let cannot = |error| failed("settle a conflict of the overlay", error);
        let mut inner = self.0.lock();
        let mut index = Index::of(&inner.state);
        let mut settled = vec![0; sides.len()];
        let mut before: Vec<(Conflict, Side)> = Vec::new();
        for _ in 0..ROUNDS {
            let mut conflicts = Vec::new();
            for conflict in self.0.plan(&inner)?.conflicts {
                conflicts.extend(side_at(&conflict.path, sides).map(|side| (conflict, side)));
            }
            let Some((first, _)) = conflicts.first() else { return Ok(settled) };
            if conflicts == before {
                return Err(unsettled(&first.path, "what it is part of is gone, moved or in the way"));
            }
            for (Conflict { path, .. }, side) in &conflicts {
                let done = match side {
                    Side::Overlay => self.0.accept(&mut inner, &mut index, path, sides),
                    Side::Directory => self.0.let_be(&mut inner, &index, path, sides),
                };
                if let Some(why) = done.map_err(cannot)? {
                    return Err(unsettled(path, why));
                }
                for (count, (top, _)) in settled.iter_mut().zip(sides) {
                    *count += usize::from(is_within(path, top));
                }
            }
            before = conflicts;
        }
        Err(unsettled("", "the directory is changed all the time"))
    }
}

/// What holds at a path.
fn side_at(path: &str, sides: &[(&str, Side)]) -> Option<Side> {
    let over = sides.iter().filter(|(top, _)| is_within(path, top));
    over.max_by_key(|(top, _)| top.len()).map(|(_, side)| *side)
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

/// What would otherwise be looked for in the whole state at each conflict. What was once in the state may be gone from it.
struct Index {
    /// What shows the object at a path below.
    shown: HashMap<String, Vec<Id>>,
    /// Where an object below was seen.
    seen: HashMap<Identity, Vec<String>>,
}

impl Index {
    fn of(state: &State) -> Self {
        let mut index = Index { shown: HashMap::new(), seen: HashMap::new() };
        for id in state.nodes.keys() {
            if let Some(base) = state.base(*id) {
                index.shown.entry(base.to_owned()).or_default().push(*id);
            }
        }
        for (path, seen) in &state.seen {
            index.see(path, seen);
        }
        index
    }

    fn see(&mut self, path: &str, seen: &Seen) {
        self.seen.entry(whose(seen)).or_default().push(path.to_owned());
    }

    /// What shows the object at a path below now.
    fn showing<'a>(&'a self, state: &'a State, path: &'a str) -> impl Iterator<Item = Id> + 'a {
        let ids = self.shown.get(path).into_iter().flatten().copied();
        ids.filter(move |id| state.base(*id) == Some(path))
    }

    /// Whether a node is what was below, but not at a path or in it.
    fn came_from_elsewhere(&self, state: &State, id: Id, path: &str) -> bool {
        let own = match state.nodes.get(&id).map(|node| &**node) {
            Some(Node::Directory(Directory { base, .. })) => {
                return base.as_ref().is_some_and(|base| !is_within(base, path));
            }
            Some(Node::File(File { identity, .. }) | Node::Link(Link { identity, .. })) => *identity,
            None => return false,
        };
        let is_there = |at: &String| state.seen.get(at).is_some_and(|seen| whose(seen) == own);
        let elsewhere = self.seen.get(&own).into_iter().flatten().filter(|at| !is_within(at, path));
        elsewhere.into_iter().any(|at| is_there(at) && !self.has_stayed(state, at, own))
    }

    /// Whether the overlay still has at a path what was there: it is another name of the same.
    fn has_stayed(&self, state: &State, path: &str, own: Identity) -> bool {
        let (within, name) = path.rsplit_once('/').unwrap_or(("", path));
        let entries = self.showing(state, within).filter_map(|id| state.directory(id)?.entries.get(name));
        entries.flatten().any(|id| match state.nodes.get(id).map(|node| &**node) {
            Some(Node::File(File { identity, .. }) | Node::Link(Link { identity, .. })) => *identity == own,
            _ => false,
        })
    }
}

fn whose(seen: &Seen) -> Identity {
    let (Seen::Directory { device, inode } | Seen::Other { device, inode, .. }) = seen;
    Identity { device: *device, inode: *inode }
}

impl Shared {
    /// Takes what is at a path below now for what the overlay has changed; says why, if that leaves something missing.
    fn accept(
        &self,
        inner: &mut Inner,
        index: &mut Index,
        path: &str,
        sides: &[(&str, Side)],
    ) -> io::Result<Option<&'static str>> {
        let found = self.lower.stat(path)?;
        let mut ops = Vec::new();
        // Of a directory that the overlay has no more, all that is in it: otherwise each level would be another round.
        let mut left = Vec::new();
        if found.as_ref().is_some_and(|found| found.is_dir())
            && index.showing(&inner.state, path).next().is_none()
        {
            left.push(path.to_owned());
        }
        while let Some(within) = left.pop() {
            for entry in self.lower.list(&within)? {
                let inside = join(&within, &entry?.file_name().to_string_lossy());
                let is_moved = index.showing(&inner.state, &inside).next().is_some();
                if is_moved || side_at(&inside, sides) != Some(Side::Overlay) {
                    continue;
                }
                let Some(found) = self.lower.stat(&inside)? else { continue };
                let seen = self.lower.look(&inside, &found)?;
                index.see(&inside, &seen);
                ops.push(Op::Seen(inside.clone(), seen));
                if found.is_dir() {
                    left.push(inside);
                }
            }
        }
        if !found.as_ref().is_some_and(|found| found.is_dir()) {
            for id in index.showing(&inner.state, path) {
                let is_directory = inner.state.directory(id).is_some();
                let has_moved = || inner.state.position(id).is_none_or(|names| names.join("/") != path);
                if is_directory && (has_moved() || !stand_alone(&inner.state, path, id, &mut ops)) {
                    return Ok(Some("the overlay has moved what is gone with the directory"));
                }
            }
            ops.extend(seen_within(&inner.state, path).cloned().map(Op::Unseen));
        }
        ops.push(match found {
            Some(found) => {
                let seen = self.lower.look(path, &found)?;
                index.see(path, &seen);
                Op::Seen(path.to_owned(), seen)
            }
            None => Op::Unseen(path.to_owned()),
        });
        inner.change(ops)?;
        Ok(None)
    }

    /// Drops the overlay's change at a path; says why, if that cannot be done by itself.
    fn let_be(
        &self,
        inner: &mut Inner,
        index: &Index,
        conflict: &str,
        sides: &[(&str, Side)],
    ) -> io::Result<Option<&'static str>> {
        let state = &inner.state;
        // What lies in something that the overlay has removed or replaced stays with all of that.
        let mut path = conflict;
        let (within, name) = loop {
            let (within, name) = path.rsplit_once('/').unwrap_or(("", path));
            if within.is_empty() || index.showing(state, within).next().is_some() {
                break (within, name);
            }
            path = within;
        };
        if path != conflict && side_at(path, sides) != Some(Side::Directory) {
            return Ok(Some("the overlay has removed or replaced the directory around it; settle that"));
        }
        let parent = index.showing(state, within).find_map(|id| Some((id, state.directory(id)?)));
        let entry = parent.and_then(|(parent, directory)| Some((parent, *directory.entries.get(name)?)));
        let Some((parent, child)) = entry else {
            return Ok(Some("the overlay changes what is around it"));
        };
        // All that goes with it, and how many names of each.
        let mut names: BTreeMap<Id, u32> = BTreeMap::new();
        let mut left: Vec<Id> = child.into_iter().collect();
        while let Some(id) = left.pop() {
            if index.came_from_elsewhere(state, id, path) {
                return Ok(Some("the overlay has moved something there, which would be lost"));
            }
            *names.entry(id).or_default() += 1;
            left.extend(state.directory(id).into_iter().flat_map(|it| it.entries.values().flatten()));
        }
        let has_other_names = |(id, names): (&Id, &u32)| {
            state.file(*id).is_some_and(|file| matches!(file.data, Data::Lower(_)) && file.links > *names)
        };
        if names.iter().any(has_other_names) {
            return Ok(Some("the overlay has another name of it, which would be left without"));
        }
        if seen_within(state, path).any(|at| index.showing(state, at).any(|id| !names.contains_key(&id))) {
            return Ok(Some("the overlay has moved it, or something in it"));
        }
        let mut ops = vec![Op::Forget(parent, name.to_owned())];
        ops.extend(seen_within(state, path).cloned().map(Op::Unseen));
        let data: Vec<_> =
            names.keys().map(|id| (*id, state.file(*id).map(|file| file.data.clone()))).collect();
        ops.extend(names.into_iter().map(|(id, names)| state.unlink(id, names)));
        inner.change(ops)?;
        data.into_iter().for_each(|(id, data)| self.release(inner, id, data));
        Ok(None)
    }
}

/// The steps after which directories of the overlay show nothing of a directory below that is gone: `id`, which shows
/// what was at `path` or in it, and those in it. Says whether all that is in them is there without it.
fn stand_alone(state: &State, path: &str, id: Id, ops: &mut Vec<Op>) -> bool {
    let mut left = vec![id];
    while let Some(id) = left.pop() {
        let Some(Directory { parent, identity, accessed, modified, writable, entries, .. }) =
            state.directory(id)
        else {
            continue;
        };
        ops.push(Op::Put(
            id,
            Node::Directory(Directory {
                base: None,
                parent: *parent,
                identity: *identity,
                accessed: accessed.or(Some(now())),
                modified: modified.or(Some(now())),
                writable: *writable,
                entries: BTreeMap::new(),
            }),
        ));
        for (name, child) in entries {
            let Some(child) = child else {
                ops.push(Op::Forget(id, name.clone()));
                continue;
            };
            let is_gone = state.base(*child).map(|base| is_within(base, path));
            match (state.directory(*child), is_gone) {
                (Some(_), None | Some(true)) => left.push(*child),
                (None, Some(true)) => return false,
                _ => {}
            }
        }
    }
    true
}

/// Where something was seen at a path below or in what is there.
fn seen_within<'a>(state: &'a State, path: &'a str) -> impl Iterator<Item = &'a String> {
    let inside = format!("{path}/");
    let below = state.seen.range(inside.clone()..).map(|(seen, _)| seen);
    let own = state.seen.get_key_value(path).map(|(seen, _)| seen);
    own.into_iter().chain(below.take_while(move |seen| seen.starts_with(&inside)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::state::{ROOT, Time};
    use super::*;

    /// Each must not be looked for in all of the others.
    #[test]
    fn many_conflicts_are_settled_while_one_waits() {
        const MANY: u64 = 30_000;
        let place = tempfile::tempdir().unwrap();
        let overlay = Overlay::over(place.path()).unwrap();
        let mut inner = overlay.0.lock();
        let mut ops = Vec::new();
        for id in 1..=MANY {
            let (path, target) = (format!("new{id}"), "ours".to_owned());
            std::fs::write(place.path().join(&path), "").unwrap();
            let (identity, time) = (inner.new_identity(id), Time(0, 0));
            let link = Link { target, links: 1, identity, accessed: time, modified: time };
            ops.extend([Op::Put(id, Node::Link(link)), Op::Entry(ROOT, path, Some(id))]);
        }
        inner.change(ops).unwrap();
        drop(inner);
        let begun = Instant::now();
        assert_eq!(overlay.settle("", Side::Directory).unwrap() as u64, MANY);
        // Minutes where each is looked for in all of the others.
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(overlay.diff().unwrap().changes.is_empty());
    }
}
