//! Overlays on the command line: what a program has changed, shown and taken over.

use std::io::{self, IsTerminal};
use std::path::Path;

use agentkernel::{
    Change, ChangeKind, Conflict, ConflictKind, Diff, ErrorKind, Grants, Object, ObjectKind, Overlay, Side,
    Workspace,
};
use serde::Serialize;

use crate::arguments::{Changes, Settle};
use crate::changes;
use crate::failure::{Failure, Result};
use crate::terminal::{self, escaped, say};
use crate::units::show_number_of;

/// Changes that a summary names.
const NAMED: usize = 20;

/// Lays an overlay that ends with the process over the workspace, if the flags say so.
pub fn over_workspace(grants: &mut Grants, changes: Changes) -> Result<Option<Overlay>> {
    if !changes.overlay {
        return Ok(None);
    }
    let Workspace::Directory(directory) = &grants.workspace else {
        return Err(Failure::new("`--overlay` has no directory to lie over")
            .hint("name it with `--workspace DIR`; without one, the program's files are dropped anyway"));
    };
    let overlay = Overlay::over(directory)?;
    if changes.apply {
        overlay.check_apply()?;
    }
    grants.workspace = Workspace::Overlay(overlay.clone());
    Ok(Some(overlay))
}

/// Shows what a program of the command `by` has changed, and takes it over where that is asked for and the program has
/// `succeeded`. What could not be taken over is kept.
pub fn end(by: &str, overlay: &Overlay, apply: bool, succeeded: bool, quiet: bool) -> Result<()> {
    let diff = overlay.diff();
    if !quiet {
        for change in diff.as_ref().map(summary).unwrap_or_default() {
            terminal::remark(&change);
        }
    }
    let shown = overlay.directory().display();
    let takes_over = apply && succeeded;
    if takes_over {
        // Also where nothing differs: what the program wrote may be what another has written meanwhile. And also where
        // that cannot be told: if it cannot be applied either, it is kept.
        overlay.apply().map_err(|error| {
            let keep = |layers: &Path| overlay.fork_into(layers).map(drop);
            let count = diff.as_ref().ok().map(|diff| diff.changes.len());
            let kept = changes::keep(by, overlay.directory(), count, &error.to_string(), keep);
            Failure::new(escaped(&error.to_string())).hint(kept.remedy())
        })?;
    }
    let diff = diff.map_err(|error| match takes_over {
        true => Failure::new(escaped(&error.to_string()))
            .hint(format!("all that the program has changed was applied to `{shown}`: look there")),
        false => error.into(),
    })?;
    if !quiet && !diff.changes.is_empty() {
        terminal::remark(&match (apply, succeeded) {
            (true, true) => format!("these changes were applied to `{shown}`"),
            (true, false) => "these changes were dropped, because the program failed".to_owned(),
            (false, _) => "these changes were dropped; `--apply` takes them over".to_owned(),
        });
    }
    Ok(())
}

/// What `diff` of a command prints.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    diff: &'a Diff,
    /// Where the directory was changed meanwhile.
    conflicts: &'a [Conflict],
}

/// Shows what differs, and what stands against applying it.
pub fn show(overlay: &Overlay, as_json: bool) -> Result<()> {
    let (diff, conflicts) = (overlay.diff()?, overlay.conflicts()?);
    if as_json {
        let text = serde_json::to_string(&Shown { diff: &diff, conflicts: &conflicts })
            .map_err(|error| Failure::new(format!("the differences have no JSON form: {error}")))?;
        say!("{text}");
        return Ok(());
    }
    if diff.changes.is_empty() {
        terminal::remark("nothing differs");
    } else {
        say!("{}", differences(&diff, io::stdout().is_terminal()).trim_end_matches('\n'));
    }
    for conflict in &conflicts {
        terminal::remark(&format!("conflict: {} in the directory meanwhile", told(conflict)));
    }
    Ok(())
}

fn told(conflict: &Conflict) -> String {
    let what = match conflict.kind {
        ConflictKind::Removed => "removed",
        ConflictKind::Made => "made",
        _ => "changed",
    };
    format!("`{}` was {what}", escaped(&conflict.path).replace('\n', "\\n"))
}

/// Takes changes over into the directory, all or none, with conflicts settled as it is said; gives how many there were.
/// What does so again, and what drops them, is for messages.
pub fn apply(overlay: &Overlay, settle: &Settle, again: &str, drop_them: &str) -> Result<u64> {
    // Rolled back where it is dropped: what is said of conflicts counts with an apply that succeeds, and only then.
    let settled = match sides(settle)? {
        sides if sides.is_empty() => None,
        sides => Some((overlay.checkpoint(), sides)),
    };
    if let Some((_, sides)) = &settled {
        let counts = overlay.settle_each(sides)?;
        // Everywhere there may be none.
        let none = |((path, _), count): &(&(&str, Side), usize)| *count == 0 && !path.is_empty();
        if let Some(((path, _), _)) = sides.iter().zip(counts).find(none) {
            return Err(Failure::new(format!("there is no conflict at `{}`", escaped(path)))
                .hint("paths start at the top of the directory; `diff` shows all conflicts"));
        }
        if let Some(left) = overlay.conflicts()?.first() {
            return Err(Failure::new(format!("not every conflict is settled: {}", told(left))).hint(format!(
                "settle the others as well, or all of them with `{again} --ours .` or `{again} --theirs .`"
            )));
        }
    }
    let count = overlay.diff()?.changes.len() as u64;
    let applied = match settled {
        Some((checkpoint, _)) => checkpoint.apply(),
        None => overlay.apply(),
    };
    applied.map_err(|error| match error.kind() {
        ErrorKind::Conflict => Failure::new(escaped(&error.to_string())).hint(format!(
            "`diff` shows all that differs; `{again} --ours PATH` replaces what is there, `--theirs PATH` leaves it, and \
             `{drop_them}` drops all changes"
        )),
        _ => error.into(),
    })?;
    Ok(count)
}

/// Who holds where, as conflicts have paths.
fn sides(settle: &Settle) -> Result<Vec<(&str, Side)>> {
    let ours = settle.ours.iter().map(|path| (plain(path), Side::Overlay));
    let theirs = settle.theirs.iter().map(|path| (plain(path), Side::Directory));
    if let Some((path, _)) = ours.clone().find(|(path, _)| theirs.clone().any(|(other, _)| other == *path)) {
        let shown = if path.is_empty() { "." } else { path };
        return Err(Failure::new(format!("both sides are named for `{}`", escaped(shown)))
            .hint("name one; at a path that is longer it may be the other"));
    }
    Ok(ours.chain(theirs).collect())
}

/// A path as conflicts have it.
fn plain(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    if path == "." { "" } else { path.strip_prefix("./").unwrap_or(path) }
}

/// All that differs, with the lines of texts; `escape` what a terminal would obey.
pub fn differences(diff: &Diff, escape: bool) -> String {
    let mut shown = String::new();
    for change in &diff.changes {
        shown += &line(change);
        if change.is_binary {
            shown += " (not text)";
        } else if is_too_long(change) {
            let [before, after] = [change.before, change.after].map(|side| side.map_or(0, |side| side.size));
            shown += &format!(
                " (too long to show: {} before, {} after)",
                show_number_of(before, "byte"),
                show_number_of(after, "byte")
            );
        }
        shown.push('\n');
        if let Some(text) = &change.text {
            let text = text.trim_end_matches('\n');
            match escape {
                true => shown += &escaped(text),
                false => shown += text,
            }
            shown.push('\n');
        }
    }
    shown
}

/// Whether the content of a file differs, and how is not shown.
fn is_too_long(change: &Change) -> bool {
    let is_file = |side: Option<Object>| side.is_none_or(|side| side.kind == ObjectKind::File);
    matches!(change.kind, ChangeKind::Added | ChangeKind::Changed | ChangeKind::Deleted)
        && is_file(change.before)
        && is_file(change.after)
        && change.text.is_none()
        && !change.is_binary
}

/// A line for each change, of many for the first ones.
pub fn summary(diff: &Diff) -> Vec<String> {
    let mut lines: Vec<_> = diff.changes.iter().take(NAMED).map(line).collect();
    if diff.changes.len() > NAMED {
        lines.push(format!("{} more", diff.changes.len() - NAMED));
    }
    lines
}

/// What became of one object.
pub fn line(change: &Change) -> String {
    let what = match change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Changed => "changed",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Moved => "moved",
        ChangeKind::TypeChanged => "of another kind",
        _ => "different",
    };
    let shown = |path: &str| escaped(path).replace('\n', "\\n");
    let from = change.from.as_ref().map_or(String::new(), |from| format!(" (from {})", shown(from)));
    format!("{what:<8} {}{from}", shown(&change.path))
}
