//! Standard output that a stopped interpreter had not passed on, read out of its memory.
//!
//! Text that is printed lies in the text stream first, as a list of strings, then in the buffer of the
//! writer below it. The offsets are those of CPython 3.14 on a 32-bit machine; tests of the whole
//! program notice when another build moves them. The memory is the program's: whatever is found there
//! is at worst wrong output, and no more of it than [`MAX_BYTES`].

use super::image::Notes;

/// Copies bytes at an address, if all of them lie inside the memory.
type Read<'a> = &'a dyn Fn(u32, u32) -> Option<Vec<u8>>;

/// The streams never hold more than this.
const MAX_BYTES: u32 = 1 << 20;

/// In every object.
const TYPE: u32 = 4;
/// In `list`, `str` and `bytes`.
const LENGTH: u32 = 8;
const LIST_ITEMS: u32 = 12;
const STR_DATA: u32 = 20;
const BYTES_DATA: u32 = 16;
/// In `io.TextIOWrapper`: a string or bytes, or a list of those.
const TEXT_PENDING: u32 = 76;
/// In `io.BufferedWriter`.
const WRITER_BUFFER: u32 = 48;
const WRITER_START: u32 = 80;
const WRITER_END: u32 = 88;

/// What standard output holds.
pub fn output(notes: &Notes, read: Read) -> Vec<u8> {
    let (text, writer) = notes.stdout;
    let mut output = buffered(writer, read).unwrap_or_default();
    let _ = add_text(text, notes, read, &mut output);
    output
}

fn word(read: Read, address: u32, offset: u32) -> Option<u32> {
    let bytes = read(address.checked_add(offset)?, 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn buffered(writer: u32, read: Read) -> Option<Vec<u8>> {
    let buffer = word(read, writer, WRITER_BUFFER)?;
    let (start, end) = (word(read, writer, WRITER_START)?, word(read, writer, WRITER_END)?);
    // A writer with nothing pending has an end of -1.
    let length = end.checked_sub(start).filter(|length| *length <= MAX_BYTES)?;
    read(buffer.checked_add(start)?, length)
}

fn add_text(stream: u32, notes: &Notes, read: Read, output: &mut Vec<u8>) -> Option<()> {
    let pending = word(read, stream, TEXT_PENDING)?;
    let (list, _, _) = notes.types;
    if word(read, pending, TYPE)? != list {
        return add_piece(pending, notes, read, output);
    }
    let items = word(read, pending, LIST_ITEMS)?;
    let count = word(read, pending, LENGTH)?.min(MAX_BYTES / 4);
    for item in read(items, count.checked_mul(4)?)?.chunks_exact(4) {
        add_piece(u32::from_le_bytes(item.try_into().ok()?), notes, read, output)?;
    }
    Some(())
}

/// Adds a string that the stream holds as it is, which it does if it is ASCII, or bytes.
fn add_piece(object: u32, notes: &Notes, read: Read, output: &mut Vec<u8>) -> Option<()> {
    let (_, string, bytes) = notes.types;
    let data = match word(read, object, TYPE)? {
        ty if ty == string => STR_DATA,
        ty if ty == bytes => BYTES_DATA,
        _ => return None,
    };
    let length = word(read, object, LENGTH)?;
    if output.len() + length as usize > 2 * MAX_BYTES as usize {
        return None;
    }
    output.extend(read(object.checked_add(data)?, length)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_ends_quietly() {
        let notes = Notes { interrupt: vec![], flush: vec![], stdout: (0, 64), types: (1, 2, 3) };
        for fill in [0u8, 1, 3, 0x7f, 0xff] {
            let memory = vec![fill; 4096];
            let read = |address: u32, length: u32| {
                let start = address as usize;
                memory.get(start..start.checked_add(length as usize)?).map(<[u8]>::to_vec)
            };
            assert!(output(&notes, &read).len() <= 2 * MAX_BYTES as usize);
        }
    }
}
