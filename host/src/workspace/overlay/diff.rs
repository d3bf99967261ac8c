//! What an overlay changes, for people and programs to look at.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::fs::Metadata;
use serde::Serialize;

use super::Overlay;
use super::inner::Shared;
use super::layers::failed;
use super::plan::PATH_BYTES;
use super::state::{Data, Node, ROOT, State, join};
use crate::Result;

/// Bytes of a file, before and after, that its differences are shown up to.
const TEXT_BYTES: u64 = 1 << 20;

/// Bytes of all differences that are shown.
const ALL_TEXT_BYTES: usize = 16 << 20;

/// What looking for the smallest difference of one file may take.
const TEXT_TIME: Duration = Duration::from_millis(200);

/// The same of all files; then it is told that they differ, and not how.
const ALL_TEXT_TIME: Duration = Duration::from_secs(2);

/// All that an overlay changes, ordered by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// One for each object that differs.
    pub changes: Vec<Change>,
}

/// An object that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where, below the top, with `/` between names.
    pub path: String,
    /// What became of it.
    pub kind: ChangeKind,
    /// What there was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Object>,
    /// What there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Object>,
    /// Where what was moved lay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The lines that differ, as a unified diff, of files of UTF-8 text of up to 1 MiB, while those of all changes have
    /// no more than 16 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether it is a file with something else than text.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_binary: bool,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// Its content differs, or where it leads.
    Changed,
    /// It is gone.
    Deleted,
    /// It lay elsewhere, with all in it that is not told by itself.
    Moved,
    /// It is of another kind.
    TypeChanged,
}

/// One side of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Bytes of a file or of the path that a link leads to, otherwise 0.
    pub size: u64,
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ObjectKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a device or a socket.
    Other,
}

impl Object {
    fn of(metadata: &Metadata) -> Self {
        let (kind, size) = match metadata.file_type() {
            ty if ty.is_file() => (ObjectKind::File, metadata.len()),
            ty if ty.is_dir() => (ObjectKind::Directory, 0),
            ty if ty.is_symlink() => (ObjectKind::Link, metadata.len()),
            _ => (ObjectKind::Other, 0),
        };
        Object { kind, size }
    }
}

/// What stands at a path now.
#[derive(Clone)]
enum View {
    Node(u64),
    /// Unchanged, of that path below.
    Lower(String),
}

/// A path, what to compare it with below, and what is there now.
struct Pair(String, Option<String>, Option<View>);

struct Looking<'a> {
    overlay: &'a Shared,
    state: Arc<State>,
    /// What is shown elsewhere.
    moved: HashSet<String>,
    pairs: Vec<Pair>,
    changes: Vec<Change>,
    text_left: usize,
    text_time_left: Duration,
}

impl Overlay {
    /// What the overlay changes. A session may run meanwhile.
    ///
    /// # Errors
    ///
    /// When something cannot be read.
    pub fn diff(&self) -> Result<Diff> {
        let state = Arc::clone(&self.0.lock().state);
        let mut looking = Looking {
            overlay: &self.0,
            moved: moved(&state),
            state,
            pairs: vec![Pair(String::new(), Some(String::new()), Some(View::Node(ROOT)))],
            changes: Vec::new(),
            text_left: ALL_TEXT_BYTES,
            text_time_left: ALL_TEXT_TIME,
        };
        while let Some(pair) = looking.pairs.pop() {
            looking.compare(pair).map_err(|error| failed("compare the overlay with its directory", error))?;
        }
        let mut changes = looking.changes;
        changes.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
        Ok(Diff { changes })
    }
}

/// The paths below of all that stands elsewhere in a state, and no longer there: what does has another link.
fn moved(state: &State) -> HashSet<String> {
    let (mut moved, mut linked) = (HashSet::new(), HashSet::new());
    for node in state.nodes.values() {
        let Node::Directory(directory) = &**node else { continue };
        for (name, child) in &directory.entries {
            let Some(child) = child else { continue };
            let Some(base) = state.base(*child) else { continue };
            match directory.base.as_ref().is_some_and(|at| join(at, name) == base) {
                true => linked.insert(base),
                false => moved.insert(base),
            };
        }
    }
    moved.difference(&linked).map(|base| (*base).to_owned()).collect()
}

impl State {
    /// The path below whose object a node shows.
    pub fn base(&self, id: u64) -> Option<&str> {
        match self.nodes.get(&id).map(|node| &**node)? {
            Node::Directory(directory) => directory.base.as_deref(),
            Node::File(file) => match &file.data {
                Data::Lower(path) => Some(path),
                Data::Blob(_) => None,
            },
            Node::Link(_) => None,
        }
    }
}

impl Looking<'_> {
    fn object(&self, view: &View) -> io::Result<Option<Object>> {
        let path = match view {
            View::Lower(path) => path,
            View::Node(id) => match self.state.nodes.get(id).map(|node| &**node) {
                None => return Ok(None),
                Some(Node::Directory(_)) => {
                    return Ok(Some(Object { kind: ObjectKind::Directory, size: 0 }));
                }
                Some(Node::Link(link)) => {
                    let size = link.target.len() as u64;
                    return Ok(Some(Object { kind: ObjectKind::Link, size }));
                }
                Some(Node::File(file)) => match &file.data {
                    Data::Lower(path) => path,
                    Data::Blob(number) => {
                        let blob = self.state.blobs.get(number);
                        let size =
                            blob.map(|blob| blob.metadata()).transpose()?.map_or(0, |found| found.len());
                        return Ok(Some(Object { kind: ObjectKind::File, size }));
                    }
                },
            },
        };
        Ok(self.overlay.lower.stat(path)?.map(|found| Object::of(&found)))
    }

    fn compare(&mut self, Pair(path, below, view): Pair) -> io::Result<()> {
        let before = match &below {
            Some(below) => self.overlay.lower.stat(below)?.map(|found| Object::of(&found)),
            None => None,
        };
        let after = view.as_ref().map(|view| self.object(view)).transpose()?.flatten();
        let is_directory = |object: Option<Object>| object.is_some_and(|of| of.kind == ObjectKind::Directory);
        let base = match &view {
            Some(View::Node(id)) => self.state.base(*id).map(str::to_owned),
            Some(View::Lower(path)) => Some(path.clone()),
            None => None,
        };
        let change = |kind, from: Option<String>| {
            let path = path.clone();
            Change { path, kind, before, after, from, text: None, is_binary: false }
        };
        match (before, after) {
            (None, None) => return Ok(()),
            (Some(_), None) => {
                if below.as_ref().is_some_and(|below| self.moved.contains(below)) {
                    return Ok(());
                }
                self.changes.push(change(ChangeKind::Deleted, None));
                self.text(&below, &None)?;
            }
            (None, Some(_)) => {
                if let (Some(base), Some(View::Node(_))) = (&base, &view)
                    && self.moved.contains(base)
                {
                    self.changes.push(change(ChangeKind::Moved, Some(base.clone())));
                    return self.entries(&path, Some(base), &view);
                }
                self.changes.push(change(ChangeKind::Added, None));
                self.text(&None, &view)?;
            }
            (Some(one), Some(other)) if one.kind != other.kind => {
                self.changes.push(change(ChangeKind::TypeChanged, None))
            }
            (Some(one), Some(_)) => {
                if base.is_some() && base == below {
                    return self.entries(&path, base.as_ref(), &view);
                }
                let differs = match one.kind {
                    ObjectKind::Directory => false,
                    ObjectKind::File => !self.same_content(&below, &view)?,
                    ObjectKind::Link => self.link(&below, &None)? != self.link(&None, &view)?,
                    ObjectKind::Other => true,
                };
                if differs {
                    self.changes.push(change(ChangeKind::Changed, None));
                    self.text(&below, &view)?;
                }
            }
        }
        if path.len() > PATH_BYTES {
            // What cannot be applied is not followed: such paths together may be longer than any memory.
            return Ok(());
        }
        let mut names: BTreeMap<String, (Option<String>, Option<View>)> = BTreeMap::new();
        if is_directory(before)
            && let Some(below) = &below
        {
            for name in self.listed(below)? {
                let there = join(below, &name);
                names.entry(name).or_default().0 = Some(there);
            }
        }
        if is_directory(after)
            && let Some(view) = &view
        {
            for (name, view) in self.children(view)? {
                names.entry(name).or_default().1 = Some(view);
            }
        }
        for (name, (below, view)) in names {
            self.pairs.push(Pair(join(&path, &name), below, view));
        }
        Ok(())
    }

    /// Only what a directory changes of the one that it shows.
    fn entries(&mut self, path: &str, base: Option<&String>, view: &Option<View>) -> io::Result<()> {
        let Some(View::Node(id)) = view else { return Ok(()) };
        let Some(directory) = self.state.directory(*id) else { return Ok(()) };
        if path.len() > PATH_BYTES {
            return Ok(());
        }
        for (name, child) in &directory.entries {
            let below = base.map(|base| join(base, name));
            self.pairs.push(Pair(join(path, name), below, child.map(View::Node)));
        }
        Ok(())
    }

    fn listed(&self, path: &str) -> io::Result<Vec<String>> {
        let lower = &self.overlay.lower;
        let listing = match lower.list(path) {
            // Somebody else has removed it, or put something else there.
            Err(_) if !lower.stat(path)?.is_some_and(|found| found.is_dir()) => return Ok(Vec::new()),
            listing => listing?,
        };
        let mut names = Vec::new();
        for entry in listing {
            // What is not UTF-8 no program could have changed.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn children(&self, view: &View) -> io::Result<BTreeMap<String, View>> {
        let (base, node) = match view {
            View::Lower(path) => (Some(path), None),
            View::Node(id) => {
                let directory = self.state.directory(*id);
                (directory.and_then(|directory| directory.base.as_ref()), directory)
            }
        };
        let mut children = BTreeMap::new();
        if let Some(base) = base {
            for name in self.listed(base)? {
                let below = join(base, &name);
                children.insert(name, View::Lower(below));
            }
        }
        for (name, child) in node.iter().flat_map(|directory| &directory.entries) {
            match child {
                Some(child) => children.insert(name.clone(), View::Node(*child)),
                None => children.remove(name),
            };
        }
        Ok(children)
    }

    fn open(&self, below: &Option<String>, view: &Option<View>) -> io::Result<Option<cap_std::fs::File>> {
        if let Some(below) = below {
            return self.overlay.lower.read(below).map(Some);
        }
        match view {
            Some(View::Lower(path)) => self.overlay.lower.read(path).map(Some),
            Some(View::Node(id)) => match self.state.file(*id).map(|file| &file.data) {
                Some(Data::Lower(path)) => self.overlay.lower.read(path).map(Some),
                Some(Data::Blob(number)) => self.state.blobs.get(number).map(|blob| blob.open()).transpose(),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }

    fn link(&self, below: &Option<String>, view: &Option<View>) -> io::Result<Option<String>> {
        let path = match (below, view) {
            (Some(path), _) | (None, Some(View::Lower(path))) => path,
            (None, Some(View::Node(id))) => {
                return Ok(match self.state.nodes.get(id).map(|node| &**node) {
                    Some(Node::Link(link)) => Some(link.target.clone()),
                    _ => None,
                });
            }
            (None, None) => return Ok(None),
        };
        self.overlay.lower.link(path).map(Some)
    }

    fn same_content(&self, below: &Option<String>, view: &Option<View>) -> io::Result<bool> {
        let (Some(mut one), Some(mut other)) = (self.open(below, &None)?, self.open(&None, view)?) else {
            return Ok(false);
        };
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            let read = one.read(&mut left)?;
            if read == 0 {
                return Ok(other.read(&mut right[..1])? == 0);
            }
            match other.read_exact(&mut right[..read]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
            if left[..read] != right[..read] {
                return Ok(false);
            }
        }
    }

    /// Adds what differs in the text to the last change.
    fn text(&mut self, below: &Option<String>, view: &Option<View>) -> io::Result<()> {
        let Some(change) = self.changes.last() else { return Ok(()) };
        let is_file = |object: &Option<Object>| object.is_none_or(|of| of.kind == ObjectKind::File);
        if !is_file(&change.before) || !is_file(&change.after) {
            return Ok(());
        }
        let sizes = [change.before, change.after].map(|object| object.map_or(0, |of| of.size));
        let read = |file: Option<cap_std::fs::File>, limit: u64| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            if let Some(file) = file {
                file.take(limit).read_to_end(&mut bytes)?;
            }
            Ok(bytes)
        };
        let is_over = self.text_left == 0 || self.text_time_left.is_zero();
        let is_long = sizes.iter().any(|size| *size > TEXT_BYTES) || is_over;
        // Enough to tell text from other things.
        let limit = if is_long { 8192 } else { TEXT_BYTES };
        let one = if change.before.is_some() { read(self.open(below, &None)?, limit)? } else { Vec::new() };
        let other = if change.after.is_some() { read(self.open(&None, view)?, limit)? } else { Vec::new() };
        let path = change.path.clone();
        let is_text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => !text.contains('\0'),
            // Cut within a character.
            Err(error) => is_long && error.error_len().is_none() && !bytes.contains(&0),
        };
        let last = self.changes.last_mut();
        let Some(change) = last else { return Ok(()) };
        if !is_text(&one) || !is_text(&other) {
            change.is_binary = true;
            return Ok(());
        }
        if is_long {
            return Ok(());
        }
        let (one, other) = (String::from_utf8_lossy(&one), String::from_utf8_lossy(&other));
        // A name must not look like further lines.
        let shown = |side: &str| match path.contains(char::is_control) {
            true => format!("{:?}", format!("{side}/{path}")),
            false => format!("{side}/{path}"),
        };
        let from = if change.before.is_some() { shown("a") } else { "/dev/null".into() };
        let to = if change.after.is_some() { shown("b") } else { "/dev/null".into() };
        let begun = Instant::now();
        let timeout = TEXT_TIME.min(self.text_time_left);
        let lines = similar::TextDiff::configure().timeout(timeout).diff_lines(&*one, &*other);
        let text = lines.unified_diff().context_radius(3).header(&from, &to).to_string();
        self.text_time_left = self.text_time_left.saturating_sub(begun.elapsed());
        match self.text_left.checked_sub(text.len()) {
            Some(left) => (self.text_left, change.text) = (left, Some(text)),
            None => self.text_left = 0,
        }
        Ok(())
    }
}
