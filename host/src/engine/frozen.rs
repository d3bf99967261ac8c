//! A memory that was kept: what it holds that its image does not.
//!
//! Sessions are forked, put back and written to files as lists of changed pages. Starting from such a
//! list copies it over a fresh view of the image; a long one that is started from again and again is
//! written to a file once, which is then an image itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::pagemap::{self, Pages};
use super::slot::{Image, Slot};

/// Bytes in a page of memory.
const PAGE: usize = 4096;

/// Bytes in a page as WebAssembly counts them.
const WASM_PAGE: usize = 65536;

/// What is longer is made an image when it is started from again and again.
const COPIED_BYTES: usize = 1 << 20;

/// What is longer, at the third time.
const LARGE_BYTES: usize = 16 << 20;

/// A kept memory.
pub(crate) struct Frozen {
    image: Arc<Image>,
    /// The memory's size in bytes.
    size: usize,
    /// Pages that differ from the image, or from zero beyond it.
    runs: Vec<Pages>,
    /// Their content, one after another.
    data: Vec<u8>,
    starts: AtomicU32,
    /// The same as an image.
    mapped: OnceLock<Arc<Image>>,
}

impl Frozen {
    /// Keeps the first `size` bytes of a slot, in the memory of `before` if nobody else has that; nothing if more
    /// than `limit` bytes have changed.
    ///
    /// # Safety
    ///
    /// Nothing may write to the slot's memory meanwhile.
    pub(super) unsafe fn capture(
        slot: &Slot,
        image: &Arc<Image>,
        size: usize,
        limit: usize,
        before: Option<Arc<Frozen>>,
    ) -> Option<Self> {
        let everything = || vec![Pages { offset: 0, bytes: size }];
        let changed = pagemap::private_pages(slot.memory.start.as_ptr(), size).unwrap_or_else(everything);
        // SAFETY: as the caller vouches.
        let memory = unsafe { slot.content(size) };
        let mut frozen = Frozen::unchanged(image, size);
        if let Some(Frozen { mut runs, mut data, .. }) = before.and_then(Arc::into_inner) {
            runs.clear();
            data.clear();
            (frozen.runs, frozen.data) = (runs, data);
        }
        frozen.add(memory, &changed, limit).then_some(frozen)
    }

    fn unchanged(image: &Arc<Image>, size: usize) -> Self {
        Frozen {
            image: Arc::clone(image),
            size,
            runs: Vec::new(),
            data: Vec::new(),
            starts: AtomicU32::new(0),
            mapped: OnceLock::new(),
        }
    }

    /// Adds those of the pages that differ, up to `limit` bytes; says whether these were all.
    fn add(&mut self, memory: &[u8], candidates: &[Pages], limit: usize) -> bool {
        const ZERO: &[u8] = &[0; PAGE];
        let original = self.image.content();
        // What is not used of this is no memory; growing bit by bit would be, twice.
        self.data.reserve_exact(limit.min(candidates.iter().map(|run| run.bytes).sum()));
        for run in candidates {
            for offset in (run.offset..run.offset + run.bytes).step_by(PAGE) {
                let page = &memory[offset..offset + PAGE];
                if page == original.get(offset..offset + PAGE).unwrap_or(ZERO) {
                    continue;
                }
                if self.data.len() == limit {
                    return false;
                }
                match self.runs.last_mut() {
                    Some(last) if last.offset + last.bytes == offset => last.bytes += PAGE,
                    _ => self.runs.push(Pages { offset, bytes: PAGE }),
                }
                self.data.extend_from_slice(page);
            }
        }
        true
    }

    /// Bytes of memory that an instance starts with.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that differ from the interpreter's image, or nearly.
    pub fn changed(&self) -> usize {
        self.over_base().1.iter().map(|run| run.bytes).sum()
    }

    /// Whether it is of an instance that began as `base`.
    pub(super) fn is_over(&self, base: &Arc<Image>) -> bool {
        Arc::ptr_eq(self.base(), base)
    }

    /// What is mapped for an instance, before the rest is laid in.
    pub(super) fn start(&self) -> (&Arc<Image>, Option<&Self>) {
        // Writing it takes as long as many copies of a small one.
        let worth = if self.data.len() > LARGE_BYTES { 2 } else { 15 };
        let again = self.starts.fetch_add(1, Ordering::Relaxed) == worth;
        // Tried once: what cannot be written cannot be written a moment later.
        if again
            && self.data.len() > COPIED_BYTES
            && self.mapped.get().is_none()
            && let Err(error) = self.map()
        {
            tracing::warn!(
                "a large state is copied at each start, because it cannot be kept in a file: {error}"
            );
        }
        match self.mapped.get() {
            Some(mapped) => (mapped, None),
            None => (&self.image, Some(self)),
        }
    }

    /// Lays the pages into a slot that has the image.
    pub(super) fn lay_into(&self, slot: &mut Slot) -> io::Result<()> {
        slot.grow(self.size)?;
        for (offset, bytes) in self.pieces() {
            slot.write(offset, bytes);
        }
        Ok(())
    }

    /// Makes it an image, which many instances start from without copying.
    pub fn map(&self) -> io::Result<()> {
        if self.mapped.get().is_some() {
            return Ok(());
        }
        let file = tempfile::tempfile()?;
        file.set_len(self.size as u64)?;
        file.write_all_at(self.image.content(), 0)?;
        for (offset, bytes) in self.pieces() {
            file.write_all_at(bytes, offset as u64)?;
        }
        let mut image = Image::open(file, self.image.notes.clone())?;
        let (base, runs) = self.over_base();
        image.origin = Some((Arc::clone(base), runs));
        // If another thread was faster, its file serves.
        let _ = self.mapped.set(Arc::new(image));
        Ok(())
    }

    /// The whole memory, and where it may differ from the interpreter's image: offsets and lengths.
    pub fn whole(&self) -> (Vec<u8>, Vec<(u64, u64)>) {
        let mut memory = vec![0; self.size];
        memory[..self.image.bytes].copy_from_slice(self.image.content());
        for (offset, bytes) in self.pieces() {
            memory[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        let runs = self.over_base().1.iter().map(|run| (run.offset as u64, run.bytes as u64)).collect();
        (memory, runs)
    }

    /// What [`Frozen::whole`] gave, in a file that nobody writes again.
    pub(super) fn from_whole(base: &Arc<Image>, file: File, runs: &[(u64, u64)]) -> io::Result<Self> {
        let mut image = Image::open(file, base.notes.clone())?;
        let bytes = image.bytes;
        let run = |(offset, length): &(u64, u64)| {
            let end = offset.checked_add(*length).filter(|end| *end <= bytes as u64);
            let aligned = offset.is_multiple_of(PAGE as u64) && length.is_multiple_of(PAGE as u64);
            end.filter(|_| aligned).map(|_| Pages { offset: *offset as usize, bytes: *length as usize })
        };
        let runs: Option<Vec<Pages>> = runs.iter().map(run).collect();
        let runs = runs.ok_or_else(|| io::Error::other("the notes are not those of this memory"))?;
        if bytes < base.bytes {
            return Err(io::Error::other("the memory is shorter than the interpreter's"));
        }
        image.origin = Some((Arc::clone(base), runs));
        Ok(Frozen::unchanged(&Arc::new(image), bytes))
    }

    /// The runs with their content.
    fn pieces(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = &self.data[..];
        self.runs.iter().map(move |run| {
            let (bytes, after) = rest.split_at(run.bytes);
            rest = after;
            (run.offset, bytes)
        })
    }

    /// The interpreter's own image.
    fn base(&self) -> &Arc<Image> {
        self.image.origin.as_ref().map_or(&self.image, |(base, _)| base)
    }

    /// The interpreter's own image, and all pages that may differ from it.
    fn over_base(&self) -> (&Arc<Image>, Vec<Pages>) {
        let Some((base, below)) = &self.image.origin else {
            return (&self.image, self.runs.clone());
        };
        let mut all: Vec<Pages> = below.iter().chain(&self.runs).copied().collect();
        all.sort_by_key(|run| run.offset);
        let mut merged: Vec<Pages> = Vec::with_capacity(all.len());
        for run in all {
            match merged.last_mut() {
                Some(last) if run.offset <= last.offset + last.bytes => {
                    last.bytes = last.bytes.max(run.offset + run.bytes - last.offset);
                }
                _ => merged.push(run),
            }
        }
        (base, merged)
    }

    /// The same as pages over the interpreter's own image: offsets, and their content.
    pub fn flat(&self) -> (Vec<u32>, Vec<u8>) {
        let (base, runs) = self.over_base();
        if Arc::ptr_eq(base, &self.image) {
            return (numbers(&self.runs), self.data.clone());
        }
        let (memory, _) = self.whole();
        let mut flat = Frozen::unchanged(base, self.size);
        flat.add(&memory, &runs, usize::MAX);
        (numbers(&flat.runs), flat.data)
    }

    /// What [`Frozen::flat`] gave, over the same image.
    pub(super) fn from_flat(base: &Arc<Image>, size: usize, pages: &[u32], data: Vec<u8>) -> Option<Self> {
        let ascending = pages.is_sorted_by(|one, next| one < next);
        let last = pages.last().map_or(0, |page| (*page as usize + 1) * PAGE);
        let fits = size.is_multiple_of(WASM_PAGE) && size >= base.bytes && size <= 1 << 32 && last <= size;
        if !ascending || !fits || data.len() != pages.len() * PAGE {
            return None;
        }
        let mut frozen = Frozen::unchanged(base, size);
        for page in pages {
            let offset = *page as usize * PAGE;
            match frozen.runs.last_mut() {
                Some(last) if last.offset + last.bytes == offset => last.bytes += PAGE,
                _ => frozen.runs.push(Pages { offset, bytes: PAGE }),
            }
        }
        frozen.data = data;
        Some(frozen)
    }
}

fn numbers(runs: &[Pages]) -> Vec<u32> {
    runs.iter()
        .flat_map(|run| (run.offset..run.offset + run.bytes).step_by(PAGE))
        .map(|offset| (offset / PAGE) as u32)
        .collect()
}
