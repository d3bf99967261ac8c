//! `agentkernel session fork` and `snapshot`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use agentkernel::copy_tree;

use super::config::{Config, Origin, now};
use super::head::image_name;
use super::state::{Files, Purpose, State};
use super::{BASE, LAYERS, SNAPSHOTS, WORKSPACE};
use crate::failure::{Failure, Result};
use crate::files;
use crate::store::{Store, sync_directory};
use crate::terminal::{self, say};

pub fn fork(store: &Store, name: &str, new: &str) -> Result<i32> {
    store.check(new)?;
    let state = State::open(store, name, Purpose::Look)?;
    let from = &state.held.directory;
    let cannot = |error: io::Error| Failure::new(format!("cannot copy the session `{name}`: {error}"));
    store.make(new, |to| {
        let forked_from = Some(Origin { name: name.to_owned(), turn: state.head.turn });
        Config { created: now(), forked_from, ..state.config.clone() }.write(to)?;
        for file in state.head.image.as_deref().into_iter().chain([BASE]) {
            match link(&from.join(file), &to.join(file)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && file == BASE => {}
                linked => linked.map_err(cannot)?,
            }
        }
        match &state.overlay {
            Some(overlay) => drop(overlay.fork_into(to.join(LAYERS))?),
            None if state.files == Files::Own => {
                files::private(&to.join(WORKSPACE)).map_err(cannot)?;
                copy_tree(from.join(WORKSPACE), to.join(WORKSPACE)).map_err(cannot)?;
            }
            None => {}
        }
        state.journal.copy_to(to)?;
        state.head.write(to)
    })?;
    if let (Files::Directory(directory), None) = (&state.files, &state.overlay) {
        terminal::remark(&format!("both sessions work in `{}`", directory.display()));
    }
    Ok(0)
}

pub fn snapshot(store: &Store, name: &str, file: Option<PathBuf>) -> Result<i32> {
    let state = State::open(store, name, Purpose::Look)?;
    let Some(image) = state.image() else {
        return Err(Failure::new(format!(
            "the session `{name}` is at its beginning: there is no state to write"
        ))
        .hint(format!("run a turn first: `agentkernel session run {name} -c CODE`")));
    };
    let file = match file {
        Some(file) => file,
        None => {
            let directory = state.held.directory.join(SNAPSHOTS);
            files::private(&directory)
                .map_err(|error| Failure::new(format!("cannot make `{}`: {error}", directory.display())))?;
            directory.join(image_name(state.head.turn))
        }
    };
    write(&image, &file).map_err(|error| {
        Failure::new(format!("cannot write `{}`: {error}", file.display()))
            .hint("check that its directory is there, can be written, and has space left")
    })?;
    say!("{}", file.display());
    Ok(0)
}

/// Copies a file so that a reader finds it whole.
fn write(from: &Path, to: &Path) -> io::Result<()> {
    let mut name = to.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = to.with_file_name(name);
    let copied = fs::copy(from, &beside)
        .and_then(|_| File::open(&beside)?.sync_data())
        .and_then(|()| fs::rename(&beside, to));
    if copied.is_err() {
        let _ = fs::remove_file(&beside);
        return copied;
    }
    to.parent().map_or(Ok(()), sync_directory)
}

/// Images are never changed, so that sessions can share them.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => fs::copy(from, to).map(drop),
        linked => linked,
    }
}
