//! The log of an agent on standard error, as it comes: what the model says, what programs write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentkernel::Stream;
use agentkernel::agent::AgentEvent;
use agentkernel::rlm::Event;

use crate::arguments::Talk;
use crate::output;
use crate::rlm::describe;
use crate::terminal::{escaped, line};
use crate::units::show_number_of;

/// Pieces that wait to be written; where standard error does not take them, more are left out.
const WAITING: usize = 1024;

/// How long it is waited for what is not written yet.
const LAST: Duration = Duration::from_secs(2);

/// What stands before each line that a program writes.
const MARK: &str = "  | ";

/// Characters of a message that are shown.
const SHOWN: usize = 300;

/// Writes the log, on a thread of its own: the agent does not wait for a terminal.
pub struct Narrator(Option<Inner>);

struct Inner {
    pen: Arc<Pen>,
    /// Disconnected when all is written.
    written: Receiver<()>,
}

enum Piece {
    Text(String),
    /// All before it is written.
    Settle(Sender<()>),
}

impl Narrator {
    pub fn start(talk: Talk) -> Self {
        if talk.quiet {
            return Narrator(None);
        }
        let (sender, receiver) = mpsc::sync_channel(WAITING);
        let (writing, written) = mpsc::channel::<()>();
        let left_out = Arc::new(AtomicU64::new(0));
        let unseen = Arc::clone(&left_out);
        let thread = std::thread::Builder::new().name("log".into());
        let spawned = thread.spawn(move || {
            write(&receiver, &unseen);
            drop(writing);
        });
        let pen = Pen { sender, left_out, verbose: talk.verbose, at: Mutex::default() };
        Narrator(spawned.is_ok().then(|| Inner { pen: Arc::new(pen), written }))
    }

    /// Sees what happens.
    pub fn handler(&self) -> Option<impl Fn(AgentEvent<'_>) + Send + Sync + use<>> {
        let pen = Arc::clone(&self.0.as_ref()?.pen);
        Some(move |event: AgentEvent<'_>| pen.tell(event))
    }

    /// Waits until all is written. A terminal that stands still is not waited for.
    pub fn settle(&self) {
        let Some(inner) = &self.0 else { return };
        inner.pen.send(inner.pen.at().end_line());
        let (sender, settled) = mpsc::channel();
        let until = Instant::now() + LAST;
        let mut piece = Piece::Settle(sender);
        while let Err(TrySendError::Full(back)) = inner.pen.sender.try_send(piece) {
            if Instant::now() > until {
                return;
            }
            piece = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = settled.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    /// Nothing more is told.
    pub fn end(self) {
        let Some(Inner { pen, written }) = self.0 else { return };
        drop(pen);
        let _ = written.recv_timeout(LAST);
    }
}

fn write(receiver: &Receiver<Piece>, left_out: &AtomicU64) {
    for piece in receiver {
        match piece {
            Piece::Text(text) => drop(output::write(Stream::Stderr, text.as_bytes())),
            Piece::Settle(sender) => drop(sender.send(())),
        }
        let left_out = left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let pieces = show_number_of(left_out, "piece");
            let note = format!("\n[…] {pieces} of the log came faster than they could be shown\n");
            let _ = output::write(Stream::Stderr, note.as_bytes());
        }
    }
}

/// Makes text of what happens.
struct Pen {
    sender: SyncSender<Piece>,
    left_out: Arc<AtomicU64>,
    verbose: bool,
    at: Mutex<At>,
}

impl Pen {
    fn at(&self) -> std::sync::MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, text: String) {
        if !text.is_empty() && self.sender.try_send(Piece::Text(text)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell(&self, event: AgentEvent<'_>) {
        let mut at = self.at();
        let text = match event {
            AgentEvent::Text(piece) => at.says(piece),
            AgentEvent::Output(_, bytes) => at.prints(bytes),
            AgentEvent::Event(event) => at.sees(event, self.verbose),
            _ => String::new(),
        };
        // In the order in which it was made.
        self.send(text);
    }
}

/// Where the log is.
#[derive(Default)]
struct At {
    /// Whether the last line has no end yet.
    is_open: bool,
    /// Whether that line is a program's.
    is_output: bool,
    /// Bytes of a character that is not complete.
    rest: Vec<u8>,
    /// What the block has written so far.
    block: String,
}

impl At {
    /// Ends a line that is open.
    fn end_line(&mut self) -> String {
        match std::mem::take(&mut self.is_open) {
            true => "\n".to_owned(),
            false => String::new(),
        }
    }

    fn says(&mut self, piece: &str) -> String {
        let mut text = if self.is_output { self.end_line() } else { String::new() };
        self.is_output = false;
        text += &escaped(piece);
        if !piece.is_empty() {
            self.is_open = !piece.ends_with('\n');
        }
        text
    }

    fn prints(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let complete = match std::str::from_utf8(&self.rest) {
            // The beginning of a character.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        let printed = String::from_utf8_lossy(&self.rest[..complete]).into_owned();
        self.rest.drain(..complete);
        self.block += &printed;
        self.marked(&printed)
    }

    fn marked(&mut self, printed: &str) -> String {
        let mut text = if self.is_output { String::new() } else { self.end_line() };
        self.is_output = true;
        for line in escaped(printed).split_inclusive('\n') {
            if !self.is_open {
                text += MARK;
            }
            text += line;
            self.is_open = !line.ends_with('\n');
        }
        text
    }

    fn sees(&mut self, event: &Event, verbose: bool) -> String {
        match event {
            Event::Reply { error: Some(error), .. } => {
                self.end_line() + &format!("[the model] {}\n", line(&error.message, SHOWN))
            }
            Event::Reply { .. } => self.end_line(),
            Event::Code { node, .. } if node == "0" => {
                self.block.clear();
                self.rest.clear();
                self.end_line()
            }
            Event::Output { node, text, .. } if node == "0" => {
                // What was not written by the program: its value, its traceback.
                let rest = text.strip_prefix(self.block.trim_end()).unwrap_or_default();
                let rest = rest.trim_start_matches('\n').to_owned();
                let mut shown = self.end_line();
                if !rest.is_empty() && rest != "(nothing was printed)" {
                    shown += &self.marked(&rest);
                }
                shown + &self.end_line()
            }
            Event::Note { text, .. } => self.end_line() + &format!("[{}]\n", line(text, SHOWN)),
            Event::Call { .. } | Event::Returned { .. } | Event::Node { .. } if verbose => {
                let end = self.end_line();
                describe(event).map_or(end.clone(), |told| end + &told)
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Event {
        Event::Output {
            node: "0".into(),
            iteration: 1,
            block: 1,
            ending: "completed".into(),
            text: text.into(),
            cut: 0,
            exception: None,
            ms: 0.0,
        }
    }

    #[test]
    fn words_and_output_are_told_apart() {
        let mut at = At::default();
        let mut log = at.says("I look.\u{1b}[2J");
        let code = Event::Code { node: "0".into(), iteration: 1, block: 1, code: String::new() };
        log += &at.sees(&code, false);
        let euro = "€\n".as_bytes();
        log += &at.prints(b"a\nb");
        log += &at.prints(&euro[..1]);
        log += &at.prints(&euro[1..]);
        log += &at.sees(&output("a\nb€\n42"), false);
        log += &at.says("Done.");
        log += &at.end_line();
        assert_eq!(log, "I look.\\u{1b}[2J\n  | a\n  | b€\n  | 42\nDone.\n");
    }

    #[test]
    fn what_was_cut_is_not_told_twice() {
        let mut at = At::default();
        let mut log = at.prints("x".repeat(30).as_bytes());
        log += &at.sees(&output("xxx[...]xxx"), false);
        assert_eq!(log, format!("  | {}\n", "x".repeat(30)));
        assert_eq!(at.sees(&output("(nothing was printed)"), false), "");
    }
}
