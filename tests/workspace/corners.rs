//! Corners of the file system that were wrong once, or are easily wrong.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agentkernel::Access;
use agentkernel_tests::{kernel, limits};
use serde_json::json;

use super::{answer, mount, secret_beside, start, within};

#[test]
fn the_times_of_a_pipe_are_set_or_refused_promptly() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Command::new("mkfifo").arg(directory.path().join("pipe")).status().unwrap().success());
    let mut session = start(directory.path(), vec![]);
    let error =
        within(Duration::from_secs(15), move || answer(&mut session, "error_of(os.utime, 'pipe', (1, 1))"));
    assert_eq!(error, json!("EPERM"));
}

#[test]
fn nothing_is_linked_or_moved_from_one_mount_to_another() {
    let (outside, workspace) = secret_beside();
    let data = outside.path().join("secret");
    fs::write(workspace.join("file"), "ours").unwrap();
    let mut session = start(&workspace, vec![mount(&data, "/data", Access::ReadWrite)]);
    let code = "
[error_of(act, *paths) for act in (os.link, os.rename)
 for paths in [('file', '/data/new'), ('/data/treasure', 'new')]]";
    assert_eq!(answer(&mut session, code), json!(["EXDEV", "EXDEV", "EXDEV", "EXDEV"]));
    // What copies instead still works.
    assert_eq!(
        answer(&mut session, "shutil.move('file', '/data/moved'); read('/data/moved')"),
        json!("ours")
    );
}

/// Whether a link, resolved step by step, names something outside `root`.
fn names_outside(root: &Path, link: &Path) -> bool {
    let root = fs::canonicalize(root).unwrap();
    let mut at: PathBuf = fs::canonicalize(link.parent().unwrap()).unwrap();
    for part in fs::read_link(link).unwrap().components() {
        at = match part {
            Component::Normal(name) => fs::canonicalize(at.join(name)).unwrap_or(at.join(name)),
            Component::ParentDir => at.parent().unwrap().to_owned(),
            Component::CurDir => at,
            _ => return true,
        };
        if !at.starts_with(&root) {
            return true;
        }
    }
    false
}

#[test]
fn no_link_is_made_that_leads_a_program_of_the_host_out() {
    for (link, code) in [
        ("link", "os.symlink('/etc', 'link')"),
        ("link", "os.mkdir('d'); os.symlink('../secret', 'd/../link')"),
        ("link", "os.symlink('.', 'here'); os.symlink('../secret', 'here/link')"),
        ("d/link", "os.mkdir('d'); os.symlink('..', 'd/up'); os.symlink('up/../secret', 'd/link')"),
        ("link", "os.mkdir('d'); os.symlink('../secret', 'd/link'); os.rename('d/link', 'link')"),
        ("e/link", "os.makedirs('d/e'); os.symlink('../../secret', 'd/e/link'); os.rename('d/e', 'e')"),
        ("link", "os.mkdir('d'); os.symlink('../secret', 'd/link'); os.link('d/link', 'link')"),
    ] {
        let (_outside, workspace) = secret_beside();
        let mut session = start(&workspace, vec![]);
        answer(&mut session, &format!("error_of(lambda: exec({code:?})); 0"));
        let link = workspace.join(link);
        assert!(link.symlink_metadata().is_err() || !names_outside(&workspace, &link), "{code}");
    }
}

#[test]
fn a_directory_named_with_a_slash_at_the_end_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("one")).unwrap();
    fs::create_dir_all(directory.path().join("two/below")).unwrap();
    let mut session = start(directory.path(), vec![]);
    let code = "[error_of(os.rmdir, 'one/'), error_of(shutil.rmtree, 'two/'), os.listdir('.')]";
    assert_eq!(answer(&mut session, code), json!([null, null, []]));
}

#[test]
fn a_directory_opened_as_one_is_synced_and_its_times_are_set() {
    let directory = tempfile::tempdir().unwrap();
    let mut session = start(directory.path(), vec![]);
    let code = "
fd = os.open('.', os.O_RDONLY | os.O_DIRECTORY)
[error_of(os.fsync, fd), error_of(os.fdatasync, fd), error_of(os.utime, fd, (1, 1))]";
    assert_eq!(answer(&mut session, code), json!([null, null, null]));
}

#[test]
fn granted_directories_do_not_count_as_open_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut limits = limits();
    limits.open_files = 2;
    let mut session = kernel().session().workspace(directory.path()).limits(limits).start().unwrap();
    let code =
        "one = os.open('one', os.O_CREAT | os.O_RDWR); two = os.open('two', os.O_CREAT | os.O_RDWR); 0";
    assert_eq!(answer(&mut session, code), json!(0));
}

#[test]
fn a_slash_at_the_end_asks_for_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("d")).unwrap();
    std::os::unix::fs::symlink("d", directory.path().join("link")).unwrap();
    for file in ["file", "other"] {
        fs::write(directory.path().join(file), "").unwrap();
    }
    let mut session = start(directory.path(), vec![]);
    let code = "
import stat
[error_of(os.lstat, 'file/'), stat.S_ISDIR(os.lstat('link/').st_mode), error_of(os.rename, 'file', 'other/'),
 error_of(os.rename, 'other', 'new/')]";
    assert_eq!(answer(&mut session, code), json!(["ENOTDIR", true, "ENOTDIR", "ENOTDIR"]));
}

/// A link that stays inside where it lies may lead out from elsewhere.
#[test]
fn a_link_that_leads_up_is_not_moved() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("deep/er")).unwrap();
    fs::write(directory.path().join("f"), "inside").unwrap();
    std::os::unix::fs::symlink("../../f", directory.path().join("deep/er/up")).unwrap();
    std::os::unix::fs::symlink("er", directory.path().join("deep/down")).unwrap();
    let mut session = start(directory.path(), vec![]);
    let code = "
[open('deep/er/up').read(), error_of(os.rename, 'deep/er/up', 'moved'), error_of(os.link, 'deep/er/up', 'moved'),
 error_of(os.rename, 'deep/down', 'moved'), os.readlink('moved')]";
    assert_eq!(answer(&mut session, code), json!(["inside", "EPERM", "EPERM", null, "er"]));
}
