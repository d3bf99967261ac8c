//! What an overlay says differently from the directory below it: pure data.
//!
//! Only what was changed is in it, and the directories on the way there. Copies share everything until one
//! of them changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lower::Seen;
use super::store::Blob;

/// Names a node. It is never used again for another.
pub type Id = u64;

/// The overlay's top.
pub const ROOT: Id = 0;

/// A time since 1970: seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time(pub u64, pub u32);

/// What a program recognises an object by, before and after it is copied: that of the object below, or one of
/// the overlay's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
}

/// Something that is new, changed, moved, or on the way to that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Node {
    Directory(Directory),
    File(File),
    Link(Link),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Directory {
    /// The directory below that shows through, if any.
    pub base: Option<String>,
    pub parent: Id,
    pub identity: Identity,
    pub accessed: Option<Time>,
    pub modified: Option<Time>,
    /// Whether the host would let us write in it.
    pub writable: bool,
    /// What differs from the base; `None` is gone.
    #[serde(skip)]
    pub entries: BTreeMap<String, Option<Id>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    pub data: Data,
    pub links: u32,
    pub identity: Identity,
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Data {
    /// Below, unchanged, at this path.
    Lower(String),
    /// In the store.
    Blob(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Link {
    pub target: String,
    pub links: u32,
    pub identity: Identity,
    pub accessed: Time,
    pub modified: Time,
}

/// One step of a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Op {
    /// A directory keeps its entries.
    Put(Id, Node),
    Drop(Id),
    Entry(Id, String, Option<Id>),
    /// What is below shows through again.
    Forget(Id, String),
    Touch(Id, Time),
    Seen(String, Seen),
    Unseen(String),
    Label(u64),
}

#[derive(Clone, Default)]
pub struct State {
    pub nodes: HashMap<Id, Arc<Node>>,
    /// The contents that files of `nodes` have.
    pub blobs: HashMap<u64, Arc<Blob>>,
    /// What the directory below looked like where something was changed, when it was.
    pub seen: BTreeMap<String, Seen>,
    /// What the last commit that said something was called.
    pub label: Option<u64>,
}

impl State {
    /// Nothing differs.
    pub fn new(identity: Identity, writable: bool) -> Self {
        let root = Directory {
            base: Some(String::new()),
            parent: ROOT,
            identity,
            accessed: None,
            modified: None,
            writable,
            entries: BTreeMap::new(),
        };
        let mut state = State::default();
        state.nodes.insert(ROOT, Arc::new(Node::Directory(root)));
        state
    }

    pub fn directory(&self, id: Id) -> Option<&Directory> {
        match self.nodes.get(&id).map(|node| &**node) {
            Some(Node::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    pub fn file(&self, id: Id) -> Option<&File> {
        match self.nodes.get(&id).map(|node| &**node) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Does one step. Steps on what is not there do nothing.
    pub fn perform(&mut self, op: Op) {
        match op {
            Op::Put(id, mut node) => {
                if let (Some(before), Node::Directory(new)) = (self.directory_mut(id), &mut node) {
                    new.entries = std::mem::take(&mut before.entries);
                }
                self.nodes.insert(id, Arc::new(node));
            }
            Op::Drop(id) => drop(self.nodes.remove(&id)),
            Op::Entry(id, name, child) => {
                if let Some(directory) = self.directory_mut(id) {
                    directory.entries.insert(name, child);
                }
            }
            Op::Forget(id, name) => {
                if let Some(directory) = self.directory_mut(id) {
                    directory.entries.remove(&name);
                }
            }
            Op::Touch(id, time) => {
                if let Some(directory) = self.directory_mut(id) {
                    directory.modified = Some(time);
                }
            }
            Op::Seen(path, seen) => drop(self.seen.insert(path, seen)),
            Op::Unseen(path) => drop(self.seen.remove(&path)),
            Op::Label(label) => self.label = Some(label),
        }
    }

    /// The step that takes names off a node; without names it is gone. A directory has one.
    pub fn unlink(&self, id: Id, names: u32) -> Op {
        match self.nodes.get(&id).map(|node| (**node).clone()) {
            Some(Node::File(mut file)) if file.links > names => {
                file.links -= names;
                Op::Put(id, Node::File(file))
            }
            Some(Node::Link(mut link)) if link.links > names => {
                link.links -= names;
                Op::Put(id, Node::Link(link))
            }
            _ => Op::Drop(id),
        }
    }

    fn directory_mut(&mut self, id: Id) -> Option<&mut Directory> {
        match Arc::make_mut(self.nodes.get_mut(&id)?) {
            Node::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The steps that make this state of an empty one, each list small.
    pub fn ops(&self) -> impl Iterator<Item = Op> {
        let nodes = self.nodes.iter().map(|(id, node)| Op::Put(*id, (**node).clone()));
        let entries = self.nodes.iter().flat_map(|(id, node)| {
            let entries = match &**node {
                Node::Directory(directory) => Some(&directory.entries),
                _ => None,
            };
            entries.into_iter().flatten().map(|(name, child)| Op::Entry(*id, name.clone(), *child))
        });
        let seen = self.seen.iter().map(|(path, seen)| Op::Seen(path.clone(), seen.clone()));
        nodes.chain(entries).chain(seen).chain(self.label.map(Op::Label))
    }

    /// Where a directory is, as a path from the top; `None` if it is nowhere.
    pub fn position(&self, mut id: Id) -> Option<Vec<String>> {
        let mut names = Vec::new();
        while id != ROOT {
            let parent = self.directory(id)?.parent;
            let (name, _) = self.directory(parent)?.entries.iter().find(|(_, child)| **child == Some(id))?;
            names.push(name.clone());
            id = parent;
        }
        names.reverse();
        Some(names)
    }
}

/// The path of `name` in the directory `path`.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}
