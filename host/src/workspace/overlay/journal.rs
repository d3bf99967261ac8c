//! Doing the steps of an `apply`, so that they are all done or none, whenever the process ends.
//!
//! All that is new is made in a stage on the directory's file system first. Then the steps are written to a
//! journal there, and from that moment on they will be done: here, or by whoever next lays an overlay over the directory.
//! If one cannot be done, the journal is turned round and those before it are undone.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cap_fs_ext::{DirExt, MetadataExt};
use cap_std::fs::{Dir, Metadata};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::temporary::flatten;
use super::lower::{Lower, STAGE, sync};
use super::plan::Step;
use super::store::tell_applied;
use crate::{Error, ErrorKind, Result};

pub const JOURNAL: &str = "journal";
const NEW_JOURNAL: &str = "journal.new";
/// A journal whose steps are to be undone.
pub const UNDO: &str = "undo";
/// There as soon as all is taken out.
const ALL_OUT: &str = "all-out";

#[derive(Serialize, Deserialize)]
pub struct Journal {
    /// Names this `apply`.
    pub name: String,
    /// Whose changes these are, if they outlive the process.
    pub layers: Option<PathBuf>,
    pub steps: Vec<Step>,
}

/// Where an `apply` prepares what it puts in and keeps what it takes out.
pub struct Stage {
    within: Dir,
    name: String,
    pub directory: Dir,
}

/// Keeps others from applying to the directory, until it is dropped.
pub struct DirectoryLock(#[allow(dead_code)] std::fs::File);

impl Lower {
    pub fn lock(&self) -> io::Result<DirectoryLock> {
        let file = self.read("")?.into_std();
        file.lock()?;
        Ok(DirectoryLock(file))
    }

    /// Beside the directory if that is on the same file system, otherwise in it.
    fn places(&self) -> Vec<(Dir, String)> {
        let mut places = Vec::new();
        let device = |directory: &Dir| directory.dir_metadata().ok().map(|found| MetadataExt::dev(&found));
        if let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name())
            && let Ok(parent) = Dir::open_ambient_dir(parent, cap_std::ambient_authority())
            && device(&parent) == device(&self.directory)
        {
            places.push((parent, format!("{STAGE}-{}", name.to_string_lossy())));
        }
        if let Ok(inside) = self.directory.try_clone() {
            places.push((inside, STAGE.to_owned()));
        }
        places
    }
}

fn exists(directory: &Dir, path: &str) -> io::Result<Option<Metadata>> {
    match directory.symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Stage {
    /// A new one, empty.
    pub fn new(lower: &Lower) -> io::Result<Self> {
        let mut failure = io::Error::from(Errno::ACCESS);
        for (within, name) in lower.places() {
            match within.create_dir(&name) {
                Ok(()) => {
                    let directory = within.open_dir_nofollow(&name)?;
                    return Ok(Stage { within, name, directory });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Those that were left.
    fn left(lower: &Lower) -> Vec<Self> {
        let places = lower.places().into_iter();
        places
            .filter_map(|(within, name)| {
                let directory = within.open_dir_nofollow(&name).ok()?;
                Some(Stage { within, name, directory })
            })
            .collect()
    }

    /// From here on the steps will be done.
    pub fn begin(&self, journal: &Journal) -> io::Result<()> {
        let mut file = self.directory.create(NEW_JOURNAL)?;
        file.write_all(&serde_json::to_vec(journal)?)?;
        file.sync_all()?;
        self.directory.rename(NEW_JOURNAL, &self.directory, JOURNAL)?;
        sync(&self.directory, "");
        sync(&self.within, "");
        Ok(())
    }

    /// Does all steps that are not done.
    pub fn perform(&self, lower: &Lower, steps: &[Step]) -> io::Result<()> {
        self.perform_first(lower, steps, usize::MAX)?;
        self.sync(lower, steps);
        Ok(())
    }

    /// Does the first steps. Nothing is put in before all is taken out and that is noted: what has left
    /// the stage again could not be told from what was never there.
    pub fn perform_first(&self, lower: &Lower, steps: &[Step], count: usize) -> io::Result<()> {
        let outs = steps.iter().take_while(|step| matches!(step, Step::Out { .. })).count();
        if exists(&self.directory, ALL_OUT)?.is_none() {
            for step in &steps[..outs.min(count)] {
                self.step(lower, step)?;
            }
            if count < outs {
                return Ok(());
            }
            self.directory.create(ALL_OUT)?;
            sync(&self.directory, "");
        }
        steps[outs..].iter().take(count.saturating_sub(outs)).try_for_each(|step| self.step(lower, step))
    }

    fn step(&self, lower: &Lower, step: &Step) -> io::Result<()> {
        let (directory, stage) = (&lower.directory, &self.directory);
        match step {
            Step::Out { path, to, replaced } => {
                if exists(stage, to)?.is_some() {
                    return Ok(());
                }
                if *replaced && directory.hard_link(path, stage, to).is_ok() {
                    return Ok(());
                }
                directory.rename(path, stage, to)
            }
            Step::In { from, path } => {
                if exists(stage, from)?.is_none() {
                    return Ok(());
                }
                if exists(directory, path)?.is_some_and(|found| found.is_dir()) {
                    // Somebody made it just now; a rename could lose it.
                    return Err(Errno::EXIST.into());
                }
                stage.rename(from, directory, path)
            }
        }
    }

    /// Undoes all steps that are done.
    pub fn undo(&self, lower: &Lower, steps: &[Step]) -> io::Result<()> {
        if exists(&self.directory, JOURNAL)?.is_some() {
            self.directory.rename(JOURNAL, &self.directory, UNDO)?;
            sync(&self.directory, "");
        }
        let (directory, stage) = (&lower.directory, &self.directory);
        if exists(stage, ALL_OUT)?.is_some() {
            for step in steps.iter().rev() {
                if let Step::In { from, path } = step
                    && exists(stage, from)?.is_none()
                {
                    directory.rename(path, stage, from)?;
                }
            }
            stage.remove_file(ALL_OUT)?;
        }
        for step in steps.iter().rev() {
            match step {
                Step::In { .. } => {}
                Step::Out { path, to, .. } => {
                    let Some(kept) = exists(stage, to)? else { continue };
                    let there = exists(directory, path)?;
                    let is_same = there.is_some_and(|there| {
                        (MetadataExt::dev(&there), MetadataExt::ino(&there))
                            == (MetadataExt::dev(&kept), MetadataExt::ino(&kept))
                    });
                    match is_same {
                        true => stage.remove_file(to)?,
                        false => stage.rename(to, directory, path)?,
                    }
                }
            }
        }
        self.sync(lower, steps);
        Ok(())
    }

    /// Waits until the steps are on the disk.
    fn sync(&self, lower: &Lower, steps: &[Step]) {
        let mut parents = BTreeSet::new();
        for step in steps {
            let (Step::Out { path, .. } | Step::In { path, .. }) = step;
            parents.insert(path.rsplit_once('/').map_or("", |(parent, _)| parent));
        }
        parents.into_iter().for_each(|parent| sync(&lower.directory, parent));
        sync(&self.directory, "");
    }

    /// Removes it with all in it. What is left of it after a failure is removed the next time.
    pub fn remove(self) {
        let removed = (|| {
            for name in [JOURNAL, UNDO] {
                if exists(&self.directory, name)?.is_some() {
                    self.directory.remove_file(name)?;
                }
            }
            sync(&self.directory, "");
            flatten(&self.directory)?;
            self.within.remove_dir(&self.name)
        })();
        if let Err(error) = removed {
            tracing::warn!("cannot remove `{}` beside a directory that was changed: {error}", self.name);
        }
    }
}

/// Finishes or undoes what a killed process left half done in the directory.
///
/// # Errors
///
/// When that is not possible.
pub fn recover(lower: &Lower) -> Result<()> {
    if Stage::left(lower).is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| {
        let message =
            format!("an unfinished change of `{}` can neither be finished nor undone", lower.path.display());
        Error::new(ErrorKind::System, message)
            .hint("make its directories writable, and put back what was moved meanwhile")
            .source(error)
    };
    let _lock = lower.lock().map_err(failed)?;
    recover_locked(lower).map_err(failed)
}

/// As [`recover`], for who holds the lock.
pub fn recover_locked(lower: &Lower) -> io::Result<()> {
    for stage in Stage::left(lower) {
        let read = |name| -> io::Result<Option<Journal>> {
            match stage.directory.read(name) {
                Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        if let Some(journal) = read(UNDO)? {
            stage.undo(lower, &journal.steps)?;
        } else if let Some(journal) = read(JOURNAL)? {
            match stage.perform(lower, &journal.steps) {
                Ok(()) => {
                    if let Some(layers) = &journal.layers {
                        tell_applied(Path::new(layers), &journal.name)?;
                    }
                }
                Err(_) => stage.undo(lower, &journal.steps)?,
            }
        }
        stage.remove();
    }
    Ok(())
}
