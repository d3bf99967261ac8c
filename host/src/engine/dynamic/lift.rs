//! From a component's memory into encoded results.

use std::cell::RefCell;
use std::sync::Arc;

use wasmtime::component::__internal::{CanonicalAbiInfo, ComponentTypes, InstanceType, LiftContext};
use wasmtime::component::{ComponentNamedList, ComponentType, FutureAny, Lift, ResourceAny, StreamAny};
use wasmtime::{Result, ValRaw, bail};
use wasmtime_environ::component::{
    InterfaceType, MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, StringEncoding, VariantInfo,
};

use super::flow::{End, Flow};
use super::lower::is_plain;
use crate::engine::{Interrupt, Stopped};

/// A function's results, which come in `N` registers, encoded.
#[derive(Default)]
pub(super) struct Results<const N: usize> {
    pub read: Encoded,
}

/// Results as they are encoded.
#[derive(Default)]
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    /// Resources, and where their handles belong.
    pub resources: Vec<(usize, ResourceAny)>,
    /// Streams and futures, and where what comes of them belongs.
    pub flows: Vec<(usize, Flow)>,
    values: u32,
}

/// A component can make its results many times as large as its memory, by naming a list twice.
pub(super) const MAX_BYTES: usize = 256 << 20;

/// How many values are read between two looks whether to stop.
const LOOK_EVERY: u32 = 1 << 14;

thread_local! {
    /// What stops the call on this thread while its results are read.
    pub(super) static INTERRUPT: RefCell<Option<Arc<Interrupt>>> = const { RefCell::new(None) };

    /// Memory for the results of the call on this thread.
    pub(super) static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

// SAFETY: `Lower` is a sequence of `ValRaw`. wasmtime checks that there are as many as that, and where
// it gives a slot that a function without results does not fill, the slot holds what `Arguments` put
// there and is not looked at. Any type passes the check because the implementation looks at the type it
// is given.
unsafe impl<const N: usize> ComponentType for Results<N> {
    type Lower = [ValRaw; N];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR8;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Ok(())
    }
}

// SAFETY: see above; the "tuple" is whatever the function returns.
unsafe impl<const N: usize> ComponentNamedList for Results<N> {}

// SAFETY: memory and registers are only read through bounds-checked slices, and every value is checked
// to be one of its type.
unsafe impl<const N: usize> Lift for Results<N> {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Self::Lower) -> Result<Self> {
        let mut read = Encoded { bytes: BUFFER.take(), ..Encoded::default() };
        read.bytes.clear();
        let types = Arc::clone(cx.types);
        let abi = types.canonical_abi(&ty);
        let mut registers = Registers { values: src, next: 0 };
        // What an asynchronous function gives back goes through parameters of `task.return`.
        let most = if cx.options().async_ { MAX_FLAT_PARAMS } else { MAX_FLAT_RESULTS };
        if abi.flat_count(most).is_some() {
            read.flat(cx, &types, ty, &mut registers)?;
        } else {
            let start = registers.take()?.get_u32() as usize;
            if !start.is_multiple_of(abi.align32 as usize) {
                bail!("the results are not aligned");
            }
            read.memory(cx, &types, ty, start)?;
        }
        Ok(Results { read })
    }

    fn linear_lift_from_memory(_: &mut LiftContext<'_>, _: InterfaceType, _: &[u8]) -> Result<Self> {
        unreachable!("results have the ABI of registers")
    }
}

/// Values in registers, of which the next one is at `next`.
struct Registers<'a> {
    values: &'a [ValRaw],
    next: usize,
}

impl Registers<'_> {
    fn take(&mut self) -> Result<ValRaw> {
        let value = self.values.get(self.next).copied();
        self.next += 1;
        value.ok_or_else(|| wasmtime::Error::msg("the results are too short"))
    }
}

fn bytes<'a>(cx: &LiftContext<'a>, start: usize, length: usize) -> Result<&'a [u8]> {
    let range = start.checked_add(length).and_then(|end| cx.memory().get(start..end));
    range.ok_or_else(|| wasmtime::Error::msg("a result lies outside of memory"))
}

fn array<const N: usize>(cx: &LiftContext<'_>, start: usize) -> Result<[u8; N]> {
    Ok(bytes(cx, start, N)?.try_into()?)
}

fn character(number: u32) -> Result<u32> {
    if char::from_u32(number).is_none() {
        bail!("a character is none");
    }
    Ok(number)
}

impl Encoded {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.values = self.values.wrapping_add(1);
        if self.values.is_multiple_of(LOOK_EVERY)
            && INTERRUPT.with_borrow(|interrupt| interrupt.as_ref().is_some_and(|it| it.is_fired()))
        {
            return Err(Stopped.into());
        }
        if self.bytes.len() + bytes.len() > MAX_BYTES {
            bail!("the results are larger than {MAX_BYTES} bytes");
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn put_bool(&mut self, byte: u32) -> Result<()> {
        self.put(&[u8::from(byte != 0)])
    }

    fn put_resource(&mut self, resource: ResourceAny) -> Result<()> {
        self.resources.push((self.bytes.len(), resource));
        self.put(&[0; 4])
    }

    /// A case's position; gives the type of what it carries.
    fn put_case(
        &mut self,
        types: &ComponentTypes,
        ty: InterfaceType,
        position: u32,
    ) -> Result<Option<InterfaceType>> {
        let unknown = || wasmtime::Error::msg("a result is a case that its type does not have");
        match ty {
            InterfaceType::Variant(index) => {
                let (_, payload) = types[index].cases.get_index(position as usize).ok_or_else(unknown)?;
                self.put(&position.to_le_bytes())?;
                Ok(*payload)
            }
            InterfaceType::Enum(index) => {
                if position as usize >= types[index].names.len() {
                    return Err(unknown());
                }
                self.put(&position.to_le_bytes())?;
                Ok(None)
            }
            InterfaceType::Option(_) | InterfaceType::Result(_) if position > 1 => Err(unknown()),
            InterfaceType::Option(index) => {
                self.put(&[position as u8])?;
                Ok((position == 1).then_some(types[index].ty))
            }
            InterfaceType::Result(index) => {
                self.put(&[position as u8])?;
                Ok(if position == 1 { types[index].err } else { types[index].ok })
            }
            _ => unreachable!("called for types with cases"),
        }
    }

    fn put_flags(&mut self, types: &ComponentTypes, ty: InterfaceType, word: usize, bits: u32) -> Result<()> {
        let InterfaceType::Flags(index) = ty else { unreachable!("called for flags") };
        // Bits that no flag has are nobody's business.
        let known = types[index].names.len() - 32 * word;
        let mask = if known < 32 { (1u32 << known) - 1 } else { u32::MAX };
        self.put(&(bits & mask).to_le_bytes())
    }

    /// A value in registers.
    fn flat(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        ty: InterfaceType,
        from: &mut Registers<'_>,
    ) -> Result<()> {
        match ty {
            InterfaceType::Bool => self.put_bool(from.take()?.get_u32()),
            InterfaceType::U8 | InterfaceType::S8 => self.put(&from.take()?.get_u32().to_le_bytes()[..1]),
            InterfaceType::U16 | InterfaceType::S16 => self.put(&from.take()?.get_u32().to_le_bytes()[..2]),
            InterfaceType::U32 | InterfaceType::S32 | InterfaceType::Float32 => {
                self.put(&from.take()?.get_u32().to_le_bytes())
            }
            InterfaceType::U64 | InterfaceType::S64 | InterfaceType::Float64 => {
                self.put(&from.take()?.get_u64().to_le_bytes())
            }
            InterfaceType::Char => self.put(&character(from.take()?.get_u32())?.to_le_bytes()),
            InterfaceType::String => {
                let pair = [from.take()?, from.take()?];
                if cx.options().string_encoding == StringEncoding::Utf8 {
                    return self.utf8(cx, pair[0].get_u32(), pair[1].get_u32());
                }
                let string = String::linear_lift_from_flat(cx, ty, &pair)?;
                self.put_string(&string)
            }
            InterfaceType::List(_) | InterfaceType::Map(_) => {
                let (start, count) = (from.take()?.get_u32(), from.take()?.get_u32());
                self.list(cx, types, ty, start as usize, count as usize)
            }
            InterfaceType::Record(index) => {
                types[index].fields.iter().try_for_each(|field| self.flat(cx, types, field.ty, from))
            }
            InterfaceType::Tuple(index) => {
                types[index].types.iter().try_for_each(|ty| self.flat(cx, types, *ty, from))
            }
            InterfaceType::FixedLengthList(index) => {
                (0..types[index].size).try_for_each(|_| self.flat(cx, types, types[index].element, from))
            }
            InterfaceType::Flags(index) => (0..types[index].names.len().div_ceil(32))
                .try_for_each(|word| self.put_flags(types, ty, word, from.take()?.get_u32())),
            InterfaceType::Variant(_)
            | InterfaceType::Enum(_)
            | InterfaceType::Option(_)
            | InterfaceType::Result(_) => {
                let end = from.next + usize::from(types.canonical_abi(&ty).flat_count.unwrap_or_default());
                if let Some(payload) = self.put_case(types, ty, from.take()?.get_u32())? {
                    self.flat(cx, types, payload, from)?;
                }
                // Other cases may take more.
                from.next = end;
                Ok(())
            }
            InterfaceType::Own(_) | InterfaceType::Borrow(_) => {
                let resource = ResourceAny::linear_lift_from_flat(cx, ty, &from.take()?)?;
                self.put_resource(resource)
            }
            InterfaceType::Future(_) | InterfaceType::Stream(_) => {
                let handle = from.take()?;
                self.put_flow(cx, types, ty, handle)
            }
            InterfaceType::ErrorContext(_) => bail!("a result is of a type that cannot be returned"),
        }
    }

    fn put_flow(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        ty: InterfaceType,
        handle: ValRaw,
    ) -> Result<()> {
        let end = match ty {
            InterfaceType::Stream(_) => End::Stream(StreamAny::linear_lift_from_flat(cx, ty, &handle)?),
            _ => End::Future(FutureAny::linear_lift_from_flat(cx, ty, &handle)?),
        };
        self.flows.push((self.bytes.len(), Flow::new(types, ty, end)));
        // A list of many costs something, as it does of other things.
        self.put(&[])
    }

    fn put_string(&mut self, string: &str) -> Result<()> {
        self.put(&u32::try_from(string.len())?.to_le_bytes())?;
        self.put(string.as_bytes())
    }

    fn utf8(&mut self, cx: &LiftContext<'_>, start: u32, length: u32) -> Result<()> {
        self.put_string(std::str::from_utf8(bytes(cx, start as usize, length as usize)?)?)
    }

    /// A value that lies in memory.
    fn memory(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        ty: InterfaceType,
        at: usize,
    ) -> Result<()> {
        match ty {
            InterfaceType::Bool => self.put_bool(array::<1>(cx, at)?[0].into()),
            InterfaceType::U8 | InterfaceType::S8 => self.put(bytes(cx, at, 1)?),
            InterfaceType::U16 | InterfaceType::S16 => self.put(bytes(cx, at, 2)?),
            InterfaceType::U32 | InterfaceType::S32 | InterfaceType::Float32 => self.put(bytes(cx, at, 4)?),
            InterfaceType::U64 | InterfaceType::S64 | InterfaceType::Float64 => self.put(bytes(cx, at, 8)?),
            InterfaceType::Char => self.put(&character(u32::from_le_bytes(array(cx, at)?))?.to_le_bytes()),
            InterfaceType::String => {
                if cx.options().string_encoding == StringEncoding::Utf8 {
                    let (start, length) = (array(cx, at)?, array(cx, at + 4)?);
                    return self.utf8(cx, u32::from_le_bytes(start), u32::from_le_bytes(length));
                }
                let string = String::linear_lift_from_memory(cx, ty, bytes(cx, at, 8)?)?;
                self.put_string(&string)
            }
            InterfaceType::List(_) | InterfaceType::Map(_) => {
                let (start, count) = (array(cx, at)?, array(cx, at + 4)?);
                let (start, count) = (u32::from_le_bytes(start), u32::from_le_bytes(count));
                self.list(cx, types, ty, start as usize, count as usize)
            }
            InterfaceType::Record(index) => {
                let mut next = at;
                for field in &types[index].fields {
                    let place = types.canonical_abi(&field.ty).next_field32_size(&mut next);
                    self.memory(cx, types, field.ty, place)?;
                }
                Ok(())
            }
            InterfaceType::Tuple(index) => {
                let mut next = at;
                for ty in &types[index].types {
                    let place = types.canonical_abi(ty).next_field32_size(&mut next);
                    self.memory(cx, types, *ty, place)?;
                }
                Ok(())
            }
            InterfaceType::FixedLengthList(index) => {
                let list = &types[index];
                let size = types.canonical_abi(&list.element).size32 as usize;
                (0..list.size as usize)
                    .try_for_each(|position| self.memory(cx, types, list.element, at + position * size))
            }
            InterfaceType::Flags(index) => {
                let count = types[index].names.len();
                for word in 0..count.div_ceil(32) {
                    let bits = match count {
                        0..=8 => array::<1>(cx, at)?[0].into(),
                        9..=16 => u16::from_le_bytes(array(cx, at)?).into(),
                        _ => u32::from_le_bytes(array(cx, at + 4 * word)?),
                    };
                    self.put_flags(types, ty, word, bits)?;
                }
                Ok(())
            }
            InterfaceType::Variant(_)
            | InterfaceType::Enum(_)
            | InterfaceType::Option(_)
            | InterfaceType::Result(_) => {
                let info = variant(types, ty);
                let position = match usize::from(info.size) {
                    1 => array::<1>(cx, at)?[0].into(),
                    2 => u16::from_le_bytes(array(cx, at)?).into(),
                    _ => u32::from_le_bytes(array(cx, at)?),
                };
                match self.put_case(types, ty, position)? {
                    Some(payload) => self.memory(cx, types, payload, at + info.payload_offset32 as usize),
                    None => Ok(()),
                }
            }
            InterfaceType::Own(_) | InterfaceType::Borrow(_) => {
                let resource = ResourceAny::linear_lift_from_memory(cx, ty, bytes(cx, at, 4)?)?;
                self.put_resource(resource)
            }
            InterfaceType::Future(_) | InterfaceType::Stream(_) => {
                let handle = u32::from_le_bytes(array(cx, at)?);
                self.put_flow(cx, types, ty, ValRaw::u32(handle))
            }
            InterfaceType::ErrorContext(_) => bail!("a result is of a type that cannot be returned"),
        }
    }

    fn list(
        &mut self,
        cx: &mut LiftContext<'_>,
        types: &ComponentTypes,
        ty: InterfaceType,
        start: usize,
        count: usize,
    ) -> Result<()> {
        let abi = match ty {
            InterfaceType::List(index) => types.canonical_abi(&types[index].element),
            InterfaceType::Map(index) => &types[index].entry_abi,
            _ => unreachable!("called for lists"),
        };
        let size = abi.size32 as usize;
        if !start.is_multiple_of(abi.align32 as usize) {
            bail!("a list is not aligned");
        }
        let length = count.checked_mul(size).ok_or_else(|| wasmtime::Error::msg("a list is too long"))?;
        let content = bytes(cx, start, length)?;
        self.put(&u32::try_from(count)?.to_le_bytes())?;
        match ty {
            InterfaceType::List(index) if is_plain(&types[index].element) => self.put(content),
            InterfaceType::List(index) => (0..count).try_for_each(|position| {
                self.memory(cx, types, types[index].element, start + position * size)
            }),
            InterfaceType::Map(index) => {
                let map = &types[index];
                (0..count).try_for_each(|position| {
                    let at = start + position * size;
                    self.memory(cx, types, map.key, at)?;
                    self.memory(cx, types, map.value, at + map.value_offset32 as usize)
                })
            }
            _ => unreachable!("called for lists"),
        }
    }
}

fn variant(types: &ComponentTypes, ty: InterfaceType) -> &VariantInfo {
    match ty {
        InterfaceType::Variant(index) => &types[index].info,
        InterfaceType::Enum(index) => &types[index].info,
        InterfaceType::Option(index) => &types[index].info,
        InterfaceType::Result(index) => &types[index].info,
        _ => unreachable!("called for types with cases"),
    }
}
