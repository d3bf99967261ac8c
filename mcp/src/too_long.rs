//! Messages that are too long. The SDK leaves them out, and who asks so would wait for ever: a request with the same
//! `id` is put in after each, and answered with what is wrong.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};

/// What is asked in the place of a message that is too long.
pub const METHOD: &str = "agentkernel/message-too-long";

/// Bytes of an `id` that is answered.
const ID_BYTES: usize = 256;

/// Input in which a message that is longer than it may be is followed by a request in its name.
pub struct Told<R> {
    input: BufReader<R>,
    most: usize,
    line: Line,
    /// What is put in, and is not read yet.
    put_in: Vec<u8>,
}

impl<R: AsyncRead> Told<R> {
    pub fn new(input: R, most: usize) -> Self {
        Told { input: BufReader::new(input), most, line: Line::default(), put_in: Vec::new() }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Told<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Told { input, most, line, put_in } = self.get_mut();
        if !put_in.is_empty() {
            let now = put_in.len().min(into.remaining());
            into.put_slice(&put_in[..now]);
            put_in.drain(..now);
            return Poll::Ready(Ok(()));
        }
        let read = ready!(Pin::new(&mut *input).poll_fill_buf(context))?;
        let mut passed = read.len().min(into.remaining());
        for (at, byte) in read[..passed].iter().enumerate() {
            if line.add(*byte)
                && let ended = std::mem::take(line)
                && ended.bytes > *most
                && let Some(id) = ended.id()
            {
                let request = serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": METHOD });
                *put_in = format!("{request}\n").into_bytes();
                passed = at + 1;
                break;
            }
        }
        into.put_slice(&read[..passed]);
        Pin::new(input).consume(passed);
        Poll::Ready(Ok(()))
    }
}

/// What is known of a line so far, whatever its length.
#[derive(Default)]
struct Line {
    bytes: usize,
    /// How many objects and lists are open.
    depth: u32,
    in_text: bool,
    is_escaped: bool,
    /// The beginning of the current key or value of the message itself.
    token: Vec<u8>,
    is_id: bool,
    id: Vec<u8>,
}

impl Line {
    /// Takes in another byte; says whether the line ends with it.
    fn add(&mut self, byte: u8) -> bool {
        self.bytes += 1;
        if byte == b'\n' {
            return true;
        }
        let is_sign = !self.in_text;
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = self.in_text,
            b'"' => self.in_text = !self.in_text,
            b'{' | b'[' if is_sign => self.depth = self.depth.saturating_add(1),
            b'}' | b']' if is_sign => {
                self.end_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b',' if is_sign => self.end_value(),
            b':' if is_sign && self.depth == 1 => {
                self.is_id = self.token == b"\"id\"";
                self.token.clear();
                return false;
            }
            _ => {}
        }
        let belongs = self.depth == 1 && !(is_sign && matches!(byte, b'{' | b'}' | b']' | b','));
        if belongs && self.token.len() <= ID_BYTES && (!is_sign || !byte.is_ascii_whitespace()) {
            self.token.push(byte);
        }
        false
    }

    fn end_value(&mut self) {
        if self.depth == 1 {
            if self.is_id {
                self.id = std::mem::take(&mut self.token);
            }
            self.is_id = false;
            self.token.clear();
        }
    }

    /// The `id` of the message, if it has one that can be answered.
    fn id(&self) -> Option<serde_json::Value> {
        let id: serde_json::Value = serde_json::from_slice(&self.id).ok()?;
        (id.is_i64() || id.is_string()).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(input: &str, most: usize) -> String {
        let mut output = String::new();
        Told::new(input.as_bytes(), most).read_to_string(&mut output).await.unwrap();
        output
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_followed_by_one_in_its_name() {
        let long = "x".repeat(200);
        for (message, id) in [
            (json!({ "id": 7, "method": long }), Some(json!(7))),
            (
                json!({ "method": "m", "params": { "id": 1, "a": [{ "id": 2 }], "b": long }, "id": "q\",}" }),
                Some(json!("q\",}")),
            ),
            (json!({ "a": "\"id\":5,", "id": -3, "z": long }), Some(json!(-3))),
            (json!({ "id": long.repeat(2), "method": "m" }), None),
            (json!({ "method": "m", "params": long }), None),
            (json!([{ "id": 1, "method": long }]), None),
            (json!({ "id": { "id": 1 }, "method": long }), None),
        ] {
            let input = format!("{{\"id\": 1}}\n{message}\n{{\"id\": 2}}\n");
            let told = id.map_or(String::new(), |id| {
                format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "method": METHOD }))
            });
            let expected = format!("{{\"id\": 1}}\n{message}\n{told}{{\"id\": 2}}\n");
            assert_eq!(read(&input, 100).await, expected);
            assert_eq!(read(&input, 10_000).await, input);
        }
        // Nothing of it is JSON.
        for input in ["}}}]]\"id\":1,\\", "{\"id\":", "\"", "{{{{", "{:::,,,}"] {
            let input = format!("{input}{long}\n").repeat(3);
            assert_eq!(read(&input, 100).await, input);
        }
    }
}
