//! Reading a cassette, and finding in it what comes next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::line::{Ask, AskResult, Asked, Counted, Event, Given, LINE_BYTES, Line, Models, Start, VERSION};
use super::tell;
use crate::llm::ModelRequest;
use crate::{Error, ErrorKind, Result};

/// Places that a message names.
const NAMED: usize = 10;

/// A cassette that is played.
pub struct Player {
    places: HashMap<String, Place>,
    sessions: Mutex<u64>,
    llm: Option<Models>,
    diverged: OnceLock<String>,
}

/// What was recorded of a session, or of a run.
#[derive(Default)]
struct Place {
    start: Option<Start>,
    /// Levels of children, of a run.
    depth: Option<u32>,
    left: Mutex<Left>,
}

/// What has not been played.
#[derive(Default)]
struct Left {
    taken: bool,
    events: VecDeque<Kept>,
    asks: BTreeMap<u64, Ask>,
    /// Calls of models that were recorded, and how many of them were asked for again.
    recorded: u64,
    seen: u64,
}

/// An event as its line has it, which takes a fraction of the memory.
struct Kept {
    n: u64,
    line: Box<[u8]>,
    /// Calls of models that were recorded before it.
    asks: u64,
}

impl Kept {
    fn read(&self) -> Result<Event> {
        match serde_json::from_slice(&self.line) {
            Ok(Line::Event(event)) => Ok(event),
            _ => {
                Err(Error::new(ErrorKind::Replay, format!("event {} of the cassette cannot be read", self.n)))
            }
        }
    }
}

impl Player {
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |what: String| {
            Error::new(ErrorKind::Replay, format!("cannot replay `{}`: {what}", path.display()))
        };
        let unreadable = |error: std::io::Error| {
            Error::new(ErrorKind::Replay, format!("cannot read the cassette `{}`", path.display()))
                .hint("check the path, and whether it can be read")
                .source(error)
        };
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let (mut places, mut llm) = (HashMap::<String, Place>::new(), None);
        let mut text = Vec::new();
        let mut ended = false;
        for number in 0u64.. {
            text.clear();
            (&mut reader).take(LINE_BYTES as u64).read_until(b'\n', &mut text).map_err(unreadable)?;
            if text.is_empty() {
                break;
            }
            if ended {
                return Err(wrong(format!("something follows the end in line {}", number + 1)));
            }
            let line: Line = serde_json::from_slice(&text).map_err(|error| {
                let what = match (number, text.ends_with(b"\n")) {
                    (0, _) => "it is no cassette".to_owned(),
                    (_, false) if text.len() == LINE_BYTES => format!("line {} is too long", number + 1),
                    (_, false) => format!("it is cut off in line {}", number + 1),
                    (_, true) => format!("line {} is damaged: {error}", number + 1),
                };
                wrong(what)
            })?;
            match line {
                Line::Cassette { version: VERSION, .. } if number == 0 => {}
                Line::Cassette { version, .. } if number == 0 => {
                    return Err(wrong(format!("it has version {version}, and this program plays {VERSION}"))
                        .hint("replay it with the version of AgentKernel that recorded it"));
                }
                _ if number == 0 => return Err(wrong("its first line is missing".into())),
                Line::Cassette { .. } => {
                    return Err(wrong(format!("another one begins in line {}", number + 1)));
                }
                Line::Run { at, depth, llm: models } => {
                    llm.get_or_insert(models);
                    places.entry(at).or_default().depth = depth;
                }
                Line::Session(start) => {
                    llm = llm.or_else(|| start.llm.clone());
                    let at = start.at.clone();
                    places.entry(at).or_default().start = Some(start);
                }
                Line::Event(event) => {
                    let place = places.entry(event.at.clone()).or_default();
                    let left = place.left.get_mut().unwrap_or_else(PoisonError::into_inner);
                    let expected = left.events.back().map_or(1, |last| last.n + 1);
                    if event.n != expected {
                        let what = format!(
                            "line {} has event {} of session {}, and {expected} is the next",
                            number + 1,
                            event.n,
                            event.at
                        );
                        return Err(wrong(what));
                    }
                    let line = text.trim_ascii_end().into();
                    left.events.push_back(Kept { n: event.n, line, asks: left.recorded });
                }
                Line::Ask(ask) => {
                    let place = places.entry(ask.at.clone()).or_default();
                    let left = place.left.get_mut().unwrap_or_else(PoisonError::into_inner);
                    left.recorded = left.recorded.max(ask.call);
                    if left.asks.insert(ask.call, ask).is_some() {
                        return Err(wrong(format!("line {} has a call a second time", number + 1)));
                    }
                }
                Line::End { lines } if lines == number => ended = true,
                Line::End { .. } => return Err(wrong("lines of it are missing".into())),
            }
        }
        if !ended {
            return Err(wrong("it is cut off: its end is missing".into())
                .hint("the run that recorded it was killed; record it again"));
        }
        Ok(Player { places, sessions: Mutex::new(0), llm, diverged: OnceLock::new() })
    }

    /// The models that were granted in the recording.
    pub fn llm(&self) -> Option<&Models> {
        self.llm.as_ref()
    }

    /// Levels of children that a run may have.
    pub fn depth(&self, at: &str) -> Option<u32> {
        self.places.get(at)?.depth
    }

    fn left(&self, at: &str) -> Option<MutexGuard<'_, Left>> {
        let place = self.places.get(at)?;
        Some(place.left.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a place, or the next session.
    pub fn place(&self, at: Option<String>) -> Result<String> {
        let at = at.unwrap_or_else(|| {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            *sessions += 1;
            sessions.to_string()
        });
        match self.left(&at) {
            // A child that was given up before anything came of it.
            None if at.contains('.') => Ok(at),
            None => Err(self.ended(&at, "its start")),
            Some(left) if left.taken => {
                Err(self.diverge(&format!("{} begins a second time", tell::place(&at))))
            }
            Some(mut left) => {
                left.taken = true;
                drop(left);
                Ok(at)
            }
        }
    }

    /// How a session began.
    pub fn start(&self, at: &str) -> Result<&Start> {
        let start = self.places.get(at).and_then(|place| place.start.as_ref());
        start.ok_or_else(|| self.ended(at, "its start"))
    }

    /// What came next in the recording, if it is what is asked now. Nothing if the turn was stopped
    /// then, while it computed: [`Given::Ended`] comes next, and stays.
    pub fn next(&self, at: &str, asked: &Asked) -> Result<Next> {
        self.check()?;
        let next = match self.left(at) {
            None => return Err(self.ended(at, &tell::asked(asked))),
            Some(mut left) => match left.events.front().map(Kept::read).transpose()? {
                None => None,
                Some(event) if event.asked.answers(asked) => {
                    left.events.pop_front();
                    return Ok(Next::Event(event));
                }
                Some(event) => {
                    let stopped = match &event.given {
                        Given::Ended { how, .. } => tell::why(how),
                        _ => None,
                    };
                    if let Some(why) = stopped {
                        return Ok(Next::Stopped(why));
                    }
                    Some((event.n, tell::asked(&event.asked)))
                }
            },
        };
        let now = tell::asked(asked);
        match next {
            None => Err(self.ended(at, &now)),
            Some((n, recorded)) if recorded == now => {
                let differs = match asked {
                    Asked::Turn { .. } => {
                        "the turn has other code, another name or other arguments".to_owned()
                    }
                    _ => format!("the program asks for {now} with other arguments"),
                };
                Err(self.diverge(&format!(
                    "at host call {n} of {}: {differs} than in the recording",
                    tell::place(at)
                )))
            }
            Some((n, recorded)) => Err(self.diverge(&format!(
                "at host call {n} of {}: the program asks for {now}, where the recording has {recorded}",
                tell::place(at)
            ))),
        }
    }

    /// Does without what is left of a turn, if it ended like that.
    pub fn skip_to_end(&self, at: &str, how: &str) -> Result<()> {
        let Some(mut left) = self.left(at) else { return Ok(()) };
        for before in 0..left.events.len() {
            if let Given::Ended { how: recorded, .. } = left.events[before].read()?.given {
                if recorded == how {
                    left.seen = left.seen.max(left.events[before].asks);
                    left.events.drain(..before);
                }
                break;
            }
        }
        Ok(())
    }

    /// Calls of models that were asked for again, or done without.
    pub fn seen(&self, at: &str) -> u64 {
        self.left(at).map_or(0, |left| left.seen)
    }

    /// Checks that a call of a model is the recorded one; gives what it counted then.
    pub fn begin_ask(&self, at: &str, call: u64, request: &ModelRequest) -> Option<Counted> {
        let mut left = self.left(at)?;
        left.seen = left.seen.max(call);
        let recorded = left.asks.get(&call)?;
        if recorded.request == *request {
            return recorded.counted;
        }
        let same = left.asks.values().find(|other| other.request == *request).map(|other| other.call);
        let mut told = format!(
            "at call {call} of a model in {}: {}",
            tell::place(at),
            tell::difference(request, &recorded.request)
        );
        if let Some(same) = same {
            told += &format!("; it is what was asked in call {same}");
        }
        drop(left);
        self.diverge(&told);
        None
    }

    /// What a call of a model gave; nothing if it was given up.
    pub fn ask(&self, at: &str, call: u64) -> Option<Ask> {
        self.left(at)?.asks.remove(&call)
    }

    /// Whether what a model gave in this call is there.
    pub fn has_ask(&self, at: &str, call: u64) -> bool {
        self.left(at).is_some_and(|left| left.asks.contains_key(&call))
    }

    /// Calls of models that were recorded at a place.
    pub fn asks(&self, at: &str) -> u64 {
        self.left(at).map_or(0, |left| left.recorded)
    }

    /// Says that the replay goes another way than the recording, unless it did so before.
    pub fn diverge(&self, how: &str) -> Error {
        let told = self.diverged.get_or_init(|| format!("the replay diverged {how}"));
        Error::new(ErrorKind::Replay, told.clone())
            .hint("the program, its contexts or the options differ from those of the recording")
    }

    /// Says that the recording has no more of this. A child may have been given up there, so that this
    /// one is as well.
    pub fn ended(&self, at: &str, asked: &str) -> Error {
        let told =
            format!("in {}: the recording ends here, and the program asks for {asked}", tell::place(at));
        match at.contains('.') {
            true => Error::new(ErrorKind::Replay, told),
            false => self.diverge(&told),
        }
    }

    /// Does without what is left of a place.
    pub fn forget(&self, at: &str) {
        if let Some(mut left) = self.left(at) {
            left.events.clear();
            left.asks.clear();
        }
    }

    /// How it diverged, if it did.
    pub fn diverged(&self) -> Option<&str> {
        self.diverged.get().map(String::as_str)
    }

    /// An error if it has diverged.
    pub fn check(&self) -> Result<()> {
        match self.diverged.get() {
            None => Ok(()),
            Some(_) => Err(self.diverge("")),
        }
    }

    /// What was recorded and not played, by place.
    pub fn unused(&self) -> Vec<String> {
        let mut unused = Vec::new();
        for (at, place) in &self.places {
            // Children that were given up may have come further.
            if at.contains('.') {
                continue;
            }
            let left = place.left.lock().unwrap_or_else(PoisonError::into_inner);
            let (events, asks) = (left.events.len(), left.asks.range(left.seen + 1..));
            let asks = asks.filter(|(_, ask)| !matches!(ask.result, AskResult::GivenUp {})).count();
            if events + asks > 0 {
                unused.push(format!("{events} host calls and {asks} calls of models of {}", tell::place(at)));
            }
        }
        unused.sort();
        let more = unused.len().saturating_sub(NAMED);
        if more > 0 {
            unused.truncate(NAMED);
            unused.push(format!("what there is of {more} others"));
        }
        unused
    }
}

/// What comes next in a replay.
pub enum Next {
    Event(Event),
    /// The turn was stopped while it computed.
    Stopped(super::line::Why),
}

impl Asked {
    /// Whether a recorded event answers what is asked. Calls of models are compared by what they ask,
    /// which can be told better.
    fn answers(&self, asked: &Asked) -> bool {
        match (self, asked) {
            (Asked::Call { function: one, .. }, Asked::Call { function: other, .. })
            | (Asked::Start { function: one, .. }, Asked::Start { function: other, .. })
                if one == other && super::Policy::of(*one) == super::Policy::Model =>
            {
                true
            }
            _ => self == asked,
        }
    }
}
