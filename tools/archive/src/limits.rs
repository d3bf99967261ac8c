//! How much an archive may make.

use std::cell::Cell;
use std::io::{self, Read};

pub const ENTRIES: u32 = 10_000;
const BYTES: u64 = 512 << 20;
const RATIO: u32 = 200;
/// What any archive may make, whatever its size.
const SMALL: u64 = 1 << 20;

/// What is left of the bytes that an archive may make.
pub struct Budget {
    left: Cell<u64>,
    refusal: String,
}

impl Budget {
    /// For what is not kept: it costs time, which the host limits.
    pub fn unlimited() -> Self {
        Budget { left: Cell::new(u64::MAX), refusal: String::new() }
    }

    pub fn new(archive_bytes: u64, bytes: Option<u64>, ratio: Option<u32>) -> Self {
        let (bytes, ratio) = (bytes.unwrap_or(BYTES), ratio.unwrap_or(RATIO));
        let by_ratio = archive_bytes.saturating_mul(u64::from(ratio)).max(SMALL);
        if by_ratio < bytes {
            let refusal = format!(
                "it unpacks to more than {ratio} times its size, as a bomb does: give a larger `max_ratio` if you trust it"
            );
            return Budget { left: Cell::new(by_ratio), refusal };
        }
        let refusal =
            format!("it unpacks to more than {bytes} bytes: give a larger `max_bytes` if you trust it");
        Budget { left: Cell::new(bytes), refusal }
    }

    /// `source`, whose reading costs what is left.
    pub fn counted<'a>(&'a self, source: impl Read + 'a) -> impl Read + 'a {
        Counted { source, budget: self }
    }
}

struct Counted<'a, R> {
    source: R,
    budget: &'a Budget,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        match self.budget.left.get().checked_sub(count as u64) {
            Some(left) => self.budget.left.set(left),
            None => return Err(io::Error::other(self.budget.refusal.clone())),
        }
        Ok(count)
    }
}
