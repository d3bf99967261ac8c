//! `agentkernel session restore` and `reset`: another state.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use agentkernel::remove_tree;

use super::head::{image_name, turns_in};
use super::journal::What;
use super::state::{After, Files, Purpose, State, kernel};
use super::{SNAPSHOTS, WORKSPACE, absolute};
use crate::arguments::Talk;
use crate::failure::{Failure, Result};
use crate::run::CONTEXT;
use crate::store::Store;
use crate::{files, terminal};

pub fn restore(store: &Store, name: &str, file: &Path) -> Result<i32> {
    let number = file.to_str().and_then(|text| text.parse().ok()).filter(|_| !file.exists());
    let own = number.map(|number| store.root.join(name).join(SNAPSHOTS).join(image_name(number)));
    let path = match &own {
        Some(own) => own.clone(),
        None => absolute(file.to_owned())?,
    };
    let mut state = State::open(store, name, Purpose::Mend)?;
    if own.is_some() && !path.exists() {
        let message = format!("the session `{name}` has no snapshot of turn {}", file.display());
        let turns = path.parent().map(turns_in).unwrap_or_default();
        let there: Vec<_> = turns.iter().map(u64::to_string).collect();
        return Err(Failure::new(message).hint(match there.as_slice() {
            [] => format!(
                "there is none; `agentkernel session snapshot {name}` makes one of its state as it is"
            ),
            there => {
                format!("there are snapshots of the turns {}; a file is named by its path", there.join(", "))
            }
        }));
    }
    // It must fit before it takes the place of what is there.
    let image = kernel(&state.settings, Talk::default())?.load_image(&path)?;
    let context = image.context_mark(CONTEXT).cloned();
    // It was made before images had it in them.
    let context = context.or_else(|| state.mark(number?).cloned());
    let next = state.next_image();
    let copied = fs::copy(&path, &next).and_then(|_| File::open(&next)?.sync_data());
    copied.map_err(|error| Failure::new(format!("cannot copy `{}`: {error}", path.display())))?;
    state.commit(After::New, What::Restored { from: path.display().to_string(), context }, None)?;
    Ok(0)
}

pub fn reset(store: &Store, name: &str, files: bool) -> Result<i32> {
    let mut state = State::open(store, name, Purpose::Mend)?;
    if files && let (Files::Directory(directory), None) = (&state.files, &state.overlay) {
        let message = format!("the files in `{}` are not the session's own", directory.display());
        return Err(Failure::new(message).hint("leave `--files` out, and look after the directory yourself"));
    }
    // What the turns to come read is what is there now.
    let context = state.open_context()?.map(|context| context.mark().clone());
    state.config.check_beginning(context.as_ref())?;
    state.commit(After::Beginning, What::Reset { files, context }, None)?;
    match &state.overlay {
        Some(overlay) if files => overlay.discard()?,
        None if files => empty(&state.held.directory.join(WORKSPACE)).map_err(|error| {
            Failure::new(format!("cannot remove the files of the session `{name}`: {error}"))
                .hint("do it again")
        })?,
        _ => {}
    }
    if !files && state.overlay.is_none() && state.files == Files::Own {
        terminal::remark("its files stay; `--files` drops them too");
    }
    Ok(0)
}

fn empty(directory: &Path) -> io::Result<()> {
    match remove_tree(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => files::private(directory),
    }
}
