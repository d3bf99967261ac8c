//! `agentkernel session`: sessions that live from command to command.
//!
//! A session is a directory: what `new` was told (`config.rs`), where its state stands (`head.rs`), what its
//! turns did (`journal.rs`), the image of its memory, and its files. A turn becomes part of it in one step,
//! which `state.rs` has; whatever else a killed process leaves is removed by the next one.

mod changes;
mod config;
mod copy;
mod data;
mod head;
mod journal;
mod new;
mod put;
mod replay;
mod show;
mod state;
mod turn;

use std::path::PathBuf;

use crate::arguments::SessionAction;
use crate::failure::{Failure, Result, each};
use crate::files;
use crate::store::{Kind, Store};

/// Sessions, where they are kept.
const SESSIONS: Kind = Kind {
    place: files::SESSIONS,
    one: "session",
    many: "sessions",
    absent: |name| {
        format!("`agentkernel session list` lists them, `agentkernel session new {name}` makes one")
    },
    busy: "wait until that has ended",
    taken: |name| format!("use another name, or remove it: `agentkernel session rm {name}`"),
};

/// The file of an image that `new --image FILE` named.
const BASE: &str = "base.akimg";
/// Files of a session that has no other directory.
const WORKSPACE: &str = "workspace";
/// What an overlay has changed.
const LAYERS: &str = "layers";
/// Where layers that cannot be read are put aside.
const DAMAGED_LAYERS: &str = "layers.damaged";
const SNAPSHOTS: &str = "snapshots";

pub fn run(action: SessionAction) -> Result<i32> {
    let store = Store::open(&SESSIONS)?;
    match action {
        SessionAction::New(new) => new::run(&store, *new),
        SessionAction::Run(run) => turn::run(&store, run),
        SessionAction::List { json } => show::list(&store, json),
        SessionAction::Show { name, json } => show::show(&store, &name, json),
        SessionAction::Log { name, json } => show::log(&store, &name, json),
        SessionAction::Fork { name, new } => copy::fork(&store, &name, &new),
        SessionAction::Snapshot { name, file } => {
            copy::snapshot(&store, &name, file.map(absolute).transpose()?)
        }
        SessionAction::Restore { name, file } => put::restore(&store, &name, &file),
        SessionAction::Diff { name, json } => changes::diff(&store, &name, json),
        SessionAction::Apply { name, settle } => changes::apply(&store, &name, &settle),
        SessionAction::Discard { name } => changes::discard(&store, &name),
        SessionAction::Reset { name, files } => put::reset(&store, &name, files),
        SessionAction::Replay { name, talk } => replay::run(&store, &name, talk),
        SessionAction::Rm { names } => {
            each(&names, |name| store.remove(name))?;
            Ok(0)
        }
    }
}

/// A path that stays the same when the process goes to the session's directory.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path)
        .map_err(|error| Failure::new(format!("cannot tell where `{}` is: {error}", path.display())))
}
