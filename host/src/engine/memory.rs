//! Linear memory that the host owns: every instance starts as a private, copy-on-write view of one
//! image, and its address space is used again after it ([`slot`](super::slot)).

use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::frozen::Frozen;
use super::interrupt::{Control, Raised, Signal};
use super::pending;
use super::slot::{INSIDE, Image, Pool, RAISING, SAFEPOINT_BYTES, Slot};

/// One instance's use of a slot. Both of its memories hold it; the last to go returns the slot.
pub(crate) struct Lease {
    slot: Mutex<Option<Slot>>,
    /// What was kept of the memory last, if somebody still has it.
    last: Mutex<Weak<Frozen>>,
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

impl LeaseControl {
    /// Keeps the memory as it is, while no turn runs; nothing if more than `limit` bytes have changed, or the instance
    /// is gone. What was kept before and is not needed any more is best given: its pages are used again.
    pub fn freeze(&self, limit: usize, before: Option<Arc<Frozen>>) -> Option<Arc<Frozen>> {
        let lease = self.lease.upgrade()?;
        let size = lease.size.load(Ordering::Relaxed);
        let mut last = lease.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut *last).upgrade();
        drop(before);
        // SAFETY: no turn runs, so neither the guest nor the host writes to the memory; and `last` is set
        // here alone.
        let frozen =
            lease.with_slot(|slot| unsafe { Frozen::capture(slot, &self.image, size, limit, known) })?;
        let frozen = Arc::new(frozen);
        *last = Arc::downgrade(&frozen);
        Some(frozen)
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
    fn set_safepoint(&self, protection: i32) -> io::Result<()> {
        let Some(lease) = self.lease.upgrade() else { return Ok(()) };
        lease.with_slot(|slot| slot.safepoint.protect(0, SAFEPOINT_BYTES, protection))
    }

    fn writes(&self, signal: Signal) -> &[(u32, u32)] {
        match signal {
            Signal::Interrupt => &self.image.notes.interrupt,
            Signal::Flush => &self.image.notes.flush,
        }
    }
}

impl Control for LeaseControl {
    fn ring(&self) {
        if let Err(error) = self.set_safepoint(libc::PROT_NONE) {
            // The page is a mapping of its own, so this needs no memory and does not fail. If it did,
            // a hostile program could not be stopped any more.
            tracing::error!("cannot stop a program: {error}");
            std::process::abort();
        }
    }

    fn silence(&self) -> bool {
        self.set_safepoint(libc::PROT_READ | libc::PROT_WRITE).is_ok()
    }

    fn raise(&self, signal: Signal) -> Raised {
        let Some(lease) = self.lease.upgrade() else { return Raised::Never };
        lease.safepoint_word(RAISING).store(1, Ordering::SeqCst);
        let inside = lease.safepoint_word(INSIDE).load(Ordering::SeqCst) == 1;
        if inside {
            // SAFETY: the interpreter is inside and does not leave until `RAISING` is 0 again: either
            // the load above saw what it stored when it left, or it sees what we stored before.
            unsafe { lease.change(self.writes(signal), |word, bits| word.fetch_or(bits, Ordering::Relaxed)) };
        }
        lease.safepoint_word(RAISING).store(0, Ordering::SeqCst);
        if inside { Raised::Pending } else { Raised::NotNow }
    }

    fn raise_in_host_call(&self, signal: Signal) {
        if let Some(lease) = self.lease.upgrade() {
            // SAFETY: this is the thread of a host call, whose arguments have been copied out of the
            // memory and whose results have not yet been copied in.
            unsafe { lease.change(self.writes(signal), |word, bits| word.fetch_or(bits, Ordering::Relaxed)) };
        }
    }

    fn take_back(&self, signal: Signal) {
        if let Some(lease) = self.lease.upgrade() {
            // SAFETY: this is the thread of a turn that has ended; nothing else uses the memory.
            unsafe {
                lease.change(self.writes(signal), |word, bits| word.fetch_and(!bits, Ordering::Relaxed))
            };
        }
    }

    fn pending_output(&self) -> Option<Vec<u8>> {
        let lease = self.lease.upgrade()?;
        Some(pending::output(&self.image.notes, &|address, length| lease.read(address, length)))
    }
}

impl Lease {
    /// A word of the safepoint page. Must not be used between `ring` and `silence`.
    fn safepoint_word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the page is mapped as long as the lease lives, and accessible but between `ring` and
        // `silence`, which the interrupt's lock keeps apart from this. The address is a multiple of
        // four. The guest's own accesses are atomic; host code makes no other reference to the page.
        unsafe { AtomicU32::from_ptr(self.safepoint.as_ptr().add(offset).cast()) }
    }

    /// Changes bits in words of the image's part of the memory.
    ///
    /// # Safety
    ///
    /// No host code may hold a reference into the memory meanwhile. The guest may run: its accesses
    /// are plain machine loads and stores outside of Rust's abstract machine, and one of its stores
    /// that comes in between at worst loses the bits.
    unsafe fn change(&self, writes: &[(u32, u32)], change: impl Fn(&AtomicU32, u32) -> u32) {
        for (address, bits) in writes {
            // SAFETY: `Image::from_file` checked that the address is a multiple of four inside the
            // image, which is mapped for reading and writing as long as the lease lives; the caller
            // rules out other references.
            let word = unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(*address as usize).cast()) };
            change(word, *bits);
        }
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
    /// What is laid over it.
    kept: Option<Arc<Frozen>>,
    lease: Option<Arc<Lease>>,
}

/// Instantiates with memories that start as `kept`, or else as `base`: `instantiate` must create one
/// instance of the interpreter on this thread. Returns what controls it from other threads.
pub(crate) fn instantiate<T>(
    base: &Arc<Image>,
    kept: Option<&Arc<Frozen>>,
    instantiate: impl FnOnce() -> wasmtime::Result<T>,
) -> wasmtime::Result<(T, LeaseControl)> {
    let (image, kept) = match kept.map(|kept| (kept, kept.start())) {
        None => (base, None),
        Some((_, (image, None))) => (image, None),
        Some((kept, (image, Some(_)))) => (image, Some(Arc::clone(kept))),
    };
    HANDOFF.set(Some(Handoff { image: Arc::clone(image), kept, lease: None }));
    let instance = instantiate();
    let handoff = HANDOFF.take();
    let instance = instance?;
    let lease = handoff.and_then(|handoff| handoff.lease);
    let lease = lease.ok_or_else(|| wasmtime::Error::msg("the interpreter has no memory"))?;
    Ok((instance, LeaseControl { lease: Arc::downgrade(&lease), image: Arc::clone(image) }))
}

/// Gives wasmtime the memories of a lease.
pub(super) struct Creator(pub Arc<Pool>);

// SAFETY: a memory's reservation covers `reserved + guard` bytes from its start and never moves;
// beyond its size nothing is accessible. Its size is at least the module's minimum, and wasmtime asks for it
// when it sets the instance up. It is not zeroed but holds the image, which stands for the
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
            if minimum > image.bytes {
                return Err(format!("the memory starts with {minimum} bytes, its image has {}", image.bytes));
            }
            let no_space =
                |error: io::Error| format!("cannot reserve address space for another session: {error}");
            let mut slot = self.0.take(image, reserved + guard).map_err(no_space)?;
            let mut size = image.bytes;
            if let Some(kept) = &handoff.kept {
                // A slot that was written to goes back to its pool, which resets it.
                if let Err(error) = kept.lay_into(&mut slot) {
                    self.0.put(slot);
                    return Err(no_space(error));
                }
                size = kept.size();
            }
            let lease = Arc::new(Lease {
                start: slot.memory.start,
                safepoint: slot.safepoint.start,
                slot: Mutex::new(Some(slot)),
                last: Mutex::default(),
                pool: Arc::clone(&self.0),
                size: AtomicUsize::new(size),
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
