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

/// The pages of `bytes` bytes from `start` that are no longer the mapped file's, or `None` where
/// the kernel cannot tell. `start` is page-aligned.
pub(crate) fn private_pages(start: *const u8, bytes: usize) -> Option<Vec<Pages>> {
    static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
    let pagemap = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
    let base = start as u64;
    let end = base + bytes as u64;
    let mut regions = [Region::default(); 256];
    let mut found = Vec::new();
    let mut at = base;
    while at < end {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            flags: 0,
            start: at,
            end,
            walk_end: 0,
            regions: regions.as_mut_ptr() as u64,
            regions_len: regions.len() as u64,
            max_pages: 0,
            // Present or swapped out, and neither a page of the file nor the shared zero page.
            inverted: FILE | ZERO,
            all_of: FILE | ZERO,
            any_of: PRESENT | SWAPPED,
            report: 0,
        };
        // SAFETY: the argument has the size it states and points to `regions_len` writable regions;
        // the call only reads page tables. A kernel without it fails with ENOTTY.
        let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut scan) };
        let filled = regions.get(..usize::try_from(filled).ok()?)?;
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
