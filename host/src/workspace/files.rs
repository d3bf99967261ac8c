//! Reading and writing, within the session's budget.

use std::io;

use cap_std::fs::{File, FileExt};

use super::Budget;
use super::error::{ErrorCode, Result};
use super::node::FileNode;

/// No single read hands the guest more than this, whatever it asks for.
pub(super) use crate::replay::READ_BYTES;

/// Reads up to `length` bytes at `offset`. Nothing is the end of the file.
pub(super) fn read_at(file: &FileNode, length: u64, offset: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(READ_BYTES);
    // A file shorter than the request does not need a buffer of its length.
    let mut buffer = vec![0; length];
    let read = retry(|| file.read_at(&mut buffer, offset))?;
    buffer.truncate(read);
    Ok(buffer)
}

/// Writes at `offset`; `None` is the end of the file. Returns how many bytes were written, which is
/// less than asked only where the budget ends.
pub(super) fn write_at(file: &FileNode, budget: &Budget, bytes: &[u8], offset: Option<u64>) -> Result<u64> {
    if bytes.is_empty() {
        return Ok(0);
    }
    // A hole counts as if it were written: it is as large for whoever reads the file later.
    let hole = match offset {
        Some(offset) => offset.saturating_sub(file.len()?),
        None => 0,
    };
    let wanted = hole.checked_add(bytes.len() as u64).ok_or(ErrorCode::FileTooLarge)?;
    let granted = budget.write(wanted);
    let allowed = granted.saturating_sub(hole);
    if allowed == 0 {
        budget.refund(granted);
        return Err(ErrorCode::InsufficientSpace.into());
    }
    let bytes = &bytes[..allowed as usize];
    let written = retry(|| file.write_at(bytes, offset));
    let used = written.as_ref().map_or(0, |written| hole + *written as u64);
    budget.refund(granted - used);
    Ok(written? as u64)
}

/// Writes at the end, wherever other writers have moved it to.
#[cfg(target_os = "linux")]
pub(super) fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    match pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.write_at(bytes, file.metadata()?.len()),
        written => Ok(written?),
    }
}

/// Writes at the end. Another writer can come in between here.
#[cfg(not(target_os = "linux"))]
pub(super) fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    file.write_at(bytes, file.metadata()?.len())
}

/// Sets a file's size. Growing it counts as writing.
pub(super) fn resize(file: &FileNode, budget: &Budget, size: u64) -> Result<()> {
    let growth = size.saturating_sub(file.len()?);
    let granted = budget.write(growth);
    if granted < growth {
        budget.refund(granted);
        return Err(ErrorCode::InsufficientSpace.into());
    }
    Ok(file.set_len(size).inspect_err(|_| budget.refund(granted))?)
}

fn retry(mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
