//! What programs ask of their contexts: functions that answer bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use super::chunks::{By, Cut};
use super::parallel::Run;
use super::regex::{Regexes, literal};
use super::search::Place;
use super::{Context, Result};
use crate::operations::Answer;
use crate::service::{Called, Kind, Service, failure};

/// The module that programs have.
pub(crate) const SOURCE: &str = include_str!("context.py");

/// Searches that are under way in the process; more wait.
const MOST_SEARCHES: usize = 16;

/// Names of files that are given at once.
const NAMES: usize = 4096;

/// Lines around a match.
const MOST_LINES: u64 = 1000;

/// Bytes of a view as other services take it: its context's number, its beginning, its end.
const WIRE: usize = 24;

/// The contexts of a session.
#[derive(Clone)]
pub(crate) struct Contexts(Arc<Inner>);

struct Inner {
    /// The first is the main one.
    contexts: Vec<(String, Context)>,
    regexes: Regexes,
    /// One search at a time: each takes all the cores it can get.
    one: Arc<Semaphore>,
}

/// Numbers of the functions, as `context.py` has them.
mod function {
    pub const CONTEXTS: u8 = 0;
    pub const FILES: u8 = 1;
    pub const LENGTH: u8 = 2;
    pub const READ: u8 = 3;
    pub const SLICE: u8 = 4;
    pub const SEARCH: u8 = 5;
    pub const COUNT: u8 = 6;
    pub const FIND: u8 = 7;
    pub const CHUNKS: u8 = 8;
    pub const AROUND: u8 = 9;
}

/// A question about a view.
struct Request {
    function: u8,
    view: Context,
    numbers: Vec<u64>,
    text: String,
}

impl Request {
    fn number(&self, index: usize) -> Result<u64> {
        self.numbers.get(index).copied().ok_or_else(malformed)
    }
}

impl Contexts {
    pub fn new(contexts: Vec<(String, Context)>) -> Self {
        Contexts(Arc::new(Inner { contexts, regexes: Regexes::default(), one: Arc::new(Semaphore::new(1)) }))
    }

    pub fn is_empty(&self) -> bool {
        self.0.contexts.is_empty()
    }

    /// As [`Contexts::resolve`], for a wire form in hexadecimal digits.
    pub fn resolve_hex(&self, digits: &str) -> Result<Context> {
        let digit = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let wire: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(digit).collect();
        self.resolve(&wire.ok_or_else(malformed)?)
    }

    /// The part of a context that a program's view is, from what the view's `_wire()` gives. Whatever the
    /// bytes are, it lies in one of the session's contexts.
    pub fn resolve(&self, wire: &[u8]) -> Result<Context> {
        let mut numbers = numbers(wire);
        let (Some(id), Some(start), Some(end), None, WIRE) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next(), wire.len())
        else {
            return Err(malformed());
        };
        let context = usize::try_from(id).ok().and_then(|id| self.0.contexts.get(id));
        let (_, context) = context.ok_or_else(|| failure("value", "there is no such context"))?;
        context.part(start..end)
    }

    fn answer(&self, request: &Request, run: &Run) -> Answer {
        let Request { function, view, text, .. } = request;
        let number = |index| request.number(index);
        match *function {
            function::FILES => {
                let skip = usize::try_from(number(0)?).unwrap_or(usize::MAX);
                let files = view.files().skip(skip).take(NAMES);
                let files: Vec<_> = files.map(|(name, bytes)| (name, bytes.start, bytes.end)).collect();
                json(&files)
            }
            function::LENGTH => Ok(bytes([view.chars(run)?])),
            function::READ => {
                let at = number(0)?;
                let to = view.boundary_at(at.saturating_add(number(1)?.max(1)))?;
                let (text, next, ends_file) = view.read(at, to)?;
                Ok(followed([next, u64::from(ends_file)], &text))
            }
            function::SLICE => {
                let start = view.byte_of(number(0)?, run)?;
                let end = view.byte_of(number(1)?, run)?.max(start);
                let text = match end - start <= number(2)? {
                    true => whole(view, start, end)?,
                    false => None,
                };
                Ok(followed([start, end, u64::from(text.is_some())], &text.unwrap_or_default()))
            }
            function::SEARCH => {
                let from = Place { at: number(0)?, skip: number(1)?, chars: number(2)?, lines: number(3)? };
                let regex = self.0.regexes.get(text, number(5)? as u8)?;
                let batch = view.search(&regex, from, number(4)?, run)?;
                let next = batch.next.map(|next| (next.at, next.skip, next.chars, next.lines));
                json(&(batch.found, next))
            }
            function::COUNT => {
                let flags = number(0)? as u8;
                Ok(bytes([match literal(text, flags) {
                    Some(text) => view.count_text(&text, run)?,
                    None => view.count(&*self.0.regexes.get(text, flags)?, run)?,
                }]))
            }
            function::FIND => {
                let found = view.find(text, number(0)? != 0, run)?;
                Ok(bytes([found.unwrap_or(u64::MAX)]))
            }
            function::CHUNKS => {
                let by = match number(1)? {
                    0 => By::Line,
                    1 => By::Paragraph,
                    2 => By::Char,
                    3 => By::Byte,
                    _ => return Err(malformed()),
                };
                let cut = Cut { by, size: number(2)?, overlap: number(3)? };
                let (chunks, next) = view.chunks(number(0)?, number(4)?, &cut, run)?;
                let chunks = chunks.into_iter().flat_map(|(start, end)| [start, end]);
                Ok(bytes(std::iter::once(next.unwrap_or(u64::MAX)).chain(chunks)))
            }
            function::AROUND => {
                let lines = |index| Ok(number(index)?.min(MOST_LINES) as usize);
                let around = view.around(number(0)?, lines(1)?, lines(2)?)?;
                json(&(around.before, around.line, around.after))
            }
            _ => Err(failure("unknown", "contexts have no such function")),
        }
    }

    /// Does on other threads what takes long.
    async fn run(self, request: Request) -> Answer {
        static ALL: Semaphore = Semaphore::const_new(MOST_SEARCHES);
        // Neither is ever closed.
        let own = Arc::clone(&self.0.one).acquire_owned().await;
        let permit = ALL.acquire().await;
        let stop = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&stop));
        let contexts = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            // Held until the thread is done, not only until nobody waits for it: a session never has two.
            let _permits = (own, permit);
            contexts.answer(&request, &Run::until(&stop))
        });
        work.await.unwrap_or_else(|_| Err(failure("trap", "the host failed in a search")))
    }
}

impl Service for Contexts {
    fn kind(&self) -> Kind {
        Kind::Context
    }

    fn call(&self, function: u8, head: &[u8], tail: &[u8]) -> Called {
        if function == function::CONTEXTS {
            let contexts = self.0.contexts.iter().map(|(name, context)| (name, context.size()));
            return Called::Ready(json(&contexts.collect::<Vec<_>>()));
        }
        let request = match self.request(function, head, tail) {
            Ok(request) => request,
            Err(failure) => return Called::Ready(Err(failure)),
        };
        // An expression can take long over few bytes.
        if !matches!(function, function::SEARCH | function::COUNT) {
            match self.answer(&request, &Run::briefly()) {
                Err(failure) if failure.kind == super::later().kind => {}
                answer => return Called::Ready(answer),
            }
        }
        Called::Running(Box::pin(self.clone().run(request)))
    }
}

impl Contexts {
    fn request(&self, function: u8, head: &[u8], tail: &[u8]) -> Result<Request> {
        let (wire, rest) = head.split_at_checked(WIRE).ok_or_else(malformed)?;
        let text = std::str::from_utf8(tail).map_err(|_| malformed())?;
        Ok(Request {
            function,
            view: self.resolve(wire)?,
            numbers: numbers(rest).take(8).collect(),
            text: text.to_owned(),
        })
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All of a slice, if it can be given at once.
fn whole(view: &Context, start: u64, end: u64) -> Result<Option<String>> {
    let mut text = String::new();
    let mut at = start;
    while at < end {
        let (more, next, _) = view.read(at, end)?;
        if text.len() + more.len() > super::chunks::READ_BYTES as usize && at > start {
            return Ok(None);
        }
        text.push_str(&more);
        at = next;
    }
    Ok(Some(text))
}

fn malformed() -> crate::bindings::operations::Failure {
    failure("value", "this is no question that a context can answer")
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
}

fn bytes(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn followed<const N: usize>(numbers: [u64; N], text: &str) -> Vec<u8> {
    let mut answer = bytes(numbers);
    answer.extend_from_slice(text.as_bytes());
    answer
}

fn json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_vec(value).map_err(|error| failure("trap", error.to_string()))
}
