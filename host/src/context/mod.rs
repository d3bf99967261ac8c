//! Contexts: texts of any size that programs read through a lazy object, without holding them.

mod build;
mod chunks;
mod file;
mod index;
mod literal;
mod mark;
mod parallel;
mod regex;
mod search;
mod service;
mod text;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::bindings::operations::Failure;
use crate::service::failure;
use crate::{Error, ErrorKind};
use file::File;
use parallel::Run;

pub use build::ContextBuilder;
pub use mark::ContextMark;
pub(crate) use service::{Contexts, SOURCE};

type Result<T> = std::result::Result<T, Failure>;

/// A text of any size that a program reads as `agentkernel.context`: files one after another, in order.
///
/// Nothing of it is read before it is asked for, and none of it is kept. It is cheap to clone. A part
/// of one is a context too: who has it can see nothing outside.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Context, Kernel};
///
/// let context = Context::builder().text("notes.txt", "one\ntwo\n").text("more.txt", "three\n").build()?;
/// let mut session = Kernel::new()?.session().context(context).start()?;
/// let outcome = session.run_blocking(
///     "from agentkernel import context\n[match.text for match in context.search('t[a-z]+')]",
/// )?;
/// let agentkernel::Ending::Completed(Some(value)) = outcome.ending else { panic!("{:?}", outcome.ending) };
/// assert_eq!(value.repr, "['two', 'three']");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Context {
    store: Arc<Store>,
    /// Bytes of the store that belong to it. They begin and end where characters do.
    range: Range<u64>,
}

struct Store {
    files: Vec<File>,
    /// Bytes up to the end of each file.
    ends: Vec<u64>,
    /// Characters up to the end of each file, as far as that was asked for.
    chars: RwLock<Vec<u64>>,
    mark: ContextMark,
}

impl Context {
    /// A context to be made of files, directories and texts.
    pub fn builder() -> ContextBuilder {
        ContextBuilder::new()
    }

    /// A context of files and directories.
    ///
    /// # Errors
    ///
    /// As [`ContextBuilder::file`] and [`ContextBuilder::directory`].
    pub fn open(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> crate::Result<Self> {
        Self::of(paths)?.build()
    }

    fn of(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> crate::Result<ContextBuilder> {
        let mut builder = Context::builder();
        for path in paths {
            builder = match path.as_ref().is_dir() {
                true => builder.directory(path)?,
                false => builder.file(path)?,
            };
        }
        Ok(builder)
    }

    fn new(files: Vec<File>, mark: ContextMark) -> Self {
        let mut end = 0;
        let ends: Vec<u64> = files
            .iter()
            .map(|file| {
                end += file.size;
                end
            })
            .collect();
        Context { store: Arc::new(Store { files, ends, chars: RwLock::default(), mark }), range: 0..end }
    }

    /// Bytes in it, decompressed.
    pub fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// What all that it was opened from looked like then, also that of which it is a part: to tell later whether it is as
    /// it was.
    ///
    /// ```
    /// # fn main() -> agentkernel::Result<()> {
    /// # let place = tempfile::tempdir().unwrap();
    /// # let file = place.path().join("notes.txt");
    /// std::fs::write(&file, "one").unwrap();
    /// let before = agentkernel::Context::open([&file])?.mark().clone();
    /// std::fs::write(&file, "three").unwrap();
    /// let difference = before.difference(agentkernel::Context::open([&file])?.mark()).unwrap();
    /// assert!(difference.ends_with("had 3 bytes, and has 5"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn mark(&self) -> &ContextMark {
        &self.store.mark
    }

    /// The names of the files that it is of, and which of its bytes are theirs.
    pub fn files(&self) -> impl Iterator<Item = (&str, Range<u64>)> {
        let store = &*self.store;
        let (whole, first) = (self.is_whole(), self.first_file());
        (first..store.files.len())
            .map(|number| (store.files[number].name.as_str(), store.begin(number)..store.ends[number]))
            .take_while(move |(_, bytes)| whole || bytes.start < self.range.end)
            .map(|(name, bytes)| {
                let inside = |at: u64| at.clamp(self.range.start, self.range.end) - self.range.start;
                (name, inside(bytes.start)..inside(bytes.end))
            })
    }

    /// Whether it is all of the store, files at its ends included that are empty.
    fn is_whole(&self) -> bool {
        self.range == (0..self.store.end())
    }

    /// The number of the first of its files.
    fn first_file(&self) -> usize {
        if self.is_whole() { 0 } else { self.store.file_at(self.range.start) }
    }

    /// The text, if it has no more than `limit` bytes. What is not UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Grant`] when it has more, [`ErrorKind::System`] when a file cannot be read.
    pub fn text(&self, limit: u64) -> crate::Result<String> {
        if self.size() > limit {
            let message =
                format!("a context of {} bytes is more than the {limit} that are wanted", self.size());
            return Err(Error::new(ErrorKind::Grant, message));
        }
        let mut text = String::new();
        for piece in self.pieces(0..self.size()) {
            let read = with_buffer(|buffer| {
                piece.file.read(piece.range.start, piece.range.end, buffer)?;
                text.push_str(&text::decode(buffer));
                Ok(())
            });
            read.map_err(|failure: Failure| Error::new(ErrorKind::System, failure.message))?;
        }
        Ok(text)
    }

    /// The part between two bytes, moved to where characters begin.
    fn part(&self, range: Range<u64>) -> Result<Context> {
        if range.start > range.end || range.end > self.size() {
            return Err(failure("value", "the view does not lie in the context"));
        }
        let start = self.boundary(self.range.start + range.start)?;
        let end = self.boundary(self.range.start + range.end)?;
        // A file that changes can move them.
        let end = end.min(self.range.end);
        Ok(Context { store: Arc::clone(&self.store), range: start.min(end)..end })
    }

    /// The first beginning of a character at or after a byte.
    fn boundary_at(&self, at: u64) -> Result<u64> {
        let found = self.boundary(self.range.start.saturating_add(at).min(self.range.end))?;
        Ok(found.min(self.range.end) - self.range.start)
    }

    /// The same for a byte of the store.
    fn boundary(&self, at: u64) -> Result<u64> {
        if at == self.range.start || at >= self.range.end {
            return Ok(at);
        }
        let number = self.store.file_at(at);
        let begin = self.store.begin(number);
        match self.store.files.get(number) {
            Some(file) => Ok(begin + file.boundary(at - begin)?),
            None => Ok(at),
        }
    }

    /// The pieces of files that lie between two bytes of the context.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece<'_>> + Clone + Send {
        let start = self.range.start.saturating_add(range.start).min(self.range.end);
        let end = self.range.start.saturating_add(range.end).min(self.range.end);
        let store = &*self.store;
        let pieces = (store.file_at(start)..store.files.len()).map(move |number| {
            let begin = store.begin(number);
            let file = &store.files[number];
            let (from, to) = (start.max(begin), end.min(begin + file.size));
            let range = from - begin..to.max(from) - begin;
            Piece { number, file, range, at: from - self.range.start }
        });
        pieces
            .take_while(move |piece| store.begin(piece.number) < end)
            .filter(|piece| !piece.range.is_empty())
    }

    /// Characters in it.
    fn chars(&self, run: &Run) -> Result<u64> {
        self.chars_before(self.size(), run)
    }

    /// Characters before a byte of it, which begins one.
    fn chars_before(&self, at: u64, run: &Run) -> Result<u64> {
        let at = self.range.start + at.min(self.size());
        let first = self.store.file_at(self.range.start);
        let Some(file) = self.store.files.get(first) else { return Ok(0) };
        let begin = self.store.begin(first);
        let before_start = file.chars_before(self.range.start - begin, run)?;
        if at <= self.store.ends[first] {
            return Ok(file.chars_before(at - begin, run)?.saturating_sub(before_start));
        }
        let last = self.store.file_at(at).min(self.store.files.len() - 1);
        let before_file = self.store.chars_to(last, run)?;
        let in_file = self.store.files[last].chars_before(at - self.store.begin(last), run)?;
        let start = self.store.chars_to(first, run)? + before_start;
        Ok((before_file + in_file).saturating_sub(start))
    }

    /// Where character number `char` begins; the end if there are fewer.
    fn byte_of(&self, char: u64, run: &Run) -> Result<u64> {
        if char >= self.size() {
            // A character has a byte at least.
            return Ok(self.size());
        }
        let first = self.store.file_at(self.range.start);
        let begin = self.store.begin(first);
        let file = &self.store.files[first];
        let before_start = file.chars_before(self.range.start - begin, run)?;
        let found = begin + file.byte_of(before_start.saturating_add(char), run)?;
        if found < self.store.ends[first] || self.range.end <= self.store.ends[first] {
            return Ok(found.min(self.range.end).saturating_sub(self.range.start));
        }
        let target = self.store.chars_to(first, run)? + before_start + char;
        let last = self.store.file_at(self.range.end - 1);
        // Files are counted as they are needed; each time so many that the target could be in them.
        let mut number = first + 1;
        let number = loop {
            let upto = self.store.chars_to(number, run)?;
            if upto > target {
                let chars = self.store.chars.read().unwrap_or_else(PoisonError::into_inner);
                break chars.partition_point(|upto| *upto <= target);
            }
            if number > last {
                return Ok(self.size());
            }
            let byte = self.store.begin(number) + (target - upto);
            number = self.store.file_at(byte).clamp(number, last) + 1;
        };
        let before = self.store.chars_to(number, run)?;
        let found = self.store.begin(number) + self.store.files[number].byte_of(target - before, run)?;
        Ok(found.min(self.range.end).saturating_sub(self.range.start))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("size", &self.size())
            .field("files", &self.files().count())
            .finish_non_exhaustive()
    }
}

/// Bytes of one file.
#[derive(Clone)]
struct Piece<'a> {
    /// The file's number in the store.
    number: usize,
    file: &'a File,
    /// In the file.
    range: Range<u64>,
    /// Where it begins in the context.
    at: u64,
}

impl Store {
    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Where a file begins.
    fn begin(&self, number: usize) -> u64 {
        number.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// The file with a byte; their number at the end.
    fn file_at(&self, at: u64) -> usize {
        self.ends.partition_point(|end| *end <= at)
    }

    /// Characters in all files before number `number`.
    fn chars_to(&self, number: usize, run: &Run) -> Result<u64> {
        let known = || self.chars.read().unwrap_or_else(PoisonError::into_inner);
        if known().len() < number {
            let from = known().len();
            index::index_whole(self.files[from..number].iter(), run)?;
            let mut chars = self.chars.write().unwrap_or_else(PoisonError::into_inner);
            while chars.len() < number {
                let total = chars.last().copied().unwrap_or(0);
                let more = self.files[chars.len()].chars(run)?;
                chars.push(total + more);
            }
        }
        Ok(number.checked_sub(1).map_or(0, |before| known()[before]))
    }
}

/// What a call that was given up ends in.
fn stopped() -> Failure {
    failure("cancelled", "the turn has ended")
}

/// Why something is not done on the turn's own thread; a program never sees it.
fn later() -> Failure {
    failure("later", "this takes longer")
}

/// Gives a buffer of this thread, to use its memory again.
fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    /// What a larger one has is given back.
    const KEPT: usize = 2 << 20;
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    result
}
