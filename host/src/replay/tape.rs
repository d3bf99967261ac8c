//! What makes one session one that can be run again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime_wasi::WasiCtxBuilder;

use super::ambient::Ambient;
use super::line::{Bytes, Event, Output, Why};
use super::player::Next;
use super::{Asked, Given, Track};
use crate::console::{Console, Stream};
use crate::engine::{Interrupt, Reason, Stopped, hex};
use crate::llm::Llm;
use crate::outcome::Ending;
use crate::{Result, Turn};

/// Times that a deterministic program may look whether something is ready without waiting, before the
/// first operation is waited for.
const GLANCES: u32 = 1000;

/// What tools write meanwhile.
type Told = Arc<Mutex<Vec<(Stream, Vec<u8>)>>>;

/// The tape of one session.
pub(crate) struct Tape {
    pub track: Track,
    ambient: Ambient,
    /// Whether operations end in the order in which they were begun, and waiting takes no time.
    pub ordered: bool,
    glances: u32,
    told: Told,
    /// What tools write to. It comes to the program's streams when the call is over: another time would
    /// be another one in a replay.
    pub console: Console,
    /// When the last turn ended.
    idle: Instant,
}

impl Tape {
    pub fn new(
        track: Track,
        guest: impl FnOnce() -> Result<String>,
        llm: Option<&Llm>,
        output_bytes: u64,
    ) -> Result<Self> {
        let start = track.start(guest, llm)?;
        let told = Told::default();
        let kept = Arc::clone(&told);
        let keep = move |stream: Stream, bytes: &[u8]| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((stream, bytes.to_vec()));
        };
        Ok(Tape {
            ordered: track.0.seed.is_some(),
            track,
            ambient: Ambient::new(Duration::from_nanos(start.time), start.seed),
            glances: 0,
            told,
            console: Console::new(Some(Box::new(keep)), output_bytes),
            idle: Instant::now(),
        })
    }

    /// Makes its clocks and random numbers those of the guest.
    pub fn set(&self, wasi: &mut WasiCtxBuilder) {
        self.ambient.set(wasi);
    }

    /// What its monotonic clock shows.
    pub fn now(&self) -> Duration {
        self.ambient.clock.now()
    }

    /// Lets its clocks begin later, where those of the session that its memory is of were.
    pub fn begin_at(&self, clock: Duration) {
        self.ambient.clock.pass(u64::try_from(clock.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What came next in the recording, if this is a replay. Then the clock is moved on, and what tools
    /// wrote is written.
    pub fn replayed(
        &self,
        asked: &Asked,
        interrupt: &Interrupt,
        console: &Console,
    ) -> wasmtime::Result<Option<Event>> {
        let mut event = match self.track.next(asked)? {
            None => return Ok(None),
            Some(Next::Event(event)) => event,
            Some(Next::Stopped(why)) => return Err(stop(interrupt, why).into()),
        };
        self.play(&mut event, console);
        match event.given {
            Given::Stopped(why) => Err(stop(interrupt, why).into()),
            _ => Ok(Some(event)),
        }
    }

    fn play(&self, event: &mut Event, console: &Console) {
        self.ambient.clock.pass(event.ns);
        for (stream, bytes) in event.told.drain(..) {
            console.write(stream.into(), &bytes.get().unwrap_or_default());
        }
    }

    /// Takes in what the host gave, when it was asked at `since`; gives the event's number.
    pub fn given(&self, asked: Asked, since: Instant, given: Given, console: &Console) -> u64 {
        let ns = if self.ordered { 0 } else { since.elapsed().as_nanos() as u64 };
        self.given_after(asked, ns, given, console)
    }

    fn given_after(&self, asked: Asked, ns: u64, given: Given, console: &Console) -> u64 {
        self.ambient.clock.pass(ns);
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        for (stream, bytes) in &told {
            console.write(*stream, bytes);
        }
        let told =
            told.into_iter().map(|(stream, bytes)| (Output::from(stream), Bytes::of(&bytes))).collect();
        self.track.record(asked, ns, given, told)
    }

    /// Takes in that the turn was stopped while it waited.
    pub fn stopped(&self, asked: Asked, since: Instant, interrupt: &Interrupt, console: &Console) {
        let why = match interrupt.reason() {
            Some(Reason::Cancelled) => Why::Cancelled,
            Some(Reason::Deadline) | None => Why::TimedOut,
        };
        self.given(asked, since, Given::Stopped(why), console);
    }

    /// A sleep that takes no time.
    pub fn slept(&self, asked: Asked, ns: u64, console: &Console) {
        self.given_after(asked, ns, Given::Ready(Vec::new()), console);
    }

    /// Whether a wait without time ends without a look.
    pub fn glance(&mut self) -> bool {
        self.glances += 1;
        if self.glances > GLANCES {
            self.glances = 0;
        }
        self.glances != 0
    }

    /// Begins a turn. `held` is what the program holds, if the state before the turn cannot be kept for that; gives what it
    /// held in the recording. A replay has no tools that could hold something.
    ///
    /// # Errors
    ///
    /// When the recording has another one, or none.
    pub fn begin_turn(
        &mut self,
        turn: &Turn,
        held: Option<String>,
        console: &Console,
    ) -> Result<Option<String>> {
        let mut hash = Sha256::new();
        for text in [&turn.code, &turn.file].into_iter().chain(&turn.arguments) {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let asked = Asked::Turn { code: hex(&hash.finalize()) };
        let held = match self.track.next(&asked)? {
            Some(Next::Event(mut event)) => {
                self.play(&mut event, console);
                match event.given {
                    Given::Bytes(held) => held.get().and_then(|held| String::from_utf8(held).ok()),
                    _ => None,
                }
            }
            Some(Next::Stopped(_)) => return Err(self.track.diverge("by beginning a turn too many")),
            None => {
                let given = match &held {
                    Some(held) => Given::Bytes(Bytes::of(held.as_bytes())),
                    None => Given::Nothing,
                };
                self.given(asked, self.idle, given, console);
                held
            }
        };
        console.begin_digests();
        Ok(held)
    }

    /// Ends a turn.
    ///
    /// # Errors
    ///
    /// When it ended otherwise in the recording.
    pub fn end_turn(&mut self, ending: &Ending, console: &Console) -> Result<()> {
        let how = ending.name().to_owned();
        let [stdout, stderr] = match ending {
            // How far it came is another matter each time.
            Ending::TimedOut | Ending::Cancelled => [None, None],
            _ => console.digests().map(Some),
        };
        let is_stopped = matches!(ending, Ending::TimedOut | Ending::Cancelled);
        if is_stopped {
            self.track.skip_to_end(&how)?;
        }
        let ended = |at| Given::Ended { how, stdout, stderr, at };
        match self.track.next(&Asked::TurnEnd)? {
            Some(Next::Event(mut event)) => {
                self.play(&mut event, console);
                let at = match &mut event.given {
                    Given::Ended { at, .. } => at.take(),
                    _ => None,
                };
                let ended = ended(None);
                if event.given != ended {
                    return Err(self.track.diverge(&other_end(&ended, &event.given)));
                }
                if let Some(at) = at {
                    self.ambient.go_to(*at);
                }
            }
            Some(Next::Stopped(_)) => {}
            None => {
                let at = is_stopped.then(|| Box::new(self.ambient.position()));
                self.given_after(Asked::TurnEnd, 0, ended(at), console);
            }
        }
        self.idle = Instant::now();
        Ok(())
    }
}

fn other_end(now: &Given, recorded: &Given) -> String {
    match (now, recorded) {
        (Given::Ended { how, .. }, Given::Ended { how: recorded, .. }) if how != recorded => {
            format!("at the end of a turn: it ended as `{how}`, where the recording has `{recorded}`")
        }
        _ => "at the end of a turn: it wrote something else than in the recording".into(),
    }
}

/// Stops the turn as it was stopped then.
pub fn stop(interrupt: &Interrupt, why: Why) -> Stopped {
    interrupt.fire(match why {
        Why::TimedOut => Reason::Deadline,
        Why::Cancelled => Reason::Cancelled,
    });
    Stopped
}

/// The beginning of a digest of what is passed to a function, or of what it gives.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    hex(&hash.finalize()[..8])
}
