//! The tar format: POSIX (ustar and pax) and what GNU tar adds to it.

use std::io::{self, Read, Write};

use crate::exports::agentkernel::archive::archive::Kind;
use crate::item::Item;

const BLOCK: usize = 512;
/// Bytes of a long name, or of a pax header.
const LONG: u64 = 1 << 20;

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Whether a block begins a tar file.
pub fn is_header(block: &[u8]) -> bool {
    block.len() >= BLOCK
        && (checksum(block) == octal(&block[148..156]) || block[..BLOCK].iter().all(|byte| *byte == 0))
}

fn checksum(block: &[u8]) -> Option<u64> {
    let sum = |range: &[u8]| range.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    Some(sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..BLOCK]))
}

/// A number: octal digits or, for large ones, bytes after a first one of 0x80.
fn octal(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        let (high, low) = field[1..].split_at(field.len() - 9);
        return high
            .iter()
            .all(|byte| *byte == 0)
            .then(|| low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|letter: char| letter == ' ' || letter == '\0');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn string(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// Gives each entry with its content to `each`, until that says `false`.
///
/// # Errors
///
/// What `each` says, or that the file is damaged.
pub fn visit(
    source: &mut dyn Read,
    each: &mut dyn FnMut(Item, &mut dyn Read) -> io::Result<bool>,
) -> io::Result<()> {
    let mut block = [0; BLOCK];
    // What headers before that of an entry say of it.
    let mut pax = Pax::default();
    loop {
        let count = read_up_to(source, &mut block)?;
        if count == 0 || (count == BLOCK && block.iter().all(|byte| *byte == 0)) {
            return Ok(());
        }
        if count < BLOCK {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum(&block) != octal(&block[148..156]) {
            return Err(damaged("a header has the wrong checksum"));
        }
        let mut size = octal(&block[124..136]).ok_or_else(|| damaged("a size is no number"))?;
        let long = |source: &mut dyn Read| -> io::Result<Vec<u8>> {
            if size > LONG {
                return Err(damaged("a name has more than 1 MiB"));
            }
            let mut content = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
            source.read_exact(&mut content)?;
            content.truncate(size as usize);
            Ok(content)
        };
        match block[156] {
            b'x' => {
                pax.read(&long(source)?)?;
                continue;
            }
            b'g' => {
                long(source)?;
                continue;
            }
            b'L' => {
                pax.path = Some(string(&long(source)?));
                continue;
            }
            b'K' => {
                long(source)?;
                continue;
            }
            _ => {}
        }
        let pax = std::mem::take(&mut pax);
        size = pax.size.unwrap_or(size);
        let name = pax.path.unwrap_or_else(|| {
            let (prefix, name) = (string(&block[345..500]), string(&block[..100]));
            if prefix.is_empty() || &block[257..263] != b"ustar\0" {
                name
            } else {
                format!("{prefix}/{name}")
            }
        });
        let kind = match block[156] {
            b'0' | 0 | b'7' if name.ends_with('/') => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' | b'2' => Kind::Link,
            b'5' => Kind::Directory,
            _ => Kind::Other,
        };
        // Of links and directories some write the size of what they stand for.
        if matches!(block[156], b'1' | b'2' | b'3'..=b'6') {
            size = 0;
        }
        let modified =
            pax.modified.or_else(|| octal(&block[136..148]).and_then(|time| i64::try_from(time).ok()));
        let mut content = source.take(size);
        let item = Item { name, kind, size, compressed: None, modified };
        if !each(item, &mut content)? {
            return Ok(());
        }
        io::copy(&mut content, &mut io::sink())?;
        if content.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut source.take(padding), &mut io::sink())?;
    }
}

fn read_up_to(source: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < block.len() {
        match source.read(&mut block[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

#[derive(Default)]
struct Pax {
    path: Option<String>,
    size: Option<u64>,
    modified: Option<i64>,
}

impl Pax {
    /// Lines of a length, a blank, a name, `=`, a value, a newline: `20 path=some/name\n`.
    fn read(&mut self, mut content: &[u8]) -> io::Result<()> {
        let wrong = || damaged("a pax header cannot be read");
        while !content.is_empty() {
            let blank = content.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length =
                std::str::from_utf8(&content[..blank]).ok().and_then(|length| length.parse::<usize>().ok());
            let length =
                length.filter(|length| *length > blank + 1 && *length <= content.len()).ok_or_else(wrong)?;
            let line = String::from_utf8_lossy(&content[blank + 1..length - 1]);
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            match name {
                "path" => self.path = Some(value.to_owned()),
                "size" => self.size = Some(value.parse().map_err(|_| wrong())?),
                "mtime" => self.modified = value.split('.').next().and_then(|seconds| seconds.parse().ok()),
                _ if name.starts_with("GNU.sparse") => {
                    return Err(damaged("sparse files are not understood"));
                }
                _ => {}
            }
            content = &content[length..];
        }
        Ok(())
    }
}

/// Writes the header of a file or, with a name that ends in a slash, of a directory.
pub fn write_header(target: &mut dyn Write, name: &str, size: u64, modified: u64) -> io::Result<()> {
    let directory = name.ends_with('/');
    if name.len() > 100 || size >= 1 << 33 {
        let mut content = line("path", name);
        if size >= 1 << 33 {
            content.push_str(&line("size", &size.to_string()));
        }
        target.write_all(&block(b"pax", b'x', content.len() as u64, modified))?;
        target.write_all(content.as_bytes())?;
        pad(target, content.len() as u64)?;
    }
    let kind = if directory { b'5' } else { b'0' };
    target.write_all(&block(name.as_bytes(), kind, size & ((1 << 33) - 1), modified))
}

/// A line of a pax header, whose length counts its own digits.
fn line(name: &str, value: &str) -> String {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {name}={value}\n")
}

fn block(name: &[u8], kind: u8, size: u64, modified: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = &name[..name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    let mut number = |start: usize, digits: usize, value: u64| {
        block[start..start + digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    };
    number(100, 7, if kind == b'5' { 0o755 } else { 0o644 });
    number(108, 7, 0);
    number(116, 7, 0);
    number(124, 11, size);
    number(136, 11, modified.min((1 << 33) - 1));
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum = checksum(&block).unwrap_or_default();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Fills the last block of a content of `size` bytes.
pub fn pad(target: &mut dyn Write, size: u64) -> io::Result<()> {
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    target.write_all(&[0; BLOCK][..padding as usize])
}

/// Ends the archive.
pub fn finish(target: &mut dyn Write) -> io::Result<()> {
    target.write_all(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = format!("{}/ü.txt", "directory".repeat(20));
        let mut file = Vec::new();
        for (name, content) in [("d/", ""), ("d/a", "hello"), (&*long, "x")] {
            write_header(&mut file, name, content.len() as u64, 1_700_000_000).unwrap();
            file.extend(content.as_bytes());
            pad(&mut file, content.len() as u64).unwrap();
        }
        finish(&mut file).unwrap();
        let mut found = Vec::new();
        visit(&mut &*file, &mut |item, content| {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            assert_eq!(item.modified, Some(1_700_000_000));
            found.push((item.name, text));
            Ok(true)
        })
        .unwrap();
        assert_eq!(found, [("d/".into(), "".into()), ("d/a".into(), "hello".into()), (long, "x".into())]);
        let cut = visit(&mut &file[..700], &mut |_, _| Ok(true)).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn lengths_of_lines_count_themselves() {
        assert_eq!(line("path", "a"), "9 path=a\n");
        assert_eq!(line("path", "ab"), "11 path=ab\n");
    }
}
