//! Finds delimiters, quotes and line ends, 64 bytes at a time.

/// Goes from one to the next.
pub struct Scanner<'a> {
    pub data: &'a [u8],
    pub delimiter: u8,
    /// The start of the block that `mask` is of.
    block: usize,
    /// Bits of the bytes that are still to come.
    mask: u64,
}

impl<'a> Scanner<'a> {
    pub fn new(delimiter: u8, data: &'a [u8], at: usize) -> Self {
        let mut scanner = Scanner { data, delimiter, block: 0, mask: 0 };
        scanner.seek(at);
        scanner
    }

    /// Goes on from another place.
    pub fn seek(&mut self, at: usize) {
        self.block = at & !63;
        self.mask = self.look(self.block) & (u64::MAX << (at & 63));
    }

    /// The place of the next one.
    #[inline]
    pub fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            if self.block + 64 >= self.data.len() {
                return None;
            }
            self.block += 64;
            self.mask = self.look(self.block);
        }
        let at = self.block + self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(at)
    }

    #[inline]
    fn look(&self, block: usize) -> u64 {
        match self.data.get(block..block + 64).and_then(|bytes| <&[u8; 64]>::try_from(bytes).ok()) {
            Some(bytes) => find(bytes, self.delimiter),
            None => {
                let mut bytes = [0; 64];
                let rest = self.data.get(block..).unwrap_or_default();
                bytes[..rest.len()].copy_from_slice(rest);
                find(&bytes, self.delimiter)
            }
        }
    }
}

#[cfg(target_feature = "simd128")]
#[inline]
fn find(bytes: &[u8; 64], delimiter: u8) -> u64 {
    use std::arch::wasm32::{i8x16_bitmask, u8x16_eq, u8x16_splat, v128, v128_load, v128_or};
    let (delimiter, quote, end) = (u8x16_splat(delimiter), u8x16_splat(b'"'), u8x16_splat(b'\n'));
    let mut mask = 0;
    for part in 0..4 {
        // SAFETY: 16 bytes from `16 * part` on are within the 64; the load needs no alignment.
        let bytes: v128 = unsafe { v128_load(bytes.as_ptr().add(16 * part).cast()) };
        let found =
            v128_or(u8x16_eq(bytes, delimiter), v128_or(u8x16_eq(bytes, quote), u8x16_eq(bytes, end)));
        mask |= u64::from(i8x16_bitmask(found)) << (16 * part);
    }
    mask
}

#[cfg(not(target_feature = "simd128"))]
fn find(bytes: &[u8; 64], delimiter: u8) -> u64 {
    let mut mask = 0;
    for (place, byte) in bytes.iter().enumerate() {
        mask |= u64::from(*byte == delimiter || *byte == b'"' || *byte == b'\n') << place;
    }
    mask
}
