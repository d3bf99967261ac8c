//! Programs that try to get out of an overlay, or to make it hold more than it may.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use agentkernel::Workspace;
use agentkernel_tests::{limits, value};
use serde_json::json;

use super::asked::{PRELUDE, SECRET};
use super::{answer, over, snapshot, start_on};

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
fn differences_have_limits() {
    let (_directory, overlay, mut session) = over(&[("long", ""), ("binary", ""), ("latin", "")]);
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
}
