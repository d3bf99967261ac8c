//! What programs leave where an `apply` leaves its things.

use std::fs;
use std::path::Path;

use agentkernel::{ErrorKind, Grants, Overlay, Workspace};
use agentkernel_tests::{kernel, limits};
use serde_json::json;

use super::{answer, contents, names, over, start_on};

/// Writes the journal of an `apply` that takes a file away, as versions before wrote it, and a directory that makes
/// the `apply` look half done.
const FORGE: &str = r#"
import json
def forge(stage):
    os.mkdir(stage)
    steps = [{'Out': {'path': 'victim', 'to': 'o1', 'replaced': False}}, {'In': {'from': 'n1', 'path': 'made'}}]
    write(f'{stage}/journal', json.dumps({'name': '0', 'layers': None, 'steps': steps}))
    write(f'{stage}/n1', 'forged')
"#;

/// Has a program forge in a directory, which is its workspace.
fn forge(workspace: &Path, code: &str) {
    let mut session = start_on(Workspace::Directory(workspace.to_owned()), limits());
    answer(&mut session, &format!("{FORGE}\n{code}; 0"));
}

#[test]
fn a_journal_that_a_program_wrote_is_not_followed() {
    for (workspace, code) in
        [("root", "forge('.agentkernel-apply')"), ("", "forge('.agentkernel-apply-root')")]
    {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("victim"), "here").unwrap();
        forge(&directory.path().join(workspace), code);
        let before = contents(directory.path());
        let error = Overlay::over(&root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::System);
        assert!(error.to_string().contains("this user has begun none"), "{error}");
        assert!(error.remedy().is_some_and(|hint| hint.contains("remove it")), "{error:?}");
        // Nothing is done, and nothing lost: it could be another user's.
        assert_eq!(contents(directory.path()), before);
    }
}

#[test]
fn no_more_of_a_journal_is_read_than_one_can_have() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("victim"), "here").unwrap();
    forge(directory.path(), "forge('.agentkernel-apply')");
    let journal = fs::File::options().write(true).open(directory.path().join(".agentkernel-apply/journal"));
    // As large as the machine's memory cannot be.
    journal.unwrap().set_len(1 << 40).unwrap();
    let error = Overlay::over(directory.path()).unwrap_err();
    assert!(error.to_string().contains("this user has begun none"), "{error}");
}

#[test]
fn what_was_never_begun_is_removed_and_an_apply_goes_on() {
    let (directory, overlay, mut session) = over(&[("victim", "here")]);
    answer(&mut session, "write('victim', 'changed'); 0");
    forge(directory.path(), "forge('.agentkernel-apply-root'); os.unlink('.agentkernel-apply-root/journal')");
    overlay.apply().unwrap();
    assert_eq!(names(directory.path()).unwrap(), ["root"]);
    assert_eq!(fs::read_to_string(directory.path().join("root/victim")).unwrap(), "changed");
    // A forgery after it began: it is refused, and all stays as it is.
    answer(&mut session, "write('victim', 'again'); 0");
    forge(directory.path(), "forge('.agentkernel-apply-root')");
    overlay.apply().unwrap_err();
    assert_eq!(fs::read_to_string(directory.path().join("root/victim")).unwrap(), "changed");
    fs::remove_dir_all(directory.path().join(".agentkernel-apply-root")).unwrap();
    overlay.apply().unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("root/victim")).unwrap(), "again");
    assert_eq!(answer(&mut session, "read('victim')"), json!("again"));
}

#[test]
fn no_program_may_write_to_where_changes_are_written_down() {
    let home = ["XDG_DATA_HOME", "HOME"].iter().find_map(std::env::var_os);
    if std::env::var_os("AGENTKERNEL_DATA_DIR").is_some() || home.is_none() {
        eprintln!("skipped: there is no home");
        return;
    }
    let home = std::path::PathBuf::from(home.unwrap());
    if !home.is_dir() {
        eprintln!("skipped: the home is not there");
        return;
    }
    let grants = Grants { workspace: Workspace::Directory(home), limits: limits(), ..Grants::default() };
    let error = kernel().session().grants(grants).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Grant);
    assert!(error.to_string().contains("the program may write to"), "{error}");
    assert!(error.to_string().contains("record of applied changes"), "{error}");
}
