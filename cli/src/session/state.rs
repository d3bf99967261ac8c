//! A session that is held by this process, and the step by which a turn becomes part of it.
//!
//! A turn leaves an image, a line of the journal and changes of files. First the image is written, then the line;
//! neither counts yet. Then comes one step: with an overlay, the commit of its transaction, which has the turn's
//! number in it; without one, the renaming of `head.json`. Who is killed before leaves an image and a line
//! that the next opening removes; who is killed afterwards leaves an old image and perhaps an old `head.json`,
//! which it brings in line.

use std::fs;
use std::path::{Path, PathBuf};

use agentkernel::{Checkpoint, ErrorKind, Image, Kernel, Overlay, Workspace};

use super::config::{Config, now};
use super::head::{Head, image_name, turns_in};
use super::journal::{Entry, Journal, What};
use super::{BASE, DAMAGED_LAYERS, LAYERS, WORKSPACE};
use crate::arguments::{Granted, NewSession, Talk};
use crate::failure::{Failure, Result};
use crate::repetition::Again;
use crate::settings::Settings;
use crate::store::{Held, Store, sync_directory};
use crate::{terminal, warm};

/// What a session is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Run,
    /// To run turns anew, whatever is damaged.
    Replay,
    /// To look at it, or at its files.
    Look,
    /// To give it another state, whatever is damaged.
    Mend,
}

pub struct State {
    pub held: Held,
    pub config: Config,
    pub settings: Settings,
    /// What `--image` named.
    image: Option<PathBuf>,
    /// What `--context` named.
    pub contexts: Vec<PathBuf>,
    /// Whether its programs may dispatch tasks.
    pub tasks: Granted,
    pub overlay: Option<Overlay>,
    pub files: Files,
    pub head: Head,
    pub journal: Journal,
}

/// Where the session's files are, below an overlay if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// In the session.
    Own,
    /// In a directory of the user's.
    Directory(PathBuf),
}

/// What flags ask for, the files apart.
pub fn settings(flags: &NewSession, models: bool) -> Result<(Settings, Files)> {
    let sandbox = flags.sandbox.clone();
    let settings = match models {
        true => Settings::with_models(sandbox, &flags.models, &Again::default())?.lasting(&flags.lasting)?,
        false => Settings::resolve(sandbox)?,
    };
    let files = match &settings.grants.workspace {
        Workspace::Directory(directory) => Files::Directory(directory.clone()),
        _ => Files::Own,
    };
    Ok((settings, files))
}

/// The kernel of a session's turns.
pub fn kernel(settings: &Settings, talk: Talk) -> Result<Kernel> {
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    match kernel.info().host_owned_memory {
        true => Ok(kernel),
        false => {
            Err(Failure::new("the state of a session cannot be kept here: its memory is not the host's own")
                .hint("this needs Linux, and neither `--portable` nor `--fuel`"))
        }
    }
}

impl State {
    pub fn open(store: &Store, name: &str, purpose: Purpose) -> Result<Self> {
        if let Some(why) = store.foreign(name) {
            return Err(Failure::new(format!("the session `{name}` is not to be trusted: {why}")).hint(format!(
                "look at who wrote it, and take its rights from others; or remove it: `agentkernel session rm {name}`"
            )));
        }
        let held = store.hold(name)?;
        let directory = held.directory.clone();
        let config = Config::read(&directory).map_err(|why| {
            Failure::new(format!("the session `{name}` is damaged: {why}"))
                .hint(format!("put the file back, or remove the session: `agentkernel session rm {name}`"))
        })?;
        config.enter()?;
        let flags = config.flags()?;
        let models = matches!(purpose, Purpose::Run | Purpose::Replay);
        let (mut settings, files) = settings(&flags, models)?;
        let overlay = match (&files, flags.overlay) {
            (Files::Own, true) => Some(overlay(&store.empty()?, &held, purpose)?),
            (Files::Directory(below), true) => Some(overlay(below, &held, purpose)?),
            (_, false) => None,
        };
        settings.grants.workspace = match (&overlay, &files) {
            (Some(overlay), _) => Workspace::Overlay(overlay.clone()),
            (None, Files::Directory(directory)) => Workspace::Directory(directory.clone()),
            (None, Files::Own) => Workspace::Directory(directory.join(WORKSPACE)),
        };
        let damaged = |why| {
            let newest = turns_in(&directory).pop().map(|turn| directory.join(image_name(turn)));
            let last = newest.map_or(String::new(), |image| {
                format!(
                    "`agentkernel session restore {name} {}` takes the last state that is there; ",
                    image.display()
                )
            });
            Failure::new(format!("the session `{name}` is damaged: {why}")).hint(format!(
                "{last}`agentkernel session replay {name}` makes its state anew from what the journal has, `session restore` takes \
                 that of a snapshot, `session reset` begins again"
            ))
        };
        let journal = Journal::read(&directory).map_err(damaged)?;
        let head = match &overlay {
            Some(overlay) => committed(overlay, Head::read(&directory), &journal),
            None => Head::read(&directory),
        };
        let head = head.and_then(|head| reached(head, &journal));
        let (image, contexts, tasks) = (flags.start.image, flags.data.contexts, flags.tasks);
        let head_now = Head::default();
        let mut state =
            State { held, config, settings, image, contexts, tasks, overlay, files, head: head_now, journal };
        match head {
            Ok(head) => {
                state.journal.cut(head.turn)?;
                state.head = head;
                if Head::read(&directory).as_ref() != Ok(&state.head) {
                    state.head.write(&directory)?;
                }
                state.head.tidy(&directory);
            }
            Err(why) if matches!(purpose, Purpose::Replay | Purpose::Mend) => state.mend(&why)?,
            Err(why) => return Err(damaged(why)),
        }
        Ok(state)
    }

    /// Takes what can be read for what there is.
    fn mend(&mut self, why: &str) -> Result<()> {
        terminal::remark(&format!("the session is damaged: {why}"));
        if self.journal.problem.is_some() {
            self.journal.put_aside()?;
        }
        self.journal.cut(u64::MAX)?;
        let last = self.journal.entries.last();
        let turns = [
            last.map_or(0, |entry| entry.turn),
            self.overlay.as_ref().and_then(Overlay::label).unwrap_or(0),
            Head::read(&self.held.directory).map_or(0, |head| head.turn),
        ];
        let turn = turns.into_iter().max().unwrap_or(0);
        self.head = Head { turn, image: last.and_then(|entry| entry.image.clone()) };
        Ok(())
    }

    /// The number of the turn that comes next.
    pub fn next(&self) -> u64 {
        self.head.turn + 1
    }

    /// Where the image of that turn is written.
    pub fn next_image(&self) -> PathBuf {
        self.held.directory.join(image_name(self.next()))
    }

    /// Where the image of the state is, if it is not that of the beginning.
    pub fn image(&self) -> Option<PathBuf> {
        self.head.image.as_ref().map(|image| self.held.directory.join(image))
    }

    /// The image of the beginning, if it is not an interpreter that has run nothing.
    pub fn beginning(&self, kernel: &Kernel) -> Result<Option<Image>> {
        let base = self.held.directory.join(BASE);
        match &self.image {
            None => Ok(None),
            Some(_) if base.exists() => Ok(Some(kernel.load_image(base)?)),
            Some(image) => warm::image(kernel, &self.settings, image).map(Some),
        }
    }

    /// The image of the state.
    pub fn current(&self, kernel: &Kernel) -> Result<Option<Image>> {
        let Some(image) = self.image() else { return self.beginning(kernel) };
        let loaded = kernel.load_image(image).map_err(|error| {
            let name = &self.held.name;
            let (anew, begins) = match self.journal.restored() {
                None => (format!("`agentkernel session replay {name}` makes it anew from the journal, "), ""),
                Some(_) => (String::new(), ", `session reset` begins again"),
            };
            Failure::new(format!("the state of the session `{name}` cannot be taken up: {error}")).hint(format!(
                "{anew}`agentkernel session restore {name} FILE` takes that of a snapshot{begins}; it may also need \
                 the version or the tools that made it, declared as they were"
            ))
        })?;
        Ok(Some(loaded))
    }

    /// Makes a step part of the session, with what a checkpoint has. The memory after it is that of the
    /// next image, which has been written, where it is `new`, and else what it was, or that of the beginning.
    pub fn commit(&mut self, image: After, what: What, checkpoint: Option<Checkpoint>) -> Result<()> {
        let directory = self.held.directory.clone();
        let turn = self.next();
        let image = match image {
            After::New => Some(image_name(turn)),
            After::Same => self.head.image.clone(),
            After::Beginning => None,
        };
        sync_directory(&directory).map_err(|error| {
            Failure::new(format!("cannot write the session `{}`: {error}", self.held.name))
        })?;
        self.journal.append(Entry { turn, time: now(), what, image: image.clone() })?;
        if let Some(overlay) = &self.overlay {
            checkpoint.unwrap_or_else(|| overlay.checkpoint()).commit_as(turn)?;
        }
        let head = Head { turn, image };
        match head.write(&directory) {
            Err(failure) if self.overlay.is_some() => {
                // The layers have the turn, and they are asked first.
                terminal::remark(&format!("{}; the session is kept all the same", failure.message));
            }
            written => written?,
        }
        self.head = head;
        self.head.tidy(&directory);
        Ok(())
    }
}

/// The overlay with what a session has changed. Damaged layers are put aside where it is opened to be mended.
fn overlay(below: &Path, held: &Held, purpose: Purpose) -> Result<Overlay> {
    let layers = held.directory.join(LAYERS);
    let name = &held.name;
    match Overlay::open(below, &layers) {
        Err(error) if error.kind() == ErrorKind::Damaged => match purpose {
            Purpose::Replay | Purpose::Mend => {
                let aside = aside(&held.directory);
                fs::rename(&layers, &aside)
                    .map_err(|error| Failure::new(format!("cannot put the damaged layers aside: {error}")))?;
                terminal::remark(&format!(
                    "{error}; what the session has changed in files is lost to it, and its layers are in `{}`",
                    aside.display()
                ));
                Ok(Overlay::open(below, &layers)?)
            }
            Purpose::Run | Purpose::Look => Err(Failure::new(error.to_string()).hint(format!(
                "put them back from a copy; or give up what the session has changed in files: `agentkernel session \
                 reset {name}` begins again, `session replay` and `session restore` make its memory anew"
            ))),
        },
        opened => Ok(opened?),
    }
}

/// Where damaged layers are put: beside those of earlier times.
fn aside(directory: &Path) -> PathBuf {
    let first = directory.join(DAMAGED_LAYERS);
    let numbered = (2..).map(|number| directory.join(format!("{DAMAGED_LAYERS}.{number}")));
    let free = |path: &PathBuf| path.symlink_metadata().is_err();
    std::iter::once(first).chain(numbered).find(free).unwrap_or_else(|| directory.join(DAMAGED_LAYERS))
}

/// The memory after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    New,
    Same,
    Beginning,
}

/// The head that the overlay's last commit belongs to, which is the one that was written or, where a process was
/// killed in between, the next. Other layers are not those of the session.
fn committed(overlay: &Overlay, written: Result<Head, String>, journal: &Journal) -> Result<Head, String> {
    let turn = overlay.label().unwrap_or(0);
    match written {
        Ok(head) if head.turn > turn => {
            return Err(format!(
                "its layers are those of turn {turn}, and its state is that of turn {}",
                head.turn
            ));
        }
        Err(why) if turn == 0 => return Err(why),
        _ => {}
    }
    match journal.entry(turn) {
        Some(entry) => Ok(Head { turn, image: entry.image.clone() }),
        None => reached(Head { turn, image: None }, journal),
    }
}

/// Refuses a head whose turn the journal does not have.
pub fn reached(head: Head, journal: &Journal) -> Result<Head, String> {
    match (&journal.problem, journal.entry(head.turn)) {
        _ if head.turn == 0 => Ok(head),
        (_, Some(_)) => Ok(head),
        (Some(problem), None) => Err(problem.clone()),
        (None, None) => Err(format!("its journal does not have turn {}", head.turn)),
    }
}
