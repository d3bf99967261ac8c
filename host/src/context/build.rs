//! Making contexts of files, directories and texts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Context;
use super::file::{Expanded, File, look};
use super::mark::{ContextMark, Marker};
use crate::{Error, ErrorKind, Result};

/// What compressed files of one context may hold together, unless it is said otherwise.
const DECOMPRESSED_BYTES: u64 = 16 << 30;

/// Bytes that a context may have: its index takes eight bytes for each 64 KiB.
const MAX_BYTES: u64 = 1 << 40;

/// Files that a context may have.
const MAX_FILES: usize = 200_000;

/// Files that are kept open. Others are opened each time they are read.
const MAX_OPEN: usize = 128;

/// A context to be made; see [`Context::builder`].
pub struct ContextBuilder {
    sources: Vec<(String, Source)>,
    /// What was given, and how many of the sources are its.
    parts: Vec<(String, usize)>,
    decompressed_bytes: u64,
}

enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl ContextBuilder {
    pub(super) fn new() -> Self {
        ContextBuilder { sources: Vec::new(), parts: Vec::new(), decompressed_bytes: DECOMPRESSED_BYTES }
    }

    /// Adds a file under its own name, without its directories. One compressed by gzip or zstd is
    /// decompressed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when there is no such file.
    pub fn file(mut self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if let Err(error) = path.metadata() {
            return Err(cannot(path, error));
        }
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
        self.sources.push((name.into_owned(), Source::File(path.to_owned())));
        self.parts.push((path.display().to_string(), 1));
        Ok(self)
    }

    /// Adds the regular files below a directory, sorted by their paths from there, which are their
    /// names. Hidden ones, links and what is in hidden directories are left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when it or a directory below cannot be read.
    pub fn directory(mut self, path: impl AsRef<Path>) -> Result<Self> {
        let (path, before) = (path.as_ref(), self.sources.len());
        self.walk(path, "")?;
        self.parts.push((path.display().to_string(), self.sources.len() - before));
        Ok(self)
    }

    fn walk(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let read = || -> std::io::Result<Vec<_>> {
            let mut entries = std::fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
            entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
            entries.sort_by_key(std::fs::DirEntry::file_name);
            Ok(entries)
        };
        for entry in read().map_err(|error| cannot(directory, error))? {
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| cannot(&path, error))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                self.walk(&path, &format!("{name}/"))?;
            } else if kind.is_file() {
                self.sources.push((name, Source::File(path)));
                self.check_count()?;
            }
        }
        Ok(())
    }

    /// Adds a text.
    pub fn text(self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.bytes(name, text.into())
    }

    /// Adds bytes that are mostly UTF-8. They are not decompressed.
    pub fn bytes(mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let name = name.into();
        self.parts.push((name.clone(), 1));
        self.sources.push((name, Source::Bytes(bytes.into())));
        self
    }

    /// What compressed files may hold together; they are decompressed into the system's directory for
    /// temporary files. Default: 16 GiB.
    pub fn decompressed_bytes(mut self, limit: u64) -> Self {
        self.decompressed_bytes = limit;
        self
    }

    /// Opens all of it. A name that comes a second time gets a number.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when a file cannot be read, is no regular file, is compressed and broken, or
    /// when it is too much: more than 1 TiB, 200,000 files, or decompressed bytes than allowed.
    pub fn build(self) -> Result<Context> {
        let mut files = Vec::with_capacity(self.sources.len());
        let mut expanded = Expanded::new(self.decompressed_bytes);
        let (mut open, mut size) = (0, 0u64);
        let (mut marker, sources) = self.named()?;
        for (part, name, source) in sources {
            let file = match source {
                Source::File(path) => {
                    let (file, look) = File::open(name, &path, open < MAX_OPEN, &mut expanded)?;
                    marker.file(part, &file.name, &look);
                    file
                }
                Source::Bytes(bytes) => {
                    marker.text(part, &name, &bytes);
                    File::memory(name, bytes)
                }
            };
            open += usize::from(file.is_open());
            size = size.saturating_add(file.size);
            if size > MAX_BYTES {
                return Err(Error::new(ErrorKind::Grant, "a context may have 1 TiB, and this one has more"));
            }
            files.push(file);
        }
        Ok(Context::new(files, marker.end()))
    }

    /// What it would look like, without anything being read or decompressed.
    pub(super) fn mark(self) -> Result<ContextMark> {
        let (mut marker, sources) = self.named()?;
        for (part, name, source) in sources {
            match source {
                Source::File(path) => {
                    let metadata = path.metadata().map_err(|error| cannot(&path, error))?;
                    marker.file(part, &name, &look(&metadata));
                }
                Source::Bytes(bytes) => marker.text(part, &name, &bytes),
            }
        }
        Ok(marker.end())
    }

    /// The sources with the part that each is of, and a name that no other has.
    fn named(self) -> Result<(Marker, impl Iterator<Item = (usize, String, Source)>)> {
        self.check_count()?;
        let mut names: HashMap<String, usize> = HashMap::new();
        let of_part = |(number, (_, count)): (usize, &(String, usize))| std::iter::repeat_n(number, *count);
        let numbers: Vec<usize> = self.parts.iter().enumerate().flat_map(of_part).collect();
        let marker = Marker::new(self.parts.into_iter().map(|(given, _)| given).collect());
        let sources = numbers.into_iter().zip(self.sources).map(move |(part, (given, source))| {
            let mut name = given.clone();
            while let Some(times) = names.get_mut(&name) {
                *times += 1;
                name = format!("{given} ({times})");
            }
            names.insert(name.clone(), 1);
            (part, name, source)
        });
        Ok((marker, sources))
    }

    fn check_count(&self) -> Result<()> {
        if self.sources.len() > MAX_FILES {
            let message = format!("a context may have {MAX_FILES} files, and this one has more");
            return Err(Error::new(ErrorKind::Grant, message).hint("join them into fewer"));
        }
        Ok(())
    }
}

fn cannot(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Grant, format!("cannot read the context `{}`", path.display())).source(error)
}
