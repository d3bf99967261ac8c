//! From what the canonical ABI returns to encoded results. The runtime has checked what it returns:
//! strings are UTF-8, lists lie in memory, cases exist.

use std::alloc::{dealloc, Layout};

use crate::data::{Program, Shape};
use crate::tools::Handles;

/// Lays a value that was returned in a register in at `at`.
///
/// # Safety
///
/// There must be room for the type, whose values take one register at most.
pub unsafe fn from_register(program: &Program, ty: usize, register: u64, at: *mut u8) {
    let ty = &program.types[ty];
    let bytes = register.to_le_bytes();
    let size = match &ty.shape {
        Shape::Fields(fields) => {
            for (offset, field) in fields {
                // SAFETY: a field lies within its record.
                unsafe { from_register(program, *field, register, at.wrapping_add(*offset)) };
            }
            return;
        }
        // What a case carries takes no register: there is none left.
        Shape::Cases(cases) => cases.tag,
        _ => ty.size,
    };
    // SAFETY: there is room for the type.
    unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), size) }
}

/// Encodes the value at `at`, and frees the lists and strings in it.
///
/// # Safety
///
/// A value of the type that a call has returned must lie there; it must not be used again.
pub unsafe fn value(program: &Program, ty: usize, at: *const u8, handles: &mut Handles, out: &mut Vec<u8>) {
    let ty = &program.types[ty];
    match &ty.shape {
        Shape::Plain | Shape::Char => out.extend_from_slice(unsafe { bytes(at, ty.size) }),
        Shape::Bool => out.push(u8::from(unsafe { *at } != 0)),
        Shape::String => {
            let (start, length) = unsafe { (number(at) as *mut u8, number(at.wrapping_add(4))) };
            out.extend_from_slice(&(length as u32).to_le_bytes());
            out.extend_from_slice(unsafe { bytes(start, length) });
            unsafe { free(start, length, 1) };
        }
        Shape::List(element) => {
            let (start, count) = unsafe { (number(at) as *mut u8, number(at.wrapping_add(4))) };
            let inner = &program.types[*element];
            let size = inner.size * count;
            out.extend_from_slice(&(count as u32).to_le_bytes());
            if program.plain(*element) {
                out.extend_from_slice(unsafe { bytes(start, size) });
            } else {
                for position in 0..count {
                    unsafe {
                        value(program, *element, start.wrapping_add(position * inner.size), handles, out)
                    };
                }
            }
            unsafe { free(start, size, inner.align) };
        }
        Shape::Fields(fields) => {
            for (offset, field) in fields {
                unsafe { value(program, *field, at.wrapping_add(*offset), handles, out) };
            }
        }
        Shape::Cases(cases) => {
            let mut tag = [0; 4];
            tag[..cases.tag].copy_from_slice(unsafe { bytes(at, cases.tag) });
            out.extend_from_slice(&tag[..if cases.narrow { 1 } else { 4 }]);
            if let Some(payload) = cases.payloads[u32::from_le_bytes(tag) as usize] {
                unsafe { value(program, payload, at.wrapping_add(cases.payload), handles, out) };
            }
        }
        Shape::Flags(count) => {
            for word in 0..count.div_ceil(32) {
                let mut bits = [0; 4];
                let size = ty.size.min(4);
                bits[..size].copy_from_slice(unsafe { bytes(at.wrapping_add(4 * word as usize), size) });
                // Bits that no flag has are nobody's business.
                let known = count - 32 * word;
                let mask = if known < 32 { (1 << known) - 1 } else { u32::MAX };
                out.extend_from_slice(&(u32::from_le_bytes(bits) & mask).to_le_bytes());
            }
        }
        Shape::Own(resource) | Shape::Borrow(resource) => {
            let handle = unsafe { number(at) } as u32;
            handles.add(*resource, handle);
            out.extend_from_slice(&handle.to_le_bytes());
        }
    }
}

/// SAFETY: as for [`value`]; so many bytes must lie there.
unsafe fn bytes<'a>(at: *const u8, size: usize) -> &'a [u8] {
    unsafe { std::slice::from_raw_parts(at, size) }
}

/// SAFETY: as for [`bytes`].
unsafe fn number(at: *const u8) -> usize {
    unsafe { at.cast::<usize>().read_unaligned() }
}

/// SAFETY: what lies there must have been allocated by `cabi_realloc` for a list of this size.
unsafe fn free(start: *mut u8, size: usize, align: usize) {
    if size > 0 {
        unsafe { dealloc(start, Layout::from_size_align_unchecked(size, align)) }
    }
}
