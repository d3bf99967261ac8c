//! What agents change in files: taken over, held, dropped, in conflict.

use std::fs;

use agentkernel::{ChangeKind, Grants, Overlay, Workspace};

use super::*;

/// A directory with a file, and a model that writes two.
fn prepared() -> (tempfile::TempDir, Kernel) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("notes.txt"), "one\n").unwrap();
    fs::write(directory.path().join("old.txt"), "old\n").unwrap();
    let kernel = kernel_with(|last, _| {
        if last.ends_with("Task: Look.") {
            assert!(last.contains("The user dropped your changes to files"), "{last}");
            return python("import os\nFINAL(sorted(os.listdir()))");
        }
        python(
            "import os\nopen('notes.txt', 'a').write('two\\n')\nos.makedirs('out')\nopen('out/new.bin', 'wb').write(b'\\xff\\x00' * 8)\nos.remove('old.txt')\nFINAL('written')",
        )
    });
    (directory, kernel)
}

fn read(directory: &Path, name: &str) -> Option<String> {
    fs::read_to_string(directory.join(name)).ok()
}

#[test]
fn changes_are_taken_over_when_the_task_has_ended() {
    let (directory, kernel) = prepared();
    let outcome =
        agent(&kernel, |agent| agent.workspace(directory.path())).execute_task_blocking("Write.").unwrap();
    assert_eq!(answered(&outcome), "written");
    assert!(outcome.applied && outcome.changes_problem.is_none());
    let artefacts: Vec<_> =
        outcome.artefacts.iter().map(|file| (file.path.as_str(), file.bytes, file.is_new)).collect();
    assert_eq!(artefacts, [("notes.txt", 8, false), ("out/new.bin", 16, true)]);
    let deleted = outcome.changes.changes.iter().find(|change| change.path == "old.txt").unwrap();
    assert_eq!(deleted.kind, ChangeKind::Deleted);
    assert_eq!(read(directory.path(), "notes.txt").as_deref(), Some("one\ntwo\n"));
    assert_eq!(read(directory.path(), "old.txt"), None);
    assert!(directory.path().join("out/new.bin").exists());
}

#[test]
fn held_changes_are_shown_and_taken_over_or_dropped() {
    let (directory, kernel) = prepared();
    let mut agent = agent(&kernel, |agent| agent.workspace(directory.path()).hold_changes(true));
    let outcome = agent.execute_task_blocking("Write.").unwrap();
    assert!(!outcome.applied);
    assert_eq!(read(directory.path(), "notes.txt").as_deref(), Some("one\n"));
    let diff = agent.diff().unwrap();
    assert_eq!(diff, outcome.changes);
    let notes = diff.changes.iter().find(|change| change.path == "notes.txt").unwrap();
    assert!(notes.text.as_ref().unwrap().contains("+two"), "{notes:?}");
    agent.discard().unwrap();
    assert!(agent.diff().unwrap().changes.is_empty());
    // The session goes on, sees the directory as it is, and the model knows.
    assert_eq!(answered(&agent.execute_task_blocking("Look.").unwrap()), "['notes.txt', 'old.txt']");
    agent.execute_task_blocking("Write.").unwrap();
    agent.apply().unwrap();
    assert_eq!(read(directory.path(), "notes.txt").as_deref(), Some("one\ntwo\n"));
    let outcome = agent.execute_task_blocking(AgentTask::code("print(open('notes.txt').read())")).unwrap();
    assert_eq!(answered(&outcome), "one\ntwo");
    assert!(outcome.artefacts.is_empty());
}

#[test]
fn a_conflict_loses_neither_side() {
    let (directory, kernel) = prepared();
    let theirs = directory.path().join("notes.txt");
    let file = theirs.clone();
    let mut agent = agent(&kernel, |agent| {
        agent.workspace(directory.path()).on_event(move |event| {
            // Somebody else, when the agent has written.
            if let AgentEvent::Event(agentkernel::rlm::Event::Answer { .. }) = event {
                fs::write(&file, "theirs, and longer\n").unwrap();
            }
        })
    });
    let outcome = agent.execute_task_blocking("Write.").unwrap();
    assert_eq!(answered(&outcome), "written");
    assert!(!outcome.applied && outcome.changes_problem.is_some(), "{outcome:?}");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs, and longer\n");
    assert!(!agent.diff().unwrap().changes.is_empty());
    assert_eq!(agent.apply().unwrap_err().kind(), agentkernel::ErrorKind::Conflict);
}

#[test]
fn an_overlay_of_the_embedder_is_the_embedders() {
    let (directory, kernel) = prepared();
    let overlay = Overlay::over(directory.path()).unwrap();
    let grants = Grants { workspace: Workspace::Overlay(overlay.clone()), ..Grants::default() };
    let outcome = agent(&kernel, |agent| agent.grants(grants)).execute_task_blocking("Write.").unwrap();
    assert!(!outcome.applied && outcome.artefacts.len() == 2);
    assert_eq!(read(directory.path(), "notes.txt").as_deref(), Some("one\n"));
    assert_eq!(overlay.diff().unwrap(), outcome.changes);
}

#[test]
fn a_temporary_workspace_lasts_as_long_as_the_agent() {
    let kernel = kernel_with(|last, _| match last.ends_with("Task: Write.") {
        true => python("open('a.txt', 'w').write('abc')\nFINAL('written')"),
        false => python("FINAL(open('a.txt').read())"),
    });
    let mut agent = agent(&kernel, |agent| agent);
    let outcome = agent.execute_task_blocking("Write.").unwrap();
    assert_eq!((outcome.artefacts.len(), outcome.artefacts[0].path.as_str()), (1, "a.txt"));
    assert_eq!(answered(&agent.execute_task_blocking("Read.").unwrap()), "abc");
}
