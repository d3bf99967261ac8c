//! What is told of a run while it goes on: a line on a terminal, and with `--verbose` what happens.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
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

/// Characters of a prompt, a question or an answer that `--verbose` shows.
const SHOWN: usize = 100;

/// Tells of a run. What it writes, it writes on a thread of its own: the run does not wait for a
/// terminal.
pub struct Display {
    shared: Option<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    totals: Arc<Mutex<Totals>>,
    sender: Sender<Told>,
    verbose: bool,
}

enum Told {
    Text(String),
    End,
}

impl Display {
    pub fn start(talk: Talk) -> Self {
        let is_terminal = !talk.quiet && io::stderr().is_terminal();
        if !is_terminal && !talk.verbose {
            return Display { shared: None, thread: None };
        }
        let (sender, receiver) = mpsc::channel();
        let totals = Arc::<Mutex<Totals>>::default();
        let seen = Arc::clone(&totals);
        let thread = std::thread::Builder::new().name("progress".into());
        let thread = thread.spawn(move || tell(&receiver, &seen, is_terminal)).ok();
        Display { shared: Some(Shared { totals, sender, verbose: talk.verbose }), thread }
    }

    /// Sees the events of the run.
    pub fn handler(&self) -> Option<impl Fn(&Event) + Send + Sync + use<>> {
        let shared = self.shared.clone()?;
        Some(move |event: &Event| {
            shared.totals.lock().unwrap_or_else(PoisonError::into_inner).count(event);
            if shared.verbose
                && let Some(text) = describe(event)
            {
                let _ = shared.sender.send(Told::Text(text));
            }
        })
    }

    /// Takes the line away.
    pub fn end(self) {
        if let Some(shared) = self.shared {
            let _ = shared.sender.send(Told::End);
        }
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// Writes what is sent, and the line under it.
fn tell(receiver: &Receiver<Told>, totals: &Mutex<Totals>, is_terminal: bool) {
    let began = Instant::now();
    let bar = is_terminal.then(|| {
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        let bar = ProgressBar::new_spinner();
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar
    });
    loop {
        match receiver.recv_timeout(REDRAW) {
            Ok(Told::Text(text)) => {
                let write = || drop(output::write(Stream::Stderr, text.as_bytes()));
                match &bar {
                    Some(bar) => bar.suspend(write),
                    None => write(),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let Some(bar) = &bar else { continue };
                let line = totals.lock().unwrap_or_else(PoisonError::into_inner).line();
                bar.set_message(format!("{line} · {} s", began.elapsed().as_secs()));
                bar.tick();
            }
            Ok(Told::End) | Err(RecvTimeoutError::Disconnected) => break,
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
        self.tokens += usage.input_tokens + usage.output_tokens;
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
fn describe(event: &Event) -> Option<String> {
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
    escaped(text).lines().map(|line| format!("    {line}\n")).collect()
}
