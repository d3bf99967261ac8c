//! Sessions that others than the user could have written.

use std::os::unix::fs::{PermissionsExt, chown};

use super::*;

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn is_refused(at: &Path, why: &str) {
    for arguments in
        [&["run", "s", "-c", "print(1)"][..], &["fork", "s", "t"], &["replay", "s"], &["reset", "s"]]
    {
        let output = session(at, arguments);
        refused(&output, "is not to be trusted: ");
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
    let list = said(at, &["list"]);
    assert!(list.contains("damaged: ") && list.contains("not to be trusted"), "{list}");
    assert_eq!(session(at, &["show", "s"]).status.code(), Some(1));
    // Nothing of it is shown.
    assert_eq!(log(at, "s"), [] as [Value; 0]);
}

#[test]
fn what_others_could_have_written_is_not_believed() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s"]);
    turn(at, "s", "x = 1");
    let place = in_session(at, "s", "");
    let files = || {
        let entries = fs::read_dir(&place).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_file() && path.file_name().unwrap() != "lock").collect::<Vec<_>>()
    };
    for mode in [0o777, 0o770, 0o707] {
        allow(&place, mode);
        is_refused(at, "can be written by others");
    }
    for (directory, file) in [(0o755, 0o666), (0o750, 0o660), (0o711, 0o602)] {
        assert_eq!(files().len(), 4, "{:?}", files());
        for path in files() {
            let before = fs::metadata(&path).unwrap().permissions();
            allow(&place, directory);
            allow(&path, file);
            is_refused(at, "can be written by others");
            // In a directory that others cannot enter it may be as it is.
            allow(&place, 0o700);
            assert_eq!(said(at, &["show", "s"]).lines().next(), Some("s"));
            fs::set_permissions(&path, before).unwrap();
        }
    }
    allow(&at.join("data/sessions"), 0o777);
    refused(&session(at, &["list"]), "can be written by others");
    refused(&session(at, &["run", "s", "-c", "1"]), "sessions cannot be kept there");
    allow(&at.join("data/sessions"), 0o755);
    assert_eq!(turn(at, "s", "print(x)"), "1\n");
    allow(&place, 0o777);
    said(at, &["rm", "s"]);
}

#[test]
fn what_belongs_to_another_user_is_not_believed() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s"]);
    turn(at, "s", "x = 1");
    let place = in_session(at, "s", "");
    if chown(&place, Some(12_345), None).is_err() {
        eprintln!("skipped: only root can give files to another user");
        return;
    }
    is_refused(at, "belongs to another user");
    chown(&place, Some(0), None).unwrap();
    for name in ["session.json", "head.json", "journal.jsonl", "turn-1.akimg"] {
        chown(place.join(name), Some(12_345), None).unwrap();
        is_refused(at, "belongs to another user");
        chown(place.join(name), Some(0), None).unwrap();
    }
    assert_eq!(turn(at, "s", "print(x)"), "1\n");
    chown(at.join("data/sessions"), Some(12_345), None).unwrap();
    refused(&session(at, &["list"]), "belongs to another user");
}
