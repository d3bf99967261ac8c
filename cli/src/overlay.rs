//! Overlays on the command line: what a program has changed, shown and taken over.

use agentkernel::{Change, ChangeKind, Diff, Grants, Object, ObjectKind, Overlay, Workspace};

use crate::arguments::Changes;
use crate::failure::{Failure, Result};
use crate::terminal::{self, escaped};
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

/// Shows what a program has changed, and takes it over where that is asked for and the program has
/// `succeeded`.
pub fn end(overlay: &Overlay, apply: bool, succeeded: bool, quiet: bool) -> Result<()> {
    let diff = overlay.diff()?;
    if !quiet {
        for change in summary(&diff) {
            terminal::remark(&change);
        }
    }
    if diff.changes.is_empty() {
        return Ok(());
    }
    let shown = overlay.directory().display();
    if apply && succeeded {
        overlay.apply()?;
        if !quiet {
            terminal::remark(&format!("these changes were applied to `{shown}`"));
        }
    } else if !quiet {
        terminal::remark(match apply {
            true => "these changes were dropped, because the program failed",
            false => "these changes were dropped; `--apply` takes them over",
        });
    }
    Ok(())
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
