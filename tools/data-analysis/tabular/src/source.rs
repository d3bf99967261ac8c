//! What is read: a file, block by block, or a text that is there.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::column::{Result, out_of_memory};

/// Bytes of a file that are read at once.
const BLOCK: usize = 1 << 20;
/// Bytes that one record may have.
const MAX_RECORD: usize = 64 << 20;

/// Bytes that are read from the beginning to the end, perhaps twice.
pub struct Source<'a> {
    kind: Kind<'a>,
    /// Bytes before those in the buffer.
    position: u64,
    ended: bool,
}

enum Kind<'a> {
    Text(&'a [u8]),
    File { file: File, size: Option<u64>, buffer: Vec<u8>, used: usize },
}

impl<'a> Source<'a> {
    pub fn text(text: &'a str) -> Self {
        Source { kind: Kind::Text(text.as_bytes()), position: 0, ended: true }
    }

    pub fn file(file: File) -> Self {
        let size = file.metadata().ok().map(|metadata| metadata.len());
        Source { kind: Kind::File { file, size, buffer: Vec::new(), used: 0 }, position: 0, ended: false }
    }

    /// The bytes that are there.
    pub fn data(&self) -> &[u8] {
        match &self.kind {
            Kind::Text(text) => text,
            Kind::File { buffer, used, .. } => &buffer[..*used],
        }
    }

    /// Whether they are the last.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// How many bytes came before them.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn size(&self) -> Option<u64> {
        match &self.kind {
            Kind::Text(text) => Some(text.len() as u64),
            Kind::File { size, .. } => *size,
        }
    }

    /// Reads if nothing is there.
    pub fn fill(&mut self) -> Result<()> {
        if self.data().is_empty() && !self.ended { self.more() } else { Ok(()) }
    }

    /// Reads more.
    pub fn more(&mut self) -> Result<()> {
        let Kind::File { file, buffer, used, .. } = &mut self.kind else { return Ok(()) };
        if *used > MAX_RECORD {
            return Err("one record is longer than 64 MiB; a quote that is not closed makes all that follows one field".into());
        }
        let wanted = *used + BLOCK;
        if buffer.len() < wanted {
            buffer.try_reserve_exact(wanted - buffer.len()).map_err(|_| out_of_memory(wanted))?;
            buffer.resize(wanted, 0);
        }
        loop {
            match file.read(&mut buffer[*used..wanted]) {
                Ok(0) => self.ended = true,
                Ok(count) => *used += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("the file cannot be read: {error}")),
            }
            return Ok(());
        }
    }

    /// Lets go of what is before `at`, and reads more.
    pub fn keep_from(&mut self, at: usize) -> Result<()> {
        if let Kind::File { buffer, used, .. } = &mut self.kind {
            buffer.copy_within(at..*used, 0);
            *used -= at;
            self.position += at as u64;
        }
        self.more()
    }

    /// Starts anew. Only before anything was kept or at the end.
    pub fn rewind(&mut self) -> Result<()> {
        if let Kind::File { file, used, .. } = &mut self.kind {
            file.seek(SeekFrom::Start(0))
                .map_err(|error| format!("the file cannot be read again: {error}"))?;
            *used = 0;
            self.position = 0;
            self.ended = false;
        }
        Ok(())
    }

    /// All of it.
    pub fn whole(&mut self) -> Result<&[u8]> {
        if let Kind::File { file, buffer, used, .. } = &mut self.kind {
            buffer.truncate(*used);
            file.read_to_end(buffer).map_err(|error| format!("the file cannot be read: {error}"))?;
            *used = buffer.len();
            self.ended = true;
        }
        Ok(self.data())
    }
}
