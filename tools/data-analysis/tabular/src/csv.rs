//! CSV and its relatives (RFC 4180, with the freedoms that files take).

use crate::builder::Builder;
use crate::column::{Column, Result};
use crate::intern::NOT_UTF8;
use crate::number::{is_missing, parse, parse_bool, trim};
use crate::source::Source;
use crate::{dates, scan};

/// Bytes after which a reading that has to be repeated is given up and repeated.
const EARLY: u64 = 4 << 20;
/// Bytes of the beginning that delimiter and header are guessed from.
const SAMPLE: usize = 64 << 10;
/// Columns a file may have.
const MAX_COLUMNS: usize = 10_000;

/// What the caller knows about the file.
#[derive(Clone, Copy, Default)]
pub struct Format {
    pub delimiter: Option<u8>,
    pub header: Option<bool>,
}

/// A delimiter that a caller gives, as a byte.
///
/// # Errors
///
/// When it cannot be one.
pub fn delimiter(given: Option<char>) -> Result<Option<u8>> {
    match given {
        None => Ok(None),
        Some(given) if given.is_ascii() && !matches!(given, '"' | '\n' | '\r' | '\0') => {
            Ok(Some(given as u8))
        }
        Some(given) => Err(format!("`{given}` cannot be a delimiter: that is one ASCII character")),
    }
}

/// A field within the buffer.
#[derive(Clone, Copy)]
struct Field {
    start: usize,
    end: usize,
    quoted: bool,
    /// There are doubled quotes in it.
    escaped: bool,
}

/// Reads a table: names and columns.
pub fn read(source: &mut Source<'_>, format: Format) -> Result<(Vec<String>, Vec<Column>)> {
    source.fill()?;
    let data = source.data();
    if data.starts_with(&[0xff, 0xfe]) || data.starts_with(&[0xfe, 0xff]) {
        return Err(NOT_UTF8.into());
    }
    let start = if data.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 };
    let sample = &data[start..data.len().min(SAMPLE)];
    let delimiter = format.delimiter.unwrap_or_else(|| guess_delimiter(sample));
    let mut reader =
        Reader { delimiter, start, line: 1, fields: Vec::new(), names: Vec::new(), unescaped: Vec::new() };
    reader.header(source, format.header)?;
    let mut text = vec![false; reader.names.len()];
    loop {
        let builders = reader.rows(source, &text)?;
        if builders.iter().all(|builder| !builder.is_mixed()) {
            let columns = builders.into_iter().map(Builder::finish).collect::<Result<Vec<_>>>()?;
            return Ok((reader.names, columns));
        }
        for (text, builder) in text.iter_mut().zip(&builders) {
            *text |= builder.is_mixed();
        }
        drop(builders);
        source.rewind()?;
    }
}

struct Reader {
    delimiter: u8,
    /// Where the rows begin in the source.
    start: usize,
    /// The line on which they begin.
    line: u64,
    fields: Vec<Field>,
    names: Vec<String>,
    unescaped: Vec<u8>,
}

/// How a record ended.
enum End {
    /// After its line's end.
    Record(usize),
    /// The buffer ended first.
    Buffer,
}

impl Reader {
    /// Finds the names of the columns, and where the rows start.
    fn header(&mut self, source: &mut Source<'_>, given: Option<bool>) -> Result<()> {
        let mut at = self.start;
        let next = loop {
            let mut scanner = scan::Scanner::new(self.delimiter, source.data(), at);
            match record(&mut scanner, &mut self.fields, at, source.ended())
                .map_err(|error| error.on_line(self.line))?
            {
                End::Record(next) if self.is_blank() => {
                    at = next;
                    self.line += 1;
                }
                End::Record(next) => break next,
                End::Buffer if source.ended() => {
                    return Err("there is nothing in it: no header and no rows".into());
                }
                End::Buffer => {
                    source.more()?;
                }
            }
        };
        if self.fields.len() > MAX_COLUMNS {
            return Err(format!(
                "the first line has {} fields; {MAX_COLUMNS} columns are the most",
                self.fields.len()
            ));
        }
        let data = source.data();
        let value = |field: &Field| {
            let text = trim(&data[field.start..field.end]);
            !is_missing(text)
                && (parse(text).is_some() || dates::parse_any(text).is_some() || parse_bool(text).is_some())
        };
        let header = given.unwrap_or_else(|| !self.fields.iter().any(value));
        let mut names: Vec<String> = Vec::with_capacity(self.fields.len());
        for (position, field) in self.fields.iter().enumerate() {
            let mut name = String::new();
            if header {
                let mut bytes = data[field.start..field.end].to_vec();
                if field.escaped {
                    unescape(&data[field.start..field.end], &mut bytes);
                }
                name = String::from_utf8(bytes).map_err(|_| NOT_UTF8)?.trim().to_owned();
            }
            names.push(if name.is_empty() { format!("column_{}", position + 1) } else { name });
        }
        crate::make_distinct(&mut names);
        self.names = names;
        if header {
            self.line += 1 + memchr::memchr_iter(b'\n', &data[at..next.saturating_sub(1)]).count() as u64;
            self.start = next;
        } else {
            self.start = at;
        }
        Ok(())
    }

    fn is_blank(&self) -> bool {
        matches!(self.fields[..], [Field { start, end, quoted: false, .. }] if start == end)
    }

    /// Reads all rows; columns marked as `text` as such.
    fn rows(&mut self, source: &mut Source<'_>, text: &[bool]) -> Result<Vec<Builder>> {
        let mut builders: Vec<Builder> = text.iter().map(|text| Builder::new(*text, 0)).collect();
        let width = builders.len();
        let mut at = self.start;
        let (mut rows, mut lines) = (0u64, self.line);
        let mut mixed = false;
        while source.data().len() < at && !source.ended() {
            source.more()?;
        }
        loop {
            source.fill()?;
            let data = source.data();
            // What the buffer holds is a sample of what is to come.
            let done = source.position() + at as u64;
            let expected = match (rows, source.size()) {
                (0, Some(size)) => {
                    let sampled = &data[at..data.len().min(at + SAMPLE)];
                    let lines = memchr::memchr_iter(b'\n', sampled).count() as u64 + 1;
                    lines * size.saturating_sub(done) / (sampled.len() as u64 + 1) + lines
                }
                (rows, Some(size)) => (rows as f64 * size as f64 / done.max(1) as f64 * 1.01) as u64 + 16,
                (_, None) => 0,
            };
            for builder in &mut builders {
                builder.expect(expected.min(u64::from(u32::MAX)) as usize);
            }
            let mut scanner = scan::Scanner::new(self.delimiter, data, at);
            loop {
                match record(&mut scanner, &mut self.fields, at, source.ended())
                    .map_err(|error| error.on_line(lines))?
                {
                    End::Buffer => break,
                    End::Record(next) => {
                        at = next;
                        if self.fields.len() != width {
                            if self.is_blank() {
                                lines += 1;
                                continue;
                            }
                            return Err(self.ragged(data, lines));
                        }
                        if width == 1 && self.is_blank() {
                            lines += 1;
                            continue;
                        }
                        for (builder, field) in builders.iter_mut().zip(&self.fields) {
                            let bytes = &data[field.start..field.end];
                            let added = if field.quoted {
                                lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
                                if field.escaped {
                                    unescape(bytes, &mut self.unescaped);
                                    builder.field(&self.unescaped, true)
                                } else {
                                    builder.field(bytes, true)
                                }
                            } else {
                                builder.field(bytes, false)
                            };
                            added.map_err(|error| format!("line {lines}: {error}"))?;
                        }
                        rows += 1;
                        lines += 1;
                    }
                }
            }
            if rows >= u64::from(u32::MAX) {
                return Err("there are more than 4,294,967,294 rows".into());
            }
            mixed |= builders.iter().any(Builder::is_mixed);
            if source.ended()
                || mixed
                    && source.position() + (at as u64) < EARLY * 2
                    && source.position() + at as u64 > EARLY
            {
                return Ok(builders);
            }
            source.keep_from(at)?;
            at = 0;
        }
    }

    fn ragged(&self, data: &[u8], line: u64) -> String {
        let start = self.fields.first().map_or(0, |field| field.start);
        let end = self.fields.last().map_or(0, |field| field.end);
        let shown = String::from_utf8_lossy(&data[start..end.min(start + 80)]).into_owned();
        let hint = if self.names.len() == 1 {
            " (if the columns are not separated by a comma, give `delimiter`)"
        } else {
            ""
        };
        format!(
            "line {line} has {} fields where there are {} columns ({}): `{shown}`{hint}",
            self.fields.len(),
            self.names.len(),
            crate::listed(self.names.iter().map(String::as_str)),
        )
    }
}

/// A quoted field that is not closed, or text behind a closed one.
struct Unquoted(&'static str);

impl Unquoted {
    fn on_line(&self, line: u64) -> String {
        format!("line {line}: {}", self.0)
    }
}

/// Reads one record from `start` on.
#[inline]
fn record(
    scanner: &mut scan::Scanner<'_>,
    fields: &mut Vec<Field>,
    start: usize,
    ended: bool,
) -> std::result::Result<End, Unquoted> {
    fields.clear();
    let data = scanner.data;
    let mut from = start;
    loop {
        let Some(at) = scanner.next() else {
            if !ended || start == data.len() {
                return Ok(End::Buffer);
            }
            // The last line has no end.
            fields.push(Field { start: from, end: data.len(), quoted: false, escaped: false });
            return Ok(End::Record(data.len()));
        };
        let byte = data[at];
        if byte == b'"' {
            if at != from {
                continue;
            }
            let Some((close, escaped)) = closing(data, at + 1) else {
                return if ended { Err(Unquoted("a quoted field is not closed")) } else { Ok(End::Buffer) };
            };
            let mut field = Field { start: at + 1, end: close, quoted: true, escaped };
            scanner.seek(close + 1);
            let mut after = close + 1;
            if data.get(after) == Some(&b'\r') {
                after += 1;
            }
            match data.get(after) {
                Some(byte) if *byte == scanner.delimiter => {
                    scanner.next();
                    fields.push(field);
                    from = after + 1;
                }
                Some(b'\n') => {
                    scanner.next();
                    fields.push(field);
                    return Ok(End::Record(after + 1));
                }
                None if ended => {
                    fields.push(field);
                    return Ok(End::Record(data.len()));
                }
                None => return Ok(End::Buffer),
                // As in `"a" b,c`: the quotes are a part of the text.
                Some(_) => {
                    let Some(next) = plain_end(scanner) else {
                        return if ended {
                            Err(Unquoted("there is text behind a quoted field"))
                        } else {
                            Ok(End::Buffer)
                        };
                    };
                    field = Field { start: at, end: next, quoted: false, escaped: false };
                    if data[next] == b'\n' {
                        if data[next - 1] == b'\r' {
                            field.end -= 1;
                        }
                        fields.push(field);
                        return Ok(End::Record(next + 1));
                    }
                    fields.push(field);
                    from = next + 1;
                }
            }
        } else if byte == b'\n' {
            let end = if at > from && data[at - 1] == b'\r' { at - 1 } else { at };
            fields.push(Field { start: from, end, quoted: false, escaped: false });
            return Ok(End::Record(at + 1));
        } else {
            fields.push(Field { start: from, end: at, quoted: false, escaped: false });
            from = at + 1;
        }
    }
}

/// The next delimiter or line's end; quotes do not count.
fn plain_end(scanner: &mut scan::Scanner<'_>) -> Option<usize> {
    loop {
        let at = scanner.next()?;
        if scanner.data[at] != b'"' {
            return Some(at);
        }
    }
}

/// Where the quote is that closes a field, and whether there are doubled ones before it.
fn closing(data: &[u8], mut from: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        let at = from + memchr::memchr(b'"', data.get(from..)?)?;
        if data.get(at + 1) != Some(&b'"') {
            return Some((at, escaped));
        }
        escaped = true;
        from = at + 2;
    }
}

fn unescape(field: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut quote = false;
    for byte in field {
        quote = *byte == b'"' && !quote;
        if !quote {
            out.push(*byte);
        }
    }
}

/// The delimiter that is in most lines, and equally often.
fn guess_delimiter(sample: &[u8]) -> u8 {
    let mut best = (0, b',');
    for delimiter in *b",;\t|" {
        let mut counts = Vec::new();
        let (mut quoted, mut count) = (false, 0u32);
        for byte in sample {
            match *byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => {
                    counts.push(count);
                    count = 0;
                    if counts.len() == 50 {
                        break;
                    }
                }
                byte if byte == delimiter && !quoted => count += 1,
                _ => {}
            }
        }
        if counts.is_empty() {
            counts.push(count);
        }
        let first = counts[0];
        let same = counts.iter().filter(|count| **count == first).count();
        if first > 0 {
            let score = same * 1000 / counts.len() * 1000 + first.min(999) as usize;
            if score > best.0 {
                best = (score, delimiter);
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Vec<Option<String>>> {
        let format = Format { delimiter: Some(b','), header: Some(true) };
        let (_, columns) = read(&mut Source::text(text), format).unwrap();
        let cell = |column: &Column, row: usize| {
            let mut out = String::new();
            column.write(row, &mut out).then_some(out)
        };
        let count = columns.first().map_or(0, Column::len);
        (0..count).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
    }

    #[test]
    fn fields_may_lie_anywhere_in_a_block() {
        // Blocks have 64 bytes; the second field moves through one and into the next.
        for length in 1..200 {
            let long = "x".repeat(length);
            let text = format!("a,b,c\n{long},\"q,\"\"\n{long}\",{long}\r\n,\"\",z");
            let expected = [
                vec![Some(long.clone()), Some(format!("q,\"\n{long}")), Some(long)],
                vec![None, Some(String::new()), Some("z".to_owned())],
            ];
            assert_eq!(rows(&text), expected);
        }
    }

    #[test]
    fn delimiters_are_guessed() {
        for (text, expected) in [
            ("a;b\n1,5;2\n", b';'),
            ("a\tb\n1\t2\n", b'\t'),
            ("a|b", b'|'),
            ("\"a;b\",c\n", b','),
            ("abc\n", b','),
        ] {
            assert_eq!(guess_delimiter(text.as_bytes()), expected, "{text}");
        }
    }
}
