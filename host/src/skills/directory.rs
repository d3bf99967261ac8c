//! Files of skills in their directory: read, replaced at once, and kept when they are replaced.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, File, OpenOptions};

use super::format::MAX_FILE;
use super::{MAX_DELETED, MAX_SKILLS, MAX_VERSIONS, Skill, format, name, wrong};
use crate::{Error, Result};

const HISTORY: &str = ".history";
const LOCK: &str = ".lock";

/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// How long it is waited for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

pub(super) struct Directory(pub Arc<Dir>);

impl Directory {
    /// Names of the files that are skills, sorted.
    fn names(&self) -> Result<Vec<String>> {
        let entries = self.0.entries().map_err(|error| unreadable(&error))?;
        let names = entries.take(MAX_ENTRIES).filter_map(|entry| {
            let file = entry.ok()?.file_name().into_string().ok()?;
            let name = file.strip_suffix(".py")?;
            name::check(name).ok().map(|()| name.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Ok(names)
    }

    /// All that can be read; a file that goes meanwhile is none.
    pub fn list(&self) -> Result<Vec<Skill>> {
        Ok(self.all()?.map(|(skill, _)| skill).collect())
    }

    pub fn all(&self) -> Result<impl Iterator<Item = (Skill, String)>> {
        let names = self.names()?;
        Ok(names.into_iter().take(MAX_SKILLS).filter_map(|name| self.read(&name).ok()))
    }

    pub fn read(&self, name: &str) -> Result<(Skill, String)> {
        name::check(name)?;
        match read(&self.0, &file(name)) {
            Ok(text) => Ok(format::read(name, &text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(absent(name)),
            Err(error) => Err(wrong(format!("the skill `{name}` cannot be read")).source(error)),
        }
    }

    pub fn save(&self, name: &str, code: &str, description: &str) -> Result<Skill> {
        name::check(name)?;
        format::check(code, description)?;
        let description = description.trim();
        let _lock = self.lock()?;
        let names = self.names()?;
        // One file on a disk that does not tell cases apart.
        if let Some(other) = names.iter().find(|other| *other != name && other.eq_ignore_ascii_case(name)) {
            return Err(wrong(format!(
                "there is a skill `{other}`, from which `{name}` differs in case alone"
            )));
        }
        let is_new = !names.iter().any(|other| other == name);
        if is_new && names.len() >= MAX_SKILLS {
            return Err(wrong(format!("there are {MAX_SKILLS} skills, and there may be no more"))
                .hint("delete some first"));
        }
        let before = match is_new {
            true => None,
            false => Some(self.read(name)?),
        };
        if let Some((skill, kept)) = before
            && skill.description == description
            && kept.trim_end() == code.trim_end()
        {
            return Ok(skill);
        }
        let version = self.keep_current(name)? + 1;
        replace(&self.0, &file(name), &format::write(description, version, code))
            .map_err(|error| unwritable(&error))?;
        Ok(Skill { name: name.to_owned(), description: description.to_owned(), version })
    }

    pub fn delete(&self, name: &str) -> Result<()> {
        name::check(name)?;
        let _lock = self.lock()?;
        self.read(name)?;
        self.keep_current(name)?;
        self.0.remove_file(file(name)).map_err(|error| unwritable(&error))?;
        self.forget_oldest().map_err(|error| unwritable(&error))
    }

    /// Removes what there is of the skills that were deleted first, if there is too much.
    fn forget_oldest(&self) -> io::Result<()> {
        let history = self.0.open_dir(HISTORY)?;
        let mut deleted = Vec::new();
        for entry in history.entries()?.take(MAX_ENTRIES) {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if self.0.symlink_metadata(file(&name)).is_err() {
                deleted.push((entry.metadata()?.modified()?.into_std(), name));
            }
        }
        deleted.sort();
        let surplus = deleted.len().saturating_sub(MAX_DELETED);
        deleted[..surplus].iter().try_for_each(|(_, name)| history.remove_dir_all(name))
    }

    /// Copies what there is to the history; gives the number of the last version that there was.
    fn keep_current(&self, name: &str) -> Result<u64> {
        let keep = || {
            let path = format!("{HISTORY}/{name}");
            let current = match read(&self.0, &file(name)) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            if current.is_some() {
                self.0.create_dir_all(&path)?;
            }
            let history = match self.0.open_dir(&path) {
                Ok(history) => history,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            };
            let mut versions = versions(&history)?;
            let mut last = versions.last().copied().unwrap_or(0);
            if let Some(text) = current {
                // A person may have written any number.
                last = last.max(format::read(name, &text).0.version.min(u64::MAX / 2));
                if versions.last() != Some(&last)
                    || read(&history, &format!("{last}.py")).ok() != Some(text.clone())
                {
                    if versions.last() == Some(&last) {
                        last += 1;
                    }
                    replace(&history, &format!("{last}.py"), &text)?;
                    versions.push(last);
                }
            }
            let old = versions.len().saturating_sub(MAX_VERSIONS);
            for version in &versions[..old] {
                history.remove_file(format!("{version}.py"))?;
            }
            Ok(last)
        };
        keep().map_err(|error: io::Error| unwritable(&error))
    }

    /// Only one writes at a time. The lock goes with its file, also when the process is killed.
    fn lock(&self) -> Result<std::fs::File> {
        let mut options = options();
        options.read(true).write(true).create(true);
        let file = self.0.open_with(LOCK, &options).map_err(|error| unwritable(&error))?.into_std();
        let until = Instant::now() + BUSY;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    return Err(wrong("another process is writing skills").hint("try again"));
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(unwritable(&error)),
            }
        }
    }
}

fn file(name: &str) -> String {
    format!("{name}.py")
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // What a link leads to is no file of ours.
    options.follow(FollowSymlinks::No);
    options
}

fn read(directory: &Dir, path: &str) -> io::Result<String> {
    let wrong = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    // Nothing that a read would wait for, as of a pipe.
    if !directory.symlink_metadata(path)?.is_file() {
        return Err(wrong("it is no file"));
    }
    let mut options = options();
    let mut text = String::new();
    let file: File = directory.open_with(path, options.read(true))?;
    file.take(MAX_FILE as u64 + 1).read_to_string(&mut text)?;
    match text.len() <= MAX_FILE {
        true => Ok(text),
        false => Err(wrong("it is too large")),
    }
}

/// Writes a file that is there as a whole or not at all.
fn replace(directory: &Dir, path: &str, text: &str) -> io::Result<()> {
    let new = format!(".{path}.new");
    let mut options = options();
    options.write(true).create(true).truncate(true);
    let mut file = directory.open_with(&new, &options)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    directory.rename(&new, directory, path)?;
    // The name too; not every file system can.
    let _ = directory.try_clone().and_then(|directory| directory.into_std_file().sync_all());
    Ok(())
}

/// Numbers of the versions that are kept, in order.
fn versions(history: &Dir) -> io::Result<Vec<u64>> {
    let entries = history.entries()?.take(MAX_ENTRIES);
    let number = |entry: io::Result<cap_std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".py")?.parse().ok()
    };
    let mut versions: Vec<u64> = entries.filter_map(number).collect();
    versions.sort_unstable();
    Ok(versions)
}

fn absent(name: &str) -> Error {
    wrong(format!("there is no skill `{name}`"))
        .hint("`skills.list()` lists them, `agentkernel skill list` too")
}

fn unreadable(error: &io::Error) -> Error {
    wrong(format!("the skills cannot be read: {error}"))
}

fn unwritable(error: &io::Error) -> Error {
    wrong(format!("the skills cannot be written: {error}"))
}
