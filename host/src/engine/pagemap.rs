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
    fn end(&self) -> usize {
        self.offset + self.bytes
    }

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
    // It stays that of the process that opened it: one that was forked off is told nothing.
    static PAGEMAP: OnceLock<(u32, Option<File>)> = OnceLock::new();
    let open = || (std::process::id(), File::open("/proc/self/pagemap").ok());
    let (process, pagemap) = PAGEMAP.get_or_init(open);
    let pagemap = pagemap.as_ref().filter(|_| *process == std::process::id())?;
    // SAFETY: the argument has the size it states and points to `regions_len` writable regions;
    // the call reads page tables, and of watched memory it protects pages whose next write the kernel
    // notes and lets pass. A kernel without it fails with ENOTTY.
    let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, std::ptr::from_mut(scan)) };
    usize::try_from(filled).ok()
}

/// The pages of both; runs that meet at `border` stay apart. Each of the two is in ascending order.
pub(super) fn union(one: &[Pages], other: &[Pages], border: usize) -> Vec<Pages> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    let mut all: Vec<Pages> = Vec::new();
    loop {
        let run = match (one.peek(), other.peek()) {
            (Some(first), Some(second)) if first.offset <= second.offset => one.next(),
            (Some(_), None) => one.next(),
            _ => other.next(),
        };
        let Some(run) = run.filter(|run| run.bytes > 0) else {
            if one.peek().is_none() && other.peek().is_none() {
                return all;
            }
            continue;
        };
        match all.last_mut() {
            Some(last) if run.offset < last.end() || (run.offset == last.end() && run.offset != border) => {
                last.bytes = last.bytes.max(run.end() - last.offset);
            }
            _ => all.push(*run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_has_all_pages_once() {
        let runs = |pages: &[(usize, usize)]| -> Vec<Pages> {
            pages.iter().map(|&(offset, bytes)| Pages { offset, bytes }).collect()
        };
        let one = runs(&[(0, 2), (5, 1), (8, 2), (10, 1), (20, 4)]);
        let other = runs(&[(1, 2), (6, 1), (10, 3), (20, 0), (21, 2)]);
        assert_eq!(union(&one, &other, 10), runs(&[(0, 3), (5, 2), (8, 2), (10, 3), (20, 4)]));
        assert_eq!(union(&other, &one, 10), union(&one, &other, 10));
        assert_eq!(union(&one, &[], 10), one);
        assert_eq!(union(&[], &[], 0), []);
    }

    /// What it has open tells of its parent.
    #[test]
    fn a_process_that_was_forked_off_is_told_nothing() {
        let page = Box::new([0u8; 8192]);
        let start = (page.as_ptr() as usize).next_multiple_of(4096) as *const u8;
        let _ = private_pages(start, 4096);
        // SAFETY: the child makes system calls alone and ends; the parent waits for it.
        let status = unsafe {
            match libc::fork() {
                0 => libc::_exit(i32::from(private_pages(start, 4096).is_some())),
                child => {
                    let mut status = -1;
                    assert_eq!(libc::waitpid(child, &mut status, 0), child);
                    status
                }
            }
        };
        assert_eq!(status, 0);
    }
}
