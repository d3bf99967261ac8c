//! Files of recorded sessions: a replay gives what was read, and touches nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use agentkernel::{
    Access, Ending, ErrorKind, Grants, Kernel, Mount, Overlay, Recording, Replaying, Workspace,
};
use agentkernel_tests::{builder, limits};

use super::{Cassette, same, text};

/// All files below a directory, with what is in them.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut content = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => {
                content.insert(name.clone() + "/", Vec::new());
                content.extend(
                    self::content(&path).into_iter().map(|(below, is)| (format!("{name}/{below}"), is)),
                );
            }
            false => drop(content.insert(name, fs::read(&path).unwrap())),
        }
    }
    content
}

fn grants(workspace: &Path, mount: Option<&Path>) -> Grants {
    let mut grants = Grants { workspace: Workspace::Directory(workspace.into()), ..Grants::default() };
    if let Some(mount) = mount {
        grants.mounts.push(Mount { host: mount.into(), guest: "/data".into(), access: Access::ReadOnly });
    }
    grants.limits = limits();
    grants
}

fn recorded(
    kernel: &Kernel,
    cassette: &Cassette,
    grants: Grants,
    codes: &[&str],
) -> Vec<agentkernel::Outcome> {
    let recording = Recording::create(&cassette.path).unwrap();
    let mut session = kernel.session().grants(grants).record(&recording).start().unwrap();
    let outcomes = codes.iter().map(|code| session.run_blocking(*code).unwrap()).collect();
    drop(session);
    recording.finish().unwrap();
    outcomes
}

fn replayed(
    kernel: &Kernel,
    cassette: &Cassette,
    grants: Grants,
    codes: &[&str],
) -> Vec<agentkernel::Outcome> {
    let replaying = Replaying::open(&cassette.path).unwrap();
    let mut session = kernel.session().grants(grants).replay(&replaying).start().unwrap();
    let outcomes = codes.iter().map(|code| session.run_blocking(*code).unwrap()).collect();
    replaying.finish().unwrap();
    outcomes
}

/// Everything that a program does with files.
const ALL: &[&str] = &[
    "import os, hashlib, csv, json, shutil, tempfile, pathlib
import helper
print(helper.greeting())
rows = list(csv.reader(open('table.csv')))
print(len(rows), rows[-1], hashlib.sha256(open('noise.bin', 'rb').read()).hexdigest())
for name in sorted(os.listdir('/data')): print(name, os.stat(f'/data/{name}'))
for entry in os.scandir('.'): print(entry.name, entry.is_dir(), entry.stat().st_mtime_ns, entry.inode())
print(list(os.walk('/data')))
",
    "with open('out.txt', 'w') as out:
    for row in rows[:1000]: out.write(json.dumps(row))
with open('out.txt', 'a') as out: out.write('more')
with open('out.txt', 'r+b') as out:
    out.seek(3); out.write(b'###'); out.truncate(5000)
    print(out.seek(0, 2), os.fstat(out.fileno()).st_size)
print(open('out.txt').read()[:50], os.path.getmtime('out.txt'))
os.makedirs('deep/er', exist_ok=True)
os.symlink('out.txt', 'link'); os.link('out.txt', 'hard')
print(os.readlink('link'), os.path.samefile('hard', 'out.txt'), os.stat('hard').st_nlink)
os.rename('hard', 'deep/er/moved'); os.unlink('link')
os.utime('deep/er/moved', (1, 2)); print(os.stat('deep/er/moved').st_mtime)
shutil.copytree('deep', 'copied'); print(sorted(str(path) for path in pathlib.Path('.').rglob('*')))
shutil.rmtree('deep')
with tempfile.TemporaryDirectory(dir='.') as place: print(os.path.basename(place), os.listdir('.'))
",
    "import errno
for act in [lambda: open('/data/new', 'w'), lambda: open('nothing'), lambda: os.rmdir('copied'), lambda: open('../up'),
            lambda: os.listdir('/etc'), lambda: open('copied'), lambda: os.symlink('/etc/passwd', 'bad'), lambda: os.mkdir('copied'),
            lambda: open('x' * 5000), lambda: os.rename('out.txt', '/data/out.txt')]:
    try: print('done', act())
    except OSError as error: print(type(error).__name__, errno.errorcode[error.errno])
kept = open('table.csv'); print(kept.readline())
",
    "print(kept.readline(), kept.tell()); kept.close(); print(os.path.exists('out.txt'), len(open('out.txt').read()))",
];

#[test]
fn what_was_read_is_given_again_and_nothing_is_touched() {
    let place = tempfile::tempdir().unwrap();
    let (workspace, data) = (place.path().join("work"), place.path().join("data"));
    for directory in [&workspace, &data, &data.join("below")] {
        fs::create_dir(directory).unwrap();
    }
    let table: String = (0..20_000).map(|row| format!("{row},name {row},{}\n", row * 7)).collect();
    let noise: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(workspace.join("table.csv"), table).unwrap();
    fs::write(workspace.join("noise.bin"), noise).unwrap();
    fs::write(workspace.join("helper.py"), "def greeting(): return 'from the workspace'\n").unwrap();
    fs::write(data.join("one.txt"), "one").unwrap();
    fs::write(data.join("below/two.txt"), "two").unwrap();

    let (kernel, cassette) = (builder().build().unwrap(), Cassette::new());
    let recorded = recorded(&kernel, &cassette, grants(&workspace, Some(&data)), ALL);
    for outcome in &recorded {
        assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
    }
    let told = text(&recorded[2]);
    assert!(told.contains("FileNotFoundError ENOENT") && !told.contains("done"), "{told}");
    // A table is kept in few bytes.
    assert!(fs::metadata(&cassette.path).unwrap().len() < 1_000_000);

    // As it was left by the recording; changed; gone; and without the grants.
    let left = content(&workspace);
    same(&recorded, &replayed(&kernel, &cassette, grants(&workspace, Some(&data)), ALL));
    assert_eq!(content(&workspace), left);
    fs::write(workspace.join("table.csv"), "other,things\n").unwrap();
    fs::remove_file(workspace.join("helper.py")).unwrap();
    fs::remove_dir_all(data.join("below")).unwrap();
    let left = content(&workspace);
    same(&recorded, &replayed(&kernel, &cassette, grants(&workspace, Some(&data)), ALL));
    assert_eq!(content(&workspace), left);
    let again = replayed(&kernel, &cassette, Grants { limits: limits(), ..Grants::default() }, ALL);
    same(&recorded, &again);
    assert!(again.iter().all(|outcome| outcome.usage.written_bytes == 0));
}

#[test]
fn an_overlay_is_replayed_from_the_cassette_as_well() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.txt"), "below").unwrap();
    let codes = &["open('b.txt', 'w').write(open('a.txt').read().upper())", "print(open('b.txt').read())"];
    let (kernel, cassette) = (builder().build().unwrap(), Cassette::new());
    let overlaid = |overlay: &Overlay| Grants {
        workspace: Workspace::Overlay(overlay.clone()),
        limits: limits(),
        ..Grants::default()
    };
    let overlay = Overlay::over(place.path()).unwrap();
    let recorded = recorded(&kernel, &cassette, overlaid(&overlay), codes);
    assert_eq!(text(&recorded[1]), "BELOW\n");
    assert_eq!(overlay.diff().unwrap().changes.len(), 1);
    let untouched = Overlay::over(place.path()).unwrap();
    same(&recorded, &replayed(&kernel, &cassette, overlaid(&untouched), codes));
    assert!(untouched.diff().unwrap().changes.is_empty());
}

#[test]
fn a_program_that_writes_something_else_is_told_with_the_file() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("in.txt"), "recorded").unwrap();
    let code = "text = open('in.txt').read()\nopen('out.txt', 'w').write(text)";
    let (kernel, cassette) = (builder().build().unwrap(), Cassette::new());
    recorded(&kernel, &cassette, grants(place.path(), None), &[code]);
    let diverges = |change: &dyn Fn(String) -> String| {
        let whole = fs::read(&cassette.path).unwrap();
        cassette.change(change);
        let replaying = Replaying::open(&cassette.path).unwrap();
        let mut session = kernel.session().limits(limits()).replay(&replaying).start().unwrap();
        let error = session.run_blocking(code).expect_err("it diverges");
        assert_eq!(error.kind(), ErrorKind::Replay);
        assert_eq!(replaying.diverged(), Some(error.to_string().as_str()));
        fs::write(&cassette.path, whole).unwrap();
        error.to_string()
    };
    let told = diverges(&|line| line.replace("recorded", "replaced"));
    assert!(told.contains("the program asks for `write` of `/workspace/out.txt` (8 bytes "), "{told}");
    let told = diverges(&|line| line.replace("in.txt", "other.txt"));
    assert!(
        told.contains("`/workspace/in.txt`")
            && told.contains("the recording has")
            && told.contains("other.txt"),
        "{told}"
    );
    // What is damaged is told, and never a panic or a trap of the program.
    let damaged = |from: &'static str, to: &'static str| diverges(&move |line| line.replace(from, to));
    for (from, to) in [
        ("{\"text\":\"recorded\"}", "{\"base64\":\"*\"}"),
        ("{\"text\":\"recorded\"}", "{\"zstd\":\"AAAA\"}"),
        ("{\"text\":\"recorded\"}", "7"),
        ("{\"text\":\"recorded\"}", "{\"text\":\"more than was asked for\"}"),
        ("\"RegularFile\"", "\"Nonsense\""),
        ("\"Ok\"", "\"Okay\""),
    ] {
        let told = damaged(from, to);
        assert!(told.contains("damaged"), "{from}: {told}");
    }
}

#[test]
fn a_turn_that_was_stopped_among_files_is_stopped_again() {
    for code in [
        "open('a.txt', 'w').write('text')\nprint(open('a.txt').read(), flush=True)\nwhile True: pass",
        "import os\nprint('on', flush=True)\nwhile True: os.listdir('.')",
        "print('on', flush=True)\nn = 0\nwhile True:\n    n += 1\n    open('a.txt', 'a').write(str(n))",
    ] {
        let (kernel, cassette) = (builder().build().unwrap(), Cassette::new());
        let mut short = limits();
        short.timeout = Some(Duration::from_millis(300));
        let given = Grants { limits: short, ..Grants::default() };
        let first = recorded(&kernel, &cassette, given.clone(), &[code]);
        assert_eq!(first[0].ending, Ending::TimedOut);
        // Whether it comes as far as then, or not.
        for milliseconds in [300, 100, 2000] {
            let mut given = given.clone();
            given.limits.timeout = Some(Duration::from_millis(milliseconds));
            let again = replayed(&kernel, &cassette, given, &[code]);
            assert_eq!((&again[0].ending, &again[0].stdout), (&first[0].ending, &first[0].stdout), "{code}");
        }
    }
}

#[test]
fn what_a_program_asks_for_takes_little_of_a_cassette() {
    let (kernel, cassette) = (builder().build().unwrap(), Cassette::new());
    let code = "import os
for act in [os.symlink, os.rename, os.link]:
    for one, other in [('x' * (8 << 20), 'l'), ('l', 'x' * (8 << 20))]:
        try: act(one, other)
        except OSError as error: print(error.errno)";
    let given = || Grants { limits: limits(), ..Grants::default() };
    let first = recorded(&kernel, &cassette, given(), &[code]);
    assert!(fs::metadata(&cassette.path).unwrap().len() < 200_000);
    same(&first, &replayed(&kernel, &cassette, given(), &[code]));
    // Nor is it told as a whole.
    cassette.change(|line| line.replace("symlink-at", "unlink-at"));
    let replaying = Replaying::open(&cassette.path).unwrap();
    let mut session = kernel.session().limits(limits()).replay(&replaying).start().unwrap();
    let told = session.run_blocking(code).unwrap_err().to_string();
    assert!(told.contains("`symlink-at`") && told.len() < 1000, "{told}");
}

/// Directories that are opened one in the other: the path of each is longer than that of the one before.
#[test]
fn no_path_of_a_cassette_grows_without_end() {
    let (kernel, cassette) = (builder().build().unwrap(), Cassette::new());
    let code = "import os
at = os.open('.', os.O_RDONLY)
for n in range(200): at = os.open('./' * 1900 + '.', os.O_RDONLY, dir_fd=at)
os.mkdir('made', dir_fd=at)
print(os.listdir('.'))
os.closerange(4, 300)";
    let given = || Grants { limits: limits(), ..Grants::default() };
    let first = recorded(&kernel, &cassette, given(), &[code]);
    assert_eq!(first[0].stdout, b"['made']\n");
    let bytes = fs::metadata(&cassette.path).unwrap().len();
    assert!(bytes < 4 << 20, "{bytes}");
    same(&first, &replayed(&kernel, &cassette, given(), &[code]));
}

#[test]
fn a_cassette_may_not_lie_where_the_program_writes() {
    let place = tempfile::tempdir().unwrap();
    let kernel = builder().build().unwrap();
    let file = place.path().join("run.jsonl");
    fs::write(&file, "an earlier one").unwrap();
    let recording = Recording::create(&file).unwrap();
    let error = kernel.session().grants(grants(place.path(), None)).record(&recording).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Grant);
    assert!(error.to_string().contains("the cassette `"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "an earlier one");
    let elsewhere = tempfile::tempdir().unwrap();
    let given = grants(elsewhere.path(), Some(place.path()));
    kernel.session().grants(given).record(&recording).start().unwrap();
    assert!(fs::read_to_string(&file).unwrap().starts_with("{\"line\":\"cassette\""));
    drop(Recording::create(&file).unwrap());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_cassette_of_before_is_refused_with_what_to_do() {
    let (kernel, cassette) = (builder().build().unwrap(), Cassette::new());
    recorded(&kernel, &cassette, Grants { limits: limits(), ..Grants::default() }, &["print(1)"]);
    cassette.change(|line| line.replace("\"version\":2", "\"version\":1"));
    let error = Replaying::open(&cassette.path).err().unwrap();
    assert!(error.to_string().contains("version 1"), "{error}");
    assert!(error.remedy().is_some());
}
