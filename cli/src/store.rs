//! Directories of the user's own with names, sessions and the like: where they are, and that one process at a time
//! changes one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{self, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use agentkernel::remove_tree;

use crate::failure::{Failure, Result};
use crate::{files, trust};

const LOCK: &str = "lock";

/// Characters of a name.
const NAME_LENGTH: usize = 64;

/// How long somebody who only looks may keep a writer waiting.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a process that was killed while it made or removed a session has left is removed after this time.
const LEFT: Duration = Duration::from_secs(3600);

/// What a store has, for messages.
pub struct Kind {
    /// The directory below the user's data.
    pub place: &'static str,
    pub one: &'static str,
    pub many: &'static str,
    /// What to do about one that is absent, is in use, or is there already.
    pub absent: fn(&str) -> String,
    pub busy: &'static str,
    pub taken: fn(&str) -> String,
}

/// The directory of all that are of a kind.
pub struct Store {
    pub root: PathBuf,
    pub kind: &'static Kind,
}

/// One that nobody else changes.
pub struct Held {
    pub name: String,
    pub directory: PathBuf,
    _lock: File,
}

impl Store {
    pub fn open(kind: &'static Kind) -> Result<Self> {
        let many = kind.many;
        let data = files::data().ok_or_else(|| {
            Failure::new(format!("there is no place for {many}: neither HOME nor XDG_DATA_HOME is set"))
                .hint("name a directory with `AGENTKERNEL_DATA_DIR`")
        })?;
        let root = data.join(kind.place);
        let root = path::absolute(&root)
            .map_err(|error| Failure::new(format!("cannot tell where `{}` is: {error}", root.display())))?;
        files::private(&root).map_err(|error| {
            Failure::new(format!("cannot make `{}`: {error}", root.display()))
                .hint("name another directory with `AGENTKERNEL_DATA_DIR`")
        })?;
        if let Some(why) = trust::foreign(&root, []) {
            return Err(Failure::new(format!("{many} cannot be kept there: {why}"))
                .hint("take its rights from others, or name another directory with `AGENTKERNEL_DATA_DIR`"));
        }
        Ok(Store { root, kind })
    }

    /// The names of all, in order.
    pub fn names(&self) -> Result<Vec<String>> {
        let cannot = |error| Failure::new(format!("cannot list `{}`: {error}", self.root.display()));
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            names.extend(name.to_str().filter(|name| is_name(name)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The directory of one that is there.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        self.check(name)?;
        let directory = self.root.join(name);
        match directory.is_dir() {
            true => Ok(directory),
            false => {
                let message = format!("there is no {} `{name}`", self.kind.one);
                Err(Failure::new(message).hint((self.kind.absent)(name)))
            }
        }
    }

    /// Why one must not be believed, if so: others can have written what it would run, and what that is
    /// granted.
    pub fn foreign(&self, name: &str) -> Option<String> {
        let directory = self.root.join(name);
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        trust::foreign(&directory, entries.map(|entry| entry.path()))
    }

    /// One, for this process alone.
    pub fn hold(&self, name: &str) -> Result<Held> {
        let directory = self.find(name)?;
        let one = self.kind.one;
        let cannot = |error: io::Error| Failure::new(format!("cannot lock the {one} `{name}`: {error}"));
        let mut options = OpenOptions::new();
        let lock =
            options.write(true).create(true).truncate(false).open(directory.join(LOCK)).map_err(cannot)?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Failure::new(format!("the {one} `{name}` is in use by another process"))
                        .hint(self.kind.busy));
                }
                Err(TryLockError::Error(error)) => return Err(cannot(error)),
            }
        }
        // It may have been removed meanwhile, and its name be another's.
        self.find(name)?;
        if !is_same(&lock, &directory.join(LOCK)) {
            return Err(Failure::new(format!("the {one} `{name}` was removed meanwhile, and made anew"))
                .hint("do it again"));
        }
        Ok(Held { name: name.to_owned(), directory, _lock: lock })
    }

    /// Whether somebody changes it at the moment.
    pub fn is_in_use(&self, name: &str) -> bool {
        let lock = File::open(self.root.join(name).join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Makes one of what `fill` puts into an empty directory: all of it, or none.
    pub fn make(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.check(name)?;
        self.tidy();
        let one = self.kind.one;
        let taken =
            || Failure::new(format!("there is a {one} `{name}` already")).hint((self.kind.taken)(name));
        let directory = self.root.join(name);
        if directory.exists() {
            return Err(taken());
        }
        let cannot = |error| Failure::new(format!("cannot make the {one} `{name}`: {error}"));
        let beside = self.aside("new", name);
        files::private(&beside).map_err(cannot)?;
        let made = fill(&beside).and_then(|()| {
            sync_directory(&beside).map_err(cannot)?;
            fs::rename(&beside, &directory).map_err(|error| match directory.exists() {
                true => taken(),
                false => cannot(error),
            })
        });
        if made.is_err() {
            let _ = remove_tree(&beside);
        }
        made?;
        sync_directory(&self.root).map_err(cannot)
    }

    /// Removes one, in whatever state it is.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.remove_held(self.hold(name)?)
    }

    pub fn remove_held(&self, held: Held) -> Result<()> {
        let (one, name) = (self.kind.one, &held.name);
        let beside = self.aside("removed", name);
        let cannot = |error| Failure::new(format!("cannot remove the {one} `{name}`: {error}"));
        fs::rename(&held.directory, &beside).map_err(cannot)?;
        self.tidy();
        remove_tree(&beside).map_err(cannot)
    }

    /// A directory that is empty and stays so: below overlays that lie over nothing.
    pub fn empty(&self) -> Result<PathBuf> {
        let empty = self.root.join(".empty");
        files::private(&empty)
            .map_err(|error| Failure::new(format!("cannot make `{}`: {error}", empty.display())))?;
        Ok(empty)
    }

    /// Refuses what is no name.
    pub fn check(&self, name: &str) -> Result<()> {
        if is_name(name) {
            return Ok(());
        }
        let message = format!("`{}` cannot be the name of a {}", name.escape_debug(), self.kind.one);
        Err(Failure::new(message).hint(format!(
            "use small letters, digits, `.`, `_` and `-`, a letter or digit first, {NAME_LENGTH} characters at most"
        )))
    }

    fn aside(&self, what: &str, name: &str) -> PathBuf {
        self.root.join(format!(".{what}-{name}-{}", std::process::id()))
    }

    /// Removes what killed processes have left.
    fn tidy(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let left = [".new-", ".removed-"].iter().any(|start| name.to_string_lossy().starts_with(start));
            let modified = entry.metadata().and_then(|found| found.modified());
            let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if left && age.is_some_and(|age| age > LEFT) {
                let _ = remove_tree(entry.path());
            }
        }
    }
}

/// Whether a file is the one that has this name.
#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let (file, path) = (file.metadata().map(identity), fs::metadata(path).map(identity));
    file.ok().is_some_and(|file| path.is_ok_and(|path| file == path))
}

#[cfg(not(unix))]
fn is_same(_file: &File, _path: &Path) -> bool {
    true
}

/// Whether it can be a name: of a directory, and in a command.
fn is_name(name: &str) -> bool {
    let first = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let good = name.starts_with(first)
        && name.chars().all(|letter| first(letter) || matches!(letter, '.' | '_' | '-'));
    good && name.len() <= NAME_LENGTH
}

/// Replaces a file, and waits until that is on the disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Waits until the names in a directory are on the disk.
#[cfg(unix)]
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
pub fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        let long = "a".repeat(64);
        for name in ["a", "0", "my-session", "a.b_c-9", long.as_str()] {
            assert!(is_name(name), "{name}");
        }
        let longer = "a".repeat(65);
        for name in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "_a",
            "A",
            "a/b",
            "a\\b",
            "../a",
            "a b",
            "a\n",
            "ä",
            "a\0",
            longer.as_str(),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
