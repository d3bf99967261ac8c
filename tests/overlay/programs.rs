//! The same programs on an overlay and on a plain directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agentkernel::{Overlay, Workspace};
use agentkernel_tests::limits;

use super::{answer, contents, start_on};

const PROGRAMS: &[(&str, &str)] = &[
    ("walk", "
[[top, sorted(dirs), sorted(files)] for top, dirs, files in sorted(os.walk('.'))]"),
    ("walk after changes", "
write('a/new', '1'); os.unlink('a/one'); os.rename('a/b', 'moved'); os.mkdir('a/b'); write('a/b/x', '')
[[top, sorted(dirs), sorted(files)] for top, dirs, files in sorted(os.walk('.'))]"),
    ("scandir", "
write('a/two', 'changed'); os.symlink('one', 'a/link')
sorted([entry.name, entry.is_dir(), entry.is_file(), entry.is_symlink(), entry.stat().st_size if entry.is_file() else 0]
       for entry in os.scandir('a'))"),
    ("copytree and rmtree", "
shutil.copytree('a', 'copy', symlinks=True); shutil.rmtree('a'); shutil.copytree('copy', 'a', symlinks=True)
shutil.rmtree('copy'); os.makedirs('a/b/c', exist_ok=True)
[sorted(os.listdir('.')), sorted(os.listdir('a')), read('a/b/deep')]"),
    ("move", "
shutil.move('a', 'c/a'); shutil.move('c/a/one', 'one'); shutil.move('text', 'c')
[sorted(os.listdir('.')), sorted(os.listdir('c')), read('one'), read('c/text')]"),
    ("append", "
for number in range(10): write('text', f'{number}\\n', 'a')
read('text')"),
    ("read and write", "
with open('text', 'r+') as file:
    first = file.readline(); file.write('inserted'); file.seek(0); again = file.read(); file.truncate(5)
[first, again, read('text'), os.path.getsize('text')]"),
    ("truncate", "
os.truncate('text', 3); os.truncate('a/one', 20); write('a/two', '')
[read('text'), len(read('a/one')), read('a/two')]"),
    ("links", "
os.symlink('text', 'new'); os.symlink('a', 'down'); write('new', 'x', 'a'); os.replace('new', 'newer')
[read('text'), read('down/one'), os.readlink('down'), error_of(os.symlink, '..', 'up'), error_of(read, 'loop'),
 read('inside'), os.path.islink('newer'), sorted(os.listdir('down')), error_of(os.rename, 'down', 'a/down')]"),
    ("hard links", "
os.link('text', 'second'); write('second', '+', 'a'); os.link('a/one', 'a/uno'); os.unlink('a/one')
[read('text'), os.stat('text').st_nlink, os.path.samefile('text', 'second'), read('a/uno'), os.stat('a/uno').st_nlink]"),
    ("unlinked while open", "
file = open('text', 'r+'); reader = open('a/one'); os.unlink('text'); os.unlink('a/one'); write('text', 'another')
file.seek(0, 2); file.write('end'); file.seek(0)
[file.read(), reader.read(), read('text'), os.path.exists('a/one')]"),
    ("deep", "
path = '/'.join(['d'] * 300); os.makedirs(path); write(path + '/f', 'deep'); os.rename('d', 'e'); path = 'e' + path[1:]
result = read(path + '/f'); shutil.rmtree('e/d/d/d'); [result, os.listdir('e/d/d')]"),
    ("names", "
names = ['é', 'e\\u0301', '日本', '.wh.text', '.wh..wh..opq', ' ', 'a\\\\b', 'log.jsonl', 'files', '1', 'x' * 255, '-', '~', '...']
for name in names: write(name, name)
[sorted(os.listdir('.')), [read(name) == name for name in names], error_of(write, 'x' * 256, ''), read('umläut/ö')]"),
    ("times", "
os.utime('text', (1000, 2000)); os.utime('a', (1000, 3000)); before = os.stat('a/one').st_mtime_ns
with open('a/one', 'r+'): pass
write('old', ''); os.utime('old', ns=(5, 7)); shutil.copystat('text', 'old')
[os.stat('text').st_mtime, os.stat('text').st_atime, os.stat('a').st_mtime, os.stat('a/one').st_mtime_ns == before,
 os.stat('old').st_mtime]"),
    ("times of directories move", "
os.utime('a', (1, 1)); write('a/new', ''); now = os.stat('a').st_mtime; os.utime('a', (1, 1)); os.unlink('a/new')
[now > 1, os.stat('a').st_mtime > 1]"),
    ("errors", "
[error_of(os.rmdir, 'a'), error_of(os.unlink, 'a'), error_of(os.mkdir, 'a'), error_of(os.rmdir, 'text'), error_of(open, 'none'),
 error_of(open, 'a', 'w'), error_of(open, 'text/x'), error_of(os.rename, 'a', 'a/b/c'), error_of(os.rename, 'a', 'text'),
 error_of(os.rename, 'text', 'a'), error_of(os.rename, 'c', 'a'), error_of(open, 'text', 'x'), error_of(os.listdir, 'text'),
 error_of(os.readlink, 'text'), error_of(os.link, 'a', 'z'), error_of(os.mkdir, 'none/x'), error_of(os.open, 'text', os.O_DIRECTORY)]"),
    ("removed and made again", "
shutil.rmtree('a'); os.mkdir('a'); first = os.listdir('a'); write('a/b', 'now a file')
[first, os.listdir('a'), read('a/b'), error_of(os.listdir, 'a/b')]"),
    ("a file becomes a directory", "
os.unlink('text'); os.mkdir('text'); write('text/in', '1'); shutil.rmtree('c'); write('c', 'file')
[read('text/in'), read('c')]"),
    ("replace", "
write('temporary', 'whole'); os.replace('temporary', 'text'); os.rename('a/one', 'a/two')
os.makedirs('empty'); os.rename('c', 'empty')
[read('text'), read('a/two'), sorted(os.listdir('.'))]"),
    ("swap", "
os.rename('a', 't'); os.rename('c', 'a'); os.rename('t', 'c'); os.rename('c/b/deep', 'a/deep')
[sorted(os.listdir('a')), sorted(os.listdir('c')), read('a/deep')]"),
    ("directories by handle", "
fd = os.open('a', os.O_RDONLY | os.O_DIRECTORY); os.rename('a', 'z')
os.mkdir('in', dir_fd=fd); os.rename('one', 'uno', src_dir_fd=fd, dst_dir_fd=fd); os.unlink('two', dir_fd=fd)
[sorted(os.listdir('z')), sorted(entry.name for entry in os.scandir('z/b'))]"),
    ("in place while listing", "
for number in range(300): write(f'c/{number}', '')
for entry in os.scandir('c'): os.unlink(entry.path)
os.listdir('c')"),
    ("archives", "
import zipfile, tarfile
with zipfile.ZipFile('z.zip', 'w') as file: file.write('text'); file.write('a/one')
shutil.unpack_archive('z.zip', 'out')
with tarfile.open('t.tar', 'w') as file: file.add('a', filter=lambda info: info if info.isreg() or info.isdir() else None)
names = sorted(tarfile.open('t.tar').getnames()); os.unlink('z.zip'); os.unlink('t.tar')
[read('out/text'), read('out/a/one'), names]"),
];

fn prepare(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir_all(root.join("c")).unwrap();
    fs::create_dir_all(root.join("umläut")).unwrap();
    for (path, text) in [
        ("text", "first line\nsecond line\n"),
        ("a/one", "1"),
        ("a/two", "22"),
        ("a/b/deep", "deep"),
        ("umläut/ö", "ö"),
    ] {
        fs::write(root.join(path), text).unwrap();
    }
    symlink("loop", root.join("loop")).unwrap();
    symlink("a/../text", root.join("inside")).unwrap();
}

#[test]
fn programs_do_the_same_as_on_a_plain_directory() {
    for (name, code) in PROGRAMS {
        let parent = tempfile::tempdir().unwrap();
        let [plain, below] = ["plain", "below"].map(|name| parent.path().join(name));
        prepare(&plain);
        prepare(&below);
        let before = contents(&below);
        let overlay = Overlay::over(&below).unwrap();
        let expected = answer(&mut start_on(Workspace::Directory(plain.clone()), limits()), code);
        let mut session = start_on(Workspace::Overlay(overlay.clone()), limits());
        assert_eq!(answer(&mut session, code), expected, "{name}");
        assert_eq!(contents(&below), before, "{name}");
        drop(session);
        overlay.apply().unwrap();
        assert_eq!(contents(&below), contents(&plain), "{name}");
    }
}
