//! Searching line by line, on all cores.
//!
//! A file is cut into parts at line breaks, and each is searched as a text of its own. Where there is
//! none for [`MARGIN`] bytes, the cut is in the line: a match that lies across it is not found. So it is
//! where a line is longer than what its expression may see at once, as one match cannot be stopped.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use grep_matcher::{Captures, LineMatchKind, Matcher};
use memchr::{memchr, memchr_iter, memrchr};
use serde::{Serialize, Serializer};

use super::file::File;
use super::parallel::{Run, in_order};
use super::regex::Regex;
use super::text;
use super::{Context, Piece, Result, with_buffer};

/// Bytes of a part, nearly.
const PART: u64 = 512 << 10;

/// How far a line break is looked for.
pub const MARGIN: u64 = 1 << 20;

/// Matches that are given at once.
const BATCH: usize = 8192;

/// Bytes of text that are given at once, nearly: the last match may be as long as a part.
const BATCH_BYTES: usize = 1 << 20;

/// After this time matches are given as soon as there is one.
const PATIENCE: Duration = Duration::from_millis(20);

/// Lines that are longer are not given with their matches.
const LINE_BYTES: usize = 2 << 10;

/// Where a search goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The beginning of a line.
    pub at: u64,
    /// Matches of that line that are done.
    pub skip: u64,
    /// Characters before it.
    pub chars: u64,
    /// Line breaks before it in its file, or in the view if that begins within the file.
    pub lines: u64,
}

/// A match. Positions are those of characters.
pub struct Found {
    /// The file's number in the context.
    pub file: u64,
    pub line: u64,
    pub start: u64,
    pub end: u64,
    pub text: String,
    /// Where its line begins, as a byte.
    pub line_at: u64,
    /// The line, unless it is long.
    pub line_text: Option<String>,
    pub groups: Vec<Option<String>>,
    line_start: u64,
    /// Its number in the line.
    nth: u64,
}

impl Serialize for Found {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Found { file, line, start, end, text, line_at, line_text, groups, .. } = self;
        (file, line, start, end, text, line_at, line_text, groups).serialize(serializer)
    }
}

impl Found {
    /// A search that goes on here gives it first.
    fn place(&self) -> Place {
        Place { at: self.line_at, skip: self.nth, chars: self.line_start, lines: self.line - 1 }
    }

    fn size(&self) -> usize {
        let groups = self.groups.iter().flatten().map(String::len).sum::<usize>();
        self.text.len() + self.line_text.as_ref().map_or(0, String::len) + groups + 16 * self.groups.len()
    }
}

/// Matches, and where to go on unless that is all.
#[derive(Default)]
pub struct Batch {
    pub found: Vec<Found>,
    pub next: Option<Place>,
}

/// A part to be searched: bytes of a file between two beginnings of lines.
pub struct Part<'a> {
    pub(super) piece: Piece<'a>,
    /// In the file: lines that begin here are the part's.
    pub range: Range<u64>,
    /// Matches of the first line that are done.
    skip: u64,
}

/// What was found in a part; characters and lines count from its beginning.
#[derive(Default)]
struct Searched {
    file: u64,
    /// Where it ends in the context.
    end: u64,
    first_of_file: bool,
    found: Vec<Found>,
    chars: u64,
    lines: u64,
    /// The first match for which there was no room.
    more: Option<Place>,
}

impl File {
    /// The first beginning of a line at or after a byte; that of a character if there is none near.
    fn line_boundary(&self, byte: u64, end: u64) -> Result<u64> {
        if byte == 0 || byte >= end {
            return Ok(byte.min(end));
        }
        // The byte before may be the line break.
        let (mut from, mut step) = (byte - 1, 512);
        while from < byte + MARGIN && from < end {
            let to = (from + step).min(end);
            let mut bytes = Vec::new();
            self.read(from, to, &mut bytes)?;
            if let Some(found) = memchr(b'\n', &bytes) {
                return Ok(from + found as u64 + 1);
            }
            (from, step) = (to, (step * 8).min(256 << 10));
        }
        if from >= end { Ok(end) } else { Ok(self.boundary(byte)?.min(end)) }
    }
}

impl Context {
    /// Parts from a byte on.
    pub fn parts(&self, from: u64, skip: u64) -> impl Iterator<Item = Part<'_>> + Send {
        self.pieces(from..self.size()).flat_map(move |piece| {
            let whole = piece.range.clone();
            let skip = if piece.at == from { skip } else { 0 };
            (whole.start / PART..whole.end.div_ceil(PART)).map(move |number| {
                let range = (number * PART).max(whole.start)..((number + 1) * PART).min(whole.end);
                let skip = if range.start == whole.start { skip } else { 0 };
                Part { piece: piece.clone(), range, skip }
            })
        })
    }

    /// The next matches from a place on, `limit` at most.
    pub fn search(&self, regex: &Regex, from: Place, limit: u64, run: &Run) -> Result<Batch> {
        let begun = Instant::now();
        let mut batch = Batch::default();
        let most = usize::try_from(limit).unwrap_or(usize::MAX).min(BATCH);
        if from.at >= self.size() || most == 0 {
            return Ok(batch);
        }
        let first_file = self.first_file() as u64;
        let (mut chars, mut lines, mut bytes) = (from.chars, from.lines, 0);
        let search = |part: Part<'_>| search_part(regex, &part, most, run);
        in_order(self.parts(from.at, from.skip), search, |part| {
            if part.first_of_file {
                lines = 0;
            }
            for mut found in part.found {
                found.file = part.file.saturating_sub(first_file);
                found.line = found.line.saturating_add(lines);
                for position in [&mut found.start, &mut found.end, &mut found.line_start] {
                    *position = position.saturating_add(chars);
                }
                if batch.found.len() >= most || bytes > BATCH_BYTES {
                    batch.next = Some(found.place());
                    return ControlFlow::Break(());
                }
                bytes += found.size();
                batch.found.push(found);
            }
            if let Some(place) = part.more {
                batch.next = Some(Place {
                    chars: place.chars.saturating_add(chars),
                    lines: place.lines.saturating_add(lines),
                    ..place
                });
                return ControlFlow::Break(());
            }
            chars = chars.saturating_add(part.chars);
            lines = lines.saturating_add(part.lines);
            if part.end < self.size() && !batch.found.is_empty() && begun.elapsed() > PATIENCE {
                batch.next = Some(Place { at: part.end, skip: 0, chars, lines });
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(batch)
    }

    /// How many matches there are.
    pub fn count(&self, regex: &Regex, run: &Run) -> Result<u64> {
        let mut total = 0;
        let count = |part: Part<'_>| {
            part.with_text(run, |_, text| {
                let mut count = 0;
                each_line(regex, &text, run, |line| {
                    let content = &text[line];
                    regex.matcher.find_iter(content, |found| {
                        count += u64::from(!within_char(content, found.start(), found.end()));
                        run.goes_on()
                    })?;
                    Ok(true)
                })?;
                Ok(count)
            })
        };
        in_order(self.parts(0, 0), count, |count: Option<u64>| {
            total += count.unwrap_or(0);
            ControlFlow::Continue(())
        })?;
        Ok(total)
    }
}

impl Part<'_> {
    /// Reads the lines that begin in the part and gives them as UTF-8, with the range that they have in
    /// the file. Gives nothing if there are none.
    fn with_text<T>(
        &self,
        run: &Run,
        work: impl FnOnce(Range<u64>, Cow<'_, [u8]>) -> Result<T>,
    ) -> Result<Option<T>> {
        run.go_on(self.range.end - self.range.start)?;
        let (file, whole) = (self.piece.file, &self.piece.range);
        let mut range = self.range.clone();
        if range.start > whole.start {
            range.start = file.line_boundary(range.start, whole.end)?;
        }
        range.end = file.line_boundary(range.end, whole.end)?;
        if range.is_empty() {
            return Ok(None);
        }
        with_buffer(|buffer| {
            file.read(range.start, range.end, buffer)?;
            let text = match text::is_valid(buffer) {
                true => Cow::Borrowed(&**buffer),
                false => Cow::Owned(String::from_utf8_lossy(buffer).into_owned().into_bytes()),
            };
            work(range, text).map(Some)
        })
    }
}

/// Gives the lines that have a match, without their line breaks, until it is told to stop.
fn each_line(
    regex: &Regex,
    text: &[u8],
    run: &Run,
    mut each: impl FnMut(Range<usize>) -> std::result::Result<bool, grep_matcher::NoError>,
) -> Result<()> {
    let mut begin = 0;
    while begin < text.len() {
        run.go_on(0)?;
        let window = begin..window_end(text, begin, regex.window);
        begin = window.end;
        let text = &text[..window.end];
        let mut at = window.start;
        while at < text.len() {
            // The error is one that cannot be.
            let Ok(Some(LineMatchKind::Confirmed(near) | LineMatchKind::Candidate(near))) =
                regex.matcher.find_candidate_line(&text[at..])
            else {
                break;
            };
            let near = at + near;
            let start = memrchr(b'\n', &text[at..near]).map_or(at, |before| at + before + 1);
            if start >= text.len() {
                break;
            }
            let end = memchr(b'\n', &text[near..]).map_or(text.len(), |after| near + after);
            let ends_in_return = end < text.len() && end > start && text[end - 1] == b'\r';
            let more = each(start..end - usize::from(ends_in_return)).unwrap_or(false);
            if !run.goes_on() {
                return Err(super::stopped());
            }
            if !more {
                return Ok(());
            }
            at = end + 1;
        }
    }
    Ok(())
}

/// Where what is searched at once ends: after a line if one ends in it, or else before a character.
fn window_end(text: &[u8], begin: usize, size: usize) -> usize {
    if text.len() - begin <= size {
        return text.len();
    }
    let end = begin + size;
    match memrchr(b'\n', &text[begin..end]) {
        Some(last) => begin + last + 1,
        None => end + text::to_boundary(text, end),
    }
}

/// Whether this is an empty match that the expression has between two bytes of a character.
fn within_char(text: &[u8], start: usize, end: usize) -> bool {
    start == end && text::to_boundary(text, start) > 0
}

fn search_part(regex: &Regex, part: &Part<'_>, most: usize, run: &Run) -> Result<Searched> {
    let piece = &part.piece;
    let mut searched = Searched {
        file: piece.number as u64,
        end: piece.at + (part.range.end - piece.range.start),
        // The rest of a file is only ever the first piece.
        first_of_file: part.range.start == 0,
        ..Searched::default()
    };
    part.with_text(run, |range, text| {
        let at = piece.at + (range.start - piece.range.start);
        searched.end = at + (range.end - range.start);
        let in_file = (range.end - range.start) as usize == text.len() && matches!(text, Cow::Borrowed(_));
        let raw = if in_file { None } else { Some(Raw::read(piece.file, &range)?) };
        let ascii = text.is_ascii();
        let chars = |range: Range<usize>| match ascii {
            true => range.len() as u64,
            false => text::count_valid(&text[range]) as u64,
        };
        // What is counted up to a byte.
        let (mut counted, mut line_start, mut lines) = (0, 0, 0);
        let mut bytes = 0;
        let mut captures = (regex.matcher.capture_count() > 1)
            .then(|| regex.matcher.new_captures())
            .transpose()
            .unwrap_or(None);
        each_line(regex, &text, run, |line| {
            line_start += chars(counted..line.start);
            lines += memchr_iter(b'\n', &text[counted..line.start]).count() as u64;
            counted = line.start;
            let line_at = at
                + match &raw {
                    None => line.start,
                    Some(raw) => raw.position(&text, line.start, lines as usize),
                } as u64;
            let content = &text[line.clone()];
            let skip = if line.start == 0 { part.skip } else { 0 };
            let (mut nth, mut seen, mut seen_chars) = (0, 0, line_start);
            let mut add = |start: usize, end: usize, groups: Vec<Option<String>>| {
                if !run.goes_on() {
                    return false;
                }
                if within_char(content, start, end) {
                    return true;
                }
                nth += 1;
                if nth <= skip {
                    return true;
                }
                if searched.found.len() >= most || bytes > BATCH_BYTES {
                    searched.more = Some(Place { at: line_at, skip: nth - 1, chars: line_start, lines });
                    return false;
                }
                seen_chars += chars(line.start + seen..line.start + start);
                let length = chars(line.start + start..line.start + end);
                let found = Found {
                    file: 0,
                    line: lines + 1,
                    start: seen_chars,
                    end: seen_chars + length,
                    text: String::from_utf8_lossy(&content[start..end]).into_owned(),
                    line_at,
                    line_text: (content.len() <= LINE_BYTES)
                        .then(|| String::from_utf8_lossy(content).into_owned()),
                    groups,
                    line_start,
                    nth: nth - 1,
                };
                seen = end;
                seen_chars += length;
                bytes += found.size();
                searched.found.push(found);
                true
            };
            match &mut captures {
                None => {
                    regex.matcher.find_iter(content, |found| add(found.start(), found.end(), Vec::new()))?
                }
                Some(captures) => regex.matcher.captures_iter(content, captures, |captures| {
                    let whole = captures.as_match();
                    let group = |number| {
                        let group = captures.get(number)?;
                        Some(String::from_utf8_lossy(&content[group]).into_owned())
                    };
                    add(whole.start(), whole.end(), (1..captures.len()).map(group).collect())
                })?,
            }
            Ok(searched.more.is_none())
        })?;
        searched.chars = line_start + chars(counted..text.len());
        searched.lines = lines + memchr_iter(b'\n', &text[counted..]).count() as u64;
        Ok(())
    })?;
    Ok(searched)
}

/// Bytes that are not as they were searched, as what is broken was replaced.
struct Raw {
    bytes: Vec<u8>,
    /// Where lines begin.
    lines: Vec<usize>,
}

impl Raw {
    fn read(file: &File, range: &Range<u64>) -> Result<Self> {
        let mut bytes = Vec::new();
        file.read(range.start, range.end, &mut bytes)?;
        let lines = std::iter::once(0).chain(memchr_iter(b'\n', &bytes).map(|at| at + 1)).collect();
        Ok(Raw { bytes, lines })
    }

    /// Where the character is that is at `at`, in a line with a number, in the text that was searched.
    fn position(&self, text: &[u8], at: usize, line: usize) -> usize {
        let start = self.lines.get(line).copied().unwrap_or(0);
        let begin = memrchr(b'\n', &text[..at]).map_or(0, |before| before + 1);
        match begin == at {
            true => start,
            false => start + text::offset(&self.bytes[start..], text::count_valid(&text[begin..at])),
        }
    }
}
