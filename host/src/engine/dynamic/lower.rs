//! From encoded arguments into a component's memory.

use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, LowerContext};
use wasmtime::component::{ComponentNamedList, ComponentType, Lower, ResourceAny};
use wasmtime::{Result, ValRaw};
use wasmtime_environ::component::{InterfaceType, MAX_FLAT_PARAMS, VariantInfo};

use super::{Handles, Malformed, flow};

/// A function's parameters, encoded.
pub(super) struct Arguments<'a> {
    pub head: &'a [u8],
    /// What follows `head`, which ends between two values.
    pub tail: &'a [u8],
    pub handles: &'a Mutex<Handles>,
}

// SAFETY: `Lower` is a sequence of as many `ValRaw` as a function may take, and `linear_lower_to_flat`
// initialises all of them. The ABI is that of a value that is passed in registers, so nothing else is
// derived from it. Any type passes the check because the implementation looks at the type it is given.
unsafe impl ComponentType for Arguments<'_> {
    type Lower = [ValRaw; MAX_FLAT_PARAMS];

    const ABI: CanonicalAbiInfo =
        CanonicalAbiInfo { flat_count: Some(MAX_FLAT_PARAMS as u8), ..CanonicalAbiInfo::SCALAR8 };

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Ok(())
    }
}

// SAFETY: see above; the "tuple" is whatever the function takes.
unsafe impl ComponentNamedList for Arguments<'_> {}

// SAFETY: every value is written as the canonical ABI says for its type; bytes that are no value of
// the type are an error. Memory is only written through bounds-checked slices.
unsafe impl Lower for Arguments<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        let mut values = Values { rest: self.head, tail: self.tail, handles: self.handles };
        let mut flat = Flat { slots: [ValRaw::u64(0); MAX_FLAT_PARAMS], used: 0 };
        let abi = cx.types.canonical_abi(&ty);
        if abi.flat_count(MAX_FLAT_PARAMS).is_some() {
            values.flat(cx, ty, &mut flat)?;
        } else {
            let (size, align) = (abi.size32 as usize, abi.align32);
            let at = cx.realloc(0, 0, align, size)?;
            values.memory(cx, ty, at)?;
            flat.push(ValRaw::u64(at as u64));
        }
        if !values.rest.is_empty() || !values.tail.is_empty() {
            return Err(Malformed("more bytes than the parameters take").into());
        }
        dst.write(flat.slots);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> Result<()> {
        unreachable!("parameters have the ABI of registers")
    }
}

struct Flat {
    slots: [ValRaw; MAX_FLAT_PARAMS],
    used: usize,
}

impl Flat {
    fn push(&mut self, value: ValRaw) {
        // The type's flat count was checked, and each value takes what it has in its type.
        self.slots[self.used] = value;
        self.used += 1;
    }
}

/// Encoded values, from the next one on.
pub(super) struct Values<'a> {
    rest: &'a [u8],
    tail: &'a [u8],
    handles: &'a Mutex<Handles>,
}

impl<'a> Values<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        if self.rest.is_empty() {
            self.rest = std::mem::take(&mut self.tail);
        }
        let Some((taken, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(Malformed("fewer bytes than the parameters take").into());
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn bool(&mut self) -> Result<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Malformed("a truth value that is neither 0 nor 1").into()),
        }
    }

    pub(super) fn char(&mut self) -> Result<u32> {
        let number = self.u32()?;
        char::from_u32(number).ok_or(Malformed("a character that is none"))?;
        Ok(number)
    }

    pub(super) fn string(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        Ok(std::str::from_utf8(self.take(length)?).map_err(|_| Malformed("a string that is not UTF-8"))?)
    }

    /// The number of elements of a list. Each takes a byte at least.
    pub(super) fn count(&mut self) -> Result<usize> {
        let count = self.u32()? as usize;
        if count > self.rest.len() + self.tail.len() {
            return Err(Malformed("a list that is longer than the arguments").into());
        }
        Ok(count)
    }

    fn resource(&mut self, ty: InterfaceType) -> Result<ResourceAny> {
        let handle = self.u32()?;
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match ty {
            InterfaceType::Own(_) => handles.take(handle)?,
            _ => handles.get(handle)?,
        })
    }

    /// The position of a case, and the type of what it carries.
    fn case<T>(
        &mut self,
        cx: &LowerContext<'_, T>,
        ty: InterfaceType,
    ) -> Result<(u32, Option<InterfaceType>)> {
        const UNKNOWN: Malformed = Malformed("a case that the type does not have");
        let (position, payload) = match ty {
            InterfaceType::Variant(index) => {
                let position = self.u32()?;
                let (_, payload) = cx.types[index].cases.get_index(position as usize).ok_or(UNKNOWN)?;
                (position, *payload)
            }
            InterfaceType::Enum(index) => {
                let position = self.u32()?;
                if position as usize >= cx.types[index].names.len() {
                    return Err(UNKNOWN.into());
                }
                (position, None)
            }
            InterfaceType::Option(index) => match self.bool()? {
                true => (1, Some(cx.types[index].ty)),
                false => (0, None),
            },
            InterfaceType::Result(index) => match self.bool()? {
                true => (1, cx.types[index].err),
                false => (0, cx.types[index].ok),
            },
            _ => unreachable!("called for types with cases"),
        };
        Ok((position, payload))
    }

    fn flat<T>(&mut self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, flat: &mut Flat) -> Result<()> {
        match ty {
            InterfaceType::Bool => flat.push(ValRaw::u32(self.bool()?.into())),
            InterfaceType::U8 => flat.push(ValRaw::u32(u8::from_le_bytes(self.array()?).into())),
            InterfaceType::S8 => flat.push(ValRaw::i32(i8::from_le_bytes(self.array()?).into())),
            InterfaceType::U16 => flat.push(ValRaw::u32(u16::from_le_bytes(self.array()?).into())),
            InterfaceType::S16 => flat.push(ValRaw::i32(i16::from_le_bytes(self.array()?).into())),
            InterfaceType::U32 | InterfaceType::S32 => flat.push(ValRaw::u32(self.u32()?)),
            InterfaceType::U64 | InterfaceType::S64 => {
                flat.push(ValRaw::u64(u64::from_le_bytes(self.array()?)));
            }
            InterfaceType::Float32 => flat.push(ValRaw::f32(self.u32()?)),
            InterfaceType::Float64 => flat.push(ValRaw::f64(u64::from_le_bytes(self.array()?))),
            InterfaceType::Char => flat.push(ValRaw::u32(self.char()?)),
            InterfaceType::String => {
                let mut pair = MaybeUninit::uninit();
                self.string()?.linear_lower_to_flat(cx, ty, &mut pair)?;
                // SAFETY: `str` has initialised the pair, as it returned without an error.
                for value in unsafe { pair.assume_init() } {
                    flat.push(value);
                }
            }
            InterfaceType::List(_) | InterfaceType::Map(_) => {
                let (at, count) = self.list(cx, ty)?;
                flat.push(ValRaw::u64(at as u64));
                flat.push(ValRaw::u64(count as u64));
            }
            InterfaceType::Record(index) => {
                let types = cx.types;
                for field in &types[index].fields {
                    self.flat(cx, field.ty, flat)?;
                }
            }
            InterfaceType::Tuple(index) => {
                let types = cx.types;
                for ty in &types[index].types {
                    self.flat(cx, *ty, flat)?;
                }
            }
            InterfaceType::FixedLengthList(index) => {
                let list = &cx.types[index];
                for _ in 0..list.size {
                    self.flat(cx, list.element, flat)?;
                }
            }
            InterfaceType::Flags(index) => {
                for word in 0..cx.types[index].names.len().div_ceil(32) {
                    let bits = self.flags(cx, ty, word)?;
                    flat.push(ValRaw::u32(bits));
                }
            }
            InterfaceType::Variant(_)
            | InterfaceType::Enum(_)
            | InterfaceType::Option(_)
            | InterfaceType::Result(_) => {
                let end = flat.used + usize::from(cx.types.canonical_abi(&ty).flat_count.unwrap_or_default());
                let (position, payload) = self.case(cx, ty)?;
                flat.push(ValRaw::u32(position));
                if let Some(payload) = payload {
                    self.flat(cx, payload, flat)?;
                }
                // Other cases may take more; the rest is zero already.
                flat.used = end;
            }
            InterfaceType::Own(_) | InterfaceType::Borrow(_) => {
                let mut index = MaybeUninit::uninit();
                self.resource(ty)?.linear_lower_to_flat(cx, ty, &mut index)?;
                // SAFETY: initialised, as above.
                flat.push(unsafe { index.assume_init() });
            }
            InterfaceType::Future(_) | InterfaceType::Stream(_) => flat.push(flow::lower(self, cx, ty)?),
            InterfaceType::ErrorContext(_) => {
                return Err(Malformed("error contexts cannot be passed").into());
            }
        }
        Ok(())
    }

    /// Lays a value in at `at`, where its type's size has been allocated.
    fn memory<T>(&mut self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, at: usize) -> Result<()> {
        match ty {
            InterfaceType::Bool => *cx.get(at) = [self.bool()?.into()],
            InterfaceType::U8 | InterfaceType::S8 => *cx.get(at) = self.array::<1>()?,
            InterfaceType::U16 | InterfaceType::S16 => *cx.get(at) = self.array::<2>()?,
            InterfaceType::U32 | InterfaceType::S32 | InterfaceType::Float32 => {
                *cx.get(at) = self.array::<4>()?;
            }
            InterfaceType::U64 | InterfaceType::S64 | InterfaceType::Float64 => {
                *cx.get(at) = self.array::<8>()?;
            }
            InterfaceType::Char => *cx.get(at) = self.char()?.to_le_bytes(),
            InterfaceType::String => self.string()?.linear_lower_to_memory(cx, ty, at)?,
            InterfaceType::List(_) | InterfaceType::Map(_) => {
                let (start, count) = self.list(cx, ty)?;
                *cx.get(at) = u32::try_from(start)?.to_le_bytes();
                *cx.get(at + 4) = u32::try_from(count)?.to_le_bytes();
            }
            InterfaceType::Record(index) => {
                let types = cx.types;
                let mut at = at;
                for field in &types[index].fields {
                    let place = types.canonical_abi(&field.ty).next_field32_size(&mut at);
                    self.memory(cx, field.ty, place)?;
                }
            }
            InterfaceType::Tuple(index) => {
                let types = cx.types;
                let mut at = at;
                for ty in &types[index].types {
                    let place = types.canonical_abi(ty).next_field32_size(&mut at);
                    self.memory(cx, *ty, place)?;
                }
            }
            InterfaceType::FixedLengthList(index) => {
                let list = &cx.types[index];
                let size = cx.types.canonical_abi(&list.element).size32 as usize;
                for position in 0..list.size as usize {
                    self.memory(cx, list.element, at + position * size)?;
                }
            }
            InterfaceType::Flags(index) => {
                let count = cx.types[index].names.len();
                for word in 0..count.div_ceil(32) {
                    let bits = self.flags(cx, ty, word)?.to_le_bytes();
                    match count {
                        0..=8 => *cx.get(at) = [bits[0]],
                        9..=16 => *cx.get(at) = [bits[0], bits[1]],
                        _ => *cx.get(at + 4 * word) = bits,
                    }
                }
            }
            InterfaceType::Variant(_)
            | InterfaceType::Enum(_)
            | InterfaceType::Option(_)
            | InterfaceType::Result(_) => {
                let info = variant(cx, ty);
                let (position, payload) = self.case(cx, ty)?;
                let bytes = position.to_le_bytes();
                match usize::from(info.size) {
                    1 => *cx.get(at) = [bytes[0]],
                    2 => *cx.get(at) = [bytes[0], bytes[1]],
                    _ => *cx.get(at) = bytes,
                }
                if let Some(payload) = payload {
                    self.memory(cx, payload, at + info.payload_offset32 as usize)?;
                }
            }
            InterfaceType::Own(_) | InterfaceType::Borrow(_) => {
                self.resource(ty)?.linear_lower_to_memory(cx, ty, at)?;
            }
            InterfaceType::Future(_) | InterfaceType::Stream(_) => {
                *cx.get(at) = flow::lower(self, cx, ty)?.get_u32().to_le_bytes();
            }
            InterfaceType::ErrorContext(_) => {
                return Err(Malformed("error contexts cannot be passed").into());
            }
        }
        Ok(())
    }

    fn flags<T>(&mut self, cx: &LowerContext<'_, T>, ty: InterfaceType, word: usize) -> Result<u32> {
        let InterfaceType::Flags(index) = ty else { unreachable!("called for flags") };
        let bits = self.u32()?;
        let known = cx.types[index].names.len() - 32 * word;
        if known < 32 && bits >> known != 0 {
            return Err(Malformed("a flag that the type does not have").into());
        }
        Ok(bits)
    }

    /// Lays a list in; gives its address and length.
    fn list<T>(&mut self, cx: &mut LowerContext<'_, T>, ty: InterfaceType) -> Result<(usize, usize)> {
        let types = cx.types;
        let (size, align, key_value) = match ty {
            InterfaceType::List(index) => {
                let abi = types.canonical_abi(&types[index].element);
                (abi.size32 as usize, abi.align32, None)
            }
            InterfaceType::Map(index) => {
                let map = &types[index];
                (map.entry_abi.size32 as usize, map.entry_abi.align32, Some(map))
            }
            _ => unreachable!("called for lists"),
        };
        let count = self.count()?;
        let bytes = count.checked_mul(size).ok_or(Malformed("a list that is too long"))?;
        let start = cx.realloc(0, 0, align, bytes)?;
        match (ty, key_value) {
            (InterfaceType::List(index), _) if is_plain(&types[index].element) => {
                let from = self.take(bytes)?;
                cx.as_slice_mut()[start..start + bytes].copy_from_slice(from);
            }
            (InterfaceType::List(index), _) => {
                for position in 0..count {
                    self.memory(cx, types[index].element, start + position * size)?;
                }
            }
            (_, Some(map)) => {
                for position in 0..count {
                    let at = start + position * size;
                    self.memory(cx, map.key, at)?;
                    self.memory(cx, map.value, at + map.value_offset32 as usize)?;
                }
            }
            _ => unreachable!("called for lists"),
        }
        Ok((start, count))
    }
}

/// Whether values of a type are encoded as they lie in memory, every pattern of bits being one.
pub(super) fn is_plain(ty: &InterfaceType) -> bool {
    use InterfaceType::{Float32, Float64, S8, S16, S32, S64, U8, U16, U32, U64};
    matches!(ty, U8 | S8 | U16 | S16 | U32 | S32 | U64 | S64 | Float32 | Float64)
}

fn variant<'a, T>(cx: &LowerContext<'a, T>, ty: InterfaceType) -> &'a VariantInfo {
    match ty {
        InterfaceType::Variant(index) => &cx.types[index].info,
        InterfaceType::Enum(index) => &cx.types[index].info,
        InterfaceType::Option(index) => &cx.types[index].info,
        InterfaceType::Result(index) => &cx.types[index].info,
        _ => unreachable!("called for types with cases"),
    }
}
