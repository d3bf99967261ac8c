//! Finding what a path means: component by component, through all layers, never above where it began.

use std::io;

use cap_std::fs::Metadata;
use rustix::io::Errno;

use super::handles::Place;
use super::inner::{Inner, Shared};
use super::state::{Id, Node, Op, join};

/// Symbolic links that one path may go through.
const LINKS: u32 = 40;

/// What a name of a directory may have in bytes, on any system.
const NAME_BYTES: usize = 255;

/// A directory.
#[derive(Clone, Debug)]
pub enum Spot {
    Node(Id),
    /// Unchanged below, as all in it.
    Lower(String),
}

#[derive(Clone, Debug)]
pub enum Found {
    Node(Id),
    /// Unchanged below.
    Lower(String, Box<Metadata>),
}

/// What a path leads to.
pub struct Target {
    /// The directories on the way, with the name of each in the one before it.
    pub dirs: Vec<(Spot, String)>,
    /// The last name; `None` if the path ends with the last directory itself.
    pub name: Option<String>,
    pub found: Option<Found>,
    /// Whether the path asks for a directory.
    pub slash: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
    Link,
    /// A pipe, a device, a socket.
    Other,
}

/// Whether a link at the end of a path is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    Yes,
    No,
    /// Not even where a slash behind it asks for a directory.
    Never,
}

impl Shared {
    pub fn kind(&self, inner: &Inner, found: &Found) -> io::Result<Kind> {
        let of = |metadata: &Metadata| match metadata.file_type() {
            ty if ty.is_dir() => Kind::Directory,
            ty if ty.is_file() => Kind::File,
            ty if ty.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Ok(match found {
            Found::Lower(_, metadata) => of(metadata),
            Found::Node(id) => match inner.state.nodes.get(id).map(|node| &**node) {
                Some(Node::Directory(_)) => Kind::Directory,
                Some(Node::Link(_)) => Kind::Link,
                Some(Node::File(file)) => match &file.data {
                    super::state::Data::Blob(_) => Kind::File,
                    super::state::Data::Lower(path) => {
                        self.lower.stat(path)?.map_or(Kind::File, |metadata| of(&metadata))
                    }
                },
                None => return Err(Errno::NOENT.into()),
            },
        })
    }

    /// The path below of `name` in a directory, if something could be there.
    fn path_below(inner: &Inner, spot: &Spot, name: &str) -> Option<String> {
        match spot {
            Spot::Lower(path) => Some(join(path, name)),
            Spot::Node(id) => {
                let directory = inner.state.directory(*id)?;
                let base = directory.base.as_deref().filter(|_| !directory.entries.contains_key(name))?;
                Some(join(base, name))
            }
        }
    }

    pub fn lookup(&self, inner: &Inner, spot: &Spot, name: &str) -> io::Result<Option<Found>> {
        if name.len() > NAME_BYTES {
            return Err(Errno::NAMETOOLONG.into());
        }
        if let Spot::Node(id) = spot {
            let directory = inner.state.directory(*id).ok_or(Errno::NOENT)?;
            if let Some(entry) = directory.entries.get(name) {
                return Ok(entry.map(Found::Node));
            }
        }
        let Some(path) = Self::path_below(inner, spot, name) else { return Ok(None) };
        Ok(self.lower.stat(&path)?.map(|metadata| Found::Lower(path, Box::new(metadata))))
    }

    /// The directories from a node to an open directory.
    fn chain(inner: &Inner, place: &Place) -> io::Result<Vec<(Spot, String)>> {
        let mut at = inner.state.directory(place.anchor).ok_or(Errno::NOENT)?.base.clone();
        let mut dirs = vec![(Spot::Node(place.anchor), String::new())];
        for name in &place.below {
            let path = join(at.as_deref().ok_or(Errno::NOENT)?, name);
            dirs.push((Spot::Lower(path.clone()), name.clone()));
            at = Some(path);
        }
        Ok(dirs)
    }

    pub fn walk(&self, inner: &Inner, place: &Place, path: &str, follow: Follow) -> io::Result<Target> {
        if path.contains('\0') {
            return Err(Errno::INVAL.into());
        }
        let mut dirs = Self::chain(inner, place)?;
        let floor = dirs.len();
        let mut slash = path.ends_with('/');
        let mut links = 0;
        let mut rest: Vec<String> = Vec::new();
        push(&mut rest, path)?;
        while let Some(name) = rest.pop() {
            match name.as_str() {
                "." => continue,
                ".." => {
                    if dirs.len() <= floor {
                        return Err(Errno::PERM.into());
                    }
                    dirs.pop();
                    continue;
                }
                _ => {}
            }
            let (spot, _) = dirs.last().ok_or(Errno::NOENT)?;
            if let Some((below, found)) = self.at_once(inner, spot, &name, &rest) {
                let last = rest.first().cloned().unwrap_or(name);
                dirs.extend(below);
                return Ok(Target { dirs, name: Some(last), found: Some(found), slash });
            }
            let found = self.lookup(inner, spot, &name)?;
            let last = rest.is_empty();
            let Some(found) = found else {
                if last {
                    return Ok(Target { dirs, name: Some(name), found: None, slash });
                }
                return Err(Errno::NOENT.into());
            };
            let follows = match follow {
                Follow::Yes => true,
                Follow::No => slash,
                Follow::Never => false,
            };
            match self.kind(inner, &found)? {
                Kind::Link if !last || follows => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = match &found {
                        Found::Lower(path, _) => self.lower.link(path)?,
                        Found::Node(id) => match inner.state.nodes.get(id).map(|node| &**node) {
                            Some(Node::Link(link)) => link.target.clone(),
                            _ => return Err(Errno::NOENT.into()),
                        },
                    };
                    slash |= last && target.ends_with('/');
                    push(&mut rest, &target)?;
                }
                _ if last => return Ok(Target { dirs, name: Some(name), found: Some(found), slash }),
                Kind::Directory => {
                    let spot = match found {
                        Found::Node(id) => Spot::Node(id),
                        Found::Lower(path, _) => Spot::Lower(path),
                    };
                    dirs.push((spot, name));
                }
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(Target { dirs, name: None, found: None, slash })
    }

    /// All that is left of a path in one step, where nothing in it was changed and nothing is a link.
    #[allow(clippy::type_complexity)]
    fn at_once(
        &self,
        inner: &Inner,
        spot: &Spot,
        name: &str,
        rest: &[String],
    ) -> Option<(Vec<(Spot, String)>, Found)> {
        if rest.iter().any(|part| matches!(part.as_str(), "." | "..")) {
            return None;
        }
        let mut path = Self::path_below(inner, spot, name)?;
        let mut below = Vec::with_capacity(rest.len());
        let mut at = name;
        for next in rest.iter().rev() {
            below.push((Spot::Lower(path.clone()), at.to_owned()));
            path = join(&path, next);
            at = next;
        }
        let metadata = self.lower.stat_at_once(&path).filter(|metadata| !metadata.is_symlink())?;
        Some((below, Found::Lower(path, Box::new(metadata))))
    }

    /// Makes nodes of all directories on the way, and gives the last.
    pub fn materialise(&self, inner: &mut Inner, dirs: &mut [(Spot, String)]) -> io::Result<Id> {
        let mut parent = None;
        for (spot, name) in dirs {
            let id = match (&*spot, parent) {
                (Spot::Node(id), _) => *id,
                (Spot::Lower(path), Some(parent)) => {
                    let found = self.lower.stat(path)?.filter(Metadata::is_dir).ok_or(Errno::NOENT)?;
                    self.promote(inner, parent, name, path, &found)?
                }
                (Spot::Lower(_), None) => return Err(Errno::NOENT.into()),
            };
            *spot = Spot::Node(id);
            parent = Some(id);
        }
        parent.ok_or_else(|| Errno::NOENT.into())
    }

    /// The node of what was found.
    pub fn node(&self, inner: &mut Inner, parent: Id, name: &str, found: &Found) -> io::Result<Id> {
        match found {
            Found::Node(id) => Ok(*id),
            Found::Lower(path, metadata) => self.promote(inner, parent, name, path, metadata),
        }
    }

    /// Whether a directory has nothing in it.
    pub fn is_empty(&self, inner: &Inner, found: &Found) -> io::Result<bool> {
        let (base, entries) = match found {
            Found::Lower(path, _) => (Some(path), None),
            Found::Node(id) => {
                let directory = inner.state.directory(*id).ok_or(Errno::NOENT)?;
                (directory.base.as_ref(), Some(&directory.entries))
            }
        };
        if entries.is_some_and(|entries| entries.values().any(Option::is_some)) {
            return Ok(false);
        }
        let Some(base) = base else { return Ok(true) };
        for entry in self.lower.list(base)? {
            let name = entry?.file_name();
            let is_gone = name.to_str().is_some_and(|name| {
                entries.is_some_and(|entries| entries.contains_key(name))
                    || join(base, name) == super::lower::STAGE
            });
            if !is_gone {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the directory `id` is `of` or in it.
    pub fn is_within(inner: &Inner, mut id: Id, of: Id) -> bool {
        loop {
            if id == of {
                return true;
            }
            match inner.state.directory(id) {
                Some(directory) if id != super::state::ROOT => id = directory.parent,
                _ => return false,
            }
        }
    }

    pub fn put(inner: &mut Inner, parent: Id, name: &str, id: Id, node: Node) -> io::Result<()> {
        inner.change(vec![
            Op::Put(id, node),
            Op::Entry(parent, name.to_owned(), Some(id)),
            Op::Touch(parent, super::inner::now()),
        ])
    }
}

/// Puts the parts of a path before what is left of one.
fn push(rest: &mut Vec<String>, path: &str) -> io::Result<()> {
    if path.starts_with('/') {
        // Out of the directory, wherever it leads.
        return Err(Errno::PERM.into());
    }
    rest.extend(path.split('/').filter(|part| !part.is_empty()).rev().map(str::to_owned));
    Ok(())
}
