//! Memory of which the kernel notes what is written to: Linux's `userfaultfd`, in the way that handles
//! nothing ("asynchronous write protection", since 6.7). [`pagemap`](super::pagemap) tells what was noted.
//!
//! Where a system forbids it, all pages are looked at instead.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use super::reservation::Reservation;

/// `struct uffdio_api` of <linux/userfaultfd.h>.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_range`.
#[repr(C)]
struct Range {
    start: u64,
    bytes: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

const API: u64 = 0xaa;
const WRITE_PROTECT_UNPOPULATED: u64 = 1 << 13;
const WRITE_PROTECT_ASYNC: u64 = 1 << 15;
const USER_MODE_ONLY: i32 = 1;
const MODE_WRITE_PROTECT: u64 = 1 << 1;

/// `_IOWR(0xaa, number, bytes)`.
const fn request(number: u64, bytes: usize) -> u64 {
    3 << 30 | (bytes as u64) << 16 | API << 8 | number
}

const UFFDIO_API: u64 = request(0x3f, size_of::<Api>());
const UFFDIO_REGISTER: u64 = request(0, size_of::<Register>());

/// The process's own, if it may have one; one that was forked off has its parent's, which is of no use to it.
fn userfaultfd() -> Option<&'static OwnedFd> {
    static OPENED: OnceLock<(u32, Option<OwnedFd>)> = OnceLock::new();
    let (process, opened) = OPENED.get_or_init(|| (std::process::id(), open()));
    opened.as_ref().filter(|_| *process == std::process::id())
}

fn open() -> Option<OwnedFd> {
    // SAFETY: the call makes a descriptor or fails.
    let opened = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
    let opened = i32::try_from(opened).ok().filter(|opened| *opened >= 0)?;
    // SAFETY: the descriptor was just made, and nobody else has it.
    let opened = unsafe { OwnedFd::from_raw_fd(opened) };
    let features = WRITE_PROTECT_ASYNC | WRITE_PROTECT_UNPOPULATED;
    let mut api = Api { api: API, features, ioctls: 0 };
    // SAFETY: the argument is what the call reads and writes. It fails where the features are not there.
    let result = unsafe { libc::ioctl(opened.as_raw_fd(), UFFDIO_API as _, &raw mut api) };
    (result == 0).then_some(opened)
}

/// Has it noted from now on what is written to the memory, as long as that is mapped; says whether it is.
pub(super) fn begin(memory: &Reservation) -> bool {
    let Some(opened) = userfaultfd() else { return false };
    let mut register = Register { range: range(memory), mode: MODE_WRITE_PROTECT, ioctls: 0 };
    // SAFETY: the range is a reservation of ours. Writes to it pass as before; the kernel takes a note.
    unsafe { libc::ioctl(opened.as_raw_fd(), UFFDIO_REGISTER as _, &raw mut register) == 0 }
}

fn range(memory: &Reservation) -> Range {
    Range { start: memory.start.as_ptr() as u64, bytes: memory.bytes() as u64 }
}
