//! Where characters are: a count for each block of a file, made when it is first needed.

use std::iter;
use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::file::File;
use super::parallel::{Run, in_order};
use super::text::{self, BACK};
use super::{Result, with_buffer};

/// Bytes that are counted together; a position within is found by counting again.
pub const BLOCK: u64 = 64 << 10;

/// Bytes that are read at once.
const UNIT: u64 = 16 * BLOCK;

/// Characters up to the end of each block, as far as it is known: eight bytes a block.
#[derive(Default)]
pub struct Index(RwLock<Vec<u64>>);

impl Index {
    fn known(&self) -> RwLockReadGuard<'_, Vec<u64>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the counts of blocks from number `first` on, unless another thread did meanwhile.
    fn add(&self, first: u64, counts: &[u32]) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() as u64 == first {
            let mut total = known.last().copied().unwrap_or(0);
            known.extend(counts.iter().map(|count| {
                total += u64::from(*count);
                total
            }));
        }
    }
}

impl File {
    fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    fn known_blocks(&self) -> u64 {
        self.index.known().len() as u64
    }

    /// Characters in the file.
    pub fn chars(&self, run: &Run) -> Result<u64> {
        index(iter::once(self), |_| self.blocks(), run)?;
        Ok(self.index.known().last().copied().unwrap_or(0))
    }

    /// Characters before a byte that begins one.
    pub fn chars_before(&self, byte: u64, run: &Run) -> Result<u64> {
        let block = byte / BLOCK;
        let (before, count) = {
            let needed = (block + 1).min(self.blocks());
            index(iter::once(self), |_| needed, run)?;
            let known = self.index.known();
            let at = |block: u64| known.get(block as usize).copied();
            let before = block.checked_sub(1).and_then(at).unwrap_or(0);
            (before, at(block).unwrap_or(before) - before)
        };
        let begin = block * BLOCK;
        if count == self.size.saturating_sub(begin).min(BLOCK) {
            // Each byte is a character.
            return Ok(before + (byte - begin));
        }
        let begin = self.boundary(begin)?;
        with_buffer(|buffer| {
            self.read(begin.min(byte), byte, buffer)?;
            Ok(before + text::count(buffer) as u64)
        })
    }

    /// Where character number `char` begins; the end if there are fewer.
    pub fn byte_of(&self, char: u64, run: &Run) -> Result<u64> {
        // A character has a byte at least: so far it need not be looked for.
        let mut needed = char / BLOCK + 1;
        let (block, before, count) = loop {
            index(iter::once(self), |_| needed.min(self.blocks()), run)?;
            let known = self.index.known();
            let block = known.partition_point(|upto| *upto <= char);
            if let Some(upto) = known.get(block) {
                let before = block.checked_sub(1).map_or(0, |before| known[before]);
                break (block as u64, before, upto - before);
            }
            if known.len() as u64 >= self.blocks() {
                return Ok(self.size);
            }
            let missing = char - known.last().copied().unwrap_or(0);
            needed = known.len() as u64 + missing / BLOCK + 1;
        };
        let begin = block * BLOCK;
        if count == self.size.saturating_sub(begin).min(BLOCK) {
            return Ok(begin + (char - before));
        }
        let begin = self.boundary(begin)?;
        let end = self.boundary((block + 1).saturating_mul(BLOCK).min(self.size))?;
        with_buffer(|buffer| {
            self.read(begin.min(end), end, buffer)?;
            Ok(begin + text::offset(buffer, (char - before) as usize) as u64)
        })
    }

    /// The first beginning of a character at or after a byte.
    pub fn boundary(&self, byte: u64) -> Result<u64> {
        if byte == 0 || byte >= self.size {
            return Ok(byte.min(self.size));
        }
        let from = byte.saturating_sub(BACK as u64);
        let mut around = Vec::with_capacity(2 * BACK + 1);
        self.read(from, (byte + BACK as u64 + 1).min(self.size), &mut around)?;
        Ok(byte + text::to_boundary(&around, (byte - from) as usize) as u64)
    }

    /// Counts blocks from number `block` on that lie in one unit.
    fn count_blocks(&self, block: u64, end: u64, run: &Run) -> Result<Vec<u32>> {
        let (begin, end) = (block * BLOCK, (end * BLOCK).min(self.size));
        run.go_on(end - begin)?;
        let from = begin.saturating_sub(BACK as u64);
        let to = (end + BACK as u64 + 1).min(self.size);
        with_buffer(|buffer| {
            self.read(from, to, buffer)?;
            let boundary = |byte: u64| {
                let at = (byte - from) as usize;
                at + text::to_boundary(buffer, at)
            };
            let mut at = boundary(begin);
            let ends = iter::successors(Some(begin + BLOCK), |at| Some(at + BLOCK));
            let ends = ends.take_while(|to| *to < end).chain(iter::once(end));
            Ok(ends
                .map(|to| {
                    let (from, to) = (at, boundary(to).max(at));
                    at = to;
                    text::count(&buffer[from..to]) as u32
                })
                .collect())
        })
    }
}

/// Counts what is not counted yet of `files`, of each as many blocks as are `needed`.
pub fn index<'a>(
    files: impl Iterator<Item = &'a File> + Send,
    needed: impl Fn(&File) -> u64 + Send + Sync,
    run: &Run,
) -> Result<()> {
    let units = files.flat_map(|file| {
        let needed = needed(file);
        let known = file.known_blocks();
        let next = move |first: &u64| (first / (UNIT / BLOCK) + 1) * (UNIT / BLOCK);
        let firsts = iter::successors(Some(known), move |first| Some(next(first)));
        firsts.take_while(move |first| *first < needed).map(move |first| {
            // Whole units, so that the next position is often there already.
            (file, first, next(&first).min(file.blocks()))
        })
    });
    in_order(
        units,
        |(file, first, end)| Ok((file, first, file.count_blocks(first, end, run)?)),
        |(file, first, counts)| {
            file.index.add(first, &counts);
            ControlFlow::Continue(())
        },
    )
}

/// Counts all of the files.
pub fn index_whole<'a>(files: impl Iterator<Item = &'a File> + Send, run: &Run) -> Result<()> {
    index(files, File::blocks, run)
}
