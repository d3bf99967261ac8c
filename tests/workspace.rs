//! Directories that a session was granted: what a program may do there, and that it reaches nothing
//! else, whatever is in them and whoever changes them meanwhile.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use agentkernel::{Access, Ending, Error, ErrorKind, Grants, Mount, Session, Workspace};
use agentkernel_tests::{kernel, limits, raised, value};
use serde_json::json;
use tempfile::TempDir;

#[path = "workspace/agreement.rs"]
mod agreement;
#[path = "workspace/asked.rs"]
mod asked;
#[path = "workspace/corners.rs"]
mod corners;
#[path = "workspace/observe.rs"]
mod observe;

use asked::{PRELUDE, SECRET, answer, start_with};
use observe::{contents, names, snapshot};

/// A session with `directory` at `/workspace`.
fn start(directory: &Path, mounts: Vec<Mount>) -> Session {
    let workspace = Workspace::Directory(directory.into());
    let grants = Grants { workspace, mounts, limits: limits(), ..Grants::default() };
    start_with(grants)
}

fn mount(host: &Path, guest: &str, access: Access) -> Mount {
    Mount { host: host.into(), guest: guest.into(), access }
}

/// Gives up on what does not end, which no limit of the session would stop inside a host call.
fn within<T: Send + 'static>(limit: Duration, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(act()));
    receiver.recv_timeout(limit).expect("it ends in time")
}

/// A directory with an empty `workspace` in it and, beside that, a `secret` with a `treasure`.
fn secret_beside() -> (TempDir, PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("secret/deep")).unwrap();
    for file in ["secret/treasure", "secret/deep/file", "secret/file"] {
        fs::write(outside.path().join(file), SECRET).unwrap();
    }
    let workspace = outside.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    (outside, workspace)
}

/// Does the `acts` of `code` over and over while another thread swaps `name` in the workspace with a
/// link to `target`, back and forth.
fn race(name: &str, target: &str, code: &str) {
    let (outside, workspace) = secret_beside();
    let [plain, kept, link] = [name, "kept", "link"].map(|name| workspace.join(name));
    match name {
        "directory" => fs::create_dir(&plain).unwrap(),
        _ => fs::write(&plain, "ours").unwrap(),
    }
    symlink(target, &link).unwrap();
    let before = snapshot(outside.path(), &workspace);
    let mut session = start(&workspace, vec![]);
    let stop = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (from, to) in [(&plain, &kept), (&link, &plain), (&plain, &link), (&kept, &plain)] {
                    fs::rename(from, to).unwrap();
                }
            }
        });
        let outcome = session.run_blocking(format!("{PRELUDE}\n{RACE}\n{code}\nrace(acts)"));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap()
    });
    assert_eq!(snapshot(outside.path(), &workspace), before);
    assert!(!value(&outcome).repr.contains(SECRET), "{}", value(&outcome).repr);
    let (seen, done, refused): (Vec<String>, u64, u64) =
        serde_json::from_value(value(&outcome).json.clone().unwrap()).unwrap();
    // A file that the program made where none was for a moment, and then lengthened, holds NUL bytes.
    let own = ["", "ours", "\0\0\0\0", "file", "moved", "new"];
    assert!(seen.iter().all(|text| own.contains(&text.as_str())), "{seen:?}");
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused: the race was none");
}

/// Gives what the acts returned, and how many were done and how many refused.
const RACE: &str = "
def race(acts):
    seen, done, refused = set(), 0, 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for act in acts:
            try:
                result = act()
            except PermissionError:
                refused += 1
            except OSError:
                pass
            else:
                done += 1
                seen.update(result if isinstance(result, list) else [result or ''])
    return [sorted(seen), done, refused]
";

#[test]
fn a_directory_swapped_with_a_link_leads_nowhere() {
    let code = "
acts = [
    lambda: write('directory/file', 'ours'), lambda: read('directory/file'),
    lambda: write('directory/file', 'ours', 'r+'), lambda: os.utime('directory/file', (1, 1)),
    lambda: read('directory/treasure'), lambda: os.listdir('directory'),
    lambda: os.truncate('directory/file', 4), lambda: os.rename('directory/file', 'directory/moved'),
    lambda: os.link('directory/moved', 'directory/file'), lambda: os.unlink('directory/moved'),
    lambda: os.mkdir('directory/new'), lambda: os.rmdir('directory/new'),
    lambda: os.symlink('file', 'directory/new'), lambda: os.unlink('directory/new'),
    lambda: os.unlink('directory/file'),
]";
    race("directory", "../secret", code);
}

#[test]
fn a_file_swapped_with_a_link_leads_nowhere() {
    let code = "
acts = [
    lambda: read('plain'), lambda: write('plain', 'ours'), lambda: write('plain', 'ours', 'r+'),
    lambda: write('plain', '', 'a'), lambda: os.truncate('plain', 4), lambda: os.utime('plain', (1, 1)),
    lambda: [] if os.stat('plain').st_size <= 4 else ['the size of the secret'],
]";
    race("plain", "../secret/treasure", code);
}

#[test]
fn pipes_devices_and_sockets_are_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let code = "
special = ['pipe', 'socket', '/devices/null', '/devices/zero', '/devices/random']
opened = []
for path in special:
    for mode in ['r', 'w', 'a', 'r+', 'x', 'rb', 'wb']:
        if not error_of(open, path, mode):
            opened.append([path, mode])
    for flags in [os.O_RDONLY, os.O_WRONLY, os.O_RDWR]:
        for more in [os.O_CREAT, os.O_TRUNC, os.O_NONBLOCK, os.O_DIRECTORY, os.O_NOFOLLOW]:
            if not error_of(os.open, path, flags | more):
                opened.append([path, flags, more])
    for act in [os.listdir, os.rmdir, os.mkdir, os.readlink, lambda path: os.truncate(path, 0)]:
        if not error_of(act, path):
            opened.append([path, str(act)])
    os.stat(path), os.lstat(path), os.access(path, os.R_OK)
opened";
    let devices = mount(Path::new("/dev"), "/devices", Access::ReadWrite);
    let mut session = start(directory.path(), vec![devices]);
    let (mut session, opened) = within(Duration::from_secs(15), move || {
        let opened = answer(&mut session, code);
        (session, opened)
    });
    assert_eq!(opened, json!([]));

    // Nor where the other end of the pipe is open: what is in it stays there, and nothing is added.
    let mut other_end = File::options().read(true).write(true).open(&pipe).unwrap();
    other_end.write_all(b"kept").unwrap();
    let code =
        "[error_of(write, 'pipe', 'more', mode) for mode in ('w', 'a', 'r+')] + [error_of(read, 'pipe')]";
    let (mut session, errors) = within(Duration::from_secs(15), move || {
        let errors = answer(&mut session, code);
        (session, errors)
    });
    assert_eq!(errors, json!(["EPERM", "EPERM", "EPERM", "EPERM"]));
    let mut buffer = [0; 100];
    assert_eq!(other_end.read(&mut buffer).unwrap(), 4);

    let code = "
os.rename('pipe', 'renamed'); os.unlink('renamed'); os.unlink('socket')
os.listdir('.')";
    assert_eq!(answer(&mut session, code), json!([]));
}

/// A hard link is the same file under another name, not a way to it: one that the host made before
/// the run grants the file. The program itself can make none to what it may not change.
#[test]
fn hard_links_of_the_host_are_files_like_others() {
    let (outside, workspace) = secret_beside();
    fs::hard_link(outside.path().join("secret/treasure"), workspace.join("linked")).unwrap();
    let mut session = start(&workspace, vec![]);
    let code = "text = read('linked'); write('linked', 'changed'); text";
    assert_eq!(answer(&mut session, code), json!(SECRET));
    assert_eq!(fs::read(outside.path().join("secret/treasure")).unwrap(), b"changed");
}

#[test]
fn nothing_is_linked_or_moved_into_or_out_of_a_read_only_mount() {
    let (outside, workspace) = secret_beside();
    fs::write(workspace.join("file"), "ours").unwrap();
    let secret = outside.path().join("secret");
    let before = (snapshot(&secret, Path::new("")), contents(&workspace));
    let mut session = start(&workspace, vec![mount(&secret, "/data", Access::ReadOnly)]);
    let code = "
[
    error_of(act, *paths)
    for act in (os.link, os.rename, os.replace)
    for paths in [
        ('/data/treasure', 'new'), ('/data/treasure', 'file'), ('file', '/data/new'),
        ('file', '/data/treasure'), ('/data/deep', 'deep'), ('/data/treasure', '/data/new'),
    ]
]";
    let errors = answer(&mut session, code);
    assert!(errors.as_array().unwrap().iter().all(|error| error == "EROFS"), "{errors}");
    assert_eq!((snapshot(&secret, Path::new("")), contents(&workspace)), before);
}

#[test]
fn a_read_only_mount_is_read_and_not_changed() {
    let (outside, workspace) = secret_beside();
    let secret = outside.path().join("secret");
    symlink("treasure", secret.join("link")).unwrap();
    symlink("missing", secret.join("dangling")).unwrap();
    let before = snapshot(&secret, Path::new(""));
    let mut session = start(&workspace, vec![mount(&secret, "/data", Access::ReadOnly)]);
    let code = "
os.chdir('/data')
reader, directory = os.open('treasure', os.O_RDONLY), os.open('/data', os.O_RDONLY)
mutations = {
    f'{name} {path}': (act, path, *more)
    for path in ['treasure', 'link', 'dangling', 'missing', 'deep/file', 'deep', '.', '/data/../data/treasure']
    for name, act, *more in [
        ('write', write, ''), ('append', write, '', 'a'), ('update', write, '', 'r+'),
        ('create', write, '', 'x'), ('truncate', os.truncate, 0), ('unlink', os.unlink),
        ('open to create', os.open, os.O_RDONLY | os.O_CREAT),
        ('open to truncate', os.open, os.O_RDONLY | os.O_TRUNC), ('mkdir', os.mkdir), ('rmdir', os.rmdir),
        ('utime', os.utime, (1, 1)), ('rename', os.rename, 'other'), ('link', os.link, 'other'),
    ]
} | {
    'rename over': (os.rename, 'deep/file', 'treasure'), 'symlink': (os.symlink, 'treasure', 'new'),
    'write to a reader': (os.write, reader, b'x'), 'truncate a reader': (os.ftruncate, reader, 0),
    'utime of a reader': (os.utime, reader, (1, 1)), 'utime of a directory': (os.utime, directory, (1, 1)),
}
below = {
    'open': lambda: os.open('file', os.O_WRONLY, dir_fd=directory),
    'create': lambda: os.open('new', os.O_WRONLY | os.O_CREAT, dir_fd=directory),
    'mkdir': lambda: os.mkdir('new', dir_fd=directory),
    'unlink': lambda: os.unlink('file', dir_fd=directory),
    'rmdir': lambda: os.rmdir('deep', dir_fd=directory),
    'symlink': lambda: os.symlink('file', 'new', dir_fd=directory),
    'rename': lambda: os.rename('file', 'new', src_dir_fd=directory, dst_dir_fd=directory),
    'utime of a link': lambda: os.utime('link', (1, 1), follow_symlinks=False),
}
# wasi-libc's chmod does nothing, and says that it did it.
os.chmod('treasure', 0)
done = [name for name, (act, *arguments) in mutations.items() if not error_of(act, *arguments)]
done + [name for name, act in below.items() if not error_of(act)]";
    assert_eq!(answer(&mut session, code), json!([]));
    assert_eq!(snapshot(&secret, Path::new("")), before);

    let code = "
[read('treasure'), read('/data/link'), sorted(os.listdir('/data')), os.stat('deep/file').st_size,
 os.readlink('link'), [os.access('treasure', mode) for mode in (os.R_OK, os.W_OK)]]";
    let listing = ["dangling", "deep", "file", "link", "treasure"];
    let expected = json!([SECRET, SECRET, listing, SECRET.len(), "treasure", [true, false]]);
    assert_eq!(answer(&mut session, code), expected);
}

/// What a program wrote under a temporary name and then renamed is whole, whenever it was stopped.
#[test]
fn a_cancelled_turn_leaves_whole_files() {
    let code = "
import itertools, os
for number in itertools.count():
    with open('temporary', 'wb') as file:
        for _ in range(16):
            file.write(bytes([number % 256]) * 4000)
    os.replace('temporary', f'file{number % 40}')";
    for round in 1..6 {
        let directory = tempfile::tempdir().unwrap();
        let mut session = start(directory.path(), vec![]);
        let canceller = session.canceller();
        let awaited = directory.path().join(format!("file{}", 7 * round));
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                let begun = Instant::now();
                while !awaited.exists() && begun.elapsed() < Duration::from_secs(10) {
                    thread::sleep(Duration::from_micros(100));
                }
                canceller.cancel();
            });
            session.run_blocking(code).unwrap()
        });
        assert_eq!(outcome.ending, Ending::Cancelled);
        assert!(awaited.exists());
        for name in names(directory.path()).unwrap().iter().filter(|name| name.starts_with("file")) {
            let content = fs::read(directory.path().join(name)).unwrap();
            assert!(content.len() == 64000 && content.iter().all(|byte| *byte == content[0]), "{name}");
        }
    }
}

#[test]
fn long_and_deep_paths_work_or_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut session = start(directory.path(), vec![]);
    let code = "
deep = '/'.join(['d'] * 300)
os.makedirs(deep)
write(f'{deep}/file', 'deep')
write('n' * 255, 'long')
seen = [read(f'{deep}/file'), len(list(os.walk('d'))), read('n' * 255), read('d/../' * 760 + 'n' * 255)]
errors = [
    error_of(write, path, '')
    for path in ['n' * 256, 'd/' * 2100 + 'f', 'n' * 100_000, 'd/../' * 1000 + 'f', 'x' * 10_000_000]
]
[seen, errors]";
    let too_long = ["ENAMETOOLONG"; 5];
    assert_eq!(answer(&mut session, code), json!([["deep", 300, "long", "long"], too_long]));
    let inner = directory.path().join(["d"; 300].join("/"));
    assert_eq!(fs::read(inner.join("file")).unwrap(), b"deep");
    let code = "shutil.rmtree('d'); [len(name) for name in os.listdir('.')]";
    assert_eq!(answer(&mut session, code), json!([255]));
}

#[test]
fn names_that_are_no_text_harm_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir_all(odd.join("below")).unwrap();
    fs::write(directory.path().join(OsStr::from_bytes(b"\xff\xfe")), "odd").unwrap();
    fs::write(directory.path().join("na\u{ef}ve \n '"), "text").unwrap();
    symlink(OsStr::from_bytes(b"caf\xe9"), directory.path().join("link")).unwrap();
    let before = contents(directory.path());
    let mut session = start(directory.path(), vec![]);
    let code = "
import glob
names = sorted(os.listdir('.'))
[names, os.listdir(b'.') == [os.fsencode(name) for name in os.listdir('.')], sorted(glob.glob('*')) == names,
 sorted(entry.name for entry in os.scandir('.')) == names, [files for _, _, files in os.walk('.')],
 read(names[-1]), sorted(os.listdir('link')), error_of(os.readlink, 'link'),
 [error_of(act, os.fsdecode(b'caf\\xe9')) for act in (os.listdir, os.mkdir, os.rmdir, os.unlink, open)]]";
    let good = "na\u{ef}ve \n '";
    let illegal = ["EILSEQ"; 5];
    let expected = json!([["link", good], true, true, true, [[good]], "text", ["below"], "EILSEQ", illegal]);
    assert_eq!(answer(&mut session, code), expected);
    for code in ["open('a\\0b', 'w')", "import os\nos.listdir('\\0')", "import os\nos.rename('link', '\\0')"]
    {
        assert_eq!(raised(&session.run_blocking(code).unwrap()).0, "ValueError", "{code}");
    }
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn a_directory_of_thousands_is_listed_whole() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..5000 {
        fs::write(directory.path().join(format!("file{number:04}")), "").unwrap();
    }
    let mut session = start(directory.path(), vec![]);
    let code = "
names = sorted(os.listdir('.'))
[names == [f'file{number:04}' for number in range(5000)], sum(entry.is_file() for entry in os.scandir('.')),
 [os.unlink(name) for name in names[100:]].count(None), len(os.listdir('.'))]";
    assert_eq!(answer(&mut session, code), json!([true, 5000, 4900, 100]));
    assert_eq!(names(directory.path()).unwrap().len(), 100);
}

#[test]
fn each_path_of_the_sandbox_is_the_directory_mounted_there() {
    let directories: Vec<TempDir> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    for (number, directory) in directories.iter().enumerate() {
        fs::write(directory.path().join("which"), number.to_string()).unwrap();
    }
    let mount = |number: usize, guest| mount(directories[number].path(), guest, Access::ReadWrite);
    let mounts =
        vec![mount(1, "/data"), mount(2, "/data2"), mount(3, "/deep/er/one"), mount(4, "/deep/er/two")];
    let mut session = start(directories[0].path(), mounts);
    let code = "
places = ['/workspace', '/data', '/data2', '/deep/er/one', '/deep/er/two', '.', './.', '//data/']
for number, place in enumerate(places[:5]):
    write(f'{place}/new', str(number))
os.chdir('/deep/er/one')
relative = read('which')
os.chdir('/workspace')
missing = ['/', '/dat', '/database/which', '/data/x/which', '/workspace/sub', '/deep', '/deep/er', '/data/../data2']
[[read(f'{place}/which') for place in places], relative, [path for path in missing if not error_of(os.stat, path)]]";
    let expected = json!([["0", "1", "2", "3", "4", "0", "0", "1"], "3", []]);
    assert_eq!(answer(&mut session, code), expected);
    for (number, directory) in directories.iter().enumerate() {
        assert_eq!(names(directory.path()).unwrap(), ["new", "which"]);
        assert_eq!(fs::read(directory.path().join("new")).unwrap(), number.to_string().as_bytes());
    }
}

/// The error of a session that cannot start.
#[track_caller]
fn not_granted(workspace: Workspace, mounts: Vec<Mount>) -> Error {
    let grants = Grants { workspace, mounts, ..Grants::default() };
    let error = kernel().session().grants(grants).start().err().expect("the grant makes no sense");
    assert_eq!(error.kind(), ErrorKind::Grant, "{error:?}");
    assert!(error.remedy().is_some(), "{error:?}");
    error
}

#[test]
fn directories_that_cannot_be_granted_are_errors_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let missing = directory.path().join("missing");
    for bad in [&missing, &file, &file.join("below"), Path::new("")] {
        let error = not_granted(Workspace::Directory(bad.into()), vec![]);
        assert!(error.to_string().contains(&*bad.to_string_lossy()), "{error:?}");
        not_granted(Workspace::Temporary, vec![mount(bad, "/data", Access::ReadOnly)]);
    }
    let mount = |guest| mount(directory.path(), guest, Access::ReadOnly);
    for twice in ["/data", "/data/sub"] {
        let error = not_granted(Workspace::Temporary, vec![mount("/other"), mount(twice), mount(twice)]);
        assert!(error.to_string().contains(twice), "{error:?}");
    }
    not_granted(Workspace::Temporary, vec![mount("/workspace")]);
    // A program could name what lies below past the inner directory, by another spelling.
    not_granted(Workspace::Temporary, vec![mount("/workspace/x")]);
    not_granted(Workspace::Temporary, vec![mount("/data"), mount("/data/sub")]);
    not_granted(Workspace::Temporary, vec![mount("/data/sub/deep"), mount("/data")]);
    for guest in ["", "/", "data", "/data/", "//data", "/data//sub", "/./data", "/data/..", "..", "/da\0ta"] {
        not_granted(Workspace::Temporary, vec![mount(guest)]);
    }
}
