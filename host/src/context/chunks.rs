//! Cutting a context into chunks, and reading it piece by piece.

use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};

use super::parallel::Run;
use super::text;
use super::{Context, Piece, Result, with_buffer};
use crate::service::failure;

/// Bytes that are read for a program at once; what is broken takes three times as much.
pub const READ_BYTES: u64 = 1 << 20;

/// Bytes that are looked through at once.
const WINDOW: u64 = 64 << 10;

/// A line is blank with up to so many spaces in it.
const BLANK_BYTES: u64 = 256;

/// Chunks that are found at once.
const MOST: usize = 512;

/// The same, for large ones.
const PATIENCE: Duration = Duration::from_millis(20);

/// Where chunks are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Line,
    Paragraph,
    Char,
    Byte,
}

/// How a context is cut.
pub struct Cut {
    pub by: By,
    /// Characters, or bytes.
    pub size: u64,
    pub overlap: u64,
}

/// Lines around a place.
pub struct Around {
    pub before: Vec<String>,
    pub line: String,
    pub after: Vec<String>,
}

/// Bytes that are read for the lines before or after a place.
const AROUND_BYTES: u64 = 256 << 10;

/// Where a chunk begins and ends, in bytes.
type Ends = (u64, u64);

impl Context {
    /// The text from a byte on, to another at most, no more than is given at once and none of the next
    /// file. Gives where to go on, and whether the file ends there.
    pub fn read(&self, at: u64, to: u64) -> Result<(String, u64, bool)> {
        let Some(piece) = self.pieces(at..to).next() else {
            return Ok((String::new(), self.size(), true));
        };
        let ends_file =
            self.pieces(at..self.size()).next().is_none_or(|whole| whole.range.end == piece.range.end);
        let end = match piece.range.end - piece.range.start <= READ_BYTES {
            true => piece.range.end,
            false => piece.file.boundary(piece.range.start + READ_BYTES)?.min(piece.range.end),
        };
        with_buffer(|buffer| {
            piece.file.read(piece.range.start, end, buffer)?;
            let text = text::decode(buffer).into_owned();
            Ok((text, piece.at + (end - piece.range.start), ends_file && end == piece.range.end))
        })
    }

    /// The next chunks from a byte on, as bytes, and where to go on unless these are all. `covered` is
    /// where the chunk before ends: the next must end after that.
    pub fn chunks(
        &self,
        mut from: u64,
        mut covered: u64,
        cut: &Cut,
        run: &Run,
    ) -> Result<(Vec<Ends>, Option<u64>)> {
        if cut.size == 0 || cut.overlap >= cut.size {
            return Err(failure("value", "a chunk must be larger than 0 and than the overlap"));
        }
        let begun = Instant::now();
        let mut chunks = Vec::new();
        while from < self.size() {
            if chunks.len() >= MOST || !chunks.is_empty() && begun.elapsed() > PATIENCE {
                return Ok((chunks, Some(from)));
            }
            run.go_on(0)?;
            let far = self.forward(from, cut.size, cut.by, run)?;
            let end =
                if far < self.size() { self.cut_before(covered.max(from), far, cut.by, run)? } else { far };
            chunks.push((from, end));
            covered = end;
            if end >= self.size() {
                break;
            }
            from = match cut.overlap {
                0 => end,
                overlap => self.overlapped(from, end, overlap, cut.by, run)?,
            };
        }
        Ok((chunks, None))
    }

    /// Where a piece of `size` that begins at `from` ends. It has a character at least.
    fn forward(&self, from: u64, size: u64, by: By, run: &Run) -> Result<u64> {
        let left = self.size() - from;
        // A character has a byte at least.
        if size >= left {
            return Ok(self.size());
        }
        let to = match by {
            By::Byte => self.boundary_at(from + size)?,
            _ => self.byte_of(self.chars_before(from, run)? + size, run)?,
        };
        // A file that changes could make it stand still.
        Ok(to.clamp(from + 1, self.size()))
    }

    /// Where the next chunk begins: before the end of the one from `from` to `end`, after its beginning.
    fn overlapped(&self, from: u64, end: u64, overlap: u64, by: By, run: &Run) -> Result<u64> {
        let back = match by {
            By::Byte => self.boundary_at(end.saturating_sub(overlap))?,
            _ => self.byte_of(self.chars_before(end, run)?.saturating_sub(overlap), run)?,
        };
        if back <= from || back >= end {
            return Ok(end);
        }
        if by == By::Char || by == By::Byte {
            return Ok(back);
        }
        // The first whole line within.
        let mut at = back.saturating_sub(1);
        for piece in self.pieces(at..end) {
            if piece.at >= back {
                return Ok(piece.at);
            }
            let (mut read, to) = (piece.range.start, piece.range.end);
            while read < to {
                let upto = (read + WINDOW).min(to);
                run.go_on(upto - read)?;
                let found = with_buffer(|buffer| {
                    piece.file.read(read, upto, buffer)?;
                    Ok(memchr(b'\n', buffer))
                })?;
                if let Some(found) = found {
                    let next = piece.at + (read - piece.range.start) + found as u64 + 1;
                    return Ok(if next < end { next } else { back });
                }
                read = upto;
            }
            at = piece.at + (to - piece.range.start);
            if at >= back && at < end {
                return Ok(at);
            }
        }
        Ok(back)
    }

    /// The last place to cut that is after `from` and not after `end`.
    fn cut_before(&self, from: u64, end: u64, by: By, run: &Run) -> Result<u64> {
        if by == By::Char || by == By::Byte {
            return Ok(end);
        }
        // A file's end is the end of a line and of a paragraph.
        let mut next = end;
        let ends_file = self.pieces(end..self.size()).next().is_some_and(|piece| piece.range.start == 0);
        if ends_file {
            return Ok(end);
        }
        let kinds: &[By] = if by == By::Paragraph { &[By::Paragraph, By::Line] } else { &[By::Line] };
        for by in kinds {
            // Pieces from the last one back; a file's beginning is the end of another.
            let mut pieces: Vec<Piece<'_>> = self.pieces(from..end).collect();
            while let Some(piece) = pieces.pop() {
                if let Some(cut) = last_break(&piece, *by, run)? {
                    return Ok(piece.at + (cut - piece.range.start));
                }
                if !pieces.is_empty() {
                    next = piece.at;
                    break;
                }
            }
            if next < end {
                return Ok(next);
            }
        }
        Ok(end)
    }

    /// A line that begins at a byte, and lines before and after it in its file.
    pub fn around(&self, at: u64, before: usize, after: usize) -> Result<Around> {
        let mut around = Around { before: Vec::new(), line: String::new(), after: Vec::new() };
        let Some(piece) = self.pieces(at..self.size()).next() else { return Ok(around) };
        let (begin, from) = (piece.range.start, piece.range.start.saturating_sub(AROUND_BYTES));
        // Not before the context's own beginning.
        let from = from.max(begin.saturating_sub(piece.at));
        let to = piece.range.end.min(begin + super::search::MARGIN + AROUND_BYTES);
        with_buffer(|buffer| {
            if before > 0 {
                piece.file.read(from, begin, buffer)?;
                let text = buffer.strip_suffix(b"\n").unwrap_or(buffer);
                if !buffer.is_empty() {
                    let lines = text.rsplit(|byte| *byte == b'\n').take(before);
                    around.before = lines.map(line).collect();
                    around.before.reverse();
                }
            }
            piece.file.read(begin, to, buffer)?;
            let text = buffer.strip_suffix(b"\n").unwrap_or(buffer);
            let mut lines = text.split(|byte| *byte == b'\n');
            around.line = lines.next().map(line).unwrap_or_default();
            around.after = lines.take(after).map(line).collect();
            Ok(around)
        })
    }
}

fn line(bytes: &[u8]) -> String {
    text::decode(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned()
}

/// After the last line break, or blank line, in a piece of a file.
fn last_break(piece: &Piece<'_>, by: By, run: &Run) -> Result<Option<u64>> {
    let mut to = piece.range.end;
    while to > piece.range.start {
        let from = piece.range.start.max(to.saturating_sub(WINDOW));
        let read_from = piece.range.start.max(from.saturating_sub(BLANK_BYTES));
        run.go_on(to - read_from)?;
        let found = with_buffer(|buffer| {
            piece.file.read(read_from, to, buffer)?;
            let least = (from - read_from) as usize;
            let mut end = buffer.len();
            while let Some(at) = memrchr(b'\n', &buffer[least..end]).map(|at| least + at) {
                let spaces = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
                let blank = || buffer[..at].iter().rev().find(|byte| !spaces(byte)) == Some(&b'\n');
                if by == By::Line || blank() {
                    return Ok(Some(read_from + at as u64 + 1));
                }
                end = at;
            }
            Ok(None)
        })?;
        if found.is_some() {
            return Ok(found);
        }
        to = from;
    }
    Ok(None)
}
