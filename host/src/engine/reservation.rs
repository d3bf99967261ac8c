//! Address space that is reserved, mapped and given back: all calls of `mmap` and its kind.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Address space without access.
pub(super) struct Reservation {
    pub start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a reservation is an address range; it has no thread affinity, and all access to the bytes
// goes through wasmtime (while an instance lives) or through the slot's sole owner (before and after).
unsafe impl Send for Reservation {}
// SAFETY: as above; a shared reference only gives the address.
unsafe impl Sync for Reservation {}

impl Reservation {
    pub fn new(bytes: usize) -> io::Result<Self> {
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

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address `offset` bytes in. The range must lie inside the reservation.
    pub fn at(&self, offset: usize, bytes: usize) -> *mut libc::c_void {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside the reservation, as just checked.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    pub fn protect(&self, offset: usize, bytes: usize, protection: i32) -> io::Result<()> {
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

    /// Lays the first `bytes` of a file privately over the start.
    pub fn map(&self, file: &File, bytes: usize) -> io::Result<()> {
        // SAFETY: MAP_FIXED replaces pages of our own reservation only (`at` checks the range), while
        // no instance uses it. A private mapping never writes to the file.
        let start = unsafe {
            libc::mmap(
                self.at(0, bytes),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes the first `bytes` bytes a reservation without content again.
    pub fn clear(&self, bytes: usize) -> io::Result<()> {
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
    pub fn discard(&self, offset: usize, bytes: usize) -> io::Result<()> {
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
