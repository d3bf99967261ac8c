//! Calls of component functions whose types are known only once the component is.
//!
//! wasmtime offers two ways to call: with Rust types that stand for the function's, or with a `Val`
//! for every value, each element of each list. The first cannot be had for a component that is
//! loaded at run time, the second takes 32 bytes and a branch for every byte of a `list<u8>`. Here a
//! call's arguments are one string of bytes, which is laid into the component's memory by walking the
//! function's types; lists of numbers are copied as they are. Results come back the same way.
//!
//! The encoding, all little-endian and without padding:
//!
//! | type | bytes |
//! |---|---|
//! | `bool`, integers, floats, `char` | 1, 2, 4 or 8, as in memory |
//! | `string` | length in bytes (4), UTF-8 |
//! | `list<T>`, `map<K, V>` | count (4), the elements |
//! | `list<T, n>`, records, tuples, parameters | the elements |
//! | `option`, `result` | 0 or 1 (`none` and `ok` are 0; 1 byte), the payload |
//! | variants, enums | the case's position (4), the payload |
//! | flags | 32 of them in each 4 bytes |
//! | handles | the host's number for the resource (4) |
//! | `stream<T>`, `future<T>` | as `list<T>` and `T`: what has come of it at the end |

mod flow;
mod lift;
mod lower;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Store;
use wasmtime::component::{Func, ResourceAny, TypedFunc};
use wasmtime_environ::component::MAX_FLAT_RESULTS;

use flow::Flow;
use lift::{Encoded, Results};
use lower::Arguments;

use super::Interrupt;

/// What a caller gave as arguments is not a value of the parameters' types.
#[derive(Debug, thiserror::Error)]
#[error("malformed arguments: {0}")]
pub(crate) struct Malformed(pub &'static str);

impl Malformed {
    const CLOSED: Self = Malformed("a handle that is closed or unknown");

    /// Whether all that is wrong is a handle.
    pub fn is_closed(&self) -> bool {
        self.0 == Self::CLOSED.0
    }
}

/// Resources of one component instance that the caller has handles of.
#[derive(Debug)]
pub(crate) struct Handles {
    /// The first handle. It is another one in each instance, so that a handle which a program kept over
    /// the end of an instance, in a fork for example, is unknown and not that of something else.
    ///
    /// None is given twice: a program that was put back may still hold one that was closed meanwhile.
    next: u32,
    open: HashMap<u32, ResourceAny>,
}

impl Default for Handles {
    fn default() -> Self {
        Handles { next: fastrand::u32(..), open: HashMap::new() }
    }
}

/// A caller cannot make the host hold more.
const MAX_HANDLES: usize = 65_536;

impl Handles {
    fn get(&self, handle: u32) -> Result<ResourceAny, Malformed> {
        self.open.get(&handle).copied().ok_or(Malformed::CLOSED)
    }

    /// Forgets a handle, whose resource the caller then owns.
    pub fn take(&mut self, handle: u32) -> Result<ResourceAny, Malformed> {
        self.open.remove(&handle).ok_or(Malformed::CLOSED)
    }

    /// Whether the caller holds it.
    pub fn has(&self, handle: u32) -> bool {
        self.open.contains_key(&handle)
    }

    /// The handle that is given next.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Takes the resources whose handles were given since `next` was the next one, or all.
    pub fn take_since(&mut self, next: Option<u32>) -> Vec<ResourceAny> {
        let last = self.next;
        let is_later =
            |handle: &u32| next.is_none_or(|next| handle.wrapping_sub(next) < last.wrapping_sub(next));
        self.open.extract_if(|handle, _| is_later(handle)).map(|(_, resource)| resource).collect()
    }

    /// The resources that the caller holds.
    pub fn resources(&self) -> impl Iterator<Item = &ResourceAny> {
        self.open.values()
    }

    fn add(&mut self, resource: ResourceAny) -> wasmtime::Result<u32> {
        if self.open.len() >= MAX_HANDLES {
            wasmtime::bail!("{MAX_HANDLES} resources are open, which is the limit");
        }
        let mut handle = self.next;
        // One may be open since the numbers began anew.
        while self.open.contains_key(&handle) {
            handle = handle.wrapping_add(1);
        }
        self.open.insert(handle, resource);
        self.next = handle.wrapping_add(1);
        Ok(handle)
    }
}

/// Calls a function with encoded arguments, in one or two parts; gives its encoded results, in the
/// memory of `buffer`.
///
/// # Errors
///
/// [`Malformed`] for arguments that are not values of the parameters' types, and whatever ends the
/// call. After an error the instance must not be used again.
pub(crate) fn call<T>(
    store: &mut Store<T>,
    function: Func,
    arguments: [&[u8]; 2],
    handles: &mut Handles,
    interrupt: &Arc<Interrupt>,
    buffer: Vec<u8>,
) -> wasmtime::Result<Vec<u8>> {
    // SAFETY: `Arguments` and `Results` stand for any parameters and results: they look at the types
    // of the function that is called, and read and write what the canonical ABI says for those.
    #[expect(unsafe_code)]
    let typed = unsafe { TypedFunc::<Arguments<'_>, Results<MAX_FLAT_RESULTS>>::new_unchecked(function) };
    let call = |arguments: Arguments<'_>| Ok(typed.call(store, arguments)?.read);
    Ok(encoded(arguments, handles, interrupt, buffer, call)?.0)
}

/// As [`call`], for an `async func`, on this thread; `registers` says in how many its results come.
///
/// # Errors
///
/// As [`call`], and when the function waits for what cannot come.
pub(crate) fn call_async<T: Send>(
    store: &mut Store<T>,
    function: Func,
    registers: usize,
    arguments: [&[u8]; 2],
    handles: &mut Handles,
    interrupt: &Arc<Interrupt>,
    buffer: Vec<u8>,
) -> wasmtime::Result<Vec<u8>> {
    fn run<const N: usize, T: Send>(
        store: &mut Store<T>,
        function: Func,
        interrupt: &Interrupt,
        arguments: Arguments<'_>,
    ) -> wasmtime::Result<Encoded> {
        // SAFETY: as in `call`.
        #[expect(unsafe_code)]
        let typed = unsafe { TypedFunc::<Arguments<'_>, Results<N>>::new_unchecked(function) };
        Ok(interrupt.drive(typed.call_async(store, arguments))??.read)
    }
    let call = |arguments: Arguments<'_>| {
        // wasmtime wants to know of values in registers when the host is compiled.
        macro_rules! with {
            ($($n:literal)*) => {
                match registers {
                    $($n => run::<$n, T>(store, function, interrupt, arguments),)*
                    _ => wasmtime::bail!("its results are in {registers} registers"),
                }
            };
        }
        with!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    let (bytes, flows) = encoded(arguments, handles, interrupt, buffer, call)?;
    match flows.is_empty() {
        true => Ok(bytes),
        false => flow::collect(store, flows, bytes, interrupt),
    }
}

/// Encoded results, and what belongs into them that is still to come.
type Given = (Vec<u8>, Vec<(usize, Flow)>);

fn encoded(
    [head, tail]: [&[u8]; 2],
    handles: &mut Handles,
    interrupt: &Arc<Interrupt>,
    buffer: Vec<u8>,
    call: impl FnOnce(Arguments<'_>) -> wasmtime::Result<Encoded>,
) -> wasmtime::Result<Given> {
    let given = Mutex::new(std::mem::take(handles));
    lift::INTERRUPT.set(Some(Arc::clone(interrupt)));
    lift::BUFFER.set(buffer);
    let results = call(Arguments { head, tail, handles: &given });
    lift::INTERRUPT.set(None);
    // It is there still if the call gave nothing.
    drop(lift::BUFFER.take());
    *handles = given.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Encoded { mut bytes, resources, flows, .. } = results?;
    for (at, resource) in resources {
        let handle = handles.add(resource)?;
        bytes[at..at + 4].copy_from_slice(&handle.to_le_bytes());
    }
    Ok((bytes, flows))
}
