//! What a session's programs write: kept within a limit for each turn, and told while the turn runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentkernel::{OutputHandler, Stream};

/// Bytes that wait to be told to a client. What comes faster is left out of what it sees meanwhile; the result
/// has it.
const PENDING_BYTES: usize = 16 << 10;

/// Where a session's output goes. It never makes a program wait for a client.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    limit: u64,
    written: Written,
    /// What a client was not told yet, if it wants to be.
    pending: Option<Pending>,
}

/// What a turn wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Bytes that passed.
    passed: u64,
    /// Bytes beyond the limit.
    pub dropped: u64,
}

#[derive(Default)]
struct Pending {
    bytes: VecDeque<u8>,
    missed: bool,
}

impl Output {
    /// The handler of the session.
    pub fn handler(&self) -> OutputHandler {
        let output = self.clone();
        Box::new(move |stream, bytes| output.lock().write(stream, bytes))
    }

    /// Begins a turn, of which `limit` bytes are kept.
    pub fn begin(&self, limit: u64, is_told: bool) {
        *self.lock() = State { limit, written: Written::default(), pending: is_told.then(Pending::default) };
    }

    /// Ends it.
    pub fn end(&self) -> Written {
        std::mem::take(&mut *self.lock()).written
    }

    /// What was written since this was asked last, as far as it is whole letters; at the end, all.
    pub fn news(&self, is_last: bool) -> Option<String> {
        let mut state = self.lock();
        let pending = state.pending.as_mut()?;
        let bytes: Vec<u8> = pending.bytes.iter().copied().collect();
        let whole = match is_last {
            true => bytes.len(),
            false => bytes.len() - unfinished(&bytes),
        };
        if whole == 0 {
            return None;
        }
        pending.bytes.drain(..whole);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        Some(match std::mem::take(&mut pending.missed) {
            true => format!("[…]{text}"),
            false => text.into_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let room = (self.limit - self.written.passed).min(bytes.len() as u64);
        let (pass, drop) = bytes.split_at(room as usize);
        self.written.passed += room;
        self.pass(stream, pass);
        if !drop.is_empty() {
            if self.written.dropped == 0 {
                let marker = format!(
                    "\n[agentkernel: the output limit of {} bytes is reached; the rest is dropped]\n",
                    self.limit
                );
                self.pass(stream, marker.as_bytes());
            }
            self.written.dropped += drop.len() as u64;
        }
    }

    fn pass(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.written.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.written.stderr.extend_from_slice(bytes),
        }
        if let Some(pending) = &mut self.pending {
            let bytes = &bytes[bytes.len().saturating_sub(PENDING_BYTES)..];
            let over = (pending.bytes.len() + bytes.len()).saturating_sub(PENDING_BYTES);
            pending.bytes.drain(..over);
            pending.missed |= over > 0;
            pending.bytes.extend(bytes);
        }
    }
}

/// Bytes at the end that are the beginning of a letter.
fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(3)..]) {
        Err(error) if error.error_len().is_none() => bytes.len().min(3) - error.valid_up_to(),
        // A letter may begin before these three bytes; then the first of them are its rest.
        _ => (1..=bytes.len().min(3))
            .find(|&length| {
                let tail = &bytes[bytes.len() - length..];
                std::str::from_utf8(tail)
                    .is_err_and(|error| error.error_len().is_none() && error.valid_up_to() == 0)
            })
            .unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_told_whole() {
        let output = Output::default();
        let mut write = output.handler();
        output.begin(100, true);
        assert_eq!(output.news(false), None);
        for letter in ["ä", "€", "𝄞"] {
            let bytes = letter.as_bytes();
            for split in 1..bytes.len() {
                write(Stream::Stdout, b"a");
                write(Stream::Stdout, &bytes[..split]);
                assert_eq!(output.news(false).as_deref(), Some("a"), "{letter} {split}");
                write(Stream::Stdout, &bytes[split..]);
                assert_eq!(output.news(false).as_deref(), Some(letter));
            }
        }
        write(Stream::Stdout, b"\xff");
        assert_eq!(output.news(false).as_deref(), Some("\u{fffd}"));
        write(Stream::Stdout, b"\xe2\x82");
        assert_eq!(output.news(true).as_deref(), Some("\u{fffd}"));
    }

    #[test]
    fn a_turn_keeps_no_more_than_its_limit() {
        let output = Output::default();
        let mut write = output.handler();
        for _ in 0..2 {
            output.begin(3, false);
            write(Stream::Stdout, b"ab");
            write(Stream::Stderr, b"cd");
            write(Stream::Stdout, b"ef");
            let written = output.end();
            assert_eq!(written.stdout, b"ab");
            assert!(written.stderr.starts_with(b"c\n[agentkernel: the output limit of 3 bytes"));
            assert_eq!(written.dropped, 3);
        }
    }

    #[test]
    fn what_nobody_fetches_is_left_out() {
        let output = Output::default();
        let mut write = output.handler();
        output.begin(1 << 30, true);
        for _ in 0..10 {
            write(Stream::Stdout, &[b'x'; PENDING_BYTES]);
        }
        write(Stream::Stdout, b"end");
        let news = output.news(false).unwrap();
        assert!(news.starts_with("[…]x") && news.ends_with("xend"));
        assert!(news.len() < PENDING_BYTES + 10);
    }
}
