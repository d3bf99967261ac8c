//! What `apply` has to do: what it takes out of the directory, what it puts in, and what must not have changed.

use std::collections::{BTreeMap, HashMap};
use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::inner::Shared;
use super::lower::{STAGE, Seen};
use super::state::{Data, File, Id, Link, Node, ROOT, State, join};

/// A path that is longer cannot be named at once.
pub(super) const PATH_BYTES: usize = 4000;

/// One step of an `apply`, done or undone as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Takes an object out of the directory.
    Out {
        path: String,
        to: String,
        /// Whether it is about to be replaced, so that its name need not be empty in between.
        replaced: bool,
    },
    /// Puts one in.
    In { from: String, path: String },
}

/// Something new, which is made in the stage first.
pub enum Make {
    Directory,
    File(File),
    Link(Link),
    /// Another name of what was made before.
    Same(String),
}

/// A path at which the directory is not as it was when the overlay changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// Where, below the top.
    pub path: String,
    /// What happened there.
    pub kind: ConflictKind,
}

/// What happened to an object meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ConflictKind {
    /// It was changed or replaced.
    Changed,
    /// It was removed.
    Removed,
    /// It was made where there was nothing.
    Made,
}

#[derive(Default)]
pub struct Plan {
    /// With paths in the stage, parents first.
    pub make: Vec<(String, Make)>,
    pub steps: Vec<Step>,
    pub conflicts: Vec<Conflict>,
}

/// A directory of the overlay being gone through.
struct Visit {
    id: Id,
    /// Where it is now.
    path: String,
    /// Where it is made, if it is new.
    stage: Option<String>,
}

struct Planner<'a> {
    overlay: &'a Shared,
    state: &'a State,
    plan: Plan,
    number: u64,
    /// What is taken out, by path, and whether something else takes its place at once.
    outs: BTreeMap<String, bool>,
    /// What is taken out to be put in elsewhere, and where it is in between.
    moved: HashMap<String, String>,
    /// Where a file with several names was made first.
    made: HashMap<Id, String>,
}

impl Plan {
    pub fn new(overlay: &Shared, state: &State) -> io::Result<Self> {
        let mut planner = Planner {
            overlay,
            state,
            plan: Plan::default(),
            number: 0,
            outs: BTreeMap::new(),
            moved: HashMap::new(),
            made: HashMap::new(),
        };
        let mut ins = Vec::new();
        let mut visits = vec![Visit { id: ROOT, path: String::new(), stage: None }];
        while let Some(visit) = visits.pop() {
            planner.visit(visit, &mut visits, &mut ins)?;
        }
        planner.check_removed()?;
        let Planner { mut plan, outs, moved, mut number, .. } = planner;
        let mut outs: Vec<_> = outs.into_iter().collect();
        // What lies in something that is taken out too comes first.
        outs.sort_by_key(|(path, _)| std::cmp::Reverse(path.matches('/').count()));
        for (path, replaced) in outs {
            let to = moved.get(&path).cloned().unwrap_or_else(|| {
                number += 1;
                format!("o{number}")
            });
            plan.steps.push(Step::Out { path, to, replaced });
        }
        // A directory before what is in it.
        ins.sort_by_key(|(_, path): &(String, String)| path.matches('/').count());
        plan.steps.extend(ins.into_iter().map(|(from, path)| Step::In { from, path }));
        plan.conflicts.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
        plan.conflicts.dedup();
        Ok(plan)
    }
}

impl Planner<'_> {
    fn conflict(&mut self, path: &str, kind: ConflictKind) {
        self.plan.conflicts.push(Conflict { path: path.to_owned(), kind });
    }

    fn next(&mut self, letter: char) -> String {
        self.number += 1;
        format!("{letter}{}", self.number)
    }

    fn visit(
        &mut self,
        visit: Visit,
        visits: &mut Vec<Visit>,
        ins: &mut Vec<(String, String)>,
    ) -> io::Result<()> {
        let state = self.state;
        let Some(directory) = state.directory(visit.id) else { return Ok(()) };
        if let Some(base) = &directory.base
            && !self.overlay.lower.stat(base)?.is_some_and(|found| found.is_dir())
        {
            self.conflict(base, ConflictKind::Removed);
            return Ok(());
        }
        for (name, child) in &directory.entries {
            let path = join(&visit.path, name);
            if path.len() > PATH_BYTES {
                return Err(Errno::NAMETOOLONG.into());
            }
            if path == STAGE {
                return Err(Errno::EXIST.into());
            }
            let below = directory.base.as_ref().map(|base| join(base, name));
            let base = child.and_then(|child| state.base(child));
            let is_here = base.is_some() && base == below.as_deref();
            if let (Some(below), false) = (&below, is_here) {
                let takes_its_place = child.is_some_and(|child| state.directory(child).is_none());
                let replaced = takes_its_place && *below == path;
                self.out(below, replaced)?;
            }
            let Some(child) = *child else { continue };
            let Some(node) = state.nodes.get(&child) else { continue };
            let one_name = !matches!(&**node, Node::File(File { links, .. }) | Node::Link(Link { links, .. }) if *links > 1);
            let is_directory = matches!(&**node, Node::Directory(_));
            let mut stage = None;
            match base {
                Some(_) if is_here => {}
                Some(base) if one_name => {
                    self.out(base, false)?;
                    let from = match self.moved.get(base) {
                        Some(from) => from.clone(),
                        None => self.next('m'),
                    };
                    self.moved.insert(base.to_owned(), from.clone());
                    ins.push((from, path.clone()));
                }
                _ => {
                    let at = match &visit.stage {
                        Some(stage) => format!("{stage}/{name}"),
                        None => {
                            let at = self.next('n');
                            ins.push((at.clone(), path.clone()));
                            at
                        }
                    };
                    let make = match (&**node, self.made.get(&child)) {
                        (_, Some(first)) => Make::Same(first.clone()),
                        (Node::Directory(_), _) => Make::Directory,
                        (Node::File(file), _) => Make::File(file.clone()),
                        (Node::Link(link), _) => Make::Link(link.clone()),
                    };
                    self.made.entry(child).or_insert_with(|| at.clone());
                    self.plan.make.push((at.clone(), make));
                    stage = Some(at);
                }
            }
            if is_directory {
                visits.push(Visit { id: child, path, stage });
            }
        }
        Ok(())
    }

    /// What is at a path below goes, if there is something and it is as it was.
    fn out(&mut self, path: &str, replaced: bool) -> io::Result<()> {
        let found = self.overlay.lower.stat(path)?;
        match (self.state.seen.get(path), found) {
            (None, None) => return Ok(()),
            (None, Some(_)) => self.conflict(path, ConflictKind::Made),
            (Some(_), None) => self.conflict(path, ConflictKind::Removed),
            (Some(seen), Some(found)) => {
                if !self.overlay.lower.is_as_seen(path, seen)? {
                    self.conflict(path, ConflictKind::Changed);
                }
                let replaced = replaced && !found.is_dir();
                let entry = self.outs.entry(path.to_owned()).or_insert(replaced);
                *entry &= replaced;
            }
        }
        Ok(())
    }

    /// All that is in directories that are removed must be what the program removed or moved.
    fn check_removed(&mut self) -> io::Result<()> {
        let mut removed: Vec<String> =
            self.outs.keys().filter(|path| !self.moved.contains_key(*path)).cloned().collect();
        while let Some(path) = removed.pop() {
            if !matches!(self.state.seen.get(&path), Some(Seen::Directory { .. })) {
                continue;
            }
            if !self.overlay.lower.stat(&path)?.is_some_and(|found| found.is_dir()) {
                continue;
            }
            for entry in self.overlay.lower.list(&path)? {
                let name = entry?.file_name();
                let inner = join(&path, &name.to_string_lossy());
                if self.moved.contains_key(&inner) {
                    continue;
                }
                match self.state.seen.get(&inner) {
                    None => self.conflict(&inner, ConflictKind::Made),
                    Some(seen) if !self.overlay.lower.is_as_seen(&inner, seen)? => {
                        self.conflict(&inner, ConflictKind::Changed);
                    }
                    Some(_) => removed.push(inner),
                }
            }
        }
        // And nothing that was moved is lost on the way.
        let gone: Vec<_> = self.moved.keys().filter(|path| !self.outs.contains_key(*path)).cloned().collect();
        for path in gone {
            self.conflict(&path, ConflictKind::Removed);
        }
        Ok(())
    }
}

/// Where a file's bytes are to come from while it is made.
pub fn is_lower(file: &File) -> Option<&str> {
    match &file.data {
        Data::Lower(path) => Some(path),
        Data::Blob(_) => None,
    }
}
