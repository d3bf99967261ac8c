//! Linear memory that the host owns: every instance starts as a private, copy-on-write view of one
//! image, and its address space is used again after it.
//!
//! A [`Slot`] is two reservations of address space. The first holds the interpreter's memory, the
//! image mapped privately at its start. The second holds the *safepoint page*, a second memory of
//! the module which every loop reads and nothing else ever touches: taking it away makes the guest
//! trap at its next loop, and no host code can ever fault on it.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::image::Notes;
use super::interrupt::{Control, Signal};
use super::pagemap::{self, Pages};
use super::pending;

/// Bytes of the safepoint memory: one WebAssembly page.
const SAFEPOINT_BYTES: usize = 65536;

/// How many changed bytes of a slot are put back by copying, so that the next instance finds its
/// pages present. What exceeds it is given back to the system.
const RESIDENT_BYTES: usize = 8 << 20;

/// Address space without access.
struct Reservation {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a reservation is an address range; it has no thread affinity, and all access to the bytes
// goes through wasmtime (while an instance lives) or through the slot's sole owner (before and after).
unsafe impl Send for Reservation {}
// SAFETY: as above; a shared reference only gives the address.
unsafe impl Sync for Reservation {}

impl Reservation {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Reservation { start, bytes })
    }

    /// The address `offset` bytes in. The range must lie inside the reservation.
    fn at(&self, offset: usize, bytes: usize) -> *mut libc::c_void {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside the reservation, as just checked.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    fn protect(&self, offset: usize, bytes: usize, protection: i32) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the range lies in a mapping of ours. Making it accessible exposes only zeroes or
        // the image; taking access away can fault guest code alone, which wasmtime turns into a trap.
        if unsafe { libc::mprotect(self.at(offset, bytes), bytes, protection) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Lays `image` privately over the start.
    fn map(&self, image: &Image) -> io::Result<()> {
        // SAFETY: MAP_FIXED replaces pages of our own reservation only (`at` checks the range), while
        // no instance uses it. A private mapping never writes to the file.
        let start = unsafe {
            libc::mmap(
                self.at(0, image.bytes),
                image.bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED,
                image.file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes the first `bytes` bytes a reservation without content again.
    fn clear(&self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as in `map`.
        let start = unsafe {
            libc::mmap(
                self.at(0, bytes),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Drops changed pages: they read as the image, or as zero beyond it.
    fn discard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: a private mapping of ours, used by no instance now.
        if unsafe { libc::madvise(self.at(offset, bytes), bytes, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever owns the reservation owns all use of it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// A frozen memory: a file that is never written again, and a read-only view of it.
pub(crate) struct Image {
    file: File,
    bytes: usize,
    view: Reservation,
    notes: Notes,
}

impl Image {
    /// Maps a file of the compilation cache. Its length is a multiple of the page size.
    pub fn from_file(file: File, notes: Notes) -> io::Result<Arc<Self>> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if bytes == 0 || !bytes.is_multiple_of(65536) {
            return Err(io::Error::other("a memory image is whole WebAssembly pages"));
        }
        let mut words = notes.interrupt.iter().chain(&notes.flush).map(|(address, _)| *address as usize);
        if words.any(|address| address % 4 != 0 || address + 4 > bytes) {
            return Err(io::Error::other("a note on the memory image points outside of it"));
        }
        let view = Reservation::new(bytes)?;
        let image = Image { file, bytes, view, notes };
        image.view.map(&image)?;
        image.view.protect(0, bytes, libc::PROT_READ)?;
        Ok(Arc::new(image))
    }

    /// An image in memory alone, where there is no cache.
    pub fn from_bytes(bytes: &[u8], notes: Notes) -> io::Result<Arc<Self>> {
        use std::io::Write;
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        Self::from_file(file, notes)
    }

    /// The image's length in bytes: the memory an instance starts with.
    pub fn len(&self) -> usize {
        self.bytes
    }
}

/// Address space for one instance.
struct Slot {
    memory: Reservation,
    safepoint: Reservation,
    /// The image mapped at the start of `memory`.
    image: Option<Arc<Image>>,
    /// Bytes of `memory` from its start that can be accessed.
    accessible: usize,
}

impl Slot {
    fn new(bytes: usize) -> io::Result<Self> {
        let safepoint = Reservation::new(bytes)?;
        safepoint.protect(0, SAFEPOINT_BYTES, libc::PROT_READ | libc::PROT_WRITE)?;
        Ok(Slot { memory: Reservation::new(bytes)?, safepoint, image: None, accessible: 0 })
    }

    fn prepare(&mut self, image: &Arc<Image>) -> io::Result<()> {
        if self.image.as_ref().is_some_and(|mapped| Arc::ptr_eq(mapped, image)) {
            return Ok(());
        }
        // Nothing of another image may show where this one ends.
        self.image = None;
        self.memory.clear(self.accessible)?;
        self.accessible = 0;
        self.memory.map(image)?;
        self.accessible = image.bytes;
        self.image = Some(Arc::clone(image));
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> io::Result<()> {
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

    /// Makes the memory equal to the image again.
    fn reset(&mut self) -> io::Result<()> {
        let Some(image) = &self.image else {
            return Ok(());
        };
        self.safepoint.protect(0, SAFEPOINT_BYTES, libc::PROT_READ | libc::PROT_WRITE)?;
        if self.accessible > image.bytes {
            self.memory.discard(image.bytes, self.accessible - image.bytes)?;
            self.memory.protect(image.bytes, self.accessible - image.bytes, libc::PROT_NONE)?;
            self.accessible = image.bytes;
        }
        let changed = pagemap::private_pages(self.memory.start.as_ptr(), image.bytes);
        let Some(changed) = changed else {
            return self.memory.discard(0, image.bytes);
        };
        let mut kept = 0;
        for Pages { offset, bytes } in changed {
            if kept + bytes > RESIDENT_BYTES {
                self.memory.discard(offset, bytes)?;
                continue;
            }
            kept += bytes;
            let source = image.view.at(offset, bytes);
            let target = self.memory.at(offset, bytes);
            // SAFETY: both ranges were checked by `at`; the source is the image's own read-only view,
            // the target is memory that no instance uses and that is accessible (it is below
            // `image.bytes`); two mappings never overlap.
            unsafe { std::ptr::copy_nonoverlapping(source.cast::<u8>(), target.cast(), bytes) };
        }
        Ok(())
    }
}

/// Slots that wait to be used again.
pub(crate) struct Pool {
    idle: Mutex<Vec<Slot>>,
    max_idle: usize,
}

impl Pool {
    pub fn new(max_idle: usize) -> Arc<Self> {
        Arc::new(Pool { idle: Mutex::default(), max_idle })
    }

    fn take(&self, image: &Arc<Image>, bytes: usize) -> io::Result<Slot> {
        let recycled = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut slot = match recycled {
            Some(slot) if slot.memory.bytes == bytes => slot,
            _ => Slot::new(bytes)?,
        };
        slot.prepare(image)?;
        Ok(slot)
    }

    fn put(&self, mut slot: Slot) {
        // A slot that cannot be proven clean is unmapped instead.
        if slot.reset().is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.max_idle {
                idle.push(slot);
            }
        }
    }
}

/// One instance's use of a slot. Both of its memories hold it; the last to go returns the slot.
pub(crate) struct Lease {
    slot: Mutex<Option<Slot>>,
    pool: Arc<Pool>,
    start: NonNull<u8>,
    safepoint: NonNull<u8>,
    /// The interpreter memory's size in bytes.
    size: AtomicUsize,
    reserved: usize,
}

// SAFETY: the two addresses stay valid as long as the lease holds its slot, which is as long as it
// lives; see `Reservation` for access to what they point to.
unsafe impl Send for Lease {}
// SAFETY: as above.
unsafe impl Sync for Lease {}

impl Lease {
    fn with_slot<T>(&self, act: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        act(slot.as_mut().expect("a lease holds its slot until it is dropped"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let slot = self.slot.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slot.take() {
            self.pool.put(slot);
        }
    }
}

/// Controls the instance that holds the lease, as long as there is one.
pub(crate) struct LeaseControl {
    lease: Weak<Lease>,
    image: Arc<Image>,
}

impl LeaseControl {
    fn set_safepoint(&self, protection: i32) {
        if let Some(lease) = self.lease.upgrade() {
            // It can fail only for want of kernel memory. A guest that cannot be stopped would run
            // for ever, so that ends the process.
            lease
                .with_slot(|slot| slot.safepoint.protect(0, SAFEPOINT_BYTES, protection))
                .expect("changing the protection of a mapped page");
        }
    }
}

impl Control for LeaseControl {
    fn ring(&self) {
        self.set_safepoint(libc::PROT_NONE);
    }

    fn silence(&self) {
        self.set_safepoint(libc::PROT_READ | libc::PROT_WRITE);
    }

    fn raise(&self, signal: Signal) -> bool {
        let Some(lease) = self.lease.upgrade() else { return false };
        let notes = &self.image.notes;
        let writes = match signal {
            Signal::Interrupt => &notes.interrupt,
            Signal::Flush => &notes.flush,
        };
        for (address, bits) in writes {
            lease.set_bits(*address, *bits);
        }
        true
    }

    fn pending_output(&self) -> Option<Vec<u8>> {
        let lease = self.lease.upgrade()?;
        Some(pending::output(&self.image.notes, &|address, length| lease.read(address, length)))
    }
}

impl Lease {
    /// Sets bits in a word of the image's part of the memory, while the guest may be running.
    fn set_bits(&self, address: u32, bits: u32) {
        // SAFETY: `Image::from_file` checked that the address is a multiple of four inside the image,
        // which is mapped for reading and writing as long as the lease lives. The guest's own accesses
        // are plain machine loads and stores outside of Rust's abstract machine, and no Rust reference
        // to these bytes exists while this atomic one does: wasmtime makes slices of guest memory only
        // inside host calls, for the buffers of their arguments, and none of those lies at a word of
        // the interpreter's own state. A store of the guest's that overlaps at worst loses the bits.
        let word = unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(address as usize).cast()) };
        word.fetch_or(bits, Ordering::Relaxed);
    }

    /// Copies bytes of the memory, when the guest does not run.
    fn read(&self, address: u32, length: u32) -> Option<Vec<u8>> {
        let (start, length) = (address as usize, length as usize);
        let inside = start.checked_add(length).is_some_and(|end| end <= self.size.load(Ordering::Relaxed));
        if !inside {
            return None;
        }
        let mut bytes = vec![0; length];
        // SAFETY: the source lies below the memory's size, all of which is accessible while the lease
        // lives; the guest has been stopped, so nothing writes to it.
        unsafe { std::ptr::copy_nonoverlapping(self.start.as_ptr().add(start), bytes.as_mut_ptr(), length) };
        Some(bytes)
    }
}

thread_local! {
    /// What the next instantiation on this thread starts from, and the lease it got.
    static HANDOFF: RefCell<Option<Handoff>> = const { RefCell::new(None) };
}

struct Handoff {
    image: Arc<Image>,
    lease: Option<Arc<Lease>>,
}

/// Instantiates with memories that start as `image`: `instantiate` must create one instance of the
/// interpreter on this thread. Returns what controls it from other threads.
pub(crate) fn instantiate<T>(
    image: &Arc<Image>,
    instantiate: impl FnOnce() -> wasmtime::Result<T>,
) -> wasmtime::Result<(T, LeaseControl)> {
    HANDOFF.set(Some(Handoff { image: Arc::clone(image), lease: None }));
    let instance = instantiate();
    let lease = HANDOFF.take().and_then(|handoff| handoff.lease);
    let lease = lease.ok_or_else(|| wasmtime::Error::msg("the interpreter has no memory"));
    let control = LeaseControl { lease: Arc::downgrade(&lease?), image: Arc::clone(image) };
    Ok((instance?, control))
}

/// Gives wasmtime the memories of a lease.
pub(crate) struct Creator(pub Arc<Pool>);

// SAFETY: a memory's reservation covers `reserved + guard` bytes from its start and never moves;
// beyond its size nothing is accessible. It is not zeroed but holds the image, which stands for the
// data segments that were taken out of the module, so the module observes its own initial data.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved.ok_or("host-owned memory needs a reservation")?;
        HANDOFF.with_borrow_mut(|handoff| {
            let handoff = handoff.as_mut().ok_or("a memory was created outside of `instantiate`")?;
            if ty.maximum() == Some(1) {
                let lease = handoff.lease.clone().ok_or("the safepoint page is not the first memory")?;
                return Ok(Box::new(Safepoint(lease)) as Box<dyn LinearMemory>);
            }
            let image = &handoff.image;
            if minimum != image.bytes {
                return Err(format!("the memory starts with {minimum} bytes, its image has {}", image.bytes));
            }
            let slot = self
                .0
                .take(image, reserved + guard)
                .map_err(|error| format!("cannot reserve address space for another session: {error}"))?;
            let lease = Arc::new(Lease {
                start: slot.memory.start,
                safepoint: slot.safepoint.start,
                slot: Mutex::new(Some(slot)),
                pool: Arc::clone(&self.0),
                size: AtomicUsize::new(minimum),
                reserved,
            });
            if handoff.lease.replace(Arc::clone(&lease)).is_some() {
                return Err("the interpreter has more than one memory".into());
            }
            Ok(Box::new(Memory(lease)) as Box<dyn LinearMemory>)
        })
    }
}

struct Memory(Arc<Lease>);

// SAFETY: see `Creator`.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.0.size.load(Ordering::Relaxed)
    }

    fn byte_capacity(&self) -> usize {
        self.0.reserved
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        self.0.with_slot(|slot| slot.grow(size))?;
        self.0.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.start.as_ptr()
    }
}

struct Safepoint(Arc<Lease>);

// SAFETY: see `Creator`; the size is fixed.
unsafe impl LinearMemory for Safepoint {
    fn byte_size(&self) -> usize {
        SAFEPOINT_BYTES
    }

    fn byte_capacity(&self) -> usize {
        SAFEPOINT_BYTES
    }

    fn grow_to(&mut self, _size: usize) -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("the safepoint page does not grow"))
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.safepoint.as_ptr()
    }
}
