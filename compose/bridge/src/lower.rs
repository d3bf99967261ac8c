//! From encoded arguments to what the canonical ABI passes. The encoding is that of the host, see
//! `host/src/engine/dynamic`; bytes that are no values of their types are errors here too.

use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};

use crate::composed::MAX_SLOTS;
use crate::data::{Program, Shape};
use crate::tools::{Failed, Handles};

/// Encoded values, and the memory that they are laid into until the call is over.
pub struct Lower<'a> {
    program: &'static Program,
    rest: &'a [u8],
    tail: &'a [u8],
    handles: &'a mut Handles,
    allocated: Vec<(*mut u8, Layout)>,
}

impl Drop for Lower<'_> {
    fn drop(&mut self) {
        for (start, layout) in &self.allocated {
            // SAFETY: allocated below with this layout.
            unsafe { dealloc(*start, *layout) }
        }
    }
}

/// Memory for `size` bytes; if there are none, an address that nothing lies at.
fn allocate(size: usize, align: usize) -> Result<(*mut u8, Option<Layout>), Failed> {
    if size == 0 {
        return Ok((std::ptr::without_provenance_mut(align), None));
    }
    let layout =
        Layout::from_size_align(size, align).map_err(|_| Failed::Malformed("a list that is too long"))?;
    // SAFETY: its size is not zero.
    let start = unsafe { alloc(layout) };
    if start.is_null() {
        handle_alloc_error(layout);
    }
    Ok((start, Some(layout)))
}

impl<'a> Lower<'a> {
    pub fn new(program: &'static Program, head: &'a [u8], tail: &'a [u8], handles: &'a mut Handles) -> Self {
        Lower { program, rest: head, tail, handles, allocated: Vec::new() }
    }

    /// Memory that lasts until the call is over.
    pub fn room(&mut self, size: usize, align: usize) -> Result<*mut u8, Failed> {
        let (start, layout) = allocate(size, align)?;
        self.allocated.extend(layout.map(|layout| (start, layout)));
        Ok(start)
    }

    /// Lays all values in; gives their address.
    pub fn parameters(&mut self, ty: usize) -> Result<*mut u8, Failed> {
        let (size, align) = (self.program.types[ty].size, self.program.types[ty].align);
        let at = self.room(size, align)?;
        self.value(ty, at)?;
        if self.rest.is_empty() && self.tail.is_empty() {
            Ok(at)
        } else {
            Err(Failed::Malformed("more bytes than the parameters take"))
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Failed> {
        if self.rest.is_empty() {
            self.rest = std::mem::take(&mut self.tail);
        }
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(Failed::Malformed("fewer bytes than the parameters take"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, Failed> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("as many as were taken")))
    }

    fn bit(&mut self) -> Result<u8, Failed> {
        match self.take(1)?[0] {
            bit @ (0 | 1) => Ok(bit),
            _ => Err(Failed::Malformed("a truth value that is neither 0 nor 1")),
        }
    }

    /// Lays a value in at `at`, where there is room for its type.
    fn value(&mut self, ty: usize, at: *mut u8) -> Result<(), Failed> {
        let program = self.program;
        let ty = &program.types[ty];
        match &ty.shape {
            Shape::Plain => put(at, self.take(ty.size)?),
            Shape::Bool => put(at, &[self.bit()?]),
            Shape::Char => {
                let number = self.number()?;
                char::from_u32(number).ok_or(Failed::Malformed("a character that is none"))?;
                put(at, &number.to_le_bytes());
            }
            Shape::String => {
                let length = self.number()? as usize;
                let text = self.take(length)?;
                std::str::from_utf8(text).map_err(|_| Failed::Malformed("a string that is not UTF-8"))?;
                let start = self.room(length, 1)?;
                put(start, text);
                put_list(at, start, length);
            }
            Shape::List(element) => {
                let count = self.number()? as usize;
                // Each takes a byte at least.
                if count > self.rest.len() + self.tail.len() {
                    return Err(Failed::Malformed("a list that is longer than the arguments"));
                }
                let inner = &program.types[*element];
                let bytes =
                    count.checked_mul(inner.size).ok_or(Failed::Malformed("a list that is too long"))?;
                let start = self.room(bytes, inner.align)?;
                if program.plain(*element) {
                    put(start, self.take(bytes)?);
                } else {
                    for position in 0..count {
                        self.value(*element, start.wrapping_add(position * inner.size))?;
                    }
                }
                put_list(at, start, count);
            }
            Shape::Fields(fields) => {
                for (offset, field) in fields {
                    self.value(*field, at.wrapping_add(*offset))?;
                }
            }
            Shape::Cases(cases) => {
                let case = if cases.narrow { self.bit()?.into() } else { self.number()? };
                let payload = cases
                    .payloads
                    .get(case as usize)
                    .ok_or(Failed::Malformed("a case that the type does not have"))?;
                // What no case uses is zero, so that nothing of it is left to chance.
                // SAFETY: there is room for the type.
                unsafe { at.write_bytes(0, ty.size) };
                put(at, &case.to_le_bytes()[..cases.tag]);
                if let Some(payload) = payload {
                    self.value(*payload, at.wrapping_add(cases.payload))?;
                }
            }
            Shape::Flags(count) => {
                for word in 0..count.div_ceil(32) {
                    let bits = self.number()?;
                    let known = count - 32 * word;
                    if known < 32 && bits >> known != 0 {
                        return Err(Failed::Malformed("a flag that the type does not have"));
                    }
                    let bytes = bits.to_le_bytes();
                    put(at.wrapping_add(4 * word as usize), &bytes[..ty.size.min(4)]);
                }
            }
            Shape::Own(resource) => {
                let handle = self.number()?;
                self.handles.give(*resource, handle)?;
                put(at, &handle.to_le_bytes());
            }
            Shape::Borrow(resource) => {
                let handle = self.number()?;
                self.handles.check(*resource, handle)?;
                put(at, &handle.to_le_bytes());
            }
        }
        Ok(())
    }
}

fn put(at: *mut u8, bytes: &[u8]) {
    // SAFETY: the callers made room at `at` for a value of the type whose bytes these are.
    unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
}

fn put_list(at: *mut u8, start: *mut u8, count: usize) {
    put(at, &(start as usize).to_le_bytes());
    put(at.wrapping_add(4), &count.to_le_bytes());
}

/// What a call passes, in order.
#[derive(Default)]
pub struct Registers {
    pub slots: [u64; MAX_SLOTS],
    used: usize,
}

impl Registers {
    pub fn push(&mut self, bits: u64) {
        self.slots[self.used] = bits;
        self.used += 1;
    }

    /// SAFETY: so many bytes must lie at `at`, eight at most.
    unsafe fn load(&mut self, at: *const u8, size: usize) {
        let mut bytes = [0; 8];
        unsafe { at.copy_to_nonoverlapping(bytes.as_mut_ptr(), size) };
        self.push(u64::from_le_bytes(bytes));
    }

    /// Passes a value that lies in memory at `at`.
    ///
    /// # Safety
    ///
    /// A value of the type must lie there.
    pub unsafe fn value(&mut self, program: &Program, ty: usize, at: *const u8) {
        let ty = &program.types[ty];
        match &ty.shape {
            Shape::Plain | Shape::Bool | Shape::Char | Shape::Own(_) | Shape::Borrow(_) => {
                unsafe { self.load(at, ty.size) };
            }
            Shape::String | Shape::List(_) => {
                unsafe { self.load(at, 4) };
                unsafe { self.load(at.wrapping_add(4), 4) };
            }
            Shape::Flags(count) => {
                for word in 0..count.div_ceil(32) as usize {
                    unsafe { self.load(at.wrapping_add(4 * word), ty.size.min(4)) };
                }
            }
            Shape::Fields(fields) => {
                for (offset, field) in fields {
                    unsafe { self.value(program, *field, at.wrapping_add(*offset)) };
                }
            }
            Shape::Cases(cases) => {
                let end = self.used + ty.flat;
                unsafe { self.load(at, cases.tag) };
                let case = self.slots[self.used - 1] as usize;
                if let Some(payload) = cases.payloads[case] {
                    unsafe { self.value(program, payload, at.wrapping_add(cases.payload)) };
                }
                // Other cases may take more; the rest is zero already.
                self.used = end;
            }
        }
    }
}
