//! Random operations: an overlay does what a plain directory does, step by step; the directory below stays as it
//! is, until `apply` makes it what the plain one has become.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wasmtime::component::{Resource, ResourceTable};

use super::super::bindings::wasi::filesystem::preopens::Host as _;
use super::super::bindings::wasi::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, HostDirectoryEntryStream, NewTimestamp,
    OpenFlags, PathFlags,
};
use super::super::descriptor::Descriptor;
use super::super::{Access, FilesystemCtx, FilesystemCtxView, FilesystemLimits, Preopen, open_preopen};
use super::*;

type Done<T = String> = Result<T, ErrorCode>;
type Handle = Resource<Descriptor>;

/// A session's view of a directory, without a session.
struct Side {
    table: ResourceTable,
    ctx: FilesystemCtx,
    root: u32,
    kept: Vec<u32>,
}

pub fn limits() -> FilesystemLimits {
    FilesystemLimits { open_files: 64, write_bytes: 1 << 30, new_entries: 10_000, path_bytes: 4096 }
}

impl Side {
    fn new(preopen: Preopen) -> Self {
        let mut table = ResourceTable::new();
        let mut ctx = FilesystemCtx::new(vec![preopen], limits()).unwrap();
        let mut view = FilesystemCtxView { ctx: &mut ctx, table: &mut table };
        let root = view.get_directories().unwrap()[0].0.rep();
        Side { table, ctx, root, kept: Vec::new() }
    }

    fn plain(path: &Path) -> Self {
        Self::new(open_preopen(path, "/w", Access::ReadWrite).unwrap())
    }

    fn over(overlay: &Overlay) -> Self {
        Self::new(Preopen::overlay(overlay, "/w"))
    }

    fn view(&mut self) -> FilesystemCtxView<'_> {
        FilesystemCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }

    fn root(&self) -> Handle {
        Resource::new_borrow(self.root)
    }

    fn open(&mut self, path: &str, open: OpenFlags, flags: DescriptorFlags) -> Done<u32> {
        let (root, follow) = (self.root(), PathFlags::SYMLINK_FOLLOW);
        self.view().open_at(root, follow, path.into(), open, flags).unwrap().map(|handle| handle.rep())
    }

    fn close(&mut self, handle: u32) {
        HostDescriptor::drop(&mut self.view(), Resource::new_own(handle)).unwrap();
    }

    fn write(&mut self, handle: u32, text: &str, at: u64) -> Done {
        let written = self.view().write(Resource::new_borrow(handle), text.into(), at).unwrap()?;
        Ok(written.to_string())
    }

    fn read(&mut self, handle: u32) -> Done {
        let (bytes, _) = self.view().read(Resource::new_borrow(handle), 1 << 16, 0).unwrap()?;
        // A letter a byte: a letter may be cut in two.
        Ok(bytes.into_iter().map(char::from).collect())
    }

    fn size(&mut self, handle: u32) -> Done<u64> {
        Ok(self.view().stat(Resource::new_borrow(handle)).unwrap()?.size)
    }

    fn with(&mut self, path: &str, open: OpenFlags, act: impl FnOnce(&mut Self, u32) -> Done) -> Done {
        let handle = self.open(path, open, DescriptorFlags::READ | DescriptorFlags::WRITE)?;
        let done = act(self, handle);
        self.close(handle);
        done
    }

    fn names(&mut self, path: &str) -> Done<BTreeMap<String, DescriptorType>> {
        let handle = self.open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
        let listing = self.view().read_directory(Resource::new_borrow(handle)).unwrap();
        self.close(handle);
        let listing = listing?.rep();
        let mut names = BTreeMap::new();
        while let Some(entry) = self.view().read_directory_entry(Resource::new_borrow(listing)).unwrap()? {
            assert!(names.insert(entry.name, entry.type_).is_none(), "a name is listed twice");
        }
        HostDirectoryEntryStream::drop(&mut self.view(), Resource::new_own(listing)).unwrap();
        Ok(names)
    }

    /// All that is seen.
    fn tree(&mut self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        let mut left = vec![String::new()];
        while let Some(at) = left.pop() {
            for (name, type_) in self.names(if at.is_empty() { "." } else { &at }).unwrap() {
                let path = state::join(&at, &name);
                let root = self.root();
                let stat = self.view().stat_at(root, PathFlags::empty(), path.clone()).unwrap().unwrap();
                assert_eq!(stat.type_, type_, "{path}");
                let what = match type_ {
                    DescriptorType::Directory => {
                        left.push(path.clone());
                        "directory".into()
                    }
                    DescriptorType::RegularFile => {
                        let handle = self.open(&path, OpenFlags::empty(), DescriptorFlags::READ).unwrap();
                        let text = self.read(handle).unwrap();
                        self.close(handle);
                        assert_eq!(stat.size, text.chars().count() as u64, "{path}");
                        format!("{text} {}", stat.link_count)
                    }
                    _ => {
                        let root = self.root();
                        format!("{:?}", self.view().readlink_at(root, path.clone()).unwrap())
                    }
                };
                tree.insert(path, what);
            }
        }
        tree
    }

    fn perform(&mut self, step: &Step) -> Done {
        let root = self.root();
        let nothing = |()| String::new();
        let all = DescriptorFlags::READ | DescriptorFlags::WRITE;
        match step {
            Step::Write(path, text) => {
                self.with(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, |side, file| {
                    side.write(file, text, 0)
                })
            }
            Step::Append(path, text) => self.with(path, OpenFlags::CREATE, |side, file| {
                let end = side.size(file)?;
                side.write(file, text, end)
            }),
            Step::Create(path) => {
                self.with(path, OpenFlags::CREATE | OpenFlags::EXCLUSIVE, |side, file| side.read(file))
            }
            Step::Truncate(path, size) => self.with(path, OpenFlags::empty(), |side, file| {
                side.view().set_size(Resource::new_borrow(file), *size).unwrap().map(nothing)
            }),
            Step::Read(path) => {
                let handle = self.open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
                let text = self.read(handle);
                self.close(handle);
                text
            }
            Step::Stat(path, follow) => {
                let flags = if *follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
                let stat = self.view().stat_at(root, flags, path.clone()).unwrap()?;
                let is_file = stat.type_ == DescriptorType::RegularFile;
                Ok(format!("{:?} {:?}", stat.type_, is_file.then_some((stat.size, stat.link_count))))
            }
            Step::List(path) => Ok(format!("{:?}", self.names(path)?)),
            Step::MakeDirectory(path) => {
                self.view().create_directory_at(root, path.clone()).unwrap().map(nothing)
            }
            Step::RemoveDirectory(path) => {
                self.view().remove_directory_at(root, path.clone()).unwrap().map(nothing)
            }
            Step::Unlink(path) => self.view().unlink_file_at(root, path.clone()).unwrap().map(nothing),
            Step::ReadLink(path) => self.view().readlink_at(root, path.clone()).unwrap(),
            Step::Rename(old, new) => {
                let to = self.root();
                self.view().rename_at(root, old.clone(), to, new.clone()).unwrap().map(nothing)
            }
            Step::HardLink(old, new) => {
                let (to, flags) = (self.root(), PathFlags::empty());
                self.view().link_at(root, flags, old.clone(), to, new.clone()).unwrap().map(nothing)
            }
            Step::Symlink(target, path) => {
                self.view().symlink_at(root, target.clone(), path.clone()).unwrap().map(nothing)
            }
            Step::Times(path, seconds) => {
                let time = super::super::bindings::wasi::clocks::wall_clock::Datetime {
                    seconds: (*seconds).into(),
                    nanoseconds: 5,
                };
                let (accessed, modified) = (NewTimestamp::NoChange, NewTimestamp::Timestamp(time));
                let (root, again, flags) = (root, self.root(), PathFlags::SYMLINK_FOLLOW);
                self.view().set_times_at(root, flags, path.clone(), accessed, modified).unwrap()?;
                let stat = self.view().stat_at(again, flags, path.clone()).unwrap()?;
                Ok(format!("{:?}", stat.data_modification_timestamp))
            }
            Step::Keep(path, write) => {
                let flags = if *write { all } else { DescriptorFlags::READ };
                let handle = self.open(path, OpenFlags::empty(), flags)?;
                self.kept.push(handle);
                Ok(String::new())
            }
            Step::ReadKept(number) => match self.kept.get(*number) {
                Some(kept) => self.read(*kept),
                None => Ok("none".into()),
            },
            Step::WriteKept(number, text) => match self.kept.get(*number) {
                Some(kept) => self.write(*kept, text, 1),
                None => Ok("none".into()),
            },
            Step::In(number, path) => match self.kept.get(*number) {
                Some(kept) => {
                    let at = Resource::new_borrow(*kept);
                    self.view().create_directory_at(at, path.clone()).unwrap().map(nothing)
                }
                None => Ok("none".into()),
            },
            Step::Fork | Step::Reopen | Step::Checked(_) | Step::Dropped(_) => Ok(String::new()),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(String, String),
    Append(String, String),
    Create(String),
    Truncate(String, u64),
    Read(String),
    Stat(String, bool),
    List(String),
    MakeDirectory(String),
    RemoveDirectory(String),
    Unlink(String),
    ReadLink(String),
    Rename(String, String),
    HardLink(String, String),
    Symlink(String, String),
    Times(String, u32),
    Keep(String, bool),
    ReadKept(usize),
    WriteKept(usize, String),
    In(usize, String),
    /// Goes on with a fork, and changes what it was forked from.
    Fork,
    /// Goes on with what another process would find.
    Reopen,
    /// Steps in a transaction that is committed.
    Checked(Vec<Step>),
    /// Steps in one that is not, which the plain directory does not see.
    Dropped(Vec<Step>),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        20 => select(vec!["a", "b", "c", "d"]),
        4 => select(vec!["in", "out", "loop", "f", "é"]),
        1 => Just(".."),
        1 => Just("."),
    ];
    let end = prop_oneof![24 => Just(""), 1 => Just("/"), 1 => Just("/.")];
    (vec(name, 1..4), end).prop_map(|(names, end)| format!("{}{end}", names.join("/")))
}

fn plain_step() -> impl Strategy<Value = Step> {
    let text = || "[a-z]{0,9}";
    prop_oneof![
        3 => (path(), text()).prop_map(|(path, text)| Step::Write(path, text)),
        2 => (path(), text()).prop_map(|(path, text)| Step::Append(path, text)),
        1 => path().prop_map(Step::Create),
        1 => (path(), 0..20u64).prop_map(|(path, size)| Step::Truncate(path, size)),
        1 => path().prop_map(Step::Read),
        1 => (path(), any::<bool>()).prop_map(|(path, follow)| Step::Stat(path, follow)),
        1 => path().prop_map(Step::List),
        3 => path().prop_map(Step::MakeDirectory),
        3 => path().prop_map(Step::RemoveDirectory),
        4 => path().prop_map(Step::Unlink),
        1 => path().prop_map(Step::ReadLink),
        6 => (path(), path()).prop_map(|(old, new)| Step::Rename(old, new)),
        2 => (path(), path()).prop_map(|(old, new)| Step::HardLink(old, new)),
        1 => (path(), path()).prop_map(|(target, path)| Step::Symlink(target, path)),
        1 => (path(), 1..1000u32).prop_map(|(path, time)| Step::Times(path, time)),
        1 => (path(), any::<bool>()).prop_map(|(path, write)| Step::Keep(path, write)),
        1 => (0..3usize).prop_map(Step::ReadKept),
        1 => (0..3usize, text()).prop_map(|(kept, text)| Step::WriteKept(kept, text)),
        1 => (0..3usize, path()).prop_map(|(kept, path)| Step::In(kept, path)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => plain_step(),
        1 => Just(Step::Fork),
        1 => Just(Step::Reopen),
        1 => vec(plain_step(), 0..6).prop_map(Step::Checked),
        1 => vec(plain_step(), 0..6).prop_map(Step::Dropped),
    ]
}

fn prepare(directory: &Path) {
    fs::create_dir_all(directory.join("a/b/c")).unwrap();
    fs::create_dir_all(directory.join("c/d")).unwrap();
    for file in ["b", "a/c", "a/b/a", "c/a", "c/d/f", "é"] {
        fs::write(directory.join(file), format!("text of {file}")).unwrap();
    }
    for (target, link) in [
        ("a/b", "in"),
        ("../secret", "out"),
        ("loop", "loop"),
        ("../b", "a/in"),
        ("/", "c/out"),
        ("b", "a/f"),
    ] {
        symlink(target, directory.join(link)).unwrap();
    }
}

/// Everything of a directory of the host that a change would show.
pub fn contents(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let found = path.symlink_metadata().unwrap();
            let what = if found.is_dir() {
                left.push(path.clone());
                "directory".into()
            } else if found.is_symlink() {
                format!("to {}", fs::read_link(&path).unwrap().display())
            } else {
                fs::read_to_string(&path).unwrap()
            };
            all.insert(path.strip_prefix(directory).unwrap().to_owned(), what);
        }
    }
    all
}

/// Compares what a step gave. Through links that ask for a directory, which `asks` says there are, systems differ too.
fn agree(step: &Step, asks: bool, plain: &Done, over: &Done) {
    let odd = |path: &String| asks || path.ends_with(['/', '.']);
    let vague = match step {
        Step::Rename(..) | Step::HardLink(..) => true,
        Step::Write(path, _)
        | Step::Append(path, _)
        | Step::Create(path)
        | Step::MakeDirectory(path)
        | Step::RemoveDirectory(path)
        | Step::Unlink(path)
        | Step::ReadLink(path)
        | Step::In(_, path)
        | Step::Symlink(_, path) => odd(path),
        _ => false,
    };
    if vague && plain.is_err() && over.is_err() {
        // Systems differ in which of several errors comes first.
        return;
    }
    if matches!(step, Step::Stat(path, false) if path.ends_with('.')) && plain.is_ok() {
        // cap-std takes `file/.` for the file.
        return;
    }
    assert_eq!(over, plain, "{step:?}");
}

fn check(steps: &[Step]) {
    let parent = tempfile::tempdir().unwrap();
    let [twin, lower, layers] = ["twin", "lower", "layers"].map(|name| parent.path().join(name));
    for directory in [&twin, &lower] {
        fs::create_dir(directory).unwrap();
        prepare(directory);
    }
    let before = contents(&lower);
    let mut overlay = Overlay::open(&lower, &layers).unwrap();
    let (mut plain, mut over) = (Side::plain(&twin), Side::over(&overlay));
    let (mut forks, mut asks) = (0, false);
    for step in steps {
        let links = |step: &Step| matches!(step, Step::Symlink(target, _) if target.ends_with('/'));
        asks |= links(step) || matches!(step, Step::Checked(steps) if steps.iter().any(links));
        match step {
            Step::Fork => {
                forks += 1;
                let fork = overlay.fork_into(parent.path().join(format!("fork{forks}"))).unwrap();
                // What the other one does is not seen.
                for file in ["a/c", "b", "c/d/f", "new"] {
                    let _ = over.perform(&Step::Write(file.into(), "elsewhere".into()));
                }
                let again = fork.fork().unwrap();
                let mut other = Side::over(&again);
                let _ = other.perform(&Step::Rename("a".into(), "z".into()));
                let _ = other.perform(&Step::Append("b".into(), "elsewhere".into()));
                overlay = fork;
                (plain.kept, over) = (Vec::new(), Side::over(&overlay));
            }
            Step::Reopen => {
                drop(over);
                let layers = overlay.layers().unwrap().to_owned();
                drop(overlay);
                overlay = Overlay::open(&lower, layers).unwrap();
                (plain.kept, over) = (Vec::new(), Side::over(&overlay));
            }
            Step::Checked(steps) => {
                let checkpoint = overlay.checkpoint();
                for step in steps {
                    agree(step, asks, &plain.perform(step), &over.perform(step));
                }
                checkpoint.commit().unwrap();
            }
            Step::Dropped(steps) => {
                let checkpoint = overlay.checkpoint();
                // What was open before is not asked about.
                let kept = std::mem::take(&mut over.kept);
                for step in steps {
                    let _ = over.perform(step);
                }
                checkpoint.roll_back();
                over.kept = kept;
            }
            step => agree(step, asks, &plain.perform(step), &over.perform(step)),
        }
        assert_eq!(over.tree(), plain.tree(), "after {step:?}");
    }
    assert_eq!(contents(&lower), before);
    let held: u64 = over
        .tree()
        .iter()
        .filter(|(_, what)| *what != "directory" && !what.starts_with("Ok("))
        .map(|(_, what)| what.len() as u64)
        .sum();
    assert!(overlay.held_bytes() <= held + 4096, "{} bytes are held", overlay.held_bytes());
    let diff = overlay.diff().unwrap();
    assert_eq!(diff.changes.is_empty(), contents(&lower) == contents(&twin), "{diff:?}");
    assert_eq!(overlay.conflicts().unwrap(), []);
    overlay.apply().unwrap();
    assert_eq!(contents(&lower), contents(&twin));
    assert_eq!(overlay.diff().unwrap(), Diff::default());
    assert_eq!(over.tree(), plain.tree());
    let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("apply")), "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_overlay_does_what_a_plain_directory_does(steps in vec(step(), 1..40)) {
        check(&steps);
    }
}

/// Changes of all kinds that `apply` knows.
fn changed(lower: &Path) -> Overlay {
    prepare(lower);
    let overlay = Overlay::over(lower).unwrap();
    let mut side = Side::over(&overlay);
    let text = |path: &str| Step::Write(path.into(), "new".into());
    let rename = |old: &str, new: &str| Step::Rename(old.into(), new.into());
    for step in [
        text("b"),
        text("a/b/a"),
        rename("c", "t"),
        rename("a", "c"),
        rename("t", "a"),
        rename("c/b", "a/d/b"),
        Step::Unlink("é".into()),
        Step::MakeDirectory("é".into()),
        Step::MakeDirectory("é/in".into()),
        text("é/in/f"),
        Step::HardLink("é/in/f".into(), "a/linked".into()),
        rename("c/c", "é/c"),
        Step::Symlink("b".into(), "é/link".into()),
        Step::Unlink("in".into()),
        text("in"),
    ] {
        side.perform(&step).unwrap_or_else(|error| panic!("{step:?}: {error:?}"));
    }
    overlay
}

/// An `apply` of which `count` steps are done, and what is to be done in all.
fn stopped(overlay: &Overlay, count: usize) -> (journal::Stage, journal::Journal) {
    let inner = overlay.0.lock();
    let plan = overlay.0.plan(&inner).unwrap();
    assert_eq!(plan.conflicts, []);
    let stage = journal::Stage::new(&overlay.0.lower).unwrap();
    overlay.0.prepare(&inner, &stage, &plan).unwrap();
    let journal = journal::Journal { name: "0".into(), layers: None, steps: plan.steps };
    stage.begin(&overlay.0.lower, &journal).unwrap();
    stage.perform_first(&overlay.0.lower, &journal.steps, count).unwrap();
    (stage, journal)
}

#[test]
fn an_apply_that_stops_anywhere_is_finished_or_undone() {
    let parent = tempfile::tempdir().unwrap();
    let directory = |name: String| {
        let path = parent.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let whole = directory("whole".into());
    let overlay = changed(&whole);
    let before = contents(&whole);
    let steps = overlay.0.plan(&overlay.0.lock()).unwrap().steps.len();
    overlay.apply().unwrap();
    let after = contents(&whole);
    assert!(steps > 10 && before != after);
    for count in 0..=steps {
        let finished = directory(format!("finished{count}"));
        drop(stopped(&changed(&finished), count));
        drop(Overlay::over(&finished).unwrap());
        assert_eq!(contents(&finished), after, "{count} of {steps} steps");

        let undone = directory(format!("undone{count}"));
        let overlay = changed(&undone);
        let (stage, journal) = stopped(&overlay, count);
        stage.undo(&overlay.0.lower, &journal.steps).unwrap();
        assert_eq!(contents(&undone), before, "{count} of {steps} steps");
        // Killed while it undoes them, it goes on so.
        stage.perform_first(&overlay.0.lower, &journal.steps, count / 2).unwrap();
        assert!(stage.directory.exists(journal::UNDO) && !stage.directory.exists(journal::MARK));
        drop(stage);
        drop(Overlay::over(&undone).unwrap());
        assert_eq!(contents(&undone), before, "{count} of {steps} steps");
        assert_eq!(overlay.conflicts().unwrap(), []);
        overlay.apply().unwrap();
        assert_eq!(contents(&undone), after, "{count} of {steps} steps");
    }
    let left = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("apply")));
}
