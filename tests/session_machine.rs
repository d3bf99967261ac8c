//! Random turns, forks, rollbacks, snapshots and ends of several sessions at once, against a plain model
//! of what each session's variables and files must be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use agentkernel::{Ending, ErrorKind, Image, Limits, Session};
use agentkernel_tests::{kernel, value};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const TIMEOUT: Duration = Duration::from_millis(400);
const MEMORY: u64 = 96 << 20;
const MOST_SESSIONS: usize = 6;

/// What a turn does.
#[derive(Clone, Debug)]
enum Turn {
    Assign(u8, Vec<i16>),
    Append(u8, i16),
    /// A new generator, which counts from here.
    Generator(i16),
    /// One step of the generator, if there is one.
    Next,
    Write(u8, i16),
    Remove(u8),
    /// Buffered text of a file that the turn closes.
    AppendFile(u8, i16),
    Close(u8, i16),
    Nothing,
}

/// How a turn ends when it has done that.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Well,
    Raises,
    Exits,
    /// Asks for more memory than there is, and is told so.
    MemoryError,
    Aborts,
    RunsOn,
    Sleeps,
    IsCancelled,
}

#[derive(Clone, Debug)]
enum Step {
    Run(usize, Vec<Turn>, End),
    Fork(usize),
    Rollback(usize),
    Snapshot(usize),
    /// From the image that was taken last but so many; through a file or not.
    Start(usize, bool),
    Drop(usize),
    Check(usize),
}

/// What lies in a session's memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Memory {
    lists: BTreeMap<u8, Vec<i16>>,
    generator: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    memory: Memory,
    files: BTreeMap<u8, String>,
    /// The memory before the last turn, if there is a way back to it.
    before: Option<Memory>,
}

struct Machine {
    sessions: Vec<(Session, Model)>,
    images: Vec<(Image, Memory)>,
}

/// The machine was too slow for what is tried; nothing is wrong.
struct TooSlow;

fn turns() -> impl Strategy<Value = Turn> {
    let name = 0..3u8;
    prop_oneof![
        3 => (name.clone(), prop::collection::vec(any::<i16>(), 0..4)).prop_map(|(n, v)| Turn::Assign(n, v)),
        4 => (name.clone(), any::<i16>()).prop_map(|(n, v)| Turn::Append(n, v)),
        2 => any::<i16>().prop_map(Turn::Generator),
        3 => Just(Turn::Next),
        2 => (name.clone(), any::<i16>()).prop_map(|(n, v)| Turn::Write(n, v)),
        1 => name.clone().prop_map(Turn::Remove),
        2 => (name.clone(), any::<i16>()).prop_map(|(n, v)| Turn::AppendFile(n, v)),
        1 => (name, any::<i16>()).prop_map(|(n, v)| Turn::Close(n, v)),
        1 => Just(Turn::Nothing),
    ]
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        60 => Just(End::Well),
        6 => Just(End::Raises),
        4 => Just(End::Exits),
        4 => Just(End::MemoryError),
        6 => Just(End::Aborts),
        2 => Just(End::RunsOn),
        1 => Just(End::Sleeps),
        4 => Just(End::IsCancelled),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let which = 0..MOST_SESSIONS;
    prop_oneof![
        20 => (which.clone(), prop::collection::vec(turns(), 1..4), ends())
            .prop_map(|(s, turns, end)| Step::Run(s, turns, end)),
        4 => which.clone().prop_map(Step::Fork),
        5 => which.clone().prop_map(Step::Rollback),
        3 => which.clone().prop_map(Step::Snapshot),
        3 => (0..4usize, any::<bool>()).prop_map(|(back, file)| Step::Start(back, file)),
        1 => which.clone().prop_map(Step::Drop),
        3 => which.prop_map(Step::Check),
    ]
}

const DEFINITIONS: &str = "\
import os
def counting(start):
    while True:
        start += 1
        yield start
gen = None
lists = {}
held = []
";

const LOOK: &str = "repr((sorted(lists.items()), None if gen is None else gen.gi_frame.f_locals['start'], \
sorted((n, open(n).read()) for n in os.listdir('.')), held))";

impl Turn {
    fn code(&self) -> String {
        match self {
            Turn::Assign(name, values) => format!("lists[{name}] = {values:?}"),
            Turn::Append(name, value) => format!("lists.setdefault({name}, []).append({value})"),
            Turn::Generator(start) => format!("gen = counting({start}); next(gen)"),
            Turn::Next => "gen is not None and next(gen)".into(),
            Turn::Write(name, value) => format!("with open('f{name}', 'w') as f: f.write('{value};')"),
            Turn::Remove(name) => format!("os.path.exists('f{name}') and os.remove('f{name}')"),
            Turn::AppendFile(name, value) => format!("with open('f{name}', 'a') as f: f.write('{value};')"),
            Turn::Close(name, value) => {
                format!("held.append(open('f{name}', 'a')); held[0].write('{value};'); held.pop().close()")
            }
            Turn::Nothing => "pass".into(),
        }
    }

    fn apply(&self, model: &mut Model) {
        let Model { memory, files, .. } = model;
        match self {
            Turn::Assign(name, values) => drop(memory.lists.insert(*name, values.clone())),
            Turn::Append(name, value) => memory.lists.entry(*name).or_default().push(*value),
            Turn::Generator(start) => memory.generator = Some(i64::from(*start) + 1),
            Turn::Next => memory.generator = memory.generator.map(|at| at + 1),
            Turn::Write(name, value) => drop(files.insert(*name, format!("{value};"))),
            Turn::Remove(name) => drop(files.remove(name)),
            Turn::AppendFile(name, value) | Turn::Close(name, value) => {
                let _ = write!(files.entry(*name).or_default(), "{value};");
            }
            Turn::Nothing => {}
        }
    }
}

impl End {
    fn code(self) -> &'static str {
        match self {
            End::Well => "",
            End::Raises => "raise KeyError('as told')",
            End::Exits => "raise SystemExit(3)",
            End::MemoryError => "bytearray(1 << 30)",
            End::Aborts => "os.abort()",
            End::RunsOn => "while True: pass",
            End::Sleeps => "import time; time.sleep(60)",
            End::IsCancelled => "lists.clear()",
        }
    }

    fn is(self, ending: &Ending) -> bool {
        match (self, ending) {
            (End::Well, Ending::Completed(_)) | (End::Exits, Ending::Exited(3)) => true,
            (End::Raises, Ending::Raised(exception)) => exception.kind == "KeyError",
            (End::MemoryError, Ending::Raised(exception)) => exception.kind == "MemoryError",
            (End::Aborts, Ending::Trapped(_)) => true,
            (End::RunsOn | End::Sleeps, Ending::TimedOut) => true,
            (End::IsCancelled, Ending::Cancelled) => true,
            _ => false,
        }
    }

    fn is_stop(self) -> bool {
        matches!(self, End::Aborts | End::RunsOn | End::Sleeps | End::IsCancelled)
    }
}

impl Model {
    fn look(&self) -> String {
        let lists: Vec<String> =
            self.memory.lists.iter().map(|(name, values)| format!("({name}, {values:?})")).collect();
        let generator = self.memory.generator.map_or("None".into(), |at| at.to_string());
        let files: Vec<String> =
            self.files.iter().map(|(name, text)| format!("('f{name}', '{text}')")).collect();
        format!("([{}], {generator}, [{}], [])", lists.join(", "), files.join(", "))
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.timeout = Some(TIMEOUT);
    limits.memory_bytes = MEMORY;
    limits
}

impl Machine {
    fn new() -> Result<Self, TooSlow> {
        let mut machine = Machine { sessions: Vec::new(), images: Vec::new() };
        for _ in 0..2 {
            let mut session = kernel().session().limits(limits()).start().unwrap();
            let outcome = session.run_blocking(DEFINITIONS).unwrap();
            if outcome.ending == Ending::TimedOut {
                return Err(TooSlow);
            }
            assert!(matches!(outcome.ending, Ending::Completed(_)), "{outcome:?}");
            // It cannot be told from a session that has only just been put back there.
            machine.images.push((session.snapshot().unwrap(), Memory::default()));
            machine.sessions.push((
                kernel().session().limits(limits()).image(&machine.images[0].0).start().unwrap(),
                Model::default(),
            ));
        }
        Ok(machine)
    }

    fn add(&mut self, session: Session, model: Model) {
        if self.sessions.len() == MOST_SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push((session, model));
    }

    fn step(&mut self, step: &Step) -> Result<(), TooSlow> {
        let count = self.sessions.len();
        match step {
            Step::Run(which, turns, end) => self.run(which % count, turns, *end)?,
            Step::Check(which) => self.check(which % count)?,
            Step::Fork(which) => {
                let (session, model) = &mut self.sessions[which % count];
                let fork = session.fork().unwrap();
                let model = Model { before: None, ..model.clone() };
                self.add(fork, model);
            }
            Step::Rollback(which) => {
                let (session, model) = &mut self.sessions[which % count];
                match model.before.take() {
                    Some(before) => {
                        session.rollback().unwrap();
                        model.memory = before;
                    }
                    None => assert_eq!(session.rollback().unwrap_err().kind(), ErrorKind::Held),
                }
            }
            Step::Snapshot(which) => {
                let (session, model) = &mut self.sessions[which % count];
                self.images.push((session.snapshot().unwrap(), model.memory.clone()));
            }
            Step::Start(back, through_file) => {
                let (image, memory) = &self.images[self.images.len() - 1 - back % self.images.len()];
                let mut image = image.clone();
                if *through_file {
                    let file = tempfile::NamedTempFile::new().unwrap();
                    image.save(file.path()).unwrap();
                    image = kernel().load_image(file.path()).unwrap();
                }
                let session = kernel().session().limits(limits()).image(&image).start().unwrap();
                let memory = memory.clone();
                self.add(session, Model { memory, ..Model::default() });
            }
            Step::Drop(which) if count > 1 => drop(self.sessions.remove(which % count)),
            Step::Drop(_) => {}
        }
        Ok(())
    }

    fn run(&mut self, which: usize, turns: &[Turn], end: End) -> Result<(), TooSlow> {
        let (session, model) = &mut self.sessions[which];
        let before = model.memory.clone();
        let mut code = String::new();
        for turn in turns {
            code.push_str(&turn.code());
            code.push('\n');
        }
        code.push_str(end.code());
        if end == End::IsCancelled {
            session.canceller().cancel();
        } else {
            turns.iter().for_each(|turn| turn.apply(model));
        }
        let outcome = session.run_blocking(code.as_str()).unwrap();
        if outcome.ending == Ending::TimedOut && !end.is(&Ending::TimedOut) {
            return Err(TooSlow);
        }
        assert!(end.is(&outcome.ending), "{end:?} of {code:?}: {outcome:?}");
        assert_eq!(outcome.rolled_back, end.is_stop(), "{outcome:?}");
        assert!(session.is_alive());
        match end.is_stop() {
            // A turn that was stopped leaves nothing but files, and nothing to go back to.
            true => (model.memory, model.before) = (before, None),
            false => model.before = Some(before),
        }
        Ok(())
    }

    fn check(&mut self, which: usize) -> Result<(), TooSlow> {
        let (session, model) = &mut self.sessions[which];
        let outcome = session.run_blocking(LOOK).unwrap();
        if outcome.ending == Ending::TimedOut {
            return Err(TooSlow);
        }
        let seen = value(&outcome).json.as_ref().and_then(|json| json.as_str()).unwrap().to_owned();
        assert_eq!(seen, model.look());
        model.before = Some(model.memory.clone());
        Ok(())
    }
}

#[test]
fn sessions_are_what_a_plain_model_says() {
    if !kernel().info().host_owned_memory {
        return eprintln!("skipped: this kernel does not own the guest's memory");
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    });
    let slow = std::cell::Cell::new(0);
    let result = runner.run(&prop::collection::vec(steps(), 5..40), |steps| {
        let tried = || {
            let mut machine = Machine::new()?;
            for step in &steps {
                machine.step(step)?;
            }
            (0..machine.sessions.len()).try_for_each(|which| machine.check(which))
        };
        if tried().is_err() {
            slow.set(slow.get() + 1);
        }
        Ok(())
    });
    if slow.get() > 0 {
        eprintln!("{} of {cases} cases were given up: the machine was too slow", slow.get());
    }
    result.unwrap();
}
