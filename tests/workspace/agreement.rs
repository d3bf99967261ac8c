//! Random file operations: what the program sees is what `std::fs` does with the same paths in a
//! twin of the workspace, as long as they stay inside, and nothing beside the workspace is touched.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use agentkernel_tests::value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde::Serialize;

use crate::observe::{contents, names, snapshot};
use crate::{SECRET, secret_beside, start};

/// Runs the steps and gives for each `[done, what it returned or the name of the error]`.
const RUN_STEPS: &str = r#"
import errno, json, os, stat

def write(mode):
    def act(path, other):
        with open(path, mode) as file:
            file.write(other)
    return act

def read(path, other):
    with open(path, encoding='latin-1') as file:
        return file.read()

def status(path, other):
    found = os.stat(path)
    return f'file of {found.st_size}' if stat.S_ISREG(found.st_mode) else 'directory'

acts = {
    'Write': write('w'), 'Append': write('a'), 'Create': write('x'), 'Read': read, 'Stat': status,
    'List': lambda path, other: ' '.join(sorted(os.listdir(path))),
    'Truncate': lambda path, other: os.truncate(path, len(other)),
    'MakeDirectory': lambda path, other: os.mkdir(path),
    'RemoveDirectory': lambda path, other: os.rmdir(path),
    'Unlink': lambda path, other: os.unlink(path),
    'ReadLink': lambda path, other: os.readlink(path),
    'Rename': os.rename, 'HardLink': os.link,
    'Symlink': lambda path, other: os.symlink(other, path),
}

def attempt(act, path, other):
    try:
        return [True, acts[act](path, other) or '']
    except OSError as error:
        return [False, errno.errorcode.get(error.errno, str(error))]
"#;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
enum Act {
    Write,
    Append,
    Create,
    Read,
    Stat,
    List,
    Truncate,
    MakeDirectory,
    RemoveDirectory,
    Unlink,
    ReadLink,
    Rename,
    HardLink,
    Symlink,
}
use Act::*;

/// An act, the path it is done to, and what else it needs: text, a second path, a link's target.
#[derive(Clone, Debug, Serialize)]
struct Step(Act, String, String);

/// Stands in a path for the host's directory that the workspace and the secret lie in.
const PARENT: &str = "<parent>";

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        20 => select(vec!["a", "b", "c"]),
        8 => select(vec!["in", "out", "up", "gold", "new", "far", "loop", "secret", "treasure"]),
        3 => Just(".."),
        1 => Just("."),
    ];
    let start = prop_oneof![
        16 => Just(""),
        2 => Just("/workspace/"),
        2 => select(vec!["/", "//workspace//", "/workspace/../", "<parent>/", "<parent>/workspace/", "a/up/"]),
    ];
    let end = prop_oneof![12 => Just(""), 1 => Just("/"), 1 => Just("/.")];
    (start, vec(name, 1..4), end).prop_map(|(start, names, end)| format!("{start}{}{end}", names.join("/")))
}

fn step() -> impl Strategy<Value = Step> {
    let with_text = (select(vec![Write, Append, Create, Truncate]), path(), "[a-z]{0,9}");
    let alone = select(vec![Read, Stat, List, MakeDirectory, RemoveDirectory, Unlink, ReadLink]);
    let alone = (alone, path(), Just(String::new()));
    let with_path = (select(vec![Rename, HardLink, Symlink]), path(), path());
    prop_oneof![2 => with_text, 4 => alone, 3 => with_path]
        .prop_map(|(act, path, other)| Step(act, path, other))
}

/// Nested directories and files, and links that lead inside and outside.
fn prepare(directory: &Path, parent: &Path) -> io::Result<()> {
    fs::create_dir_all(directory.join("a/b/c"))?;
    fs::create_dir(directory.join("c"))?;
    for file in ["b", "a/c", "a/b/a", "c/a"] {
        fs::write(directory.join(file), format!("text of {file}"))?;
    }
    for (target, link) in [
        ("a/b", "in"),
        ("../secret", "out"),
        ("../secret/treasure", "gold"),
        ("../secret/new", "new"),
        ("loop", "loop"),
        ("../..", "a/up"),
        ("../b", "a/in"),
        ("../../secret/treasure", "a/gold"),
        ("../../../secret", "a/b/out"),
        ("/", "c/out"),
    ] {
        symlink(target, directory.join(link))?;
    }
    symlink(parent.join("secret"), directory.join("far"))
}

/// The part of a path below the workspace, if the interpreter finds the workspace in it.
fn below_workspace(path: &str) -> Option<&str> {
    let Some(absolute) = path.strip_prefix('/') else {
        return Some(path);
    };
    let rest = absolute.trim_start_matches('/').strip_prefix("workspace")?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// Whether resolving `path` from `root` leaves it on the way.
fn leaves(root: &Path, path: &str, follow_last: bool) -> bool {
    let mut rest: VecDeque<String> = path.split('/').map(str::to_owned).collect();
    let mut at: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." && at.pop().is_none() {
            return true;
        }
        if ["", ".", ".."].contains(&part.as_str()) {
            continue;
        }
        at.push(part);
        let here: PathBuf = root.join(at.join("/"));
        let Ok(kind) = here.symlink_metadata().map(|found| found.file_type()) else {
            return false;
        };
        if kind.is_symlink() && (follow_last || !rest.is_empty()) {
            let target = fs::read_link(here).unwrap().into_os_string().into_string().unwrap();
            links += 1;
            if target.starts_with('/') {
                return true;
            }
            if links > 40 {
                return false;
            }
            at.pop();
            target.split('/').rev().for_each(|part| rest.push_front(part.to_owned()));
        } else if !kind.is_dir() {
            return false;
        }
    }
    false
}

/// Does a step with `std::fs`.
fn perform(act: Act, path: &str, other: &str) -> io::Result<String> {
    let write = |options: &mut OpenOptions| options.open(path)?.write_all(other.as_bytes());
    match act {
        Write => write(OpenOptions::new().write(true).create(true).truncate(true))?,
        Append => write(OpenOptions::new().append(true).create(true))?,
        Create => write(OpenOptions::new().write(true).create_new(true))?,
        Truncate => OpenOptions::new().write(true).open(path)?.set_len(other.len() as u64)?,
        Read => return fs::read_to_string(path),
        Stat => {
            let found = fs::metadata(path)?;
            let file = format!("file of {}", found.len());
            return Ok(if found.is_file() { file } else { "directory".into() });
        }
        List => return names(Path::new(path)).map(|names| names.join(" ")),
        ReadLink => return fs::read_link(path).map(|target| target.to_string_lossy().into_owned()),
        MakeDirectory => fs::create_dir(path)?,
        RemoveDirectory => fs::remove_dir(path)?,
        Unlink => fs::remove_file(path)?,
        Rename => fs::rename(path, other)?,
        HardLink => fs::hard_link(path, other)?,
        Symlink => symlink(other, path)?,
    }
    Ok(String::new())
}

/// What Rust calls an error that C and Python call `name`.
fn kind(name: &str) -> String {
    let kind = match name {
        "ENOENT" => "NotFound",
        "EEXIST" => "AlreadyExists",
        "ENOTDIR" => "NotADirectory",
        "EISDIR" => "IsADirectory",
        "ENOTEMPTY" => "DirectoryNotEmpty",
        "EINVAL" => "InvalidInput",
        "ELOOP" => "FilesystemLoop",
        "EBUSY" => "ResourceBusy",
        "EPERM" => "PermissionDenied",
        other => other,
    };
    kind.to_owned()
}

/// Compares what a step did in the sandbox with what it does in the twin.
fn agree(twin: &Path, step: &Step, seen: &Result<String, String>) {
    let Step(act, path, other) = step;
    let follows = matches!(act, Write | Append | Read | Stat | List | Truncate);
    let two_paths = matches!(act, Rename | HardLink);
    // cap-std may take the target of a rename without its trailing slashes.
    let second = if *act == Rename && seen.is_ok() { other.trim_end_matches('/') } else { other };
    let mut paths = Vec::new();
    for path in [path, second].into_iter().take(1 + usize::from(two_paths)) {
        match below_workspace(path) {
            Some(path) if !leaves(twin, path, follows) => paths.push(format!("{}/{path}", twin.display())),
            _ => return assert!(seen.is_err(), "{step:?} leads out and gave {seen:?}"),
        }
    }
    let refused = seen.as_ref().err().map(String::as_str);
    if *act == Symlink && refused == Some("EPERM") && (other.starts_with('/') || other.contains("..")) {
        // A link that may lead out is not made.
        return;
    }
    let leads_up =
        |link: PathBuf| link.has_root() || link.components().any(|part| part == Component::ParentDir);
    if two_paths && refused == Some("EPERM") && fs::read_link(&paths[0]).is_ok_and(leads_up) {
        // Nor is one moved that is there.
        return;
    }
    if *act == RemoveDirectory && refused == Some("EINVAL") && path.ends_with('/') {
        // cap-std takes the slash for a `.`, which cannot be removed.
        return;
    }
    let expected = perform(*act, &paths[0], if two_paths { &paths[1] } else { other });
    if *act == ReadLink && expected.as_ref().is_ok_and(|target| target.starts_with('/')) {
        return assert!(seen.is_err(), "{step:?} tells a path of the host");
    }
    let odd_end = !follows && path.ends_with(['/', '.']);
    if seen.is_err() && expected.is_err() && (two_paths || odd_end) {
        // Systems differ in which of several errors comes first.
        return;
    }
    let expected = expected.map_err(|error| format!("{:?}", error.kind()));
    assert_eq!(seen.clone().map_err(|name| kind(&name)), expected, "{step:?}");
}

fn run_steps(workspace: &Path, steps: &[Step]) -> Vec<Result<String, String>> {
    // A JSON string is a Python string.
    let json = serde_json::to_string(&serde_json::to_string(steps).unwrap()).unwrap();
    let code = format!("{RUN_STEPS}\n[attempt(*step) for step in json.loads({json})]");
    let outcome = start(workspace, vec![]).run_blocking(code).unwrap();
    assert!(!value(&outcome).repr.contains(SECRET), "the secret was read: {}", value(&outcome).repr);
    let results: Vec<(bool, String)> = serde_json::from_value(value(&outcome).json.clone().unwrap()).unwrap();
    results.into_iter().map(|(done, text)| if done { Ok(text) } else { Err(text) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn operations_agree_with_the_host_and_stay_inside(mut steps in vec(step(), 1..150)) {
        let (outside, workspace) = secret_beside();
        let twin = tempfile::tempdir().unwrap();
        prepare(&workspace, outside.path()).unwrap();
        prepare(twin.path(), outside.path()).unwrap();
        for Step(_, path, other) in &mut steps {
            for text in [path, other] {
                *text = text.replace(PARENT, outside.path().to_str().unwrap());
            }
        }
        let before = snapshot(outside.path(), &workspace);
        let results = run_steps(&workspace, &steps);
        assert_eq!(snapshot(outside.path(), &workspace), before);
        for (step, seen) in steps.iter().zip(&results) {
            agree(twin.path(), step, seen);
        }
        assert_eq!(contents(&workspace), contents(twin.path()));
    }
}
