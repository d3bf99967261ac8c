//! Bodies that are counted, bounded in time, and freed of secrets.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};

use super::Outgoing;
use super::connection::Lease;
use super::secret::Mask;

/// The body of a request.
pub(super) struct Sent {
    pub inner: WasiBody,
    pub outgoing: Arc<Outgoing>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && !self.outgoing.count_sent(data.len())
        {
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of a response. At its end the connection can serve another request.
pub(super) struct Received {
    inner: Incoming,
    outgoing: Arc<Outgoing>,
    lease: Option<Lease>,
    mask: Option<Mask>,
    between_bytes: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Received {
    pub fn new(
        inner: Incoming,
        outgoing: Arc<Outgoing>,
        lease: Lease,
        mask: Option<Mask>,
        between_bytes: Duration,
    ) -> Self {
        let mut body = Received { inner, outgoing, lease: Some(lease), mask, between_bytes, waiting: None };
        if body.inner.is_end_stream() {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.outgoing.pool.give_back(lease);
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            let frame = match Pin::new(&mut this.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return this.fail(error.into()),
                Poll::Ready(None) => {
                    this.end();
                    let rest = this.mask.take().map(|mut mask| mask.finish()).filter(|rest| !rest.is_empty());
                    return Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))));
                }
                Poll::Pending => {
                    let limit = this.between_bytes;
                    let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                    return match waiting.as_mut().poll(context) {
                        Poll::Ready(()) => this.fail(Error::ConnectionReadTimeout),
                        Poll::Pending => Poll::Pending,
                    };
                }
            };
            this.waiting = None;
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    // Secrets in trailers have no place to be covered in.
                    match this.mask {
                        Some(_) => continue,
                        None => return Poll::Ready(Some(Ok(frame))),
                    }
                }
            };
            if !this.outgoing.count_received(data.len()) {
                return this.fail(Error::HttpResponseBodySize(None));
            }
            let data = match &mut this.mask {
                Some(mask) => mask.feed(&data),
                None => data,
            };
            if this.inner.is_end_stream() {
                this.end();
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }
}
