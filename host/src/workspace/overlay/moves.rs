//! Giving objects other names.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::acts::errno;
use super::handles::OpenDirectory;
use super::inner::{Shared, now};
use super::state::{self, Directory, Link, Node, Op};
use super::walk::{Found, Kind, Spot};

impl OpenDirectory {
    /// Moves an object, in place of what is there.
    pub fn rename(&self, old: &str, to: &OpenDirectory, new: &str) -> io::Result<()> {
        let overlay = &self.overlay;
        if !Arc::ptr_eq(overlay, &to.overlay) {
            return errno(Errno::XDEV);
        }
        let mut inner = overlay.lock();
        let source = self.walk_to_name(&inner, old)?;
        let old_name = source.name(Errno::BUSY)?.to_owned();
        let found = source.found.clone().ok_or(Errno::NOENT)?;
        let target = to.walk_to_name(&inner, new)?;
        let new_name = target.name(Errno::BUSY)?.to_owned();
        let is_directory = overlay.kind(&inner, &found)? == Kind::Directory;
        if !is_directory && (source.slash || target.slash) {
            return errno(Errno::NOTDIR);
        }
        let (mut source, mut target) = (source, target);
        let old_parent = overlay.parent(&mut inner, &mut source)?;
        // Each of these may have made nodes that the other goes through.
        target.dirs = to.walk_to_name(&inner, new)?.dirs;
        let new_parent = overlay.parent(&mut inner, &mut target)?;
        let found = overlay.lookup(&inner, &Spot::Node(old_parent), &old_name)?.ok_or(Errno::NOENT)?;
        target.found = overlay.lookup(&inner, &Spot::Node(new_parent), &new_name)?;
        if let Some(there) = &target.found {
            let same = match (&found, there) {
                (Found::Node(one), Found::Node(other)) => one == other,
                (Found::Lower(one, _), Found::Lower(other, _)) => one == other,
                _ => false,
            };
            if same {
                return Ok(());
            }
        }
        let id = overlay.node(&mut inner, old_parent, &old_name, &found)?;
        if is_directory && Shared::is_within(&inner, new_parent, id) {
            return errno(Errno::INVAL);
        }
        let mut gone = None;
        let mut ops = Vec::new();
        if let Some(there) = &target.found {
            match (is_directory, overlay.kind(&inner, there)? == Kind::Directory) {
                (true, false) => return errno(Errno::NOTDIR),
                (false, true) => return errno(Errno::ISDIR),
                (true, true) if !overlay.is_empty(&inner, there)? => return errno(Errno::NOTEMPTY),
                _ => {}
            }
            let there = overlay.node(&mut inner, new_parent, &new_name, there)?;
            let data = inner.state.file(there).map(|file| file.data.clone());
            ops.push(inner.state.unlink(there, 1));
            gone = Some((there, data));
        }
        // What is below the new name is looked at now, for `apply` to compare.
        ops.extend(overlay.detach_ops(&inner, new_parent, &new_name)?);
        ops.extend(overlay.detach_ops(&inner, old_parent, &old_name)?);
        if let Some(Node::Directory(directory)) = inner.state.nodes.get(&id).map(|node| (**node).clone()) {
            ops.push(Op::Put(id, Node::Directory(Directory { parent: new_parent, ..directory })));
        }
        ops.push(Op::Entry(new_parent, new_name, Some(id)));
        ops.extend([Op::Touch(old_parent, now()), Op::Touch(new_parent, now())]);
        inner.change(ops)?;
        if let Some((there, data)) = gone {
            overlay.release(&mut inner, there, data);
        }
        Ok(())
    }

    pub fn hard_link(&self, old: &str, to: &OpenDirectory, new: &str) -> io::Result<()> {
        let overlay = &self.overlay;
        if !Arc::ptr_eq(overlay, &to.overlay) {
            return errno(Errno::XDEV);
        }
        let mut inner = overlay.lock();
        let mut source = self.walk_to_name(&inner, old)?;
        let old_name = source.name(Errno::PERM)?.to_owned();
        let found = source.found.clone().ok_or(Errno::NOENT)?;
        let mut target = to.walk_to_name(&inner, new)?;
        let new_name = target.name(Errno::EXIST)?.to_owned();
        if target.found.is_some() {
            return errno(Errno::EXIST);
        }
        match overlay.kind(&inner, &found)? {
            Kind::Directory => return errno(Errno::PERM),
            _ if source.slash => return errno(Errno::NOTDIR),
            _ if target.slash => return errno(Errno::NOENT),
            _ => {}
        }
        let old_parent = overlay.materialise(&mut inner, &mut source.dirs)?;
        target = to.walk_to_name(&inner, new)?;
        let new_parent = overlay.parent(&mut inner, &mut target)?;
        let id = overlay.node(&mut inner, old_parent, &old_name, &found)?;
        let node = match inner.state.nodes.get(&id).map(|node| (**node).clone()) {
            Some(Node::File(file)) => Node::File(state::File { links: file.links + 1, ..file }),
            Some(Node::Link(link)) => Node::Link(Link { links: link.links + 1, ..link }),
            _ => return errno(Errno::NOENT),
        };
        Shared::put(&mut inner, new_parent, &new_name, id, node)
    }
}
