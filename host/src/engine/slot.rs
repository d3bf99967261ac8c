//! Address space for instances: reserved, laid out as an image, put back to it, used again.
//!
//! A [`Slot`] is two reservations of address space. The first holds the interpreter's memory, the
//! image mapped privately at its start. The second holds the *safepoint page*, a second memory of
//! the module which every loop reads and nothing else ever touches: taking it away makes the guest
//! trap at its next loop, and no host code can ever fault on it.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::image::Notes;
use super::pagemap::{self, Find, Pages};
use super::pages::{PAGE, Page};
use super::reservation::Reservation;
use super::watch;

/// Bytes of the safepoint memory: one WebAssembly page.
pub(super) const SAFEPOINT_BYTES: usize = 65536;

/// The word of the safepoint page that is 1 while the interpreter runs, and 0 while the host does
/// (`xtask/src/fuse/gates.rs`).
pub(super) const INSIDE: usize = 4;

/// The word of the safepoint page that is 1 while the host sets a signal: until it is 0 again the
/// interpreter does not leave.
pub(super) const RAISING: usize = 8;

/// How many changed bytes of a slot are put back by copying, so that the next instance finds its
/// pages present. What exceeds it is given back to the system.
const RESIDENT_BYTES: usize = 2 << 20;

/// How many more after an instance whose memory began with that much laid in: the next one may be
/// another fork of the same.
const LAID_RESIDENT_BYTES: usize = 6 << 20;

/// What slots that wait may have present in all before the latter is given back too.
const IDLE_BYTES: usize = 128 << 20;

/// A frozen memory: a file that is never written again, and a read-only view of it.
pub(crate) struct Image {
    pub(super) file: File,
    pub bytes: usize,
    view: Reservation,
    pub notes: Notes,
    /// Of one that was made of another: that one, and where they differ.
    pub(super) origin: Option<(Arc<Image>, Vec<Pages>)>,
}

impl Image {
    /// Maps a file of the compilation cache. Its length is a multiple of the page size.
    pub fn from_file(file: File, notes: Notes) -> io::Result<Arc<Self>> {
        Self::open(file, notes).map(Arc::new)
    }

    pub(super) fn open(file: File, notes: Notes) -> io::Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if bytes == 0 || !bytes.is_multiple_of(65536) {
            return Err(io::Error::other("a memory image is whole WebAssembly pages"));
        }
        let mut words = notes.interrupt.iter().chain(&notes.flush).map(|(address, _)| *address as usize);
        if words.any(|address| address % 4 != 0 || address + 4 > bytes) {
            return Err(io::Error::other("a note on the memory image points outside of it"));
        }
        let view = Reservation::new(bytes)?;
        let image = Image { file, bytes, view, notes, origin: None };
        image.view.map(&image.file, bytes)?;
        image.view.protect(0, bytes, libc::PROT_READ)?;
        Ok(image)
    }

    /// The whole content.
    pub fn content(&self) -> &[u8] {
        // SAFETY: the view is `bytes` long, readable, and a private mapping of a file that nobody writes
        // again; it lives as long as the image.
        unsafe { std::slice::from_raw_parts(self.view.start.as_ptr(), self.bytes) }
    }

    /// An image in memory alone, where there is no cache.
    pub fn from_bytes(bytes: &[u8], notes: Notes) -> io::Result<Arc<Self>> {
        use std::io::Write;
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        Self::from_file(file, notes)
    }
}

/// Address space for one instance.
pub(super) struct Slot {
    pub memory: Reservation,
    pub safepoint: Reservation,
    /// The image mapped at the start of `memory`.
    image: Option<Arc<Image>>,
    /// Bytes of `memory` from its start that can be accessed.
    accessible: usize,
    /// Whether it is noted what is written to the image's part, but for pages that were put back by copying.
    is_watched: bool,
    /// Whether it is noted of these and of what was grown as well, since something was kept.
    is_protected: bool,
    /// Pages that had been written before that.
    kept: Vec<Pages>,
    /// Bytes that were laid in for the instance.
    laid: usize,
    /// Bytes that were put back by copying.
    resident: usize,
}

/// What has been written to a slot's memory.
pub(super) struct Written {
    /// Whether it is what was written since the last time it was asked, and not all that ever was.
    pub since_last: bool,
    /// At least that; in ascending order.
    pub pages: Vec<Pages>,
}

impl Slot {
    fn new(bytes: usize) -> io::Result<Self> {
        let safepoint = Reservation::new(bytes)?;
        safepoint.protect(0, SAFEPOINT_BYTES, libc::PROT_READ | libc::PROT_WRITE)?;
        let memory = Reservation::new(bytes)?;
        Ok(Slot {
            memory,
            safepoint,
            image: None,
            accessible: 0,
            is_watched: false,
            is_protected: false,
            kept: Vec::new(),
            laid: 0,
            resident: 0,
        })
    }

    fn prepare(&mut self, image: &Arc<Image>) -> io::Result<()> {
        if self.image.as_ref().is_some_and(|mapped| Arc::ptr_eq(mapped, image)) {
            return Ok(());
        }
        // Nothing of another image may show where this one ends.
        self.image = None;
        (self.is_watched, self.resident) = (false, 0);
        self.memory.clear(self.accessible)?;
        self.accessible = 0;
        self.memory.map(&image.file, image.bytes)?;
        self.accessible = image.bytes;
        self.image = Some(Arc::clone(image));
        Ok(())
    }

    pub fn grow(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > self.accessible {
            self.memory.protect(
                self.accessible,
                bytes - self.accessible,
                libc::PROT_READ | libc::PROT_WRITE,
            )?;
            self.accessible = bytes;
        }
        Ok(())
    }

    /// The first `bytes` bytes of the memory, while no instance runs in it.
    ///
    /// # Safety
    ///
    /// Nothing may write to the memory as long as the slice is used.
    pub(super) unsafe fn content(&self, bytes: usize) -> &[u8] {
        assert!(bytes <= self.accessible);
        // SAFETY: that much is accessible, as just checked; the caller keeps writers out.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr(), bytes) }
    }

    /// Writes to the memory before an instance runs in it.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.accessible));
        let target = self.memory.at(offset, bytes.len());
        // SAFETY: the range is accessible, as just checked, and the slot is this caller's alone; what is
        // copied lies in memory of Rust's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.cast(), bytes.len()) };
    }

    /// What has been written to the first `size` bytes of the memory; since the last call, if that is
    /// asked for and known.
    pub(super) fn written(&mut self, size: usize, since_last: bool) -> Written {
        let since_last = since_last && self.is_protected;
        let image_bytes = self.image_bytes();
        let in_image = self.find_in_image(self.is_watched);
        self.is_watched = self.is_watched || self.watch(image_bytes);
        let grown = self.find_grown(size, self.is_watched);
        self.is_protected = self.is_watched;
        let everything = [
            Pages { offset: 0, bytes: image_bytes },
            Pages { offset: image_bytes, bytes: size - image_bytes },
        ];
        let (since_last, found) = match (in_image, grown) {
            (Some(in_image), Some(grown)) => (since_last, [in_image, grown].concat()),
            _ => (false, everything.into()),
        };
        self.kept = pagemap::union(&self.kept, &found, image_bytes);
        Written { since_last, pages: if since_last { found } else { self.kept.clone() } }
    }

    /// Bytes at the start of the memory that are the image's.
    fn image_bytes(&self) -> usize {
        self.image.as_ref().map_or(0, |image| image.bytes)
    }

    /// Pages of the image's part that were written, but for those that were written before something was kept.
    fn find_in_image(&self, protect: bool) -> Option<Vec<Pages>> {
        let find = if self.is_watched { Find::Written } else { Find::Private };
        pagemap::find(self.memory.start.as_ptr(), self.image_bytes(), find, protect)
    }

    /// The same of what was grown, up to `size` bytes of the memory.
    fn find_grown(&self, size: usize, protect: bool) -> Option<Vec<Pages>> {
        let image_bytes = self.image_bytes();
        let find = if self.is_protected { Find::PrivateWritten } else { Find::Private };
        let start = self.memory.at(image_bytes, size - image_bytes).cast::<u8>();
        let found = pagemap::find(start, size - image_bytes, find, protect)?;
        Some(found.iter().map(|run| Pages { offset: run.offset + image_bytes, ..*run }).collect())
    }

    /// Has it noted what is written to the memory, of which the first `bytes` count as not written now.
    fn watch(&self, bytes: usize) -> bool {
        watch::begin(&self.memory) && pagemap::protect(self.memory.start.as_ptr(), bytes)
    }

    /// Makes the memory equal to the image again, and leaves up to `most` bytes of changed pages present.
    fn reset(&mut self, most: usize) -> io::Result<()> {
        let Some(image) = self.image.clone() else {
            return Ok(());
        };
        self.safepoint.protect(0, SAFEPOINT_BYTES, libc::PROT_READ | libc::PROT_WRITE)?;
        for word in [INSIDE, RAISING] {
            // SAFETY: the word lies in the page that was just made accessible, and no instance uses it.
            unsafe { self.safepoint.at(word, 4).cast::<u32>().write(0) };
        }
        let in_image = self.find_in_image(false);
        let changed = in_image
            .zip(self.find_grown(self.accessible, false))
            .map(|(in_image, grown)| pagemap::union(&self.kept, &[in_image, grown].concat(), image.bytes));
        // From the first time on: what pages there are is known then, and reading others takes longer.
        self.is_watched = self.is_watched || self.watch(image.bytes);
        (self.is_protected, self.laid, self.resident) = (false, 0, 0);
        self.kept.clear();
        match changed {
            Some(changed) => self.put_back(&image, &changed, most)?,
            None => {
                self.memory.discard(0, self.accessible)?;
                self.is_watched =
                    self.is_watched && pagemap::protect(self.memory.start.as_ptr(), image.bytes);
            }
        }
        self.memory.protect(image.bytes, self.accessible - image.bytes, libc::PROT_NONE)?;
        self.accessible = image.bytes;
        Ok(())
    }

    /// Puts changed pages back, each run of which lies on one side of the image's end.
    fn put_back(&mut self, image: &Image, changed: &[Pages], most: usize) -> io::Result<()> {
        for &Pages { offset, bytes } in changed {
            let content = image.content().get(offset..offset + bytes);
            if self.resident + bytes <= most {
                self.resident += bytes;
                match content {
                    Some(content) => self.write(offset, content),
                    None => self.zero(offset, bytes),
                }
                continue;
            }
            self.memory.discard(offset, bytes)?;
            let start = self.memory.at(offset, bytes).cast::<u8>();
            if self.is_watched && content.is_some() && !pagemap::protect(start, bytes) {
                return Err(io::Error::other("the memory cannot be watched any more"));
            }
        }
        Ok(())
    }

    /// Lays in what an instance starts with over the image.
    pub(super) fn lay(&mut self, pages: &[Page]) {
        for (number, content) in pages {
            self.write(*number as usize * PAGE, content);
        }
        self.laid += pages.len() * PAGE;
    }

    /// As [`Slot::write`], with zeroes.
    fn zero(&mut self, offset: usize, bytes: usize) {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.accessible));
        // SAFETY: the range is accessible, as just checked, and the slot is this caller's alone.
        unsafe { self.memory.at(offset, bytes).cast::<u8>().write_bytes(0, bytes) };
    }
}

/// Slots that wait to be used again.
pub(super) struct Pool {
    idle: Mutex<Vec<Slot>>,
    max_idle: usize,
}

impl Pool {
    pub fn new(max_idle: usize) -> Arc<Self> {
        Arc::new(Pool { idle: Mutex::default(), max_idle })
    }

    /// A slot whose reservations have `bytes` bytes, the memory laid out as `image`.
    pub fn take(&self, image: &Arc<Image>, bytes: usize) -> io::Result<Slot> {
        let recycled = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |slot: &Slot| slot.image.as_ref().is_some_and(|mapped| Arc::ptr_eq(mapped, image));
            let position = idle.iter().rposition(same).or_else(|| idle.len().checked_sub(1));
            position.map(|position| idle.swap_remove(position))
        };
        let mut slot = match recycled {
            Some(slot) if slot.memory.bytes() == bytes => slot,
            _ => Slot::new(bytes)?,
        };
        slot.prepare(image)?;
        Ok(slot)
    }

    /// Puts a slot back to its image, for another instance.
    pub fn put(&self, mut slot: Slot) {
        let (waiting, resident) = {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            (idle.len(), idle.iter().map(|slot| slot.resident).sum::<usize>())
        };
        if waiting >= self.max_idle {
            return;
        }
        let room = IDLE_BYTES.saturating_sub(resident).min(LAID_RESIDENT_BYTES);
        // A slot that cannot be proven clean is unmapped instead.
        if slot.reset(RESIDENT_BYTES + slot.laid.min(room)).is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.max_idle {
                idle.push(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: usize = 256 << 20;

    fn image(bytes: usize) -> Arc<Image> {
        let content: Vec<u8> = (0..bytes).map(|index| (index / 512 % 251) as u8).collect();
        let notes = Notes { interrupt: vec![], flush: vec![], stdout: (0, 0), types: (0, 0, 0) };
        Image::from_bytes(&content, notes).unwrap()
    }

    fn memory(slot: &mut Slot) -> &mut [u8] {
        // SAFETY: that much of the slot's memory is accessible, and only this test uses it.
        unsafe { std::slice::from_raw_parts_mut(slot.memory.start.as_ptr(), slot.accessible) }
    }

    fn is_clean(slot: &mut Slot, image: &Image) -> bool {
        slot.accessible == image.bytes && memory(slot) == image.content()
    }

    /// Whatever an instance wrote, and wherever, the next one finds the image and nothing else: below
    /// and above what is put back by copying, in grown memory, in the safepoint page.
    #[test]
    fn a_recycled_slot_is_its_image_again() {
        const CANARY: u8 = 0xc5;
        let pool = Pool::new(1);
        let image = image(24 << 20);
        for (round, stride) in [4096, 1, 65536, 4096 * 3, 1 << 20, 4096].into_iter().enumerate() {
            let mut slot = pool.take(&image, SPACE).unwrap();
            let start = slot.memory.start;
            assert!(is_clean(&mut slot, &image), "round {round}");
            slot.grow(image.bytes + (round << 20)).unwrap();
            assert!(memory(&mut slot)[image.bytes..].iter().all(|byte| *byte == 0), "grown memory is zero");
            memory(&mut slot).iter_mut().step_by(stride).for_each(|byte| *byte = CANARY);
            // SAFETY: the page is accessible, and only this test uses it.
            unsafe { slot.safepoint.at(INSIDE, 4).cast::<u32>().write(1) };
            slot.safepoint.protect(0, SAFEPOINT_BYTES, libc::PROT_NONE).unwrap();
            pool.put(slot);
            let mut slot = pool.take(&image, SPACE).unwrap();
            assert_eq!(slot.memory.start, start, "the slot is used again");
            assert!(is_clean(&mut slot, &image), "round {round}");
            // SAFETY: as above.
            assert_eq!(unsafe { slot.safepoint.at(INSIDE, 4).cast::<u32>().read() }, 0);
            pool.put(slot);
        }
    }

    #[test]
    fn a_slot_of_one_image_shows_nothing_in_another() {
        let pool = Pool::new(1);
        let (large, small) = (image(8 << 20), image(65536));
        let mut slot = pool.take(&large, SPACE).unwrap();
        memory(&mut slot).fill(1);
        pool.put(slot);
        let mut slot = pool.take(&small, SPACE).unwrap();
        assert!(is_clean(&mut slot, &small));
        slot.grow(large.bytes).unwrap();
        assert!(memory(&mut slot)[small.bytes..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn slots_stay_clean_under_threads() {
        let pool = Pool::new(4);
        let image = image(1 << 20);
        std::thread::scope(|scope| {
            for thread in 1..=4u8 {
                let (pool, image) = (&pool, &image);
                scope.spawn(move || {
                    for round in 0..50 {
                        let mut slot = pool.take(image, SPACE).unwrap();
                        assert!(is_clean(&mut slot, image));
                        slot.grow(image.bytes + 65536 * (round % 3)).unwrap();
                        memory(&mut slot).iter_mut().step_by(4096).for_each(|byte| *byte = thread);
                        std::thread::yield_now();
                        assert!(memory(&mut slot).iter().step_by(4096).all(|byte| *byte == thread));
                        pool.put(slot);
                    }
                });
            }
        });
    }

    /// Where the kernel can tell, it is known what was written since the last time it was asked.
    #[test]
    fn what_is_written_is_found_and_no_more() {
        let pool = Pool::new(1);
        let image = image(4 << 20);
        for _ in 0..2 {
            let mut slot = pool.take(&image, SPACE).unwrap();
            slot.write(0, &[0xc5; 10 * 4096]);
            let written = |slot: &mut Slot, since_last| -> Vec<u32> {
                let written = slot.written(image.bytes, since_last);
                assert!(!since_last || written.since_last == slot.is_watched);
                written.pages.iter().flat_map(Pages::numbers).collect()
            };
            let all = written(&mut slot, false);
            assert!((0..10).all(|page| all.contains(&page)), "{all:?}");
            slot.write(3 * 4096, &[1]);
            slot.write(500 * 4096 - 1, &[1, 1]);
            let since = written(&mut slot, true);
            match slot.is_watched {
                true => assert_eq!(since, [3, 499, 500]),
                false => assert!([3, 499, 500].iter().all(|page| since.contains(page)), "{since:?}"),
            }
            let all = written(&mut slot, false);
            assert!((0..10).chain([499, 500]).all(|page| all.contains(&page)), "{all:?}");
            pool.put(slot);
        }
    }
}
