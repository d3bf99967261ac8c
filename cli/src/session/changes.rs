//! `agentkernel session diff`, `apply` and `discard`: what a session has changed in an overlay.

use agentkernel::Overlay;

use super::state::{Files, Purpose, State};
use crate::arguments::Settle;
use crate::failure::{Failure, Result};
use crate::overlay;
use crate::store::Store;
use crate::terminal;
use crate::units::show_number_of;

pub fn diff(store: &Store, name: &str, as_json: bool) -> Result<i32> {
    let state = State::open(store, name, Purpose::Look)?;
    overlay::show(of(&state)?, as_json)?;
    Ok(0)
}

pub fn apply(store: &Store, name: &str, settle: &Settle) -> Result<i32> {
    let state = State::open(store, name, Purpose::Look)?;
    let overlay = of(&state)?;
    let Files::Directory(directory) = &state.files else {
        return Err(Failure::new(format!(
            "the session `{name}` has no directory to which changes could be applied"
        ))
        .hint("make a session with `--workspace DIR --overlay`"));
    };
    let again = format!("agentkernel session apply {name}");
    let drop_them = format!("agentkernel session discard {name}");
    let count = overlay::apply(overlay, settle, &again, &drop_them)?;
    terminal::remark(&format!("{} applied to `{}`", show_number_of(count, "change"), directory.display()));
    Ok(0)
}

pub fn discard(store: &Store, name: &str) -> Result<i32> {
    let state = State::open(store, name, Purpose::Look)?;
    of(&state)?.discard()?;
    Ok(0)
}

fn of(state: &State) -> Result<&Overlay> {
    state.overlay.as_ref().ok_or_else(|| {
        Failure::new(format!(
            "the session `{}` has no overlay: its changes are in the directory at once",
            state.held.name
        ))
        .hint("make a session with `--overlay` to keep them apart")
    })
}
