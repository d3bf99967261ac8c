//! Doing the steps of an `apply`, so that they are all done or none, whenever the process ends.
//!
//! All that is new is made in a stage on the directory's file system first. Then the steps are written down where no
//! program can write (`record.rs`), under a name that nobody can guess, and the stage is marked with that name. From that
//! moment on they will be done: here, or by whoever next lays an overlay over the directory. If one cannot be
//! done, the mark is turned round and those before it are undone. A mark of another name is somebody else's: what it
//! stands for is not known, so nothing is done, and nothing removed.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use cap_fs_ext::{DirExt, MetadataExt};
use cap_std::fs::{Dir, Metadata};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::temporary::flatten;
use super::lower::{Lower, MANY, STAGE, options, sync, sync_all};
use super::plan::Step;
use super::record;
use super::store::tell_applied;
use crate::{Error, ErrorKind, Result};

/// The mark of a stage whose steps are to be done.
pub const MARK: &str = "journal";
/// That of one whose steps are to be undone.
pub const UNDO: &str = "undo";
const NEW_MARK: &str = "journal.new";

/// Bytes of a mark that are read.
const MARK_BYTES: u64 = 64;
/// There as soon as all is taken out.
const ALL_OUT: &str = "all-out";

/// What an `apply` does.
#[derive(Serialize, Deserialize)]
pub struct Journal {
    /// Names it.
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
    pub fn begin(&self, lower: &Lower, journal: &Journal) -> io::Result<()> {
        record::write(lower, journal)?;
        let mut file = self.directory.create(NEW_MARK)?;
        file.write_all(journal.name.as_bytes())?;
        file.sync_all()?;
        self.directory.rename(NEW_MARK, &self.directory, MARK)?;
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
        if exists(&self.directory, MARK)?.is_some() {
            self.directory.rename(MARK, &self.directory, UNDO)?;
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
        if parents.len() > MANY && sync_all(&lower.directory) {
            return;
        }
        parents.into_iter().for_each(|parent| sync(&lower.directory, parent));
        sync(&self.directory, "");
    }

    /// The name that it is marked with, if it is.
    fn mark(&self, mark: &str) -> io::Result<Option<String>> {
        let file = match self.directory.open_with(mark, &options(true, false)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(MARK_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Removes it with all in it. What is left of it after a failure is removed the next time.
    pub fn remove(self) {
        let removed = (|| {
            for name in [MARK, UNDO] {
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
    let _lock = lower.lock().map_err(|error| unfinished(lower, error))?;
    recover_locked(lower)
}

/// As [`recover`], for who holds the lock.
pub fn recover_locked(lower: &Lower) -> Result<()> {
    let stages = Stage::left(lower);
    if stages.is_empty() {
        return Ok(());
    }
    let failed = |error| unfinished(lower, error);
    let record = record::read(lower).map_err(failed)?;
    for stage in stages {
        let (begun, turned) = (stage.mark(MARK).map_err(failed)?, stage.mark(UNDO).map_err(failed)?);
        if let Some(name) = turned.as_ref().or(begun.as_ref()) {
            let Some(journal) = record.as_ref().filter(|journal| journal.name == *name) else {
                return Err(foreign(lower, &stage));
            };
            stage.end(lower, journal, turned.is_some()).map_err(failed)?;
        }
        stage.remove();
    }
    record::remove(lower);
    Ok(())
}

impl Stage {
    fn end(&self, lower: &Lower, journal: &Journal, turned: bool) -> io::Result<()> {
        if turned || self.perform(lower, &journal.steps).is_err() {
            return self.undo(lower, &journal.steps);
        }
        match &journal.layers {
            Some(layers) => tell_applied(layers, &journal.name),
            None => Ok(()),
        }
    }
}

fn unfinished(lower: &Lower, error: io::Error) -> Error {
    let shown = lower.path.display();
    Error::new(
        ErrorKind::System,
        format!("an unfinished change of `{shown}` can neither be finished nor undone"),
    )
    .hint("make its directories writable, and put back what was moved meanwhile")
    .source(error)
}

fn foreign(lower: &Lower, stage: &Stage) -> Error {
    let (shown, name) = (lower.path.display(), &stage.name);
    let message = format!("`{name}` says that a change of `{shown}` was begun, and this user has begun none");
    Error::new(ErrorKind::System, message).hint(
        "if a program has made it, remove it; if another user or a container did, let it lay an overlay over the \
         directory once more, which finishes the change",
    )
}
