//! Plain text in a context: where it is, and how often.

use std::ops::ControlFlow;

use memchr::memmem::{Finder, FinderRev};

use super::parallel::{Run, in_order};
use super::search::Part;
use super::text;
use super::{Context, Result, with_buffer};
use crate::service::failure;

/// Bytes that a text which is looked for may have.
const NEEDLE_BYTES: usize = 1 << 20;

/// A character that stands for what is broken, so that bytes do not say where it is.
const REPLACEMENT: char = '\u{FFFD}';

/// What is wanted of a part.
#[derive(Clone, Copy)]
enum Want<'a> {
    First,
    Last,
    /// All that do not lie over one another, which the text's own beginning and end cannot do.
    Count,
    /// All, whether they lie over one another or not.
    All(&'a Overlaps),
}

/// What a part has. Positions are those of bytes, or of characters where that is what can be known.
#[derive(Default)]
struct Hits {
    begin: u64,
    positions: Vec<u32>,
    count: u64,
    length: u64,
}

impl Context {
    /// The character at which `needle` is first, or last.
    pub fn find(&self, needle: &str, last: bool, run: &Run) -> Result<Option<u64>> {
        check(needle)?;
        if needle.is_empty() {
            return if last { self.chars(run).map(Some) } else { Ok(Some(0)) };
        }
        let decoded = needle.contains(REPLACEMENT);
        let want = if last { Want::Last } else { Want::First };
        let mut found = None;
        let mut before = 0;
        let each = |hits: Hits| {
            if let Some(position) = hits.positions.first() {
                found = Some(if decoded { before } else { hits.begin } + u64::from(*position));
                if !last || !decoded {
                    return ControlFlow::Break(());
                }
            }
            before += hits.length;
            ControlFlow::Continue(())
        };
        let hits = |part: Part<'_>| hits(&part, needle, want, run);
        match last && !decoded {
            true => in_order(self.parts(0, 0).collect::<Vec<_>>().into_iter().rev(), hits, each)?,
            false => in_order(self.parts(0, 0), hits, each)?,
        }
        match found {
            Some(byte) if !decoded => self.chars_before(byte, run).map(Some),
            other => Ok(other),
        }
    }

    /// How often `needle` is there, as `str.count` counts.
    pub fn count_text(&self, needle: &str, run: &Run) -> Result<u64> {
        check(needle)?;
        if needle.is_empty() {
            return Ok(self.chars(run)? + 1);
        }
        let decoded = needle.contains(REPLACEMENT);
        let overlaps = Overlaps::of(needle.as_bytes());
        let want = if overlaps.any() { Want::All(&overlaps) } else { Want::Count };
        let length = if decoded { needle.chars().count() } else { needle.len() } as u64;
        let (mut total, mut before, mut free) = (0, 0, 0);
        let hits = |part: Part<'_>| hits(&part, needle, want, run);
        in_order(self.parts(0, 0), hits, |hits| {
            total += hits.count;
            for position in hits.positions {
                let position = before + u64::from(position);
                if position >= free {
                    total += 1;
                    free = position + length;
                }
            }
            before += hits.length;
            ControlFlow::Continue(())
        })?;
        Ok(total)
    }
}

fn check(needle: &str) -> Result<()> {
    match needle.len() > NEEDLE_BYTES {
        true => Err(failure("value", format!("text of more than {NEEDLE_BYTES} bytes cannot be looked for"))),
        false => Ok(()),
    }
}

/// How much of a text's beginning ends at each of its bytes, as Knuth, Morris and Pratt count it.
struct Overlaps(Vec<u32>);

impl Overlaps {
    fn of(text: &[u8]) -> Self {
        let mut overlaps = Overlaps(vec![0; text.len()]);
        for at in 1..text.len() {
            overlaps.0[at] = overlaps.next(text, overlaps.0[at - 1] as usize, text[at]) as u32;
        }
        overlaps
    }

    /// How much of the beginning ends at a byte that follows `length` bytes of it.
    fn next(&self, text: &[u8], mut length: usize, byte: u8) -> usize {
        while length > 0 && text.get(length) != Some(&byte) {
            length = self.0[length - 1] as usize;
        }
        length + usize::from(text.get(length) == Some(&byte))
    }

    /// Whether the text can lie over its own end.
    fn any(&self) -> bool {
        self.0.last().is_some_and(|length| *length > 0)
    }
}

/// What of `needle` begins in the part.
fn hits(part: &Part<'_>, needle: &str, want: Want<'_>, run: &Run) -> Result<Hits> {
    let (file, range, whole) = (part.piece.file, &part.range, &part.piece.range);
    run.go_on(range.end - range.start)?;
    if !needle.contains(REPLACEMENT) {
        let end = (range.end + needle.len() as u64 - 1).min(whole.end);
        let length = range.end - range.start;
        return with_buffer(|buffer| {
            file.read(range.start, end, buffer)?;
            let begin = part.piece.at + (range.start - whole.start);
            Ok(Hits { begin, length, ..scan(buffer, needle, length as usize, want) })
        });
    }
    let boundary = |at: u64| if at >= whole.end { Ok(whole.end) } else { file.boundary(at) };
    // What is broken has no more bytes than the character that stands for it.
    let begin = if range.start == whole.start { range.start } else { boundary(range.start)? };
    let next = boundary(range.end)?;
    let end = boundary(range.end + needle.len() as u64)?;
    with_buffer(|buffer| {
        file.read(begin.min(end), end, buffer)?;
        let own =
            text::decode(&buffer[..(next.saturating_sub(begin) as usize).min(buffer.len())]).into_owned();
        let text = text::decode(buffer);
        let mut hits = scan(text.as_bytes(), needle, own.len(), want);
        let (mut at, mut chars) = (0, 0);
        for position in &mut hits.positions {
            chars += text::count_valid(&text.as_bytes()[at..*position as usize]);
            at = *position as usize;
            *position = chars as u32;
        }
        hits.length = own.chars().count() as u64;
        Ok(hits)
    })
}

/// What of `needle` begins before `end`.
fn scan(text: &[u8], needle: &str, end: usize, want: Want<'_>) -> Hits {
    let text = &text[..text.len().min(end + needle.len() - 1)];
    let finder = Finder::new(needle);
    let mut hits = Hits::default();
    match want {
        Want::First => hits.positions.extend(finder.find(text).map(|at| at as u32)),
        Want::Last => hits.positions.extend(FinderRev::new(needle).rfind(text).map(|at| at as u32)),
        Want::Count => hits.count = finder.find_iter(text).count() as u64,
        Want::All(overlaps) => {
            let needle = needle.as_bytes();
            // The finder is faster, and is asked where no match is begun: no byte is read twice.
            let mut at = 0;
            while let Some(found) = finder.find(&text[at..]) {
                at += found + needle.len();
                let mut length = needle.len();
                loop {
                    if length == needle.len() {
                        hits.positions.push((at - length) as u32);
                    }
                    let Some(byte) = text.get(at) else { return hits };
                    length = overlaps.next(needle, length, *byte);
                    at += 1;
                    if length == 0 {
                        break;
                    }
                }
            }
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_itself_is_known() {
        for (text, overlaps) in
            [("a", false), ("ab", false), ("aa", true), ("aba", true), ("abcab", true), ("aab", false)]
        {
            assert_eq!(Overlaps::of(text.as_bytes()).any(), overlaps, "{text}");
        }
    }

    #[test]
    fn all_are_found_that_lie_over_one_another() {
        // Every text of a few letters, and every needle in it.
        for bits in 0..1u32 << 12 {
            let text: String = (0..12).map(|at| if bits >> at & 1 == 0 { 'a' } else { 'b' }).collect();
            for length in 1..=5 {
                let needle = &text[3..3 + length];
                let expected: Vec<u32> =
                    (0..=12 - length as u32).filter(|at| text[*at as usize..].starts_with(needle)).collect();
                let overlaps = Overlaps::of(needle.as_bytes());
                let hits = scan(text.as_bytes(), needle, text.len(), Want::All(&overlaps));
                assert_eq!(hits.positions, expected, "{needle} in {text}");
            }
        }
    }
}
