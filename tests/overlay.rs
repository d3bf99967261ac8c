//! Overlay workspaces: a program does there what it does in a plain directory, leaves the directory as it is, and
//! gets out no way; what it changed is shown, applied or dropped as a whole, whenever a process is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agentkernel::{ChangeKind, ConflictKind, ErrorKind, Grants, Limits, Overlay, Session, Workspace};
use agentkernel_tests::{kernel, limits, value};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "overlay/failing.rs"]
mod failing;
#[path = "overlay/forged.rs"]
mod forged;
#[path = "overlay/killed.rs"]
mod killed;
#[path = "workspace/observe.rs"]
mod observe;
#[path = "overlay/open.rs"]
mod open;
#[path = "overlay/programs.rs"]
mod programs;

use observe::{contents, names, snapshot};

const SECRET: &str = "nobody may read this";

/// What programs of these tests begin with.
const PRELUDE: &str = "
import errno, os, shutil, stat, time

def error_of(act, *arguments, **options):
    try:
        act(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))

def read(path):
    with open(path) as file:
        return file.read()

def write(path, text, mode='w'):
    with open(path, mode) as file:
        file.write(text)
";

fn start_on(workspace: Workspace, limits: Limits) -> Session {
    let grants = Grants { workspace, limits, ..Grants::default() };
    kernel().session().grants(grants).start().expect("the session starts")
}

fn start(overlay: &Overlay) -> Session {
    start_on(Workspace::Overlay(overlay.clone()), limits())
}

/// Runs the prelude and `code` and returns the value of its last expression.
#[track_caller]
fn answer(session: &mut Session, code: &str) -> Value {
    let outcome = session.run_blocking(format!("{PRELUDE}\n{code}")).unwrap();
    value(&outcome).json.clone().expect("a plain value")
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
}

#[test]
fn no_more_is_held_than_the_quota_says() {
    let large = "x".repeat(50_000);
    let (_directory, overlay, mut session) = over(&[("large", &large), ("small", "s")]);
    overlay.set_quota(10_000);
    let code = "
results = [error_of(open, 'large', 'r+'), error_of(os.truncate, 'small', 20_000), error_of(os.utime, 'large', (1, 1))]
fd = os.open('new', os.O_CREAT | os.O_RDWR)
results.append(sum(os.write(fd, b'y' * 6000) for _ in range(1)))
def fill():
    for _ in range(10):
        os.write(fd, b'y' * 6000)
results.append(error_of(fill) is not None)
results.append(os.fstat(fd).st_size <= 10_000)
os.unlink('new')
results.append(error_of(write, 'other', 'z' * 6000) is not None)
os.close(fd)
os.unlink('other')
results.append(error_of(write, 'other', 'z' * 6000))
# Emptied, it need not be copied.
results.append(error_of(write, 'large', 'z' * 3000))
results.append(read('large') == 'z' * 3000)
results";
    let expected = json!(["ENOSPC", "ENOSPC", "ENOSPC", 6000, true, true, true, null, null, true]);
    assert_eq!(answer(&mut session, code), expected);
    assert!(overlay.held_bytes() <= 10_000);
}

#[test]
fn entries_and_handles_are_limited() {
    let (_directory, overlay, _) = over(&[("file", "x")]);
    let mut limits = limits();
    (limits.open_files, limits.new_entries) = (20, 30);
    let mut session = start_on(Workspace::Overlay(overlay.clone()), limits);
    let code = "
def hoard():
    files = [open('file') for _ in range(100)]
def make():
    for number in range(100):
        os.mkdir(f'd{number}')
def link():
    for number in range(100):
        os.symlink('file', f'l{number}')
[error_of(hoard), error_of(make), error_of(link), len(os.listdir('.')) - 1]";
    assert_eq!(answer(&mut session, code), json!(["EDQUOT", "EDQUOT", "EDQUOT", 30]));
}

#[test]
fn no_path_leads_out_through_links_and_layers() {
    let (directory, overlay, mut session) = over(&[("d/e/f", "inside")]);
    let root = directory.path().join("root");
    fs::create_dir(directory.path().join("secret")).unwrap();
    fs::write(directory.path().join("secret/treasure"), SECRET).unwrap();
    for (target, link) in
        [("../secret", "out"), ("/etc", "d/abs"), ("../../secret/treasure", "d/gold"), ("../../..", "d/e/up")]
    {
        symlink(target, root.join(link)).unwrap();
    }
    let before = snapshot(directory.path(), Path::new(""));
    let code = "
paths = ['out/treasure', 'd/abs/passwd', 'd/gold', 'd/e/up/secret/treasure', '../secret/treasure', 'd/../../secret/treasure',
         'd/e/up', 'moved/up', 'moved/../../secret/treasure', 'd/./e/../../../secret/treasure']
got = []
def attempt():
    for path in paths:
        for act in [read, os.listdir, lambda p: write(p, 'x'), os.stat, lambda p: os.utime(p, (1, 1)), lambda p: os.truncate(p, 0)]:
            if not error_of(act, path):
                got.append(path)
attempt()
made = [error_of(os.symlink, target, 'new') for target in ('..', '/etc', 'd/../../x')]
moved = [error_of(os.rename, 'out', 'd/out'), error_of(os.link, 'd/gold', 'gold'), error_of(os.rename, 'd/e', 'moved')]
paths += ['moved/up/secret/treasure']
attempt()
os.mkdir('x'); os.rename('moved', 'x/moved'); os.rename('d', 'x/moved/d')
paths += ['x/moved/up/secret/treasure', 'x/moved/d/gold', 'x/moved/d/abs']
attempt()
fd = os.open('x/moved', os.O_RDONLY | os.O_DIRECTORY)
inner = [error_of(os.open, path, os.O_RDONLY, dir_fd=fd) for path in ('../../d', 'up', '../..', 'd/../../..')]
[got, made, moved, inner]";
    let expected = json!([
        [],
        ["EPERM", "EPERM", "EPERM"],
        ["EPERM", "EPERM", null],
        ["EPERM", "EPERM", "EPERM", "EPERM"]
    ]);
    let told = answer(&mut session, code);
    assert_eq!(told, expected);
    assert_eq!(snapshot(directory.path(), Path::new("")), before);
    overlay.apply().unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("secret/treasure")).unwrap(), SECRET);
}

#[test]
fn a_directory_below_swapped_with_a_link_leads_nowhere() {
    let (directory, _overlay, mut session) = over(&[("directory/file", "ours")]);
    let root = directory.path().join("root");
    fs::create_dir(directory.path().join("secret")).unwrap();
    fs::write(directory.path().join("secret/treasure"), SECRET).unwrap();
    fs::write(directory.path().join("secret/file"), SECRET).unwrap();
    symlink("../secret", root.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    let [plain, kept, link] = ["directory", "kept", "link"].map(|name| root.join(name));
    let before = snapshot(&directory.path().join("secret"), Path::new(""));
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (from, to) in [(&plain, &kept), (&link, &plain), (&plain, &link), (&kept, &plain)] {
                    fs::rename(from, to).unwrap();
                }
            }
        });
        let code = "
seen = set()
end = time.monotonic() + 1
number = 0
while time.monotonic() < end:
    number += 1
    for act in [lambda: read('directory/file'), lambda: read('directory/treasure'), lambda: (os.listdir('directory') or [''])[0],
                lambda: write('directory/file', 'ours', 'r+'), lambda: os.rename('directory/file', f'new{number}'),
                lambda: os.utime('directory/treasure', (1, 1)), lambda: read(f'new{number}')]:
        try:
            seen.add(act() or '')
        except OSError:
            pass
sorted(seen)";
        let outcome = session.run_blocking(format!("{PRELUDE}\n{code}"));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap()
    });
    let seen = value(&seen).json.clone().unwrap();
    assert!(!seen.to_string().contains(SECRET), "{seen}");
    assert!(!seen.to_string().contains("treasure"), "{seen}");
    assert_eq!(snapshot(&directory.path().join("secret"), Path::new("")), before);
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

#[test]
fn differences_have_limits() {
    let (directory, overlay, mut session) = over(&[("long", ""), ("binary", ""), ("latin", "")]);
    let code = "
write('long', 'line\\n' * 300_000)
with open('binary', 'wb') as file: file.write(b'a\\0b')
with open('latin', 'wb') as file: file.write(b'\\xe9')
write('a\\n+++ b', 'x\\n')
0";
    answer(&mut session, code);
    let diff = overlay.diff().unwrap();
    let told: Vec<_> = diff
        .changes
        .iter()
        .map(|change| (change.path.as_str(), change.text.is_some(), change.is_binary))
        .collect();
    let expected =
        [("a\n+++ b", true, false), ("binary", false, true), ("latin", false, true), ("long", false, false)];
    assert_eq!(told, expected);
    assert!(!diff.changes[0].text.as_deref().unwrap().contains("\n+++ b\n"));
    let _: PathBuf = directory.path().into();
}
