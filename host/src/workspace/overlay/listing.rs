//! What is in a directory, of all layers, without duplicates.

use std::io;
use std::sync::Arc;

use cap_std::fs::ReadDir;

use super::super::bindings::wasi::filesystem::types::{DescriptorType, DirectoryEntry};
use super::super::descriptor::kind;
use super::inner::{Inner, Shared};
use super::lower::STAGE;
use super::state::{Data, Node};

/// A directory being listed. The entries of below are never held whole.
pub struct Entries {
    own: std::vec::IntoIter<DirectoryEntry>,
    node: Option<Arc<Node>>,
    below: Option<ReadDir>,
    /// Whether it is the top.
    is_top: bool,
}

impl Entries {
    pub fn new(
        overlay: &Shared,
        inner: &Inner,
        node: Option<Arc<Node>>,
        base: Option<String>,
    ) -> io::Result<Self> {
        let mut own = Vec::new();
        if let Some(Node::Directory(directory)) = node.as_deref() {
            for (name, child) in &directory.entries {
                let Some(node) = child.and_then(|child| inner.state.nodes.get(&child)) else { continue };
                let type_ = match &**node {
                    Node::Directory(_) => DescriptorType::Directory,
                    Node::Link(_) => DescriptorType::SymbolicLink,
                    Node::File(file) => match &file.data {
                        Data::Blob(_) => DescriptorType::RegularFile,
                        Data::Lower(path) => overlay
                            .lower
                            .stat(path)?
                            .map_or(DescriptorType::Unknown, |metadata| kind(metadata.file_type())),
                    },
                };
                own.push(DirectoryEntry { type_, name: name.clone() });
            }
        }
        let is_top = base.as_deref() == Some("");
        let below = base.map(|base| overlay.lower.list(&base)).transpose()?;
        Ok(Entries { own: own.into_iter(), node, below, is_top })
    }

    /// The next entry. Names that are not UTF-8 are left out.
    pub fn next(&mut self) -> io::Result<Option<DirectoryEntry>> {
        if let Some(entry) = self.own.next() {
            return Ok(Some(entry));
        }
        for entry in self.below.iter_mut().flatten() {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_changed = matches!(self.node.as_deref(), Some(Node::Directory(directory)) if directory.entries.contains_key(&name));
            if is_changed || (self.is_top && name == STAGE) {
                continue;
            }
            let type_ = entry.file_type().map_or(DescriptorType::Unknown, kind);
            return Ok(Some(DirectoryEntry { type_, name }));
        }
        Ok(None)
    }
}
