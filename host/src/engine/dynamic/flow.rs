//! Streams and futures, whose values a call carries as a list and as a value: what is passed is there
//! before the call begins, and the call is over when all that it gives has come.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::component::__internal::LowerContext;
use wasmtime::component::{
    ComponentType, FutureAny, FutureConsumer, FutureReader, Lift, Lower, Source, StreamAny, StreamConsumer,
    StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, Result, Store, StoreContextMut, ValRaw, bail};
use wasmtime_environ::component::{ComponentTypes, InterfaceType};

use super::lift::MAX_BYTES;
use super::lower::Values;
use crate::engine::Interrupt;

/// How many values are taken from a stream at once.
const PIECE: usize = 1 << 14;

/// A value that may be in streams and futures.
trait Item: ComponentType + Lift + Lower + Send + Sync + Unpin + Sized + 'static {
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(values: &mut Values<'_>) -> Result<Self>;
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl Item for $ty {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn decode(values: &mut Values<'_>) -> Result<Self> {
                Ok(Self::from_le_bytes(values.array()?))
            }
        }
    )*};
}
numbers!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

impl Item for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }
    fn decode(values: &mut Values<'_>) -> Result<Self> {
        values.bool()
    }
}

impl Item for char {
    fn encode(&self, out: &mut Vec<u8>) {
        u32::from(*self).encode(out);
    }
    fn decode(values: &mut Values<'_>) -> Result<Self> {
        Ok(char::from_u32(values.char()?).unwrap_or_default())
    }
}

impl Item for String {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(values: &mut Values<'_>) -> Result<Self> {
        Ok(values.string()?.to_owned())
    }
}

/// Calls `$run` with the Rust type of what a stream or future holds.
macro_rules! with_item {
    ($payload:expr, $run:ident $arguments:tt) => {
        match $payload {
            Some(InterfaceType::Bool) => $run::<bool, _> $arguments,
            Some(InterfaceType::U8) => $run::<u8, _> $arguments,
            Some(InterfaceType::S8) => $run::<i8, _> $arguments,
            Some(InterfaceType::U16) => $run::<u16, _> $arguments,
            Some(InterfaceType::S16) => $run::<i16, _> $arguments,
            Some(InterfaceType::U32) => $run::<u32, _> $arguments,
            Some(InterfaceType::S32) => $run::<i32, _> $arguments,
            Some(InterfaceType::U64) => $run::<u64, _> $arguments,
            Some(InterfaceType::S64) => $run::<i64, _> $arguments,
            Some(InterfaceType::Float32) => $run::<f32, _> $arguments,
            Some(InterfaceType::Float64) => $run::<f64, _> $arguments,
            Some(InterfaceType::Char) => $run::<char, _> $arguments,
            Some(InterfaceType::String) => $run::<String, _> $arguments,
            _ => bail!("a stream or future of a type that cannot be passed"),
        }
    };
}

/// What a stream or future holds.
fn payload(types: &ComponentTypes, ty: InterfaceType) -> Option<InterfaceType> {
    match ty {
        InterfaceType::Stream(index) => types[types[index].ty].payload,
        InterfaceType::Future(index) => types[types[index].ty].payload,
        _ => None,
    }
}

/// Makes a stream or future of the next values; gives its handle.
pub(super) fn lower<T>(
    values: &mut Values<'_>,
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
) -> Result<ValRaw> {
    fn make<I: Item, T>(
        values: &mut Values<'_>,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
    ) -> Result<ValRaw> {
        let mut handle = MaybeUninit::uninit();
        if let InterfaceType::Stream(_) = ty {
            let count = values.count()?;
            let items = (0..count).map(|_| I::decode(values)).collect::<Result<Vec<I>>>()?;
            StreamReader::new(&mut cx.store, items)?.linear_lower_to_flat(cx, ty, &mut handle)?;
        } else {
            let item = std::future::ready(I::decode(values));
            FutureReader::new(&mut cx.store, item)?.linear_lower_to_flat(cx, ty, &mut handle)?;
        }
        // SAFETY: it was initialised, as there was no error.
        Ok(unsafe { handle.assume_init() })
    }
    with_item!(payload(cx.types, ty), make(values, cx, ty))
}

/// A stream or future that a function gave.
pub(super) struct Flow {
    pub end: End,
    payload: Option<InterfaceType>,
}

pub(super) enum End {
    Stream(StreamAny),
    Future(FutureAny),
}

impl Flow {
    pub fn new(types: &ComponentTypes, ty: InterfaceType, end: End) -> Self {
        Flow { end, payload: payload(types, ty) }
    }
}

/// What has come of a stream or future.
#[derive(Default)]
struct Come {
    bytes: Vec<u8>,
    count: u32,
}

/// Takes what comes. It is dropped at the end, and `_end` with it.
struct Taker<I> {
    come: Arc<Mutex<Come>>,
    total: Arc<AtomicUsize>,
    _end: oneshot::Sender<()>,
    item: PhantomData<fn() -> I>,
}

impl<I: Item> Taker<I> {
    fn take<D>(&self, mut store: StoreContextMut<'_, D>, mut source: Source<'_, I>) -> Result<()> {
        let mut items = Vec::<I>::with_capacity(source.remaining(&mut store).min(PIECE));
        source.read(store, &mut items)?;
        let mut come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        let before = come.bytes.len();
        items.iter().for_each(|item| item.encode(&mut come.bytes));
        come.count += items.len() as u32;
        let more = come.bytes.len() - before;
        if self.total.fetch_add(more, Ordering::Relaxed) + more > MAX_BYTES {
            bail!("the results are larger than {MAX_BYTES} bytes");
        }
        Ok(())
    }
}

impl<I: Item, D> StreamConsumer<D> for Taker<I> {
    type Item = I;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, I>,
        _: bool,
    ) -> Poll<Result<StreamResult>> {
        Poll::Ready(self.take(store, source).map(|()| StreamResult::Completed))
    }
}

impl<I: Item, D> FutureConsumer<D> for Taker<I> {
    type Item = I;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, I>,
        _: bool,
    ) -> Poll<Result<()>> {
        Poll::Ready(self.take(store, source))
    }
}

/// Waits for all that comes of `flows`, and puts it into `bytes` at their places.
pub(super) fn collect<T: Send>(
    store: &mut Store<T>,
    flows: Vec<(usize, Flow)>,
    bytes: Vec<u8>,
    interrupt: &Interrupt,
) -> Result<Vec<u8>> {
    fn pipe<I: Item, T>(
        store: &mut Store<T>,
        end: End,
        come: Arc<Mutex<Come>>,
        total: Arc<AtomicUsize>,
    ) -> Result<oneshot::Receiver<()>> {
        let (sender, receiver) = oneshot::channel();
        let taker = Taker::<I> { come, total, _end: sender, item: PhantomData };
        match end {
            End::Stream(stream) => {
                stream.try_into_stream_reader::<I>()?.pipe(store.as_context_mut(), taker)?
            }
            End::Future(future) => {
                future.try_into_future_reader::<I>()?.pipe(store.as_context_mut(), taker)?
            }
        }
        Ok(receiver)
    }
    let total = Arc::new(AtomicUsize::new(bytes.len()));
    let mut ends = Vec::with_capacity(flows.len());
    let mut places = Vec::with_capacity(flows.len());
    for (at, Flow { end, payload }) in flows {
        let counted = matches!(end, End::Stream(_));
        let (come, total) = (Arc::<Mutex<Come>>::default(), Arc::clone(&total));
        places.push((at, counted, Arc::clone(&come)));
        ends.push(with_item!(payload, pipe(store, end, come, total))?);
    }
    interrupt.drive(store.run_concurrent(async |_| {
        for end in ends {
            // Nothing is sent: it ends when the taker is gone.
            let _ = end.await;
        }
    }))??;
    let mut all = Vec::with_capacity(total.load(Ordering::Relaxed) + 4 * places.len());
    let mut copied = 0;
    for (at, counted, come) in places {
        let come = come.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(&bytes[copied..at]);
        copied = at;
        match counted {
            true => come.count.encode(&mut all),
            false if come.count == 0 => bail!("a future was closed without a value"),
            false => {}
        }
        all.extend_from_slice(&come.bytes);
    }
    all.extend_from_slice(&bytes[copied..]);
    Ok(all)
}
