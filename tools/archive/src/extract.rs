//! Unpacking: into a directory beside the place where it all goes, which is moved when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use common::{beside, explain, resolve};

use crate::exports::agentkernel::archive::archive::{Extracted, Kind};
use crate::item::{Item, Paths, safe};
use crate::limits::Budget;
use crate::open::{Archive, reason};

/// Entries that were left out and are named.
const SKIPPED: usize = 100;

pub struct Order {
    pub into: Option<String>,
    pub names: Option<Vec<String>>,
    pub overwrite: bool,
    pub entries: u32,
    pub bytes: Option<u64>,
    pub ratio: Option<u32>,
}

pub fn extract(archive: &str, order: Order) -> Result<Extracted, String> {
    let into = order.into.unwrap_or_else(|| without_end(archive).to_owned());
    let target = resolve(&into)?;
    if !fs::metadata(&target).map_or(true, |metadata| metadata.is_dir()) {
        return Err(format!("cannot extract into `{}`: it is a file", into.escape_debug()));
    }
    let opened = Archive::open(archive)?;
    let budget = Budget::new(opened.bytes, order.bytes, order.ratio);
    let here = beside(&target.join("x"));
    let staged = if target.is_dir() { here } else { beside(&target) };
    let mut made = Vec::new();
    let parent = staged.parent().unwrap_or(&staged);
    let ready = directory(parent, &mut made).and_then(|()| fs::create_dir(&staged));
    if let Err(error) = ready {
        undo(&made);
        return Err(explain("write", &into, &error));
    }
    let mut unpacking = Unpacking {
        staged: &staged,
        paths: Paths::default(),
        files: Vec::new(),
        directories: Vec::new(),
        bytes: 0,
        skipped: Vec::new(),
    };
    let mut missing: Vec<String> = order.names.clone().unwrap_or_default();
    let mut wanted = |item: &Item| match &order.names {
        None => true,
        Some(names) => {
            let name = names.iter().find(|name| within(&item.name, name));
            missing.retain(|other| Some(other) != name);
            name.is_some()
        }
    };
    let result = opened
        .visit(order.entries, &budget, &mut wanted, &mut |item, content| {
            unpacking.entry(item, content).map(|()| true)
        })
        .and_then(|()| match missing.first() {
            Some(name) => Err(format!("there is no `{name}` in `{archive}`: `entries` says what there is")),
            None => Ok(()),
        })
        .and_then(|()| place(&unpacking, &target, &into, order.overwrite));
    let _ = remove(&staged);
    result.inspect_err(|_| undo(&made))?;
    let shown = target.strip_prefix("/workspace").unwrap_or(&target);
    Ok(Extracted {
        files: unpacking.files.iter().map(|file| shown.join(file).to_string_lossy().into_owned()).collect(),
        bytes: unpacking.bytes,
        skipped: unpacking.skipped,
    })
}

/// Whether an entry is `name`, or lies in a directory of this name.
fn within(entry: &str, name: &str) -> bool {
    let name = name.trim_end_matches('/');
    entry.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn without_end(archive: &str) -> &str {
    const ENDS: [&str; 15] = [
        ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tgz", ".tbz2", ".tbz", ".txz", ".tzst", ".tar",
        ".zip", ".jar", ".whl", ".epub", ".docx",
    ];
    let end = ENDS.iter().find_map(|end| archive.strip_suffix(end));
    match end.filter(|start| !start.is_empty() && !start.ends_with('/')) {
        Some(start) => start,
        // Without a known end the name itself is taken.
        None => archive
            .rsplit_once('/')
            .map_or(".", |(directory, _)| if directory.is_empty() { "/" } else { directory }),
    }
}

struct Unpacking<'a> {
    staged: &'a Path,
    paths: Paths,
    files: Vec<String>,
    directories: Vec<String>,
    bytes: u64,
    skipped: Vec<String>,
}

impl Unpacking<'_> {
    fn entry(&mut self, item: &Item, content: &mut dyn Read) -> Result<(), String> {
        let path = safe(&item.name)?;
        let kind = match item.kind {
            Kind::File | Kind::Directory => item.kind,
            Kind::Link | Kind::Other => {
                if self.skipped.len() < SKIPPED {
                    self.skipped.push(item.name.clone());
                }
                return Ok(());
            }
        };
        if path.is_empty() {
            return match kind {
                Kind::Directory => Ok(()),
                _ => Err(format!("refused: a file has the path `{}`", item.name.escape_debug())),
            };
        }
        self.paths.add(&path, kind == Kind::Directory)?;
        let staged = self.staged.join(&path);
        let wrong = |error: io::Error| explain("write", &path, &error);
        if kind == Kind::Directory {
            fs::create_dir_all(&staged).map_err(wrong)?;
            self.directories.push(path);
            return Ok(());
        }
        if let Some(parent) = staged.parent() {
            fs::create_dir_all(parent).map_err(wrong)?;
        }
        let mut file = BufWriter::with_capacity(64 << 10, File::create(&staged).map_err(wrong)?);
        let mut buffer = [0; 16 << 10];
        let mut written = 0;
        loop {
            let count = content.read(&mut buffer).map_err(|error| {
                format!("nothing was extracted: the entry `{}`: {}", item.name.escape_debug(), reason(&error))
            })?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(wrong)?;
            written += count as u64;
        }
        file.flush().map_err(wrong)?;
        if written != item.size {
            return Err(format!(
                "nothing was extracted: the entry `{}`: it is cut off",
                item.name.escape_debug()
            ));
        }
        self.bytes += written;
        self.files.push(path);
        Ok(())
    }
}

/// Moves what was unpacked to where it goes.
fn place(unpacking: &Unpacking<'_>, target: &Path, into: &str, overwrite: bool) -> Result<(), String> {
    let wrong = |error: io::Error| explain("write", into, &error);
    if !target.is_dir() {
        return fs::rename(unpacking.staged, target).map_err(wrong);
    }
    // Everything is looked at before anything is moved.
    for (path, directory) in unpacking
        .files
        .iter()
        .map(|path| (path, false))
        .chain(unpacking.directories.iter().map(|path| (path, true)))
    {
        let mut place = target.to_path_buf();
        let mut parts = Path::new(path).components().peekable();
        while let Some(part) = parts.next() {
            place.push(part);
            let Ok(metadata) = fs::symlink_metadata(&place) else { break };
            let last = parts.peek().is_none();
            let fits = if last && !directory { metadata.is_file() && overwrite } else { metadata.is_dir() };
            if !fits {
                let hint = if last && metadata.is_file() && !directory {
                    ": give `overwrite=True` to replace it"
                } else {
                    ""
                };
                let shown = place.strip_prefix("/workspace").unwrap_or(&place);
                return Err(format!("nothing was extracted: `{}` is there already{hint}", shown.display()));
            }
        }
    }
    let mut made: Vec<PathBuf> = Vec::new();
    let result = unpacking
        .directories
        .iter()
        .map(|path| target.join(path))
        .try_for_each(|path| directory(&path, &mut made));
    let result = result.and_then(|()| {
        unpacking.files.iter().try_for_each(|path| {
            let place = target.join(path);
            if let Some(parent) = place.parent() {
                directory(parent, &mut made)?;
            }
            let new = fs::symlink_metadata(&place).is_err();
            fs::rename(unpacking.staged.join(path), &place)?;
            if new {
                made.push(place);
            }
            Ok(())
        })
    });
    result.map_err(|error: io::Error| {
        undo(&made);
        wrong(error)
    })
}

/// Removes a directory and all in it. The one of the standard library removes entries while it lists
/// them, and on WASI loses some by that.
fn remove(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()? {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// Takes away what was made; directories only if nothing is in them.
fn undo(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    }
}

/// Makes a directory and those that it lies in, and notes which.
fn directory(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.is_dir()).collect();
    for path in missing.into_iter().rev() {
        fs::create_dir(path)?;
        made.push(path.to_path_buf());
    }
    Ok(())
}
