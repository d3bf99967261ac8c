//! Overlay workspaces: a program does there what it does in a plain directory, leaves the directory as it is, and
//! gets out no way; what it changed is shown, applied or dropped as a whole, whenever a process is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use agentkernel::{ChangeKind, ConflictKind, ErrorKind, Grants, Limits, Overlay, Session, Workspace};
use agentkernel_tests::limits;
use serde_json::json;
use tempfile::TempDir;

#[path = "workspace/asked.rs"]
mod asked;
#[path = "overlay/failing.rs"]
mod failing;
#[path = "overlay/forged.rs"]
mod forged;
#[path = "overlay/hostile.rs"]
mod hostile;
#[path = "overlay/killed.rs"]
mod killed;
#[path = "workspace/observe.rs"]
mod observe;
#[path = "overlay/open.rs"]
mod open;
#[path = "overlay/programs.rs"]
mod programs;
#[path = "overlay/settle.rs"]
mod settle;

use asked::{answer, start_with};
use observe::{contents, names, snapshot};

fn start_on(workspace: Workspace, limits: Limits) -> Session {
    start_with(Grants { workspace, limits, ..Grants::default() })
}

fn start(overlay: &Overlay) -> Session {
    start_on(Workspace::Overlay(overlay.clone()), limits())
}

/// A directory with files, an overlay on it, and a session on that.
fn over(files: &[(&str, &str)]) -> (TempDir, Overlay, Session) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let overlay = Overlay::over(&root).unwrap();
    let session = start(&overlay);
    (directory, overlay, session)
}

#[test]
fn the_directory_stays_as_it_is_until_changes_are_applied() {
    let (directory, overlay, mut session) =
        over(&[("kept", "1\n"), ("changed", "a\nb\n"), ("gone/file", "x")]);
    fs::set_permissions(directory.path().join("root/changed"), fs::Permissions::from_mode(0o751)).unwrap();
    let before = snapshot(directory.path(), Path::new(""));
    let code = "
write('changed', 'c\\n', 'a'); shutil.rmtree('gone'); os.makedirs('new/deep'); write('new/deep/file', 'y')
os.symlink('kept', 'link')
[sorted(os.listdir('.')), read('changed'), read('kept')]";
    let expected = json!([["changed", "kept", "link", "new"], "a\nb\nc\n", "1\n"]);
    assert_eq!(answer(&mut session, code), expected);
    assert_eq!(snapshot(directory.path(), Path::new("")), before);

    let diff = overlay.diff().unwrap();
    let told: Vec<_> = diff.changes.iter().map(|change| (change.path.as_str(), change.kind)).collect();
    let expected = [
        ("changed", ChangeKind::Changed),
        ("gone", ChangeKind::Deleted),
        ("gone/file", ChangeKind::Deleted),
        ("link", ChangeKind::Added),
        ("new", ChangeKind::Added),
        ("new/deep", ChangeKind::Added),
        ("new/deep/file", ChangeKind::Added),
    ];
    assert_eq!(told, expected);
    let text = diff.changes[0].text.as_deref().unwrap();
    assert_eq!(text, "--- a/changed\n+++ b/changed\n@@ -1,2 +1,3 @@\n a\n b\n+c\n");
    let told = serde_json::to_value(&diff).unwrap();
    assert_eq!(told["changes"][0]["kind"], "changed");
    assert_eq!(told["changes"][0]["after"], json!({ "kind": "file", "size": 6 }));

    overlay.apply().unwrap();
    let root = directory.path().join("root");
    assert_eq!(names(&root).unwrap(), ["changed", "kept", "link", "new"]);
    assert_eq!(fs::read(root.join("changed")).unwrap(), b"a\nb\nc\n");
    assert_eq!(fs::metadata(root.join("changed")).unwrap().mode() & 0o777, 0o751);
    assert_eq!(names(directory.path()).unwrap(), ["root"]);
    assert!(overlay.diff().unwrap().changes.is_empty());
    assert_eq!(overlay.held_bytes(), 0);
    // The session goes on.
    assert_eq!(
        answer(&mut session, "write('kept', '2'); [read('kept'), read('new/deep/file')]"),
        json!(["2", "y"])
    );
    overlay.discard().unwrap();
    assert_eq!(answer(&mut session, "read('kept')"), json!("1\n"));
}

#[test]
fn what_changed_meanwhile_is_not_overwritten() {
    for (change, path, kind) in [
        ("write", "changed", ConflictKind::Changed),
        ("remove", "changed", ConflictKind::Removed),
        ("same size", "changed", ConflictKind::Changed),
        ("make", "new", ConflictKind::Made),
        ("write", "gone/file", ConflictKind::Changed),
        ("make", "gone/other", ConflictKind::Made),
        ("write", "moved", ConflictKind::Changed),
    ] {
        let files = [("changed", "a"), ("gone/file", "x"), ("moved", "m"), ("kept", "k")];
        let (directory, overlay, mut session) = over(&files);
        let code =
            "write('changed', 'b'); shutil.rmtree('gone'); write('new', 'n'); os.rename('moved', 'there'); 0";
        answer(&mut session, code);
        let root = directory.path().join("root");
        // What the overlay does not change may change.
        fs::write(root.join("kept"), "other").unwrap();
        assert_eq!(overlay.conflicts().unwrap(), []);
        match change {
            "remove" => fs::remove_file(root.join(path)).unwrap(),
            "same size" => {
                let times = fs::metadata(root.join(path)).unwrap().modified().unwrap();
                fs::write(root.join(path), "z").unwrap();
                fs::File::options().write(true).open(root.join(path)).unwrap().set_modified(times).unwrap();
            }
            _ => fs::write(root.join(path), "theirs").unwrap(),
        }
        let before = contents(&root);
        let error = overlay.apply().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(&format!("`{path}`")), "{error}");
        let conflicts = overlay.conflicts().unwrap();
        let told: Vec<_> = conflicts.iter().map(|conflict| (conflict.path.as_str(), conflict.kind)).collect();
        assert_eq!(told, [(path, kind)], "{change}");
        assert_eq!(contents(&root), before);
        assert_eq!(names(directory.path()).unwrap(), ["root"]);
    }
}

#[test]
fn what_cannot_be_applied_wholly_is_not_applied() {
    if rustix_is_root() {
        eprintln!("skipped: nothing is read-only to root");
        return;
    }
    let (directory, overlay, mut session) = over(&[("a", "1"), ("z/deep/b", "2")]);
    answer(&mut session, "write('a', 'changed'); write('z/deep/b', 'changed'); write('c', 'new'); 0");
    let root = directory.path().join("root");
    fs::set_permissions(root.join("z/deep"), fs::Permissions::from_mode(0o555)).unwrap();
    let before = contents(&root);
    overlay.apply().unwrap_err();
    assert_eq!(contents(&root), before);
    assert_eq!(names(directory.path()).unwrap(), ["root"]);
    fs::set_permissions(root.join("z/deep"), fs::Permissions::from_mode(0o755)).unwrap();
    overlay.apply().unwrap();
    assert_eq!(fs::read(root.join("z/deep/b")).unwrap(), b"changed");
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

#[test]
fn directories_are_moved_with_all_in_them_without_copies() {
    let (directory, overlay, mut session) = over(&[("a/x", "1"), ("a/sub/y", "2"), ("b/z", "3")]);
    let code = "
os.rename('a', 't'); os.rename('b', 'a'); os.rename('t', 'b'); os.rename('b/sub', 'a/sub'); write('b/x', 'new')
os.mkdir('n'); os.rename('a', 'n/a')
[read('n/a/z'), read('n/a/sub/y'), read('b/x'), sorted(os.listdir('.'))]";
    assert_eq!(answer(&mut session, code), json!(["3", "2", "new", ["b", "n"]]));
    assert_eq!(overlay.held_bytes(), 3);
    let diff = overlay.diff().unwrap();
    let moved = diff.changes.iter().find(|change| change.kind == ChangeKind::Moved).unwrap();
    assert_eq!((moved.path.as_str(), moved.from.as_deref()), ("n/a", Some("b")));
    overlay.apply().unwrap();
    let root = directory.path().join("root");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!([read("n/a/z"), read("n/a/sub/y"), read("b/x")], ["3", "2", "new"]);
    assert_eq!(names(&root).unwrap(), ["b", "n"]);
}

#[test]
fn another_link_to_a_file_is_one_more_and_no_move() {
    let (directory, overlay, mut session) = over(&[("a", "text"), ("b", "text")]);
    answer(&mut session, "os.link('a', 'link'); os.rename('b', 'moved'); 0");
    let changes = overlay.diff().unwrap().changes;
    let told: Vec<_> = changes.iter().map(|change| (change.path.as_str(), change.kind)).collect();
    assert_eq!(told, [("link", ChangeKind::Added), ("moved", ChangeKind::Moved)]);
    overlay.apply().unwrap();
    assert_eq!(names(&directory.path().join("root")).unwrap(), ["a", "link", "moved"]);
}

#[test]
fn forks_and_checkpoints_keep_and_drop_changes_together() {
    let (_directory, overlay, mut session) = over(&[("file", "0")]);
    answer(&mut session, "write('file', '1'); write('one', '1'); 0");
    let fork = overlay.fork().unwrap();
    let mut other = start(&fork);
    answer(&mut session, "write('file', 'p', 'a'); os.unlink('one'); 0");
    answer(&mut other, "write('file', 'c', 'a'); write('one', 'c', 'r+'); 0");
    let look = "[read('file'), os.path.exists('one') and read('one')]";
    assert_eq!(answer(&mut session, look), json!(["1p", false]));
    assert_eq!(answer(&mut other, look), json!(["1c", "c"]));

    let outer = overlay.checkpoint();
    answer(&mut session, "kept = open('file', 'a'); kept.write('x'); kept.flush(); write('one', 'again'); 0");
    let inner = overlay.checkpoint();
    answer(&mut session, "os.rename('file', 'moved'); shutil.rmtree('d', True); os.mkdir('d'); 0");
    inner.roll_back();
    assert_eq!(
        answer(&mut session, "[read('file'), sorted(os.listdir('.'))]"),
        json!(["1px", ["file", "one"]])
    );
    overlay.apply().unwrap_err();
    overlay.discard().unwrap_err();
    drop(outer);
    assert_eq!(answer(&mut session, "[read('file'), sorted(os.listdir('.'))]"), json!(["1p", ["file"]]));
    let checkpoint = overlay.checkpoint();
    answer(&mut session, "write('file', 'kept'); 0");
    checkpoint.commit().unwrap();
    assert_eq!(answer(&mut session, "read('file')"), json!("kept"));
    assert_eq!(answer(&mut other, look), json!(["1c", "c"]));
}

#[test]
fn layers_are_there_again_in_another_session() {
    let directory = tempfile::tempdir().unwrap();
    let [root, layers] = ["root", "layers"].map(|name| directory.path().join(name));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "0").unwrap();
    let overlay = Overlay::open(&root, &layers).unwrap();
    let error = Overlay::open(&root, &layers).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    let mut session = start(&overlay);
    answer(&mut session, "write('file', '1'); os.makedirs('é/d'); write('é/d/f', 'x'); 0");
    drop((session, overlay));
    let overlay = Overlay::open(&root, &layers).unwrap();
    let mut session = start(&overlay);
    assert_eq!(answer(&mut session, "[read('file'), read('é/d/f')]"), json!(["1", "x"]));
    // A line that was not written to its end is none.
    drop((session, overlay));
    let mut log = fs::read(layers.join("log.jsonl")).unwrap();
    log.extend(b"{\"Ops\":[{\"Drop\":");
    fs::write(layers.join("log.jsonl"), log).unwrap();
    let fork = Overlay::open(&root, &layers).unwrap().fork_into(directory.path().join("fork")).unwrap();
    assert_eq!(answer(&mut start(&fork), "write('é/d/f', 'y', 'a'); read('é/d/f')"), json!("xy"));
    assert_eq!(answer(&mut start(&Overlay::open(&root, &layers).unwrap()), "read('é/d/f')"), json!("x"));

    let error = Overlay::open(directory.path().join("fork"), &layers).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Grant);
    let error = Overlay::open(&root, root.join("layers")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Grant);
    fs::write(layers.join("log.jsonl"), "{}\n").unwrap();
    let error = Overlay::open(&root, &layers).unwrap_err();
    assert!(error.to_string().contains("damaged") && error.remedy().is_some(), "{error}");
    // Those of a later version are sound.
    fs::write(layers.join("log.jsonl"), "{\"agentkernel-overlay\":2}\n").unwrap();
    let error = Overlay::open(&root, &layers).unwrap_err();
    assert!(error.kind() == ErrorKind::System && error.to_string().contains("format 2"), "{error}");
}

#[test]
fn open_files_follow_copies_that_are_made_later() {
    let (_directory, _overlay, mut session) = over(&[("file", "before"), ("d/f", "x")]);
    let code = "
reader = open('file')
same = os.fstat(reader.fileno()).st_ino == os.stat('file').st_ino
inode = os.stat('file').st_ino
write('file', 'after!', 'r+')
first = [reader.read(), os.stat('file').st_ino == inode, os.fstat(reader.fileno()).st_ino == inode]
fd = os.open('d', os.O_RDONLY | os.O_DIRECTORY)
os.rename('d', 'e')
os.close(os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=fd))
gone = open('e/f')
os.unlink('e/f')
[same, first, sorted(os.listdir('e')), gone.read(), os.fstat(gone.fileno()).st_size]";
    assert_eq!(answer(&mut session, code), json!([true, ["after!", true, true], ["new"], "x", 1]));
}

/// Makes `count` files, a hundred in each directory.
fn many(root: &Path, count: usize) {
    for number in 0..count / 100 {
        let directory = root.join(format!("d{number:04}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..100 {
            fs::write(directory.join(format!("f{file:02}")), "some text\n").unwrap();
        }
    }
}

#[test]
fn a_directory_of_100_000_files_is_there_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    many(&root, 100_000);
    let mut first = start_on(Workspace::Temporary, limits());
    answer(&mut first, "0");
    let begun = Instant::now();
    let overlay = Overlay::over(&root).unwrap();
    let mut session = start(&overlay);
    let code = "write('d0500/f50', 'more', 'a'); [read('d0500/f50'), len(os.listdir('d0500')), len(os.listdir('.'))]";
    assert_eq!(answer(&mut session, code), json!(["some text\nmore", 100, 1000]));
    let took = begun.elapsed();
    println!("laid over 100,000 files, first write and listing: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(overlay.held_bytes(), 14);

    let code = "
begun = time.monotonic()
for number in range(0, 1000, 2):
    for file in range(0, 10):
        with open(f'd{number:04}/f{file:02}', 'rb') as opened:
            opened.read()
round((time.monotonic() - begun) * 1e6 / 5000, 2)";
    let mut plain = start_on(Workspace::Directory(root.clone()), limits());
    let mut times = [f64::MAX; 2];
    for _ in 0..3 {
        for (time, session) in times.iter_mut().zip([&mut plain, &mut session]) {
            *time = time.min(answer(session, code).as_f64().unwrap());
        }
    }
    println!(
        "open and read a file: plain {} µs, overlay {} µs, {:.2}",
        times[0],
        times[1],
        times[1] / times[0]
    );
    assert!(times[1] < times[0] * 2.5, "{times:?}");
    let begun = Instant::now();
    overlay.apply().unwrap();
    println!("applied one change among 100,000 files in {:?}", begun.elapsed());
    assert_eq!(fs::read(root.join("d0500/f50")).unwrap(), b"some text\nmore");
}
