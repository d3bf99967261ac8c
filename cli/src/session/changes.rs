//! `agentkernel session diff`, `apply` and `discard`: what a session has changed in an overlay.

use std::io::{self, IsTerminal};

use agentkernel::Overlay;

use super::state::{Files, Purpose, State};
use super::store::Store;
use crate::failure::{Failure, Result};
use crate::overlay::differences;
use crate::terminal::{self, say};
use crate::units::show_number_of;

pub fn diff(store: &Store, name: &str, as_json: bool) -> Result<i32> {
    let state = State::open(store, name, Purpose::Look)?;
    let diff = overlay(&state)?.diff()?;
    if as_json {
        let text = serde_json::to_string(&diff)
            .map_err(|error| Failure::new(format!("the differences have no JSON form: {error}")))?;
        say!("{text}");
        return Ok(0);
    }
    if !diff.changes.is_empty() {
        let shown = differences(&diff, io::stdout().is_terminal());
        say!("{}", shown.trim_end_matches('\n'));
    }
    if diff.changes.is_empty() {
        terminal::remark("nothing differs");
    }
    Ok(0)
}

pub fn apply(store: &Store, name: &str) -> Result<i32> {
    let state = State::open(store, name, Purpose::Look)?;
    let overlay = overlay(&state)?;
    let Files::Directory(directory) = &state.files else {
        return Err(Failure::new(format!(
            "the session `{name}` has no directory to which changes could be applied"
        ))
        .hint("make a session with `--workspace DIR --overlay`"));
    };
    let count = overlay.diff()?.changes.len() as u64;
    overlay.apply()?;
    terminal::remark(&format!("{} applied to `{}`", show_number_of(count, "change"), directory.display()));
    Ok(0)
}

pub fn discard(store: &Store, name: &str) -> Result<i32> {
    let state = State::open(store, name, Purpose::Look)?;
    overlay(&state)?.discard()?;
    Ok(0)
}

fn overlay(state: &State) -> Result<&Overlay> {
    state.overlay.as_ref().ok_or_else(|| {
        Failure::new(format!(
            "the session `{}` has no overlay: its changes are in the directory at once",
            state.held.name
        ))
        .hint("make a session with `--overlay` to keep them apart")
    })
}
