//! Runs that can be run again: recorded in a cassette, replayed from it, or deterministic from the start.
//!
//! All that enters a session passes one boundary: what the host gives when its program asks. A recording
//! holds that, in the order in which it was asked; a replay gives it again, and asks nobody. Clocks are
//! moved by readings and waits alone, and random numbers come from a seed.

mod ambient;
mod boundary;
mod files;
mod line;
mod player;
mod recorder;
mod tape;
mod tell;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ambient::Numbers;
pub(crate) use boundary::{call, start};
pub(crate) use files::{Content, FileTape, READ_BYTES, Taped, written};
use line::{Ask, AskResult, Counted, Line, Models, Start};
pub(crate) use line::{Asked, Given};
use player::{Next, Player};
use recorder::Recorder;
pub(crate) use tape::Tape;

use crate::llm::{
    Amount, Answer, AskError, Budget, Completing, Dollars, Llm, ModelRequest, OnText, Provider, ProviderError,
};
use crate::privacy::Prepared;
use crate::{Error, ErrorKind, Result, service};

/// A cassette that runs are recorded in: what their sessions were given by the host, what models
/// answered, and where their clocks and random numbers begin. It never holds a key. Cheap to clone.
///
/// ```
/// # fn main() -> agentkernel::Result<()> {
/// use agentkernel::{Kernel, Recording, Replaying};
///
/// let kernel = Kernel::new()?;
/// let file = std::env::temp_dir().join(format!("cassette-{}.jsonl", std::process::id()));
/// let code = "import random, time\nprint(random.random(), time.time())";
///
/// let recording = Recording::create(&file)?;
/// let first = kernel.session().record(&recording).start()?.run_blocking(code)?;
/// recording.finish()?;
///
/// let replaying = Replaying::open(&file)?;
/// let again = kernel.session().replay(&replaying).start()?.run_blocking(code)?;
/// replaying.finish()?;
/// assert_eq!(first.stdout, again.stdout);
/// # std::fs::remove_file(file).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recording(Arc<Recorder>);

impl Recording {
    /// Records into a new file that only its owner can read, as it will hold prompts. A file that is
    /// there is replaced when the first session or run begins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Replay`] when the file cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Recorder::create(path.as_ref()).map(|recorder| Recording(Arc::new(recorder)))
    }

    /// Records at most `bytes`. A run that has more goes on, but nothing more of it is recorded, and
    /// [`finish`](Recording::finish) fails. Default: 1 GiB.
    pub fn max_bytes(self, bytes: u64) -> Self {
        self.0.limit(bytes);
        self
    }

    /// Ends the cassette, once the runs are over. What is dropped without is ended as well.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Replay`] when something of it could not be written, or would have been over its
    /// limit: it cannot be replayed then.
    pub fn finish(&self) -> Result<()> {
        self.0.finish()
    }
}

/// A cassette that is replayed. Its sessions are those of the recording, in the order in which they were
/// started. No model, tool or standard input is asked. Cheap to clone.
#[derive(Clone)]
pub struct Replaying(Arc<Player>);

impl Replaying {
    /// Reads a cassette.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Replay`] when the file cannot be read, is cut off, damaged, or of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Player::open(path.as_ref()).map(|player| Replaying(Arc::new(player)))
    }

    /// The models that were granted in the recording, with nobody to ask: for the kernel of a replay that
    /// has no provider. Nothing if there were none.
    pub fn llm(&self) -> Option<Llm> {
        let models = self.0.llm()?;
        let llm = Llm::new(models.model.clone(), Absent).sub_model(models.of_programs.clone());
        let others =
            models.all.iter().filter(|model| **model != models.model && **model != models.of_programs);
        Some(others.fold(llm, |llm, model| llm.allow(model.clone())))
    }

    /// How the replay differs from the recording, and at which call, if it does so far.
    pub fn diverged(&self) -> Option<&str> {
        self.0.diverged()
    }

    /// What was recorded and has not been replayed.
    pub fn unused(&self) -> Vec<String> {
        self.0.unused()
    }

    /// Checks that the replay was the recording, once it is over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Replay`] when it diverged, or ended before the recording did.
    pub fn finish(&self) -> Result<()> {
        self.0.check()?;
        let unused = self.unused();
        match unused.is_empty() {
            true => Ok(()),
            false => {
                Err(self.0.diverge(&format!("by ending early: {} were not asked for", unused.join(", "))))
            }
        }
    }
}

/// Nobody: replays ask no model.
struct Absent;

impl Provider for Absent {
    fn name(&self) -> &str {
        "replay"
    }

    fn complete<'a>(&'a self, _: &'a ModelRequest, _: Option<OnText<'a>>) -> Completing<'a> {
        let error = ProviderError::new("this is a replay, in which no model is asked");
        Box::pin(std::future::ready(Err(error)))
    }
}

/// What is done with what enters a session.
#[derive(Clone, Default)]
pub(crate) enum Side {
    #[default]
    Neither,
    Record(Arc<Recorder>),
    Replay(Arc<Player>),
}

/// How a session is made one that can be run again.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    side: Side,
    seed: Option<u64>,
}

impl Plan {
    pub fn record(&mut self, recording: &Recording) {
        self.side = Side::Record(Arc::clone(&recording.0));
    }

    pub fn replay(&mut self, replaying: &Replaying) {
        self.side = Side::Replay(Arc::clone(&replaying.0));
    }

    pub fn deterministic(&mut self, seed: u64) {
        self.seed = Some(seed);
    }

    pub fn is_replay(&self) -> bool {
        matches!(self.side, Side::Replay(_))
    }

    /// The file that is recorded in.
    pub fn cassette(&self) -> Option<&Path> {
        match &self.side {
            Side::Record(recorder) => Some(recorder.path()),
            _ => None,
        }
    }

    /// Whether it is given a seed.
    pub fn is_deterministic(&self) -> bool {
        self.seed.is_some()
    }

    fn is_off(&self) -> bool {
        matches!(self.side, Side::Neither) && self.seed.is_none()
    }

    /// The track of a session, or of a run; nothing if it is not one that can be run again.
    pub fn track(&self, at: Option<String>) -> Result<Option<Track>> {
        if self.is_off() {
            return Ok(None);
        }
        let at = match &self.side {
            Side::Neither => at.unwrap_or_else(|| "1".into()),
            Side::Record(recorder) => recorder.place(at)?,
            Side::Replay(player) => player.place(at)?,
        };
        let (side, at, seed) = (self.side.clone(), at, self.seed);
        Ok(Some(Track(Arc::new(Inner { side, at, seed, events: AtomicU64::new(0) }))))
    }
}

/// What enters at one place: a session, or a run.
#[derive(Clone)]
pub(crate) struct Track(Arc<Inner>);

struct Inner {
    side: Side,
    at: String,
    seed: Option<u64>,
    events: AtomicU64,
}

/// The time of day at which deterministic sessions begin: the first second of 2026.
const DETERMINISTIC_START: u64 = 1_767_225_600 * 1_000_000_000;

impl Track {
    /// Whether what enters is recorded, or comes from a recording.
    pub fn is_kept(&self) -> bool {
        !matches!(self.0.side, Side::Neither)
    }

    /// Where the clocks and random numbers of a session begin.
    fn start(&self, guest: impl FnOnce() -> Result<String>, llm: Option<&Llm>) -> Result<Start> {
        let Inner { side, at, seed, .. } = &*self.0;
        if let Side::Replay(player) = side {
            let start = player.start(at)?.clone();
            return match start.guest == guest()? {
                true => Ok(start),
                false => Err(Error::new(
                    ErrorKind::Replay,
                    "cannot replay a session that was recorded with another interpreter",
                )
                .hint("replay it with the version of AgentKernel that recorded it")),
            };
        }
        let (seed, time) = match seed {
            // Sessions of one run do not have the same numbers.
            Some(seed) => {
                let numbers =
                    at.bytes().fold(*seed, |seed, byte| Numbers::new(seed ^ u64::from(byte)).next());
                (numbers, DETERMINISTIC_START)
            }
            None => {
                let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
                (fastrand::u64(..), now.unwrap_or_default().as_nanos() as u64)
            }
        };
        let guest = match side {
            Side::Record(_) => guest()?,
            _ => String::new(),
        };
        let start = Start { at: at.clone(), guest, seed, time, llm: llm.map(Models::of) };
        if let Side::Record(recorder) = side {
            recorder.write(&Line::Session(start.clone()));
        }
        Ok(start)
    }

    /// Begins a run, and says how many levels of children it may have.
    pub fn run(&self, llm: &Llm, depth: Option<u32>) -> Option<u32> {
        match &self.0.side {
            Side::Neither => depth,
            Side::Record(recorder) => {
                let at = self.0.at.clone();
                recorder.write(&Line::Run { at, depth, llm: Models::of(llm) });
                depth
            }
            Side::Replay(player) => player.depth(&self.0.at),
        }
    }

    /// Whether this is a replay.
    pub fn is_replay(&self) -> bool {
        matches!(self.0.side, Side::Replay(_))
    }

    fn player(&self) -> Option<&Player> {
        match &self.0.side {
            Side::Replay(player) => Some(player),
            _ => None,
        }
    }

    /// An error if the replay has diverged.
    pub fn check(&self) -> Result<()> {
        self.player().map_or(Ok(()), Player::check)
    }

    fn diverge(&self, how: &str) -> Error {
        match self.player() {
            Some(player) => player.diverge(how),
            None => Error::new(ErrorKind::Replay, how),
        }
    }

    /// The next event, in a replay.
    fn next(&self, asked: &Asked) -> Result<Option<Next>> {
        self.player().map(|player| player.next(&self.0.at, asked)).transpose()
    }

    /// Does without what is left of a turn that was stopped in the recording as well, which came further then.
    fn skip_to_end(&self, how: &str) -> Result<()> {
        self.player().map_or(Ok(()), |player| player.skip_to_end(&self.0.at, how))
    }

    /// Calls of models that a replay has behind it.
    pub fn asked(&self) -> u64 {
        self.player().map_or(0, |player| player.seen(&self.0.at))
    }

    /// The session has begun: from now on there is something to keep.
    pub fn begun(&self) -> Result<()> {
        match &self.0.side {
            Side::Record(recorder) => recorder.put(),
            _ => Ok(()),
        }
    }

    /// Records an event; gives its number.
    fn record(&self, asked: Asked, ns: u64, given: Given, told: Vec<(line::Output, line::Bytes)>) -> u64 {
        let n = self.0.events.fetch_add(1, Ordering::Relaxed) + 1;
        if let Side::Record(recorder) = &self.0.side {
            recorder.write(&Line::Event(line::Event { at: self.0.at.clone(), n, asked, ns, given, told }));
        }
        n
    }

    /// What was decided at this point in the recording; nothing if this is no replay.
    pub fn decided(&self, asked: &Asked) -> Result<Option<Given>> {
        match self.next(asked)? {
            Some(Next::Event(event)) => Ok(Some(event.given)),
            Some(Next::Stopped(_)) | None => Ok(None),
        }
    }

    /// Does without what is left of the recording of another place.
    pub fn forget(&self, at: &str) {
        if let Some(player) = self.player() {
            player.forget(at);
        }
    }

    /// Records what was decided.
    pub fn decide(&self, asked: Asked, given: Given) {
        self.record(asked, 0, given, Vec::new());
    }

    /// Begins a call of a model: checks that it is that of the recording, and counts what it took then.
    pub fn begin_ask(&self, call: u64, budget: &Budget, request: &ModelRequest) {
        let Some(player) = self.player() else { return };
        let Some(counted) = player.begin_ask(&self.0.at, call, request) else { return };
        if counted.calls == 0 {
            return budget.count_cached(&request.model);
        }
        let cost = Dollars(counted.cost.unwrap_or(0));
        let amount = Amount { calls: counted.calls, tokens: counted.tokens, cost };
        budget.count(&request.model, counted.cost.is_some(), amount);
    }

    /// As [`Track::begin_ask`], for a call that the recording must have.
    ///
    /// # Errors
    ///
    /// When the replay has diverged.
    pub fn begin_own_ask(&self, call: u64, budget: &Budget, request: &ModelRequest) -> Result<()> {
        let Some(player) = self.player() else { return Ok(()) };
        self.begin_ask(call, budget, request);
        player.check()?;
        match player.has_ask(&self.0.at, call) {
            true => Ok(()),
            false => {
                let recorded = player.asks(&self.0.at);
                Err(player.ended(&self.0.at, &format!("call {call} of a model, of {recorded} recorded")))
            }
        }
    }

    /// Asks a model, or gives what it answered in the recording, as it answered.
    pub async fn ask(
        &self,
        call: u64,
        llm: &Llm,
        budget: &Budget,
        prepared: &mut Prepared,
    ) -> Result<Answer, AskError> {
        match &self.0.side {
            Side::Neither => llm.ask_and_tell(budget, prepared, None, &mut None).await,
            Side::Record(recorder) => {
                let priced = llm.has_price(&prepared.request().model);
                let asked = Some(prepared.request().clone());
                let mut open =
                    OpenAsk { recorder, at: &self.0.at, call, request: asked, priced, counted: None };
                let result = llm.ask_and_tell(budget, prepared, None, &mut open.counted).await;
                open.end(AskResult::of(&result));
                result
            }
            Side::Replay(player) => {
                player.ask(&self.0.at, call).map_or_else(|| Err(line::given_up()), |ask| ask.result.get())
            }
        }
    }
}

/// A call of a model that is recorded, whatever ends it.
struct OpenAsk<'a> {
    recorder: &'a Recorder,
    at: &'a str,
    call: u64,
    request: Option<ModelRequest>,
    priced: bool,
    counted: Option<Amount>,
}

impl OpenAsk<'_> {
    fn end(&mut self, result: AskResult) {
        let Some(request) = self.request.take() else { return };
        let counted = self.counted.map(|amount| Counted {
            calls: amount.calls,
            tokens: amount.tokens,
            cost: self.priced.then_some(amount.cost.0),
        });
        let (at, call) = (self.at.to_owned(), self.call);
        self.recorder.write(&Line::Ask(Ask { at, call, request, result, counted }));
    }
}

impl Drop for OpenAsk<'_> {
    fn drop(&mut self) {
        self.end(AskResult::GivenUp {});
    }
}

impl Models {
    fn of(llm: &Llm) -> Self {
        Models {
            model: llm.model().to_owned(),
            of_programs: llm.model_of_programs().to_owned(),
            all: llm.models().map(str::to_owned).collect(),
        }
    }
}

/// What a replay does for a call of the host's functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It gives what was given: nothing is called.
    Give,
    /// Calls of models: the session's track has them one by one.
    Model,
    /// It calls again, and what comes must be the same: large, and known to be the same for equal input.
    Repeat,
    /// A child session is replayed; what it gave is given.
    Child,
}

impl Policy {
    pub fn of(function: u32) -> Self {
        match service::kind(function) {
            Some(service::Kind::Llm) if matches!(function as u8, 0 | 2) => Policy::Model,
            Some(service::Kind::Context) => Policy::Repeat,
            Some(service::Kind::Rlm) => Policy::Child,
            Some(service::Kind::Llm | service::Kind::Task | service::Kind::State | service::Kind::Skills)
            | None => Policy::Give,
        }
    }

    /// Whether a replay calls the function, of which the recording has `given`.
    fn calls(self, given: &Given) -> bool {
        match (self, given) {
            (Policy::Give, _) => false,
            // A child that ran and gave no answer. What was refused did not run.
            (Policy::Child, Given::Failure { kind, .. }) => kind == "rlm",
            (_, Given::Failure { .. }) => false,
            _ => true,
        }
    }
}
