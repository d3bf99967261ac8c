//! One file of a context: its bytes where they lie, read by position.
//!
//! Files are never mapped into memory: one that is cut short meanwhile would take the process with it.

use std::fs;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Result;
use super::index::Index;
use super::mark::Look;
use crate::service::failure;
use crate::{Error, ErrorKind};

/// A file, or what was given as text.
pub struct File {
    pub name: String,
    /// Bytes, when the context was made.
    pub size: u64,
    source: Source,
    pub index: Index,
}

enum Source {
    Memory(Box<[u8]>),
    Open(fs::File),
    /// In the temporary file, from a byte on.
    Expanded(Arc<fs::File>, u64),
    /// One of so many that they cannot all be kept open.
    Closed {
        path: PathBuf,
        identity: (u64, u64),
    },
}

/// What a file looks like by its metadata.
pub fn look(metadata: &fs::Metadata) -> Look {
    Look { bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
}

/// The windows of zstd may not be larger, as each is held in memory.
const ZSTD_WINDOW_BYTES: u64 = 100 << 20;

impl File {
    pub fn memory(name: String, bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        File { name, size, source: Source::Memory(bytes.into()), index: Index::default() }
    }

    /// Opens a regular file; gives what it looks like, too. One that is compressed is decompressed.
    pub fn open(
        name: String,
        path: &Path,
        keep_open: bool,
        expanded: &mut Expanded,
    ) -> crate::Result<(Self, Look)> {
        let cannot = |error: io::Error| {
            Error::new(ErrorKind::Grant, format!("cannot read the context `{}`", path.display()))
                .source(error)
        };
        let mut file = open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(Error::new(
                ErrorKind::Grant,
                format!("the context `{}` is neither a regular file nor a directory", path.display()),
            )
            .hint("write what it gives into a file first"));
        }
        let look = look(&metadata);
        let mut magic = [0; 4];
        let got = file.read_at(&mut magic, 0).map_err(cannot)?;
        if let Some(kind) = Compression::of(&magic[..got]) {
            let (into, bytes) = expanded.add(kind, &mut file, path)?;
            let size = bytes.end - bytes.start;
            let source = Source::Expanded(into, bytes.start);
            return Ok((File { name, size, source, index: Index::default() }, look));
        }
        let source = match keep_open {
            true => Source::Open(file),
            false => Source::Closed { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) },
        };
        Ok((File { name, size: metadata.len(), source, index: Index::default() }, look))
    }

    /// Whether it keeps a file open.
    pub fn is_open(&self) -> bool {
        matches!(self.source, Source::Open(_))
    }

    /// Reads the bytes from `from` to `to` into `buffer`, in place of what is there.
    pub fn read(&self, from: u64, to: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        // Bytes that were used before need not be cleared.
        buffer.resize(length, 0);
        let opened;
        let (file, base) = match &self.source {
            Source::Memory(bytes) => {
                let bytes = usize::try_from(from).ok().and_then(|from| bytes.get(from..)?.get(..length));
                buffer.copy_from_slice(bytes.ok_or_else(|| self.shorter(0))?);
                return Ok(());
            }
            Source::Open(file) => (file, 0),
            Source::Expanded(file, base) => (&**file, *base),
            Source::Closed { path, identity } => {
                opened = open(path).map_err(|error| self.cannot(error))?;
                let metadata = opened.metadata().map_err(|error| self.cannot(error))?;
                if (metadata.dev(), metadata.ino()) != *identity {
                    let message =
                        format!("another file has taken the place of `{}` in the context", self.name);
                    return Err(failure("io", message));
                }
                (&opened, 0)
            }
        };
        let mut done = 0;
        while done < length {
            match file.read_at(&mut buffer[done..], base + from + done as u64) {
                Ok(0) => return Err(self.shorter(from + done as u64)),
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cannot(error)),
            }
        }
        Ok(())
    }

    fn shorter(&self, now: u64) -> crate::bindings::operations::Failure {
        let message = format!(
            "`{}` in the context has become shorter since it was opened: it had {} bytes, and ends at {now} now",
            self.name, self.size
        );
        failure("io", message)
    }

    fn cannot(&self, error: io::Error) -> crate::bindings::operations::Failure {
        failure("io", format!("cannot read `{}` in the context: {error}", self.name))
    }
}

/// Opens a file without waiting for the other end of a pipe.
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> Option<Self> {
        match magic {
            [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd] => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// The temporary file, without a name, that what was compressed lies in.
pub struct Expanded {
    file: Option<Arc<fs::File>>,
    end: u64,
    limit: u64,
}

impl Expanded {
    pub fn new(limit: u64) -> Self {
        Expanded { file: None, end: 0, limit }
    }

    fn add(
        &mut self,
        kind: Compression,
        file: &mut fs::File,
        path: &Path,
    ) -> crate::Result<(Arc<fs::File>, Range<u64>)> {
        let failed = |what: &str, error: io::Error| {
            Error::new(ErrorKind::Grant, format!("cannot {what} the context `{}`", path.display()))
                .source(error)
        };
        let into = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                Arc::new(tempfile::tempfile().map_err(|error| failed("make a temporary file for", error))?)
            }
        };
        self.file = Some(Arc::clone(&into));
        let mut room = self.limit - self.end;
        let input = io::BufReader::with_capacity(1 << 16, file);
        let whole = match kind {
            Compression::Gzip => {
                let mut decoder = flate2::bufread::MultiGzDecoder::new(input);
                copy(&mut decoder, &mut &*into, &mut room)
            }
            Compression::Zstd => expand_zstd(input, &mut &*into, &mut room),
        };
        match whole {
            Ok(true) => {
                let start = std::mem::replace(&mut self.end, self.limit - room);
                Ok((into, start..self.end))
            }
            Ok(false) => Err(Error::new(
                ErrorKind::Grant,
                format!(
                    "the compressed files of the context hold more than {} bytes; `{}` is the first too many",
                    self.limit,
                    path.display()
                ),
            )
            .hint("allow more by `ContextBuilder::decompressed_bytes`")),
            Err(error) => Err(failed("decompress", error)),
        }
    }
}

/// Copies all, if there is room for it.
fn copy(from: &mut impl Read, into: &mut impl io::Write, room: &mut u64) -> io::Result<bool> {
    let copied = io::copy(&mut from.take(*room), into)?;
    *room -= copied;
    // There is more if another byte comes.
    Ok(*room > 0 || from.read(&mut [0])? == 0)
}

/// Decompresses frame after frame.
fn expand_zstd<R: Read + Seek>(
    mut input: io::BufReader<R>,
    into: &mut impl io::Write,
    room: &mut u64,
) -> io::Result<bool> {
    use ruzstd::decoding::StreamingDecoder;
    use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
    loop {
        if io::BufRead::fill_buf(&mut input)?.is_empty() {
            return Ok(true);
        }
        match StreamingDecoder::new_with_max_window_size(&mut input, ZSTD_WINDOW_BYTES) {
            Ok(mut decoder) => {
                if !copy(&mut decoder, into, room)? {
                    return Ok(false);
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                input.seek_relative(i64::from(length))?;
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
    }
}
