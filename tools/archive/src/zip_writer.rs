//! Writing zip files.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::zip::dos_time;

/// The largest size that needs no 64-bit extension.
const LARGEST: u64 = 0xffff_fffe;
const MOST_ENTRIES: usize = 0xfffe;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;

struct Written {
    name: String,
    method: u16,
    time: u32,
    crc: u32,
    compressed: u32,
    size: u32,
    offset: u32,
}

pub struct Writer<W: Write + Seek> {
    target: W,
    entries: Vec<Written>,
    offset: u64,
}

fn too_large(what: &str) -> io::Error {
    io::Error::other(format!("{what} is too much for a zip file: make a `.tar.gz`"))
}

impl<W: Write + Seek> Writer<W> {
    pub fn new(target: W) -> Self {
        Writer { target, entries: Vec::new(), offset: 0 }
    }

    /// Adds a file or, with a name that ends in a slash, a directory.
    pub fn add(&mut self, name: &str, modified: u64, content: &mut dyn Read) -> io::Result<()> {
        if self.entries.len() == MOST_ENTRIES {
            return Err(too_large("more than 65,534 entries"));
        }
        let offset = u32::try_from(self.offset).map_err(|_| too_large("more than 4 GiB"))?;
        let name_length = u16::try_from(name.len()).map_err(|_| too_large("a name of more than 64 KiB"))?;
        let directory = name.ends_with('/');
        let mut entry = Written {
            name: name.to_owned(),
            method: if directory { 0 } else { 8 },
            time: dos_time(modified),
            crc: 0,
            compressed: 0,
            size: 0,
            offset,
        };
        self.target.write_all(&local(&entry, name_length))?;
        if !directory {
            let mut crc = flate2::CrcReader::new(content);
            let counted = Counted { inner: &mut self.target, count: 0 };
            let mut encoder = flate2::write::DeflateEncoder::new(counted, flate2::Compression::new(6));
            let size = io::copy(&mut crc, &mut encoder)?;
            let compressed = encoder.finish()?.count;
            if size > LARGEST || compressed > LARGEST {
                return Err(too_large("a file of more than 4 GiB"));
            }
            entry.crc = crc.crc().sum();
            (entry.size, entry.compressed) = (size as u32, compressed as u32);
            self.target.seek(SeekFrom::Start(self.offset))?;
            self.target.write_all(&local(&entry, name_length))?;
            self.target.seek(SeekFrom::End(0))?;
        }
        self.offset += 30 + name.len() as u64 + u64::from(entry.compressed);
        self.entries.push(entry);
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<()> {
        let mut directory = Vec::new();
        for entry in &self.entries {
            let mode: u32 = if entry.name.ends_with('/') { 0o040_755 } else { 0o100_644 };
            // Made by version 2.0 on Unix, whose mode stands in the attributes.
            directory.extend(b"PK\x01\x02\x14\x03");
            directory.extend(fields(entry));
            for number in [entry.name.len() as u16, 0, 0, 0, 0] {
                directory.extend(number.to_le_bytes());
            }
            directory.extend((mode << 16).to_le_bytes());
            directory.extend(entry.offset.to_le_bytes());
            directory.extend(entry.name.as_bytes());
        }
        let offset = u32::try_from(self.offset).map_err(|_| too_large("more than 4 GiB"))?;
        let count = (self.entries.len() as u16).to_le_bytes();
        self.target.write_all(&directory)?;
        self.target.write_all(b"PK\x05\x06\0\0\0\0")?;
        self.target.write_all(&[count, count].concat())?;
        self.target.write_all(&(directory.len() as u32).to_le_bytes())?;
        self.target.write_all(&offset.to_le_bytes())?;
        self.target.write_all(&[0, 0])?;
        self.target.flush()
    }
}

/// What the local and the central header have in common, up to the lengths.
fn fields(entry: &Written) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    for number in [20, UTF8, entry.method] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [entry.time, entry.crc, entry.compressed, entry.size] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

fn local(entry: &Written, name_length: u16) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.extend(fields(entry));
    bytes.extend(name_length.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(entry.name.as_bytes());
    bytes
}

struct Counted<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
