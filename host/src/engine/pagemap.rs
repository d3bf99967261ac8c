//! Which pages of a private mapping have been written: Linux's `PAGEMAP_SCAN`.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// A run of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub offset: usize,
    pub bytes: usize,
}

impl Pages {
    /// The numbers of the pages.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (self.offset / 4096) as u32..((self.offset + self.bytes) / 4096) as u32
    }
}

/// `struct pm_scan_arg` of <linux/fs.h>.
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    report: u64,
}

/// `struct page_region` of <linux/fs.h>.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// Pages that are found are protected: their next write makes them [`WRITTEN`].
const PROTECT_FOUND: u64 = 1 << 0;
/// It is an error if that would not do.
const CHECK_WATCHED: u64 = 1 << 1;

const WRITTEN: u64 = 1 << 1;
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 3 << 30 | (size_of::<Scan>() as u64) << 16 | (b'f' as u64) << 8 | 16;

/// Whether this kernel can tell.
pub(crate) fn supported() -> bool {
    let probe = 0u8;
    let page = (&raw const probe) as usize & !4095;
    private_pages(page as *const u8, 4096).is_some()
}

/// Which pages are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    /// Those that are no longer the mapped file's, nor the zeroes of memory that nobody has used.
    Private,
    /// Those of them that have been written since they were protected last.
    PrivateWritten,
    /// All that are not protected, which is told much faster: what was never there is among them.
    Written,
}

/// The pages of `bytes` bytes from `start` that are no longer the mapped file's, or `None` where
/// the kernel cannot tell. `start` is page-aligned.
pub(crate) fn private_pages(start: *const u8, bytes: usize) -> Option<Vec<Pages>> {
    find(start, bytes, Find::Private, false)
}

/// Pages of `bytes` bytes from `start`, which are protected as they are found if that is asked for and the
/// memory is [watched](super::watch). `None` where the kernel cannot tell.
pub(super) fn find(start: *const u8, bytes: usize, find: Find, protect: bool) -> Option<Vec<Pages>> {
    let base = start as u64;
    let end = base + bytes as u64;
    let mut regions = [Region::default(); 256];
    let mut found = Vec::new();
    let mut at = base;
    while at < end {
        // Present or swapped out, and neither a page of the file nor the shared zero page.
        let private = (FILE | ZERO, PRESENT | SWAPPED, 0);
        let ((inverted, any_of, report), all_of) = match find {
            Find::Private => (private, FILE | ZERO),
            Find::PrivateWritten => (private, FILE | ZERO | WRITTEN),
            Find::Written => ((0, 0, WRITTEN), WRITTEN),
        };
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            flags: if protect { PROTECT_FOUND | CHECK_WATCHED } else { 0 },
            start: at,
            end,
            walk_end: 0,
            regions: regions.as_mut_ptr() as u64,
            regions_len: regions.len() as u64,
            max_pages: 0,
            inverted,
            all_of,
            any_of,
            report,
        };
        let filled = regions.get(..ioctl(&mut scan)?)?;
        found.extend(filled.iter().map(|region| Pages {
            offset: (region.start - base) as usize,
            bytes: (region.end - region.start) as usize,
        }));
        if scan.walk_end <= at {
            return None;
        }
        at = scan.walk_end;
    }
    Some(found)
}

/// Protects all pages of watched memory, also those that are not there yet: none of them is written, until
/// it is.
pub(super) fn protect(start: *const u8, bytes: usize) -> bool {
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        flags: PROTECT_FOUND | CHECK_WATCHED,
        start: start as u64,
        end: start as u64 + bytes as u64,
        walk_end: 0,
        regions: 0,
        regions_len: 0,
        max_pages: 0,
        inverted: 0,
        all_of: 0,
        any_of: 0,
        report: 0,
    };
    ioctl(&mut scan).is_some() && scan.walk_end >= scan.end
}

fn ioctl(scan: &mut Scan) -> Option<usize> {
    static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
    let pagemap = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    // SAFETY: the argument has the size it states and points to `regions_len` writable regions;
    // the call reads page tables, and of watched memory it protects pages whose next write the kernel
    // notes and lets pass. A kernel without it fails with ENOTTY.
    let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, std::ptr::from_mut(scan)) };
    usize::try_from(filled).ok()
}
