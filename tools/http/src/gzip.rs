//! Gzip (RFC 1952): unpacks, never to more than a limit.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Why it was not unpacked.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed {
    Broken,
    TooLarge,
}

/// Unpacks all members.
pub fn unpack(mut packed: &[u8], limit: usize) -> Result<Vec<u8>, Failed> {
    let mut out = Vec::new();
    while !packed.is_empty() {
        let body = header(packed).ok_or(Failed::Broken)?;
        let start = out.len();
        let used = inflate(body, &mut out, limit)?;
        let trailer = body.get(used..used + 8).ok_or(Failed::Broken)?;
        let (sum, length) = trailer.split_at(4);
        if sum != crc32(&out[start..]).to_le_bytes() || length != ((out.len() - start) as u32).to_le_bytes() {
            return Err(Failed::Broken);
        }
        packed = &body[used + 8..];
        // Some servers pad with zeros.
        if packed.iter().all(|byte| *byte == 0) {
            break;
        }
    }
    Ok(out)
}

/// What follows the header.
fn header(packed: &[u8]) -> Option<&[u8]> {
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, rest @ ..] = packed else { return None };
    let mut rest = rest;
    if flags & 4 != 0 {
        let [low, high, after @ ..] = rest else { return None };
        rest = after.get(usize::from(u16::from_le_bytes([*low, *high]))..)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// Appends what is packed; returns how many bytes that were.
fn inflate(packed: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<usize, Failed> {
    let mut state = Box::new(DecompressorOxide::new());
    let (mut used, mut filled) = (0, out.len());
    let mut member = 0;
    // Members refer to their own bytes only, which lie from `start` on.
    let start = filled;
    loop {
        let room = (out.len() - start).max(16 << 10).max(packed.len());
        let wanted = (filled + room).min(limit.saturating_add(1));
        if wanted > out.len() {
            out.try_reserve_exact(wanted - out.len()).map_err(|_| Failed::TooLarge)?;
            out.resize(wanted, 0);
        }
        let (status, read, written) = decompress(
            &mut state,
            &packed[used..],
            &mut out[start..],
            member,
            TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        );
        used += read;
        member += written;
        filled += written;
        match status {
            TINFLStatus::Done if filled > limit => return Err(Failed::TooLarge),
            TINFLStatus::Done => {
                out.truncate(filled);
                return Ok(used);
            }
            TINFLStatus::HasMoreOutput if filled > limit || out.len() > limit => {
                return Err(Failed::TooLarge);
            }
            TINFLStatus::HasMoreOutput => {}
            _ => return Err(Failed::Broken),
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| sum >> 8 ^ TABLE[(sum as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    // `gzip.compress(b"hello" * 1000, mtime=0)` of Python.
    const HELLO: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 237, 196, 161, 13, 0, 0, 8, 3, 176, 107, 73, 38, 150, 240, 191, 227,
        10, 92, 43, 154, 105, 55, 146, 36, 73, 146, 36, 73, 146, 62, 59, 214, 170, 197, 146, 136, 19, 0, 0,
    ];

    #[test]
    fn members_are_unpacked() {
        assert_eq!(unpack(HELLO, 5000).unwrap(), b"hello".repeat(1000));
        let twice = [HELLO, HELLO, &[0, 0, 0]].concat();
        assert_eq!(unpack(&twice, 10_000).unwrap(), b"hello".repeat(2000));
        assert_eq!(unpack(&twice, 9_999), Err(Failed::TooLarge));
        assert_eq!(unpack(HELLO, 4_999), Err(Failed::TooLarge));
        assert_eq!(unpack(HELLO, 10), Err(Failed::TooLarge));
    }

    #[test]
    fn broken_streams_are_refused() {
        assert_eq!(unpack(b"hello", 10), Err(Failed::Broken));
        assert_eq!(unpack(&HELLO[..20], 1 << 20), Err(Failed::Broken));
        let mut wrong = HELLO.to_vec();
        wrong[HELLO.len() - 5] ^= 1;
        assert_eq!(unpack(&wrong, 1 << 20), Err(Failed::Broken));
    }
}
