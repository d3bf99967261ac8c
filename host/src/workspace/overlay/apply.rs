//! Taking the changes of an overlay over into its directory.

use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use cap_fs_ext::{DirExt, SystemTimeSpec};
use cap_std::fs::{File, OpenOptions};
use rustix::io::Errno;

use super::Overlay;
use super::inner::{Inner, Shared, copy};
use super::journal::{Journal, Stage, recover_locked};
use super::layers::{Checkpoint, failed};
use super::lower::{MANY, sync_all};
use super::plan::{Conflict, ConflictKind, Make, Plan, Step, is_lower};
use super::record;
use super::state::{self, Data, Op, Time};
use crate::{Error, ErrorKind, Result};

/// Conflicts that an error names.
const NAMED: usize = 5;

impl Overlay {
    /// Where the directory is not as it was when the overlay changed it; `apply` would refuse. A session may run
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// When something cannot be read.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        let inner = self.0.lock();
        Ok(self.0.plan(&inner)?.conflicts)
    }

    /// Makes sure that there is a place to write down what [`apply`](Overlay::apply) does (docs/overlays.md): to be asked before
    /// work is done that would be lost without.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn check_apply(&self) -> Result<()> {
        let lower = &self.0.lower;
        let cannot = |error| failed(&format!("change the directory `{}` later", lower.path.display()), error);
        record::check(lower).map_err(cannot)
    }

    /// Takes all changes over into the directory, or none; afterwards the overlay has no changes. If the process is
    /// killed in between, the same user's next overlay over the directory finishes what was begun. Modes and times
    /// of changed files are taken over too. Layers that cannot be written once the changes are in the directory
    /// are brought in line before the next change, or when they are opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if the directory was changed meanwhile where the overlay changes it, and otherwise when
    /// a checkpoint is open, the directory cannot be changed, or there is no place to write down what is done
    /// (docs/overlays.md). Then it is as it was.
    pub fn apply(&self) -> Result<()> {
        let mut inner = self.0.lock();
        self.0.no_checkpoint(&inner, "applied")?;
        self.0.apply(&mut inner)
    }
}

impl Checkpoint {
    /// As [`Overlay::apply`], with what was done since, such as conflicts that were [settled](Overlay::settle), in one
    /// step: in layers that outlive the process, nothing of it is there before it is in the directory. Afterwards the
    /// checkpoint is over.
    ///
    /// # Errors
    ///
    /// As [`Overlay::apply`], and when it is within another checkpoint. Then what was done since is rolled back.
    pub fn apply(self) -> Result<()> {
        self.alone("applied", |shared, inner| shared.apply(inner))
    }
}

impl Shared {
    /// With what an open checkpoint has not committed.
    fn apply(self: &Arc<Self>, inner: &mut Inner) -> Result<()> {
        let shared = self;
        let cannot =
            |error| failed(&format!("change the directory `{}`", shared.lower.path.display()), error);
        let _lock = shared.lower.lock().map_err(cannot)?;
        recover_locked(&shared.lower)?;
        let plan = shared.plan(inner)?;
        self.refuse(&plan.conflicts)?;
        if plan.steps.is_empty() {
            shared.reset(inner)?;
            inner.end_checkpoints();
            return Ok(());
        }
        let unchanged = shared.unchanged(inner)?;
        let stage = Stage::new(&shared.lower).map_err(cannot)?;
        let prepared = shared.prepare(inner, &stage, &plan).map_err(cannot);
        // What was prepared may have taken a while.
        let again = prepared.and_then(|()| shared.plan(inner)).and_then(|plan| {
            self.refuse(&plan.conflicts)?;
            Ok(())
        });
        if let Err(error) = again {
            stage.remove();
            return Err(error);
        }
        let name = record::unguessable();
        let Plan { steps, .. } = plan;
        let journal = Journal { name, layers: shared.layers.clone(), steps };
        let Inner { log, state, checkpoints, .. } = &mut *inner;
        let kept = checkpoints.first().map_or(&*state, |saved| &saved.state);
        let begun = match log {
            Some(log) => log.refresh(kept).and_then(|()| log.applying(&journal.name)),
            None => Ok(()),
        };
        let done = begun
            .and_then(|()| stage.begin(&shared.lower, &journal))
            .and_then(|()| stage.perform(&shared.lower, &journal.steps));
        if let Err(error) = done {
            stage.undo(&shared.lower, &journal.steps).map_err(cannot)?;
            if let Some(log) = &mut inner.log {
                log.not_applied().map_err(cannot)?;
            }
            shared.look_again(inner, &journal.steps).map_err(cannot)?;
            stage.remove();
            record::remove(&shared.lower);
            return Err(cannot(error));
        }
        // The changes are in the directory, whatever becomes of the layers.
        let forgotten = inner.log.as_mut().map_or(Ok(()), |log| log.rewrite(&unchanged));
        inner.end_checkpoints();
        shared.begin_anew(inner, unchanged, |_, _| true);
        match forgotten {
            Ok(()) => {
                stage.remove();
                record::remove(&shared.lower);
            }
            // The stage stays: whoever finds it tells the layers, if this process does not.
            Err(error) => {
                tracing::warn!("the layers of an overlay are brought in line later: {error}");
                if let Some(log) = &mut inner.log {
                    log.is_stale = true;
                }
            }
        }
        Ok(())
    }

    fn refuse(&self, conflicts: &[Conflict]) -> Result<()> {
        if conflicts.is_empty() {
            return Ok(());
        }
        let mut named: Vec<String> = conflicts
            .iter()
            .take(NAMED)
            .map(|conflict| {
                let what = match conflict.kind {
                    ConflictKind::Changed => "changed",
                    ConflictKind::Removed => "removed",
                    ConflictKind::Made => "made",
                };
                format!("`{}` was {what}", conflict.path.escape_debug())
            })
            .collect();
        if conflicts.len() > NAMED {
            named.push(format!("{} more", conflicts.len() - NAMED));
        }
        let directory = self.lower.path.display();
        let message = format!("the directory `{directory}` was changed meanwhile: {}", named.join(", "));
        Err(Error::new(ErrorKind::Conflict, message)
            .hint("look at the differences, then put the directory back or discard the overlay's changes"))
    }

    pub fn plan(&self, inner: &Inner) -> Result<Plan> {
        Plan::new(self, &inner.state).map_err(|error| failed("compare the overlay with its directory", error))
    }

    /// Notes how objects look that were taken out and put back, which changed their status. What an open checkpoint has not
    /// committed is rolled back: conflicts that it settled are there again.
    fn look_again(&self, inner: &mut Inner, steps: &[Step]) -> io::Result<()> {
        let settled = Arc::clone(&inner.state);
        if !inner.checkpoints.is_empty() {
            self.roll_back(inner, 0);
        }
        let mut ops = Vec::new();
        for step in steps {
            if let Step::Out { path, .. } = step
                && inner.state.seen.get(path) == settled.seen.get(path)
                && let Some(found) = self.lower.stat(path)?
            {
                ops.push(Op::Seen(path.clone(), self.lower.look(path, &found)?));
            }
        }
        inner.change(ops)
    }

    /// Makes all that is new in the stage.
    pub fn prepare(&self, inner: &Inner, stage: &Stage, plan: &Plan) -> io::Result<()> {
        let directory = &stage.directory;
        let are_many = plan.make.len() > MANY;
        for (path, make) in &plan.make {
            match make {
                Make::Directory => directory.create_dir(path)?,
                Make::Same(first) => directory.hard_link(first, directory, path)?,
                Make::Link(link) => {
                    directory.symlink_contents(&link.target, path)?;
                    directory.set_symlink_times(
                        path,
                        Some(time(link.accessed)),
                        Some(time(link.modified)),
                    )?;
                }
                Make::File(file) => {
                    let made = self.prepare_file(inner, stage, path, file)?;
                    made.filter(|_| !are_many).map_or(Ok(()), |made| made.sync_data())?;
                }
            }
        }
        if are_many && !sync_all(directory) {
            for (path, make) in &plan.make {
                if let Make::File(_) = make {
                    directory.open(path)?.sync_data()?;
                }
            }
        }
        Ok(())
    }

    /// Gives the file, if it was written and is still to be waited for.
    fn prepare_file(
        &self,
        inner: &Inner,
        stage: &Stage,
        path: &str,
        file: &state::File,
    ) -> io::Result<Option<std::fs::File>> {
        if let Some(lower) = is_lower(file)
            && self.lower.directory.hard_link(lower, &stage.directory, path).is_ok()
        {
            return Ok(None);
        }
        let source: File = match &file.data {
            Data::Lower(path) => self.lower.read(path)?,
            Data::Blob(number) => inner.state.blobs.get(number).ok_or(Errno::IO)?.open()?,
        };
        let found = source.metadata()?;
        let mut options = OpenOptions::new();
        let target = stage.directory.open_with(path, options.write(true).create_new(true))?;
        copy(&source, &target)?;
        let target = target.into_std();
        target.set_permissions(source.into_std().metadata()?.permissions())?;
        let mut times = std::fs::FileTimes::new();
        if let (Ok(accessed), Ok(modified)) = (found.accessed(), found.modified()) {
            times = times.set_accessed(accessed.into_std()).set_modified(modified.into_std());
        }
        target.set_times(times)?;
        Ok(Some(target))
    }
}

fn time(Time(seconds, nanoseconds): Time) -> SystemTimeSpec {
    let at = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    SystemTimeSpec::Absolute(cap_std::time::SystemTime::from_std(at))
}
