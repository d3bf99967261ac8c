//! Messages over the standard streams of a server, a line each. Nothing that it writes is held beyond a limit.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ErrorCode, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
    ServerNotification,
};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Notify, mpsc};

/// Bytes that a server may write between two answers, in messages that nobody asked for, as a multiple of the longest message.
const MOST_UNASKED: usize = 4;

/// The code of an error that stands for an answer which was too long. It is none that servers give.
pub const TOO_LONG: ErrorCode = ErrorCode(-31_999);

/// Why a connection has ended, once it has.
#[derive(Default)]
pub struct Closed {
    why: Mutex<Option<Cow<'static, str>>>,
    notify: Notify,
}

impl Closed {
    /// Says so; the first reason stays.
    pub fn set(&self, why: impl Into<Cow<'static, str>>) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.into());
        self.notify.notify_waiters();
    }

    pub fn why(&self) -> Option<Cow<'static, str>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has.
    pub async fn wait(&self) {
        loop {
            let notified = self.notify.notified();
            if self.why().is_some() {
                return;
            }
            notified.await;
        }
    }
}

/// The two streams of a server.
pub struct Streams {
    stdin: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    messages: mpsc::Receiver<ServerJsonRpcMessage>,
}

impl Streams {
    /// Reads messages of at most `most_bytes`. `closed` is told when no more come.
    pub fn new(stdin: ChildStdin, stdout: ChildStdout, most_bytes: usize, closed: Arc<Closed>) -> Self {
        let (sender, messages) = mpsc::channel(8);
        let mut reading =
            Reading { stdout: BufReader::with_capacity(64 << 10, stdout), most_bytes, unasked: 0, sender };
        tokio::spawn(async move {
            let why = reading.run().await;
            closed.set(why);
            // Who waits for messages learns only now that there are no more.
            drop(reading);
        });
        Streams { stdin: Arc::new(tokio::sync::Mutex::new(Some(stdin))), messages }
    }
}

impl Transport<RoleClient> for Streams {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let stdin = Arc::clone(&self.stdin);
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let stdin = stdin.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            stdin.write_all(&line).await?;
            stdin.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.messages.close();
        // Who still writes holds the lock, and ends with the process.
        if let Ok(mut stdin) = self.stdin.try_lock() {
            stdin.take();
        }
        Ok(())
    }
}

struct Reading {
    stdout: BufReader<ChildStdout>,
    most_bytes: usize,
    /// Bytes since the last answer.
    unasked: usize,
    sender: mpsc::Sender<ServerJsonRpcMessage>,
}

/// What came.
enum Line {
    Whole(Vec<u8>),
    /// One that was too long: how it begins and ends, and its length.
    Long {
        ends: [Vec<u8>; 2],
        length: usize,
    },
}

/// How much of the beginning and the end of a long line is looked at for the number that it has.
const END_BYTES: usize = 128;

impl Reading {
    /// Passes messages on until there are no more, and says why that is.
    async fn run(&mut self) -> Cow<'static, str> {
        loop {
            let message = match self.line().await {
                Ok(None) => return "it closed its standard output".into(),
                Err(error) => return format!("its standard output cannot be read: {error}").into(),
                Ok(Some(Line::Whole(line))) => {
                    self.unasked += line.len() + 1;
                    // What is no message, a log for instance, is nobody's business.
                    serde_json::from_slice::<ServerJsonRpcMessage>(&line).ok()
                }
                Ok(Some(Line::Long { ends, length })) => {
                    let most = self.most_bytes;
                    let Some(id) = number_of(&ends) else {
                        return format!("it wrote a line of {length} bytes, and {most} are allowed").into();
                    };
                    let message = format!("its answer has {length} bytes, and {most} are allowed");
                    let error = ErrorData { code: TOO_LONG, message: message.into(), data: None };
                    Some(ServerJsonRpcMessage::error(error, Some(RequestId::Number(id))))
                }
            };
            let Some(message) = message else {
                if let Some(why) = self.too_much() {
                    return why;
                }
                continue;
            };
            match &message {
                JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => self.unasked = 0,
                JsonRpcMessage::Request(_) => {}
                JsonRpcMessage::Notification(notification) => match notification.notification {
                    ServerNotification::ToolListChangedNotification(_)
                    | ServerNotification::CancelledNotification(_) => {}
                    // Nobody listens to progress and logs.
                    _ => {
                        if let Some(why) = self.too_much() {
                            return why;
                        }
                        continue;
                    }
                },
            }
            if let Some(why) = self.too_much() {
                return why;
            }
            if self.sender.send(message).await.is_err() {
                return "it was not needed any more".into();
            }
        }
    }

    fn too_much(&self) -> Option<Cow<'static, str>> {
        let most = self.most_bytes.saturating_mul(MOST_UNASKED);
        (self.unasked > most)
            .then(|| format!("it wrote more than {most} bytes that nobody had asked for").into())
    }

    /// The next line, without its end.
    async fn line(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let mut length = 0usize;
        let mut last = Vec::new();
        loop {
            let available = self.stdout.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            length = length.saturating_add(part.len());
            if length <= self.most_bytes {
                line.extend_from_slice(part);
            } else {
                if last.is_empty() {
                    last = line[line.len().saturating_sub(END_BYTES)..].to_vec();
                    let begins = line.len() < END_BYTES;
                    if begins {
                        line.extend_from_slice(&part[..part.len().min(END_BYTES)]);
                    }
                    line.truncate(END_BYTES);
                    line.shrink_to_fit();
                }
                last.extend_from_slice(&part[part.len().saturating_sub(END_BYTES)..]);
                let beyond = last.len().saturating_sub(END_BYTES);
                last.drain(..beyond);
            }
            let used = part.len() + usize::from(end.is_some());
            self.stdout.consume(used);
            if length > self.most_bytes.saturating_mul(MOST_UNASKED) {
                return Err(io::Error::other(format!("a line has more than {length} bytes")));
            }
            if end.is_some() {
                return Ok(Some(match length <= self.most_bytes {
                    true => Line::Whole(line),
                    false => Line::Long { ends: [line, last], length },
                }));
            }
        }
    }
}

/// The number of a message of which only the ends are known, where servers write it: first, or last. If it is another's, that
/// one of the same server's calls fails.
fn number_of([first, last]: &[Vec<u8>; 2]) -> Option<i64> {
    let key = b"\"id\":";
    let at = |text: &[u8], position: Option<usize>| -> Option<i64> {
        let rest = &text[position? + key.len()..];
        let rest = rest.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // What is cut off may go on.
        (digits < rest.len()).then(|| std::str::from_utf8(&rest[..digits]).ok()?.parse().ok())?
    };
    let mut begins = first.windows(key.len());
    let mut ends = last.windows(key.len());
    let result = first.windows(8).position(|window| window == b"\"result\"").unwrap_or(first.len());
    at(first, begins.position(|window| window == key).filter(|position| *position < result))
        .or_else(|| at(last, ends.rposition(|window| window == key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_long_message_is_found_where_servers_write_it() {
        let number = |first: &str, last: &str| number_of(&[first.into(), last.into()]);
        assert_eq!(number("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[", "xxx\"}]}}"), Some(7));
        assert_eq!(
            number("{\"result\":{\"content\":[{\"id\":3,", "x\"}]},\"jsonrpc\":\"2.0\",\"id\": 12}"),
            Some(12)
        );
        assert_eq!(number("{\"result\":{", "xxx\"}]}}"), None);
        assert_eq!(number("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":", "x"), None);
        assert_eq!(number("", ""), None);
    }
}
