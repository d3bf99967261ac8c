//! Where it is written down what an `apply` does: in a directory of the user's, since whoever may write beside or in
//! the directory that is changed could forge it there.

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use sha2::{Digest, Sha256};

use super::journal::Journal;
use super::lower::{Lower, identity, sync};

/// The directory of all records, if the user has a place for such things: `applies` in `AGENTKERNEL_DATA_DIR`, in
/// `agentkernel` in `XDG_DATA_HOME`, or in `.local/share/agentkernel` at home.
pub fn root() -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    let data = variable("AGENTKERNEL_DATA_DIR").or_else(|| {
        let base = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")))?;
        Some(base.join("agentkernel"))
    })?;
    Some(data.join("applies"))
}

/// The directory of all records, if it is there, and nobody else can have written what it has.
fn open(root: &Path, lower: &Lower) -> io::Result<Dir> {
    let directory = Dir::open_ambient_dir(root, cap_std::ambient_authority())?;
    let refused = |why: &str| Err(io::Error::other(format!("`{}` {why}", root.display())));
    if root.canonicalize()?.starts_with(&lower.path) {
        return refused("lies in the directory itself; name another place with AGENTKERNEL_DATA_DIR");
    }
    #[cfg(unix)]
    {
        use cap_std::fs::MetadataExt;
        let found = directory.dir_metadata()?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return refused("belongs to another user");
        }
        if found.mode() & 0o022 != 0 {
            return refused("can be written by others");
        }
    }
    Ok(directory)
}

/// A name that nobody else can know.
pub fn unguessable() -> String {
    let keys = RandomState::new();
    format!("{:016x}{:016x}", keys.hash_one(0), keys.hash_one(1))
}

/// The name of the record of a directory.
fn name(lower: &Lower) -> String {
    let hash = Sha256::digest(lower.path.as_os_str().as_encoded_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn inode(lower: &Lower) -> io::Result<u64> {
    Ok(identity(&lower.directory.dir_metadata()?).inode)
}

/// Writes down what is about to be done in a directory, in place of what was before, and waits until it is on the disk.
pub fn write(lower: &Lower, journal: &Journal) -> io::Result<()> {
    in_root(|root| write_to(root, lower, journal))
}

/// Makes sure that it could be written down now.
pub fn check(lower: &Lower) -> io::Result<()> {
    in_root(|root| {
        let directory = make(root, lower)?;
        let probe = unguessable();
        directory.create(&probe)?;
        directory.remove_file(&probe)
    })
}

fn in_root(act: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let root = root().ok_or_else(|| {
        io::Error::other("there is no place to write down what is done: set HOME or AGENTKERNEL_DATA_DIR")
    })?;
    act(&root).map_err(|error| {
        let shown = root.display();
        io::Error::new(error.kind(), format!("what is done cannot be written down in `{shown}`: {error}"))
    })
}

fn make(root: &Path, lower: &Lower) -> io::Result<Dir> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(root)?;
    open(root, lower)
}

fn write_to(root: &Path, lower: &Lower, journal: &Journal) -> io::Result<()> {
    let directory = make(root, lower)?;
    let name = name(lower);
    let beside = format!("{name}.new");
    let mut file = directory.create(&beside)?;
    file.write_all(&serde_json::to_vec(&(inode(lower)?, journal))?)?;
    file.sync_all()?;
    directory.rename(&beside, &directory, &name)?;
    sync(&directory, "");
    Ok(())
}

/// What was written down for a directory, if something was.
pub fn read(lower: &Lower) -> io::Result<Option<Journal>> {
    let Some(root) = root() else { return Ok(None) };
    let text = match open(&root, lower).and_then(|directory| directory.read(name(lower))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let (of, journal): (u64, Journal) = serde_json::from_slice(&text)?;
    // Another directory may have taken the place of that one.
    Ok(Some(journal).filter(|_| inode(lower).is_ok_and(|inode| inode == of)))
}

/// Removes what was written down for a directory.
pub fn remove(lower: &Lower) {
    let Some(root) = root() else { return };
    if let Ok(directory) = open(&root, lower) {
        let _ = directory.remove_file(name(lower));
    }
}
