//! A memory that was kept: what it holds that its image does not.
//!
//! Sessions are forked, put back and written to files as lists of changed pages. What is kept one after
//! another of the same memory shares the pages that did not change meanwhile. Starting from such a
//! list copies it over a fresh view of the image; a long one that is started from again and again is
//! written to a file once, which is then an image itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::pagemap::Pages;
use super::pages::{self, PAGE, Page, Spare};
use super::slot::{Image, Slot};

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
    /// Pages that differ from the image, or from zero beyond it, in ascending order.
    pages: Vec<Page>,
    starts: AtomicU32,
    /// The same as an image.
    mapped: OnceLock<Arc<Image>>,
}

impl Frozen {
    /// Keeps the first `size` bytes of a slot: `last` with what has been written since, where that is known, or else
    /// all that differs from the image. Nothing if more than `limit` bytes have changed.
    ///
    /// # Safety
    ///
    /// Nothing may write to the slot's memory meanwhile, and `last` is what was kept of it last.
    pub(super) unsafe fn capture(
        slot: &mut Slot,
        image: &Arc<Image>,
        size: usize,
        limit: usize,
        last: Option<Arc<Frozen>>,
    ) -> Option<Self> {
        let mut frozen = Frozen::unchanged(image, size);
        let written = slot.written(size, last.is_some());
        if let (Some(last), true) = (last, written.since_last) {
            frozen.pages = match Arc::try_unwrap(last) {
                Ok(mut last) => std::mem::take(&mut last.pages),
                Err(last) => last.pages.clone(),
            };
        }
        // SAFETY: as the caller vouches.
        let memory = unsafe { slot.content(size) };
        frozen.update(memory, &written.pages, limit).then_some(frozen)
    }

    fn unchanged(image: &Arc<Image>, size: usize) -> Self {
        Frozen {
            image: Arc::clone(image),
            size,
            pages: Vec::new(),
            starts: AtomicU32::new(0),
            mapped: OnceLock::new(),
        }
    }

    /// Takes those of the pages that differ, up to `limit` bytes in all; says whether these were all.
    fn update(&mut self, memory: &[u8], written: &[Pages], limit: usize) -> bool {
        const ZERO: &[u8] = &[0; PAGE];
        let image = Arc::clone(&self.image);
        let most = limit / PAGE;
        let mut before = std::mem::take(&mut self.pages).into_iter().peekable();
        let mut pages = Vec::with_capacity(before.len() + 64);
        let mut spare = Spare::take();
        for number in written.iter().flat_map(Pages::numbers) {
            while let Some(page) = before.next_if(|(earlier, _)| *earlier < number) {
                pages.push(page);
            }
            let offset = number as usize * PAGE;
            let content = &memory[offset..offset + PAGE];
            match before.next_if(|(same, _)| *same == number) {
                Some((_, mut page)) => {
                    if let Some(own) = Arc::get_mut(&mut page) {
                        own.copy_from_slice(content);
                    } else if *page != *content {
                        // Others have it as well.
                        page = spare.page(content);
                    }
                    pages.push((number, page));
                }
                None if content == image.content().get(offset..offset + PAGE).unwrap_or(ZERO) => {}
                None => pages.push((number, spare.page(content))),
            }
            if pages.len() > most {
                return false;
            }
        }
        pages.extend(before);
        self.pages = pages;
        self.pages.len() <= most
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
        let bytes = self.pages.len() * PAGE;
        // Writing it takes as long as many copies of a small one.
        let worth = if bytes > LARGE_BYTES { 2 } else { 15 };
        let again = self.starts.fetch_add(1, Ordering::Relaxed) == worth;
        // Tried once: what cannot be written cannot be written a moment later.
        if again
            && bytes > COPIED_BYTES
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
        slot.lay(&self.pages);
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
        for (number, content) in &self.pages {
            file.write_all_at(content, u64::from(*number) * PAGE as u64)?;
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
        for (number, content) in &self.pages {
            let offset = *number as usize * PAGE;
            memory[offset..offset + PAGE].copy_from_slice(content);
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

    /// The interpreter's own image.
    fn base(&self) -> &Arc<Image> {
        self.image.origin.as_ref().map_or(&self.image, |(base, _)| base)
    }

    /// The interpreter's own image, and all pages that may differ from it.
    fn over_base(&self) -> (&Arc<Image>, Vec<Pages>) {
        let below = self.image.origin.iter().flat_map(|(_, below)| below).copied();
        let own = self.pages.iter().map(|(number, _)| Pages { offset: *number as usize * PAGE, bytes: PAGE });
        let mut all: Vec<Pages> = below.chain(own).collect();
        all.sort_unstable_by_key(|run| run.offset);
        let mut merged: Vec<Pages> = Vec::new();
        for run in all {
            match merged.last_mut() {
                Some(last) if run.offset <= last.offset + last.bytes => {
                    last.bytes = last.bytes.max(run.offset + run.bytes - last.offset);
                }
                _ => merged.push(run),
            }
        }
        (self.base(), merged)
    }

    /// The same as pages over the interpreter's own image.
    pub fn flat(&self) -> Vec<Page> {
        let (base, runs) = self.over_base();
        if Arc::ptr_eq(base, &self.image) {
            return self.pages.clone();
        }
        let mut flat = Frozen::unchanged(base, self.size);
        flat.update(&self.whole().0, &runs, usize::MAX);
        std::mem::take(&mut flat.pages)
    }

    /// What [`Frozen::flat`] gave, over the same image, if it can be that.
    pub(super) fn from_flat(base: &Arc<Image>, size: usize, pages: Vec<Page>) -> Option<Self> {
        let ascending = pages.is_sorted_by(|(one, _), (next, _)| one < next);
        let last = pages.last().map_or(0, |(number, _)| (*number as usize + 1) * PAGE);
        let fits = size.is_multiple_of(WASM_PAGE) && size >= base.bytes && size <= 1 << 32 && last <= size;
        let whole = pages.iter().all(|(_, content)| content.len() == PAGE);
        (ascending && fits && whole).then(|| {
            let mut frozen = Frozen::unchanged(base, size);
            frozen.pages = pages;
            frozen
        })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        pages::give(self.pages.drain(..).map(|(_, page)| page));
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::Notes;
    use super::super::slot::Pool;
    use super::*;

    const SPACE: usize = 256 << 20;

    fn image(bytes: usize) -> Arc<Image> {
        let content: Vec<u8> = (0..bytes).map(|index| (index / 512 % 251) as u8).collect();
        let notes = Notes { interrupt: vec![], flush: vec![], stdout: (0, 0), types: (0, 0, 0) };
        Image::from_bytes(&content, notes).unwrap()
    }

    fn content(slot: &Slot, size: usize) -> &[u8] {
        // SAFETY: only this test uses the slot, and does not write while it looks.
        unsafe { slot.content(size) }
    }

    /// Whatever is written between, what is kept is the memory as it is; also of what others have kept,
    /// which stays as it was.
    #[test]
    fn what_is_kept_one_after_another_is_the_memory() {
        let pool = Pool::new(2);
        let image = image(4 << 20);
        let mut random = fastrand::Rng::with_seed(6);
        for own in [true, false] {
            let mut slot = pool.take(&image, SPACE).unwrap();
            let mut size = image.bytes;
            let mut last: Option<Arc<Frozen>> = None;
            let mut others: Vec<(Arc<Frozen>, Vec<u8>)> = Vec::new();
            for round in 0..20 {
                if round % 5 == 4 {
                    size += 1 << 20;
                    slot.grow(size).unwrap();
                }
                for _ in 0..random.usize(..40) {
                    let offset = random.usize(..size - 9000);
                    let bytes: Vec<u8> = (0..random.usize(1..9000)).map(|_| random.u8(..)).collect();
                    slot.write(offset, &bytes);
                }
                // SAFETY: nobody writes meanwhile, and `last` is what was kept last.
                let kept = unsafe { Frozen::capture(&mut slot, &image, size, usize::MAX, last.take()) };
                let kept = Arc::new(kept.unwrap());
                let mut copy = pool.take(&image, SPACE).unwrap();
                kept.lay_into(&mut copy).unwrap();
                assert!(content(&copy, size) == content(&slot, size), "round {round}");
                pool.put(copy);
                if !own {
                    others.push((Arc::clone(&kept), content(&slot, size).to_vec()));
                }
                last = Some(kept);
            }
            for (kept, memory) in others {
                assert!(kept.whole().0 == memory, "what others have does not change");
            }
            pool.put(slot);
        }
    }

    #[test]
    fn more_than_the_limit_is_not_kept() {
        let pool = Pool::new(1);
        let image = image(1 << 20);
        let mut slot = pool.take(&image, SPACE).unwrap();
        for page in 0..3 {
            slot.write(page * 8192, &[7]);
        }
        // SAFETY: nobody writes meanwhile, and nothing was kept before.
        let mut keep = |limit| unsafe { Frozen::capture(&mut slot, &image, image.bytes, limit, None) };
        assert!(keep(2 * PAGE).is_none());
        assert_eq!(keep(3 * PAGE).unwrap().changed(), 3 * PAGE);
    }
}
