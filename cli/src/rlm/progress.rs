//! What is told of a run while it goes on: a line on a terminal, and with `--verbose` what happens.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentkernel::Stream;
use agentkernel::llm::Dollars;
use agentkernel::rlm::{CallKind, Event, Failure, Spent};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::Talk;
use crate::output;
use crate::terminal::{escaped, line};
use crate::units::{show_count, show_duration, show_number_of};

/// How often the line is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// Events that wait to be told; where standard error does not take them, more are left out.
const WAITING: usize = 256;

/// Characters of code or output that are told.
const TOLD: usize = 100_000;

/// How long it is waited at the end for what is not told yet.
const LAST: Duration = Duration::from_secs(2);

/// Characters of a prompt, a question or an answer that `--verbose` shows.
const SHOWN: usize = 100;

/// Tells of a run. What it writes, it writes on a thread of its own: the run does not wait for a
/// terminal.
pub struct Display {
    shared: Option<Arc<Shared>>,
    sender: Option<SyncSender<String>>,
    /// Disconnected when all is told.
    told: Option<Receiver<()>>,
}

#[derive(Default)]
struct Shared {
    totals: Mutex<Totals>,
    verbose: bool,
    left_out: AtomicU64,
    ended: AtomicBool,
}

impl Display {
    pub fn start(talk: Talk) -> Self {
        let is_terminal = !talk.quiet && io::stderr().is_terminal();
        if !is_terminal && !talk.verbose {
            return Display { shared: None, sender: None, told: None };
        }
        let write = |text: &str| drop(output::write(Stream::Stderr, text.as_bytes()));
        Display::to(write, is_terminal, talk.verbose)
    }

    fn to(write: impl Fn(&str) + Send + 'static, is_terminal: bool, verbose: bool) -> Self {
        let (sender, receiver) = mpsc::sync_channel(WAITING);
        let (telling, told) = mpsc::channel::<()>();
        let shared = Arc::new(Shared { verbose, ..Shared::default() });
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("progress".into());
        let spawned = thread.spawn(move || {
            tell(&receiver, &seen, write, is_terminal);
            drop(telling);
        });
        Display { shared: Some(shared), sender: Some(sender), told: spawned.is_ok().then_some(told) }
    }

    /// Sees the events of the run.
    pub fn handler(&self) -> Option<impl Fn(&Event) + Send + Sync + use<>> {
        let shared = self.shared.clone()?;
        let sender = self.sender.clone().filter(|_| shared.verbose);
        Some(move |event: &Event| {
            shared.totals.lock().unwrap_or_else(PoisonError::into_inner).count(event);
            if let Some(sender) = &sender
                && let Some(text) = describe(event)
                && sender.try_send(text).is_err()
            {
                shared.left_out.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Takes the line away. A terminal that stands still is not waited for.
    pub fn end(self) {
        if let Some(shared) = self.shared {
            shared.ended.store(true, Ordering::Relaxed);
        }
        // Wakes the thread; where there is no room, it is awake.
        if let Some(sender) = self.sender {
            let _ = sender.try_send(String::new());
        }
        if let Some(told) = self.told {
            let _ = told.recv_timeout(LAST);
        }
    }
}

/// Writes what is sent, and the line under it.
fn tell(receiver: &Receiver<String>, shared: &Shared, write: impl Fn(&str), is_terminal: bool) {
    let began = Instant::now();
    let bar = is_terminal.then(|| {
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        let bar = ProgressBar::new_spinner();
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar
    });
    let write = |text: &str| match &bar {
        Some(bar) => bar.suspend(|| write(text)),
        None => write(text),
    };
    loop {
        // Read before the channel is found empty, so that all of it is told.
        let mut ended = shared.ended.load(Ordering::Relaxed);
        let wait = if ended { Duration::ZERO } else { REDRAW };
        match receiver.recv_timeout(wait) {
            Ok(text) => {
                if !text.is_empty() {
                    write(&text);
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => ended = true,
        }
        let left_out = shared.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let events = show_number_of(left_out, "event");
            write(&format!("[…] {events} came faster than they could be shown\n"));
        }
        if ended {
            break;
        }
        if let Some(bar) = &bar {
            let line = shared.totals.lock().unwrap_or_else(PoisonError::into_inner).line();
            bar.set_message(format!("{line} · {} s", began.elapsed().as_secs()));
            bar.tick();
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// What the line tells.
#[derive(Default)]
struct Totals {
    iteration: u32,
    /// Calls of programs that are in flight.
    calls: BTreeMap<String, CallKind>,
    /// Depths of the child sessions that work, by the calls that started them.
    children: BTreeMap<String, u32>,
    tokens: u64,
    cost: Option<f64>,
}

impl Totals {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Prompt { node, iteration, .. } if node == "0" => self.iteration = *iteration,
            Event::Node { call: Some(call), depth, .. } => drop(self.children.insert(call.clone(), *depth)),
            Event::Reply { usage, .. } => self.spend(usage),
            Event::Call { call, kind, .. } => drop(self.calls.insert(call.clone(), *kind)),
            Event::Returned { call, usage, .. } => {
                self.calls.remove(call);
                self.children.remove(call);
                usage.iter().for_each(|usage| self.spend(usage));
            }
            _ => {}
        }
    }

    fn spend(&mut self, usage: &Spent) {
        self.tokens = self.tokens.saturating_add(usage.input_tokens).saturating_add(usage.output_tokens);
        self.cost = match (self.cost, usage.cost) {
            (None, cost) | (cost, None) => cost,
            (Some(sum), Some(cost)) => Some(sum + cost),
        };
    }

    fn line(&self) -> String {
        let mut line = format!("step {}", self.iteration.max(1));
        if let Some(depth) = self.children.values().max() {
            line += &format!(" · depth {depth}");
        }
        let in_flight = self.calls.values().filter(|kind| **kind == CallKind::AskLlm).count();
        line += &format!(" · {in_flight} sub-calls in flight · {} tokens", show_count(self.tokens));
        if let Some(cost) = self.cost {
            line += &format!(" · {}", Dollars::new(cost));
        }
        line
    }
}

/// An event in words, as `--verbose` tells it.
pub fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::Node { node, parent: Some(_), question, .. } => {
            format!("[{node}] is asked: {}\n", line(question, SHOWN))
        }
        Event::Reply { node, iteration, error: Some(error), .. } => {
            format!("[{node}] step {iteration}: {}\n", told(error))
        }
        Event::Reply { node, iteration, usage, ms, .. } => {
            format!("[{node}] step {iteration}: the model answered in {}\n", took(*ms, Some(usage)))
        }
        Event::Code { node, iteration, block, code } => {
            format!("[{node}] step {iteration}, block {block}:\n{}", indented(code))
        }
        Event::Output { node, iteration, block, text, ms, .. } => {
            format!(
                "[{node}] step {iteration}, output of block {block}, {}:\n{}",
                took(*ms, None),
                indented(text)
            )
        }
        Event::Call { call, node, kind, model, prompt, prompt_chars, .. } => {
            let asked = if *kind == CallKind::Rlm { "starts a session of" } else { "asks" };
            let (prompt, chars) = (line(prompt, SHOWN), show_number_of(*prompt_chars, "character"));
            format!("[{node}] {call} {asked} {}, {chars}: {prompt}\n", line(model, SHOWN))
        }
        Event::Returned { call, node, error: Some(error), .. } => {
            format!("[{node}] {call}: {}\n", told(error))
        }
        Event::Returned { call, node, text, usage, ms, .. } => {
            format!("[{node}] {call}, {}: {}\n", took(*ms, usage.as_ref()), line(text, SHOWN))
        }
        Event::Note { node, text, .. } => format!("[{node}] {}\n", line(text, SHOWN * 2)),
        _ => return None,
    })
}

fn took(ms: f64, usage: Option<&Spent>) -> String {
    let time = show_duration(Duration::from_secs_f64(ms.max(0.0) / 1e3));
    match usage {
        Some(Spent { input_tokens, output_tokens, .. }) => {
            format!("{time}, {} + {} tokens", show_count(*input_tokens), show_count(*output_tokens))
        }
        None => time,
    }
}

fn told(error: &Failure) -> String {
    line(&format!("{}: {}", error.kind, error.message), SHOWN * 3)
}

fn indented(text: &str) -> String {
    let (text, chars) = agentkernel::rlm::cut(text, TOLD);
    let more = chars.saturating_sub(TOLD as u64);
    let mut shown: String = escaped(text).lines().map(|line| format!("    {line}\n")).collect();
    if more > 0 {
        shown += &format!("    … and {}\n", show_number_of(more, "character"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Event {
        Event::Note { node: "0".into(), iteration: 1, text: text.into() }
    }

    /// Tells `events`, and then ends; gives what was written when `go` is let go, and how long it took.
    fn told(events: usize, hangs: bool) -> (String, Duration) {
        let (go, stopped) = mpsc::channel::<()>();
        let (sender, written) = mpsc::channel();
        let display = Display::to(
            move |text| {
                let _ = if hangs { stopped.recv().ok() } else { None };
                let _ = sender.send(text.to_owned());
            },
            false,
            true,
        );
        let began = Instant::now();
        let handler = display.handler().unwrap();
        (0..events).for_each(|number| handler(&note(&format!("note {number}"))));
        display.end();
        let took = began.elapsed();
        drop(go);
        (written.iter().collect(), took)
    }

    #[test]
    fn a_terminal_that_stands_still_is_not_waited_for() {
        let (text, took) = told(10_000, true);
        assert!((LAST..LAST * 4).contains(&took), "{took:?}");
        let lines: Vec<&str> = text.lines().collect();
        let (last, notes) = lines.split_last().unwrap();
        assert!((WAITING..=WAITING + 1).contains(&notes.len()), "{}", notes.len());
        assert!(last.ends_with("events came faster than they could be shown"), "{last}");
    }

    #[test]
    fn all_is_told_at_the_end() {
        let (text, took) = told(100, false);
        assert_eq!(text.lines().count(), 100);
        assert!(text.ends_with("[0] note 99\n"), "{text}");
        assert!(took < LAST, "{took:?}");
    }
}
