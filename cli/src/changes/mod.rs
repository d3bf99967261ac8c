//! `agentkernel changes`: what programs have changed in a workspace and could not be applied to it.
//!
//! Each set of changes is a directory: what is known of it, and the layers of an overlay. It is made whole or not at all.
//! Once its changes are in the workspace its layers have none, so who is killed before it is removed finds nothing
//! left to apply.

mod kept;

use std::path::Path;

use agentkernel::{ErrorKind, Overlay};
use serde_json::{Value, json};

use self::kept::{About, LAYERS};
pub use self::kept::{Kept, forget, keep};
use crate::arguments::{ChangesAction, Settle};
use crate::failure::{Failure, Result, each};
use crate::store::{Held, Kind, Store};
use crate::terminal::{self, escaped, say};
use crate::units::show_number_of;
use crate::{files, overlay};

/// Changes, where they are kept.
const CHANGES: Kind = Kind {
    place: files::CHANGES,
    one: "set of changes",
    many: "changes",
    absent: |_| "`agentkernel changes list` lists what there is".to_owned(),
    busy: "wait until that has ended",
    taken: |name| format!("drop it with `agentkernel changes discard {name}`"),
};

pub fn run(action: ChangesAction) -> Result<i32> {
    let store = Store::open(&CHANGES)?;
    match action {
        ChangesAction::List { json } => list(&store, json),
        ChangesAction::Diff { name, json } => {
            overlay::show(&Opened::open(&store, &name)?.overlay, json).map(|()| 0)
        }
        ChangesAction::Apply { name, settle } => apply(&store, &name, &settle),
        ChangesAction::Discard { names } => {
            each(&names, |name| store.remove(name))?;
            Ok(0)
        }
    }
}

/// Changes over their directory, which nobody else has open.
struct Opened {
    held: Held,
    about: About,
    overlay: Overlay,
}

impl Opened {
    fn open(store: &Store, name: &str) -> Result<Self> {
        store.find(name)?;
        let drop_it = format!("or drop them with `agentkernel changes discard {name}`");
        if let Some(why) = foreign(store, name) {
            return Err(Failure::new(format!("the changes `{name}` are not to be trusted: {why}"))
                .hint(format!("look at who wrote them, and take their rights from others; {drop_it}")));
        }
        let held = store.hold(name)?;
        let damaged = |why: String| {
            Failure::new(format!("the changes `{name}` are damaged: {why}"))
                .hint(format!("put them back from a copy, {drop_it}"))
        };
        let about = About::read(&held.directory).map_err(damaged)?;
        let layers = held.directory.join(LAYERS);
        if !layers.is_dir() {
            return Err(damaged("their layers are gone".to_owned()));
        }
        let overlay = Overlay::open_whole(&about.directory, layers).map_err(|error| match error.kind() {
            ErrorKind::Damaged => damaged(error.to_string()),
            _ if !about.directory.is_dir() => Failure::new(format!(
                "the directory `{}`, of which the changes `{name}` are, is gone",
                about.directory.display()
            ))
            .hint(format!("put it back, {drop_it}")),
            _ => error.into(),
        })?;
        Ok(Opened { held, about, overlay })
    }
}

/// Why changes must not be believed, if so: others can have written what would be applied, and to where.
fn foreign(store: &Store, name: &str) -> Option<String> {
    store.foreign(name).or_else(|| {
        let layers = store.root.join(name).join(LAYERS);
        crate::trust::foreign(&layers, [])
    })
}

fn list(store: &Store, as_json: bool) -> Result<i32> {
    let names = store.names()?;
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut rows = Vec::new();
    for name in &names {
        let read = match foreign(store, name) {
            Some(why) => Err(format!("not to be trusted: {why}")),
            None => About::read(&store.root.join(name)),
        };
        let (about, problem) = match read {
            Ok(about) => (Some(about), None),
            Err(why) => (None, Some(why)),
        };
        if as_json {
            rows.push(json!({
                "name": name,
                "created": about.as_ref().map(|about| &about.created),
                "directory": about.as_ref().map(|about| about.directory.to_string_lossy()),
                "changes": about.as_ref().map(|about| about.changes),
                "why": about.as_ref().map(|about| &about.why),
                "problem": problem,
            }));
            continue;
        }
        let state = match (&about, &problem) {
            (Some(about), _) => format!(
                "{}  {:>11}  {}",
                escaped(&about.created).replace('T', " "),
                about.changes.map_or("? changes".to_owned(), |changes| show_number_of(changes, "change")),
                shown(&about.directory)
            ),
            (None, problem) => {
                format!("damaged: {}", terminal::line(problem.as_deref().unwrap_or_default(), 120))
            }
        };
        say!("{name:width$}  {state}");
    }
    if as_json {
        say!("{}", Value::from(rows));
    } else if names.is_empty() {
        terminal::remark("no changes are kept");
    }
    Ok(0)
}

fn apply(store: &Store, name: &str, settle: &Settle) -> Result<i32> {
    let Opened { held, about, overlay } = Opened::open(store, name)?;
    let again = format!("agentkernel changes apply {name}");
    let drop_them = format!("agentkernel changes discard {name}");
    let count = overlay::apply(&overlay, settle, &again, &drop_them)?;
    drop(overlay);
    store.remove_held(held)?;
    let directory = shown(&about.directory);
    terminal::remark(&match count {
        0 => format!("nothing was left to apply to `{directory}`"),
        count => format!("{} applied to `{directory}`", show_number_of(count, "change")),
    });
    Ok(0)
}

fn shown(path: &Path) -> String {
    escaped(&path.display().to_string()).replace('\n', "\\n")
}
