//! Runs that are recorded and replayed: the same output byte for byte, and nobody asked.

#[path = "replay/files.rs"]
mod files;
#[path = "replay/runs.rs"]
mod runs;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agentkernel::llm::{
    Completing, Completion, Llm, ModelRequest, OnText, Provider, ProviderError, StopReason, Tokens,
};
use agentkernel::{Ending, ErrorKind, Kernel, Outcome, Recording, Replaying, SessionBuilder, Stdin, Tool};
use agentkernel_tests::{Answering, builder, limits};

/// Answers after as many milliseconds as the prompt says, with the number of the call.
#[derive(Default)]
struct Slow(AtomicU32);

impl Provider for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn complete<'a>(&'a self, request: &'a ModelRequest, _: Option<OnText<'a>>) -> Completing<'a> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let prompt = request.messages[0].content.as_str();
            let delay = prompt.split(' ').next_back().and_then(|word| word.parse().ok()).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let mut error = ProviderError::new("it is down");
            match prompt {
                "fail" => (error.status, error.attempts) = (Some(503), 3),
                "refuse" => error.refused = true,
                _ => error.attempts = 0,
            }
            if error.attempts > 0 {
                return Err(error);
            }
            let (text, model) = (format!("answer {number} to {prompt}"), request.model.clone());
            Ok(Completion { text, model, tokens: Tokens { input: 7, output: 3 }, stop: StopReason::End })
        })
    }
}

/// Nobody may be asked.
fn silent() -> Answering {
    Answering::new(|request| panic!("a replay asked a model: {request:?}"))
}

fn with(llm: Llm) -> Kernel {
    builder().llm(llm).build().unwrap()
}

fn slow() -> Kernel {
    with(Llm::new("m", Slow::default()))
}

struct Cassette {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Cassette {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cassette.jsonl");
        Cassette { _directory: directory, path }
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Writes it anew, each line as `change` makes it.
    fn change(&self, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(&self.path).unwrap();
        let changed: String = text.lines().map(|line| change(line.to_owned()) + "\n").collect();
        std::fs::write(&self.path, changed).unwrap();
    }
}

fn turns(session: SessionBuilder, codes: &[&str]) -> Vec<Outcome> {
    let mut session = session.limits(limits()).start().unwrap();
    codes.iter().map(|code| session.run_blocking(*code).unwrap()).collect()
}

fn record(kernel: &Kernel, cassette: &Cassette, codes: &[&str]) -> Vec<Outcome> {
    let recording = Recording::create(&cassette.path).unwrap();
    let outcomes = turns(kernel.session().record(&recording), codes);
    recording.finish().unwrap();
    outcomes
}

fn same(recorded: &[Outcome], replayed: &[Outcome]) {
    for (recorded, replayed) in recorded.iter().zip(replayed) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&recorded.stdout), text(&replayed.stdout));
        assert_eq!(text(&recorded.stderr), text(&replayed.stderr));
        assert_eq!(recorded.ending, replayed.ending);
        assert_eq!(recorded.usage.llm, replayed.usage.llm);
        assert_eq!(recorded.usage.host_calls, replayed.usage.host_calls);
    }
    assert_eq!(recorded.len(), replayed.len());
}

/// Records `codes` with one kernel and replays them with another, which has nobody to ask.
#[track_caller]
fn recorded_and_replayed(codes: &[&str]) -> (Vec<Outcome>, Cassette) {
    let cassette = Cassette::new();
    let recorded = record(&slow(), &cassette, codes);
    for outcome in &recorded {
        assert!(outcome.ending.is_kept(), "{:#?}", outcome.ending);
        if let Ending::Raised(raised) = &outcome.ending {
            panic!("{}", raised.traceback);
        }
    }
    for kernel in
        [with(Llm::new("m", silent())), with(Replaying::open(&cassette.path).unwrap().llm().unwrap())]
    {
        let replaying = Replaying::open(&cassette.path).unwrap();
        let replayed = turns(kernel.session().replay(&replaying), codes);
        same(&recorded, &replayed);
        replaying.finish().unwrap();
    }
    (recorded, cassette)
}

fn text(outcome: &Outcome) -> String {
    String::from_utf8(outcome.stdout.clone()).unwrap()
}

#[test]
fn clocks_and_random_numbers_are_the_same() {
    let code = "import time, datetime, random, uuid, os, secrets, tempfile
print(time.time(), time.time_ns(), time.monotonic(), time.perf_counter(), time.process_time())
print(datetime.datetime.now(), time.strftime('%c'), os.times(), time.get_clock_info('monotonic'))
print(random.random(), random.sample(range(1000), 5), uuid.uuid4(), uuid.uuid1(), os.urandom(16), secrets.token_hex())
print({'one', 'two', 'three', 'four', 'five', 'six'}, hash('x'), object(), tempfile.mkdtemp())
begun = time.monotonic()
time.sleep(0.2)
took = time.monotonic() - begun
assert 0.2 <= took < 5, took
print(took)
";
    let begun = Instant::now();
    let (first, _) =
        recorded_and_replayed(&[code, "print(random.random(), time.time()); import gc; gc.collect()", code]);
    assert!(begun.elapsed() > Duration::from_millis(400));
    let (second, _) = recorded_and_replayed(&[code]);
    assert_ne!(text(&first[0]), text(&second[0]), "another recording has other numbers");
    assert_ne!(text(&first[0]), text(&first[2]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let told: f64 = text(&first[0]).split(' ').next().unwrap().parse().unwrap();
    assert!((now - told).abs() < 60.0, "recordings begin at the time of day");
}

#[test]
fn models_answer_as_they_did_and_in_the_order_in_which_they_did() {
    let code = "import asyncio, time, random
from agentkernel import ask_llm, ask_llm_async, ask_llm_batch, budget, ProviderError, Refused
print(ask_llm('first 30'), ask_llm('first 30'))
async def one(name, ms):
    reply = await ask_llm_async(f'{name} {ms}')
    print(name, reply, reply.usage, time.monotonic())
    return reply
async def sleeper():
    for n in range(8):
        await asyncio.sleep(0.02)
        print('tick', n, time.monotonic())
async def all():
    print(await asyncio.gather(one('a', 120), one('b', 40), one('c', 80), one('same', 20), one('same', 20), sleeper()))
    try:
        print(await asyncio.wait_for(ask_llm_async('never 60000'), 0.05))
    except TimeoutError:
        print('too late', time.monotonic())
    done, pending = await asyncio.wait([asyncio.ensure_future(one(f't{n}', random.randrange(60))) for n in range(20)])
    print(len(done), len(pending))
asyncio.run(all())
for prompt in 'fail', 'refuse':
    try:
        ask_llm(prompt)
    except ProviderError as error:
        print(repr(error), error.status, error.attempts)
    except Refused as error:
        print(repr(error))
async def failing():
    print(await asyncio.gather(ask_llm_async('fail'), ask_llm_async('refuse'), one('x', 5), return_exceptions=True))
asyncio.run(failing())
print(ask_llm_batch(['p 30', 'fail', 'q 10', 'refuse', 'p 30']))
print(budget())
try:
    ask_llm('x', model='other')
except ValueError as error:
    print(error)
print(ask_llm('last 1'))
";
    let begun = Instant::now();
    let (recorded, cassette) = recorded_and_replayed(&[code, "print(budget(), ask_llm('again 100'))"]);
    let out = text(&recorded[0]);
    let order: Vec<&str> = out.lines().filter_map(|line| line.split(' ').next()).collect();
    let place = |name: &str| order.iter().position(|other| *other == name).unwrap();
    assert!(place("b") < place("c") && place("c") < place("a"), "{out}");
    let once = begun.elapsed();
    let replaying = Replaying::open(&cassette.path).unwrap();
    let kernel = with(replaying.llm().unwrap());
    let begun = Instant::now();
    turns(kernel.session().replay(&replaying), &[code]);
    assert!(begun.elapsed() < once, "a replay waits for nothing");
    let unused = replaying.finish().unwrap_err().to_string();
    assert!(unused.contains("ending early"), "{unused}");
    let text = std::fs::read_to_string(&cassette.path).unwrap();
    assert!(text.contains("answer 0 to first 30"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&cassette.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn tools_and_standard_input_are_not_asked_again() {
    let code = "import sys, asyncio, time
from tools import count
print(count.next('a'), input(), count.next('b'), time.time())
async def one(ms):
    print(await count.slow(ms), time.monotonic())
async def all():
    await asyncio.gather(one(60), one(10), one(30))
asyncio.run(all())
try:
    count.fail()
except Exception as error:
    print(type(error), error)
print(sys.stdin.read(), list(count.bytes()))
";
    let kernel = |answer: u32, calls: &Arc<AtomicU32>| {
        let wit = "next: func(name: string) -> string;
            slow: async func(ms: u32) -> string;
            fail: func() -> result<_, string>;
            bytes: func() -> list<u8>;";
        let count = [(); 4].map(|()| Arc::clone(calls));
        let [one, two, three, four] = count;
        let called = |calls: &AtomicU32| calls.fetch_add(1, Ordering::SeqCst);
        let tool = Tool::functions("count", wit)
            .function("next", move |(name,): (String,)| format!("{name} {answer} {}", called(&one)))
            .async_function("slow", move |(ms,): (u32,)| {
                called(&two);
                async move {
                    tokio::time::sleep(Duration::from_millis(ms.into())).await;
                    format!("{ms} {answer}")
                }
            })
            .function("fail", move |()| {
                called(&three);
                Err::<(), String>(format!("no {answer}"))
            })
            .function("bytes", move |()| {
                called(&four);
                vec![0xFFu8, 0, answer as u8]
            });
        builder().tool(tool).build().unwrap()
    };
    let cassette = Cassette::new();
    let calls = Arc::default();
    let recording = Recording::create(&cassette.path).unwrap();
    let input = Stdin::Bytes(b"a line\nand the rest".to_vec());
    let recorded = turns(kernel(7, &calls).session().stdin(input).record(&recording), &[code]);
    recording.finish().unwrap();
    assert!(matches!(recorded[0].ending, Ending::Completed(_)), "{:?}", recorded[0].ending);
    assert_eq!(calls.load(Ordering::SeqCst), 7);
    let replaying = Replaying::open(&cassette.path).unwrap();
    same(&recorded, &turns(kernel(8, &calls).session().replay(&replaying), &[code]));
    replaying.finish().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 7);
    assert!(text(&recorded[0]).ends_with("and the rest [255, 0, 7]\n"), "{}", text(&recorded[0]));
}

#[test]
fn a_divergence_is_told_with_its_call() {
    let cassette = Cassette::new();
    let code = |second: &str| {
        format!(
            "from agentkernel import ask_llm, ask_llm_batch\nprint(ask_llm('one 1'))\ntry:\n    print(ask_llm('{second}'))\nexcept BaseException as error:\n    print(error)\nprint(ask_llm_batch(['three 1', 'four 1']))"
        )
    };
    let kernel = slow();
    record(&kernel, &cassette, &[&code("two 1")]);
    let replay = |code: &str| {
        let replaying = Replaying::open(&cassette.path).unwrap();
        let mut session = kernel.session().replay(&replaying).start().unwrap();
        let result = session.run_blocking(code);
        let error = match result {
            Err(error) => error,
            Ok(outcome) => {
                assert!(outcome.ending.is_kept(), "{:?}", outcome.ending);
                replaying.finish().unwrap_err()
            }
        };
        assert_eq!(error.kind(), ErrorKind::Replay);
        assert_eq!(replaying.diverged().unwrap(), error.to_string());
        assert_eq!(replaying.finish().unwrap_err().to_string(), error.to_string());
        error.to_string()
    };
    // The code of a turn is compared as well.
    let told = replay(&code("two 2"));
    assert!(told.contains("the turn has other code, another name or other arguments"), "{told}");
    let line = cassette.lines().into_iter().find(|line| line["asked"].get("turn").is_some()).unwrap();
    let digest = line["asked"]["turn"]["code"].as_str().unwrap().to_owned();
    let pretend = |code: &str| {
        // As a program does that reads another file.
        let other = Cassette::new();
        record(&kernel, &other, &[code]);
        let theirs = other.lines().into_iter().find(|line| line["asked"].get("turn").is_some()).unwrap();
        let theirs = theirs["asked"]["turn"]["code"].as_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&cassette.path).unwrap();
        std::fs::write(&cassette.path, text.replace(&digest, &theirs)).unwrap();
        let told = replay(code);
        std::fs::write(&cassette.path, text).unwrap();
        told
    };
    let told = pretend(&code("two different 1"));
    assert_eq!(
        told,
        "the replay diverged at call 2 of a model in session 1: the prompt differs from character 5: \
         \"two different 1\", where the recording has \"two 1\""
    );
    let told = pretend(&code("three 1"));
    assert!(told.ends_with("it is what was asked in call 3"), "{told}");
    let told = pretend(&code("two 1").replace("'four 1'", "'four 2'"));
    assert!(told.contains("call 4 of a model"), "{told}");
    let told = pretend(&code("two 1").replace("ask_llm('one 1')", "ask_llm('one 1', temperature=1)"));
    assert!(told.contains("call 1 of a model") && told.contains("`temperature`"), "{told}");
    let told = pretend("print('nothing is asked')");
    assert!(told.contains("at host call 2 of session 1") && told.contains("`ask_llm`"), "{told}");
    let told = pretend(&(code("two 1") + "\nask_llm('more')"));
    assert!(told.contains("asks for `ask_llm`, where the recording has the end of the turn"), "{told}");
    let told = pretend(&(code("two 1") + "\nprint('more')"));
    assert!(told.contains("it wrote something else"), "{told}");
    let told = pretend(&(code("two 1") + "\n1/0"));
    assert!(told.contains("ended as `raised`"), "{told}");

    let replaying = Replaying::open(&cassette.path).unwrap();
    let mut session = kernel.session().replay(&replaying).start().unwrap();
    session.run_blocking(code("two 1")).unwrap();
    replaying.finish().unwrap();
    assert!(session.run_blocking("1").unwrap_err().to_string().contains("the recording ends here"));
    assert_eq!(session.run_blocking("1").unwrap_err().kind(), ErrorKind::SessionEnded);
    let more = kernel.session().replay(&replaying).start().err().unwrap();
    assert_eq!(more.kind(), ErrorKind::Replay);
}

#[test]
fn a_cassette_that_is_damaged_is_refused() {
    let cassette = Cassette::new();
    record(
        &slow(),
        &cassette,
        &["import time\ntime.sleep(0)\nfrom agentkernel import ask_llm\nask_llm('x')"],
    );
    let whole = std::fs::read(&cassette.path).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&cassette.path, bytes).unwrap();
        let error = Replaying::open(&cassette.path).err().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::Replay);
        assert!(error.to_string().contains(&cassette.path.display().to_string()));
        error.to_string()
    };
    // Wherever it is cut, that is noticed.
    for length in 0..whole.len() - 1 {
        let told = refused(&whole[..length]);
        assert!(told.contains("cut off") || told.contains("no cassette"), "{length}: {told}");
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for without in 0..lines.len() {
        let rest: Vec<u8> = lines
            .iter()
            .enumerate()
            .filter(|(line, _)| *line != without)
            .flat_map(|(_, line)| line.to_vec())
            .collect();
        refused(&rest);
    }
    assert!(refused(b"").contains("cut off"));
    assert!(refused(b"print(1)\n").contains("it is no cassette"));
    assert!(
        refused(b"{\"line\":\"cassette\",\"version\":99,\"agentkernel\":\"9\"}\n").contains("version 99")
    );
    let text = String::from_utf8(whole.clone()).unwrap();
    assert!(refused(text.replace("\"ask\"", "\"sak\"").as_bytes()).contains("is damaged"));
    assert!(refused((text.clone() + "{}\n").as_bytes()).contains("follows the end"));
    std::fs::write(&cassette.path, text.replace("\"guest\":\"", "\"guest\":\"0")).unwrap();
    let replaying = Replaying::open(&cassette.path).unwrap();
    assert!(
        slow()
            .session()
            .replay(&replaying)
            .start()
            .err()
            .unwrap()
            .to_string()
            .contains("another interpreter")
    );
    std::fs::remove_file(&cassette.path).unwrap();
    assert!(Replaying::open(&cassette.path).err().unwrap().to_string().contains("cannot read"));
    assert!(
        Recording::create(Path::new("/nowhere/at/all")).err().unwrap().to_string().contains("cannot write")
    );
}

#[test]
fn a_turn_that_was_stopped_is_stopped_again() {
    for code in [
        "import time\nprint('working', flush=True)\ntime.sleep(60)",
        "print('on', flush=True)\nwhile True: pass",
        "from agentkernel import ask_llm\nask_llm('never 60000')",
    ] {
        let cassette = Cassette::new();
        let kernel = slow();
        let recording = Recording::create(&cassette.path).unwrap();
        let mut short = limits();
        short.timeout = Some(Duration::from_millis(300));
        let mut session = kernel.session().limits(short.clone()).record(&recording).start().unwrap();
        let recorded = session.run_blocking(code).unwrap();
        assert_eq!(recorded.ending, Ending::TimedOut);
        recording.finish().unwrap();
        let replaying = Replaying::open(&cassette.path).unwrap();
        let mut session = kernel.session().limits(short).replay(&replaying).start().unwrap();
        let replayed = session.run_blocking(code).unwrap();
        assert_eq!((replayed.ending, replayed.stdout), (recorded.ending, recorded.stdout), "{code}");
        replaying.finish().unwrap();
    }
}

/// As on a slower machine: calls of models that it does not come to are those of the turn, and the next turn goes on after them.
#[test]
fn a_turn_that_is_stopped_earlier_than_then_is_followed_by_the_next() {
    let codes = [
        "import os, time\nfrom agentkernel import ask_llm\nprint(ask_llm('a'), flush=True)\nfor n in range(20_000_000): pass\n\
         time.sleep(0.5)\nprint(ask_llm('b'), os.urandom(99)[:0])\nwhile True: pass",
        "import os, random, time\nfrom agentkernel import ask_llm\nprint(ask_llm('c'), time.monotonic(), os.urandom(8).hex(), random.random())",
    ];
    let cassette = Cassette::new();
    let kernel = slow();
    if !kernel.info().host_owned_memory {
        // A turn that is stopped is the session's last.
        return;
    }
    let turns = |session: SessionBuilder, timeout: Duration| {
        let mut given = limits();
        given.timeout = Some(timeout);
        let mut session = session.limits(given).start().unwrap();
        codes.map(|code| session.run_blocking(code).unwrap())
    };
    let recording = Recording::create(&cassette.path).unwrap();
    let recorded = turns(kernel.session().record(&recording), Duration::from_secs(8));
    recording.finish().unwrap();
    assert_eq!(recorded[0].ending, Ending::TimedOut);
    let [first, second] = [&recorded[0], &recorded[1]].map(text);
    assert!(first.contains("to b") && second.contains("answer 2 to c"), "{first}{second}");
    let replaying = Replaying::open(&cassette.path).unwrap();
    let kernel = with(Llm::new("m", silent()));
    let replayed = turns(kernel.session().replay(&replaying), Duration::from_millis(400));
    assert_eq!(replayed[0].ending, Ending::TimedOut);
    assert!(!text(&replayed[0]).contains("to b"), "it was to be stopped before that");
    assert_eq!(text(&replayed[1]), text(&recorded[1]));
    replaying.finish().unwrap();
}

#[test]
fn sessions_are_replayed_in_the_order_of_their_start() {
    let cassette = Cassette::new();
    let kernel = slow();
    let run = |mut session: agentkernel::Session| {
        text(&session.run_blocking("import random, sys\nprint(random.random(), sys.stdin.read())").unwrap())
    };
    let recording = Recording::create(&cassette.path).unwrap();
    let input = |text: &str| Stdin::Bytes(text.as_bytes().to_vec());
    let first: Vec<String> = ["a", "b", "c"]
        .map(|text| run(kernel.session().stdin(input(text)).record(&recording).start().unwrap()))
        .into();
    drop(recording);
    let replaying = Replaying::open(&cassette.path).unwrap();
    let again: Vec<String> =
        [1, 2, 3].map(|_| run(kernel.session().replay(&replaying).start().unwrap())).into();
    assert_eq!(first, again);
    assert!(first[1].contains(" b"));
    replaying.finish().unwrap();
}

#[test]
fn a_deterministic_session_is_the_same_each_time() {
    let code = "import time, random, asyncio, datetime
from agentkernel import ask_llm_async
print(time.time(), datetime.datetime.now(), random.random(), {'a', 'b', 'c', 'd'})
time.sleep(3600)
async def one(name, ms):
    await asyncio.sleep(ms)
    print(name, len(await ask_llm_async(f'{name} {ms}')), time.monotonic())
async def all():
    await asyncio.gather(*(one(name, ms) for name, ms in [('a', 30), ('b', 10), ('c', 20), ('d', 1), ('e', 2)]))
    task = asyncio.ensure_future(ask_llm_async('polled 50'))
    while not task.done():
        await asyncio.sleep(0)
asyncio.run(all())
";
    let begun = Instant::now();
    let run = |seed| {
        let outcome = &turns(slow().session().deterministic(seed), &[code])[0];
        assert!(matches!(outcome.ending, Ending::Completed(_)), "{:?}", outcome.ending);
        text(outcome)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!(run(1).starts_with("1767225600.0"), "{}", run(1));
    assert!(begun.elapsed() < Duration::from_secs(60));
    let cassette = Cassette::new();
    let recording = Recording::create(&cassette.path).unwrap();
    let recorded = turns(slow().session().record(&recording).deterministic(1), &[code]);
    assert_eq!(text(&recorded[0]), run(1));
    drop(recording);
    let replaying = Replaying::open(&cassette.path).unwrap();
    same(&recorded, &turns(with(Llm::new("m", silent())).session().replay(&replaying), &[code]));
    replaying.finish().unwrap();
}

#[test]
fn a_recording_over_its_limit_stops_and_tells() {
    let cassette = Cassette::new();
    let recording = Recording::create(&cassette.path).unwrap().max_bytes(20_000);
    let mut session = builder().build().unwrap().session().record(&recording).start().unwrap();
    let outcome =
        session.run_blocking("import time\nfor _ in range(1000): time.sleep(0)\nprint('on')").unwrap();
    assert_eq!(outcome.stdout, b"on\n");
    let error = recording.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Replay);
    assert!(error.to_string().ends_with("it would have more than 20000 bytes, its limit"), "{error}");
    assert!(std::fs::metadata(&cassette.path).unwrap().len() <= 20_000);
    assert!(Replaying::open(&cassette.path).is_err());
}
