//! Reading zip files. The central directory says what is there; a local header that says something
//! else, and entries whose data overlap, are refused.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::exports::agentkernel::archive::archive::Kind;
use crate::item::Item;

/// How far the end record may be from the end: its own length and that of a comment.
const END: u64 = 22 + 65_535;
/// A length that stands in the extra field of 64-bit sizes.
const ELSEWHERE: u64 = 0xffff_ffff;

pub struct Entry {
    pub item: Item,
    compressed: u64,
    offset: u64,
    crc: u32,
    method: u16,
    encrypted: bool,
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Numbers of a record, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(|| damaged("a record is cut off"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self, count: usize) -> io::Result<u64> {
        Ok(self.bytes(count)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

/// The entries of a zip file, in the order of its directory.
///
/// # Errors
///
/// That it is damaged, or has more than `limit` entries.
pub fn entries(file: &mut File, limit: u32) -> io::Result<Vec<Entry>> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(END);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(END).read_to_end(&mut end)?;
    let record = end
        .len()
        .checked_sub(22)
        .and_then(|last| (0..=last).rev().find(|at| end[*at..].starts_with(b"PK\x05\x06")));
    let record = record.ok_or_else(|| damaged("its directory is missing: it is cut off"))?;
    let mut fields = Fields(&end[record + 4..]);
    let disks = fields.number(4)?;
    fields.number(2)?;
    let (mut count, mut size, mut offset) = (fields.number(2)?, fields.number(4)?, fields.number(4)?);
    if disks != 0 {
        return Err(damaged("it is a part of several files"));
    }
    if count == 0xffff || size == ELSEWHERE || offset == ELSEWHERE {
        if let Some(locator) = record.checked_sub(20).filter(|at| end[*at..].starts_with(b"PK\x06\x07")) {
            let place = Fields(&end[locator + 8..]).number(8)?;
            let mut record = [0; 56];
            file.seek(SeekFrom::Start(place))?;
            file.read_exact(&mut record)?;
            if !record.starts_with(b"PK\x06\x06") {
                return Err(damaged("its 64-bit directory is missing"));
            }
            let mut fields = Fields(&record[32..]);
            (count, size, offset) = (fields.number(8)?, fields.number(8)?, fields.number(8)?);
        }
    }
    if count > u64::from(limit) {
        return Err(io::Error::other(too_many(limit)));
    }
    if size > length {
        return Err(damaged("its directory is longer than the file"));
    }
    // An entry has at most three fields of 64 KiB.
    let size = size.min(count.saturating_mul(46 + 3 * 65_535));
    let mut directory = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(size).read_to_end(&mut directory)?;
    let mut fields = Fields(&directory);
    (0..count).map(|_| entry(&mut fields)).collect()
}

pub fn too_many(limit: u32) -> String {
    format!("it has more than {limit} entries: give a larger `max_entries` if you trust it")
}

fn entry(fields: &mut Fields<'_>) -> io::Result<Entry> {
    if fields.bytes(4)? != b"PK\x01\x02" {
        return Err(damaged("an entry of its directory is wrong"));
    }
    let made_by = fields.number(2)?;
    fields.number(2)?;
    let (flags, method, time) = (fields.number(2)?, fields.number(2)?, fields.number(4)?);
    let (crc, mut compressed, mut size) = (fields.number(4)?, fields.number(4)?, fields.number(4)?);
    let (name, extra, comment) = (fields.number(2)?, fields.number(2)?, fields.number(2)?);
    fields.number(4)?;
    let (attributes, mut offset) = (fields.number(4)?, fields.number(4)?);
    let name = String::from_utf8_lossy(fields.bytes(name as usize)?).into_owned();
    let mut extra = Fields(fields.bytes(extra as usize)?);
    fields.bytes(comment as usize)?;
    while extra.0.len() >= 4 {
        let (id, length) = (extra.number(2)?, extra.number(2)?);
        let Ok(field) = extra.bytes(length as usize) else { break };
        if id == 1 {
            let mut field = Fields(field);
            for number in [&mut size, &mut compressed, &mut offset] {
                if *number == ELSEWHERE {
                    *number = field.number(8)?;
                }
            }
        }
    }
    // The upper half is the mode of Unix, if it was made there.
    let mode = if made_by >> 8 == 3 { attributes >> 16 & 0o170_000 } else { 0 };
    let kind = match mode {
        0o120_000 => Kind::Link,
        0o020_000 | 0o060_000 | 0o010_000 | 0o140_000 => Kind::Other,
        _ if name.ends_with('/') => Kind::Directory,
        _ => Kind::File,
    };
    Ok(Entry {
        item: Item { name, kind, size, compressed: Some(compressed), modified: seconds(time) },
        compressed,
        offset,
        crc: crc as u32,
        method: method as u16,
        encrypted: flags & 1 != 0,
    })
}

/// Refuses entries whose data overlap: one piece of data that stands for many files is a bomb.
pub fn check_overlaps(entries: &[Entry]) -> io::Result<()> {
    let mut ranges: Vec<(u64, u64)> = entries
        .iter()
        .map(|entry| (entry.offset, (entry.offset + 30).saturating_add(entry.compressed)))
        .collect();
    ranges.sort_unstable();
    match ranges.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        true => Err(damaged("the data of its entries overlap, as those of a bomb do")),
        false => Ok(()),
    }
}

/// Gives the content of an entry to `each`, and checks its length and checksum if it was read to the end.
pub fn content<T>(
    file: &mut File,
    entry: &Entry,
    each: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    let name = entry.item.name.escape_debug();
    if entry.encrypted {
        return Err(io::Error::other(format!("the entry `{name}` is encrypted, which is not understood")));
    }
    let mut head = [0; 30];
    file.seek(SeekFrom::Start(entry.offset))?;
    file.read_exact(&mut head)?;
    let mut fields = Fields(&head[26..]);
    let (name_length, extra_length) = (fields.number(2)?, fields.number(2)?);
    let mut local = vec![0; name_length as usize];
    file.read_exact(&mut local)?;
    if !head.starts_with(b"PK\x03\x04") || String::from_utf8_lossy(&local) != entry.item.name {
        return Err(damaged("its directory and an entry do not agree"));
    }
    file.seek_relative(extra_length as i64)?;
    let source = BufReader::new(file.take(entry.compressed));
    let source: Box<dyn Read + '_> = match entry.method {
        0 => Box::new(source),
        8 => Box::new(flate2::bufread::DeflateDecoder::new(source)),
        method => {
            let method = match method {
                9 => "Deflate64",
                12 => "bzip2",
                14 => "LZMA",
                93 => "zstd",
                95 => "xz",
                99 => "AES encryption",
                _ => "an unknown method",
            };
            return Err(io::Error::other(format!(
                "the entry `{name}` is packed with {method}, which is not understood"
            )));
        }
    };
    let mut checked = Checked { source, crc: flate2::Crc::new(), count: 0, entry };
    each(&mut checked)
}

struct Checked<'a> {
    source: Box<dyn Read + 'a>,
    crc: flate2::Crc,
    count: u64,
    entry: &'a Entry,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.crc.update(&buffer[..count]);
        self.count += count as u64;
        if self.count > self.entry.item.size {
            return Err(damaged("an entry is longer than it says"));
        }
        if count == 0
            && !buffer.is_empty()
            && (self.count != self.entry.item.size || self.crc.sum() != self.entry.crc)
        {
            return Err(damaged("an entry has the wrong length or checksum"));
        }
        Ok(count)
    }
}

/// Seconds since 1970 of a DOS date and time, which are taken as UTC.
fn seconds(time: u64) -> Option<i64> {
    let part = |shift: u32, bits: u32| (time >> shift & ((1 << bits) - 1)) as i64;
    let (year, month, day) = (1980 + part(25, 7), part(21, 4), part(16, 5));
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let days = days(year, month, day);
    Some(days * 86_400 + part(11, 5) * 3600 + part(5, 6) * 60 + part(0, 5) * 2)
}

/// Days from 1970-01-01, counting years from March, so that the leap day is the last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// The DOS date and time of seconds since 1970; of what lies outside of its years, 1980-01-01.
pub fn dos_time(seconds: u64) -> u32 {
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    let start = |year: i64| days(year, 1, 1);
    let day = day as i64;
    let year = (1980..2108).find(|year| (start(*year)..start(year + 1)).contains(&day));
    let Some(year) = year else { return (1 << 21) | (1 << 16) };
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= day).unwrap_or(1);
    let date = (((year - 1980) << 9) | (month << 5) | (day - days(year, month, 1) + 1)) as u32;
    let time = (((rest / 3600) << 11) | ((rest / 60 % 60) << 5) | (rest % 60 / 2)) as u32;
    date << 16 | time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        assert_eq!(days(1970, 1, 1), 0);
        for seconds_given in [1_700_000_000u64, 951_782_400, 1_709_164_800, 315_532_800] {
            assert_eq!(seconds(u64::from(dos_time(seconds_given))), Some(seconds_given as i64));
        }
        assert_eq!(seconds(u64::from(dos_time(0))), Some(315_532_800));
    }
}
