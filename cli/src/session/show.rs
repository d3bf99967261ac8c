//! `agentkernel session list`, `show` and `log`. Code, outputs and messages are programs' own: a terminal would
//! obey them.

use std::path::Path;

use serde_json::{Value, json};

use super::config::Config;
use super::head::Head;
use super::journal::{Entry, Journal, Ran, What};
use super::state::{Files, Purpose, State, reached};
use super::{LAYERS, WORKSPACE};
use crate::failure::{Failure, Result};
use crate::store::Store;
use crate::terminal::{self, escaped, say};
use crate::units::{show_bytes, show_number_of};

/// Characters of a program or a message in a list.
const SHOWN: usize = 60;

/// What a session's files say.
struct Seen {
    config: Option<Config>,
    head: Head,
    journal: Journal,
    /// What is wrong with it.
    problem: Option<String>,
}

impl Seen {
    fn look(store: &Store, name: &str) -> Self {
        let directory = &store.root.join(name);
        if let Some(why) = store.foreign(name) {
            let (head, journal) = (Head::default(), Journal::default());
            return Seen { config: None, head, journal, problem: Some(format!("not to be trusted: {why}")) };
        }
        loop {
            let head = Head::read(directory);
            let seen = Self::glance(directory);
            // A turn that ended meanwhile has taken the image away.
            if seen.problem.is_none() || head == Head::read(directory) {
                return seen;
            }
        }
    }

    fn glance(directory: &Path) -> Self {
        let mut problem = None;
        let mut note = |why: String| {
            problem.get_or_insert(why);
        };
        let config = Config::read(directory).map_err(&mut note).ok();
        let journal = Journal::read(directory).map_err(&mut note).unwrap_or_default();
        let head = Head::read(directory).and_then(|head| reached(head, &journal));
        let head = head.map_err(&mut note).unwrap_or_default();
        if let Some(image) = head.image.as_ref().filter(|image| !directory.join(image).is_file()) {
            note(format!("the image `{image}` is gone"));
        }
        Seen { config, head, journal, problem }
    }

    /// The steps that are part of the session.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        // Where it is not known, all that can be read.
        let last = match &self.problem {
            Some(_) => u64::MAX,
            None => self.head.turn,
        };
        self.journal.entries.iter().filter(move |entry| entry.turn <= last)
    }

    fn last(&self) -> Option<&Entry> {
        self.entries().last()
    }
}

pub fn list(store: &Store, as_json: bool) -> Result<i32> {
    let names = store.names()?;
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut rows = Vec::new();
    for name in &names {
        let seen = Seen::look(store, name);
        let in_use = store.is_in_use(name);
        if as_json {
            rows.push(json!({
                "name": name,
                "created": seen.config.as_ref().map(|config| &config.created),
                "turn": seen.head.turn,
                "last": seen.last().map(|entry| &entry.time),
                "in_use": in_use,
                "problem": seen.problem,
            }));
            continue;
        }
        let state = match (&seen.problem, in_use, seen.last()) {
            (Some(problem), ..) => format!("damaged: {}", terminal::line(problem, 2 * SHOWN)),
            (None, true, _) => "in use".to_owned(),
            (None, false, Some(entry)) => format!("{}  {}", show_time(&entry.time), said(entry)),
            (None, false, None) => "new".to_owned(),
        };
        say!("{name:width$}  {:>9}  {state}", show_number_of(seen.head.turn, "turn"));
    }
    if as_json {
        say!("{}", Value::from(rows));
    } else if names.is_empty() {
        terminal::remark("there are no sessions; `agentkernel session new NAME` makes one");
    }
    Ok(0)
}

pub fn show(store: &Store, name: &str, as_json: bool) -> Result<i32> {
    let directory = store.find(name)?;
    let in_use = store.is_in_use(name);
    let (workspace, overlay, unusable) = match in_use {
        true => (None, None, None),
        false => match State::open(store, name, Purpose::Look) {
            Ok(state) => {
                let workspace = match (&state.files, &state.overlay) {
                    (Files::Directory(directory), _) => state.config.directory.join(directory),
                    (Files::Own, Some(_)) => directory.join(LAYERS),
                    (Files::Own, None) => directory.join(WORKSPACE),
                };
                let gone = !workspace.is_dir();
                let gone = gone.then(|| format!("the directory `{}` is gone", workspace.display()));
                let changed = gone.or_else(|| state.check_context().err().map(|failure| failure.message));
                (Some(workspace), Some(state.overlay.is_some()), changed)
            }
            Err(failure) => (None, None, Some(failure.message)),
        },
    };
    let mut seen = Seen::look(store, name);
    // What is not damaged may lack something else.
    seen.problem = seen.problem.or(unusable);
    let image = seen.head.image.as_ref().map(|image| directory.join(image));
    let image_bytes = image.and_then(|image| image.metadata().ok()).map(|found| found.len());
    if as_json {
        say!(
            "{}",
            json!({
                "name": name,
                "directory": directory,
                "config": seen.config,
                "workspace": workspace,
                "overlay": overlay,
                "turn": seen.head.turn,
                "image_bytes": image_bytes,
                "last": seen.last(),
                "in_use": in_use,
                "problem": seen.problem,
            })
        );
        return Ok(i32::from(seen.problem.is_some()));
    }
    say!("{name}");
    let row = |name: &str, value: &str| say!("  {name:9}  {}", escaped(value).replace('\n', "\\n"));
    if let Some(config) = &seen.config {
        row("created", &show_time(&config.created));
        if let Some(origin) = &config.forked_from {
            row("fork of", &format!("{} at turn {}", origin.name, origin.turn));
        }
        row("flags", &config.words.join(" "));
        row("made in", &config.directory.display().to_string());
    }
    if let Some(workspace) = &workspace {
        row("files", &workspace.display().to_string());
    }
    if overlay == Some(true) {
        row("changes", "kept apart, in an overlay");
    }
    row("turns", &seen.head.turn.to_string());
    if let Some(bytes) = image_bytes {
        row("image", &show_bytes(bytes));
    }
    if let Some(entry) = seen.last() {
        row("last", &format!("{}  {}", show_time(&entry.time), said(entry)));
    }
    row("kept in", &directory.display().to_string());
    let state = match (&seen.problem, in_use) {
        (Some(problem), _) => format!("cannot be used: {problem}"),
        (None, true) => "in use".to_owned(),
        (None, false) => "ready".to_owned(),
    };
    row("state", &state);
    Ok(i32::from(seen.problem.is_some()))
}

pub fn log(store: &Store, name: &str, as_json: bool) -> Result<i32> {
    store.find(name)?;
    if !store.is_in_use(name) {
        // Removes what a killed turn has left, if it can.
        drop(State::open(store, name, Purpose::Look));
    }
    let seen = Seen::look(store, name);
    for entry in seen.entries() {
        if as_json {
            let line = serde_json::to_string(entry)
                .map_err(|error| Failure::new(format!("the journal has no JSON form: {error}")))?;
            say!("{line}");
            continue;
        }
        say!("{:>4}  {}  {}", entry.turn, show_time(&entry.time), said(entry));
        if let What::Turn(ran) = &entry.what {
            let of = |text: &str| terminal::line(text, SHOWN);
            let arguments = ran.arguments.iter().map(|argument| format!(" {}", of(argument)));
            say!("      {}{}: {}", of(&ran.file), arguments.collect::<String>(), of(&ran.code));
            for text in [&ran.stdout, &ran.stderr] {
                if !text.trim().is_empty() {
                    say!("      | {}", of(text));
                }
            }
            if let Some(value) = ran.value.as_ref().filter(|value| *value != "None") {
                say!("      = {}", of(value));
            }
        }
    }
    match seen.problem {
        None => Ok(0),
        Some(problem) => {
            terminal::error(&format!("the session `{name}` is damaged: {}", escaped(&problem)), None);
            Ok(1)
        }
    }
}

/// What became of a step, in a line.
fn said(entry: &Entry) -> String {
    match &entry.what {
        What::Turn(ran) => format!("{}{}", outcome(ran), if ran.kept { "" } else { "; not kept" }),
        What::Reset { .. } => "reset".to_owned(),
        What::Restored { from, .. } => format!("restored from {}", escaped(from)),
        What::Replayed { turns, differing: 0, .. } => format!("replayed {}", show_number_of(*turns, "turn")),
        What::Replayed { turns, differing, .. } => {
            format!("replayed {}, {differing} differing", show_number_of(*turns, "turn"))
        }
    }
}

fn outcome(ran: &Ran) -> String {
    match (&ran.exception, &ran.message) {
        (Some(exception), _) => {
            let (kind, message) = (&exception.r#type, &exception.message);
            terminal::line(&format!("{kind}: {message}"), SHOWN)
        }
        (None, Some(message)) => escaped(message),
        (None, None) if ran.outcome == "exited" => format!("exited with {}", ran.exit_code),
        (None, None) => escaped(&ran.outcome),
    }
}

fn show_time(time: &str) -> String {
    escaped(time).replace('T', " ")
}
