//! Sessions that live long: warm images, pools, forks, the way back, files, overlays.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use agentkernel::{Grants, Image, Kernel, Overlay, Session, Tool, Workspace};
use anyhow::{Result, ensure};
use serde::Serialize;

use crate::measure::{Summary, Times};
use crate::setup::{Setup, TURN, check};
use crate::table::{Table, ratio};

/// Rounds that are not counted.
const WARM_UP: usize = 10;

/// Sessions of a burst.
pub const BURST: usize = 64;

/// Files that are read through an overlay and without one.
const FILES: usize = 1000;

/// What a warm image has imported beside seven tools.
const PRELUDE: &str = "import ast, configparser, decimal, email.message, fractions, html.parser, http.client, logging.handlers, \
    statistics, unittest, xmlrpc.client, zipfile\nrows = [{'n': n, 'name': str(n)} for n in range(1000)]";

/// States that are forked: what they are called, and what makes them.
const STATES: [(&str, &str); 3] = [
    ("nothing but `1+1`", TURN),
    (
        "6 MB: instances, a generator, 100,000 numbers",
        "class P:\n    def __init__(self, n): self.n = n\nps = [P(n) for n in range(20_000)]\n\
         numbers = [n * 1001 for n in range(100_000)]\ndef g():\n    yield from numbers\nwalk = g(); next(walk)",
    ),
    ("64 MB of bytes", "data = bytearray(b'x' * (64 << 20))"),
];

/// What is done with sessions.
#[derive(Serialize)]
pub struct Sessions {
    /// A turn after others, in a session that can go back, and in one that cannot.
    kept_turn: Summary,
    plain_turn: Summary,
    /// From the start of a session to its first result, by how it starts.
    started: Vec<(String, Summary)>,
    /// That many sessions one after the other on one thread, until all have a result.
    burst: Vec<(String, Summary)>,
    states: Vec<State>,
    read_plain: Summary,
    read_overlay: Summary,
}

/// What is done with a session in a certain state.
#[derive(Serialize)]
struct State {
    name: String,
    changed_bytes: u64,
    /// From the call to the fork's first result.
    fork: Summary,
    /// The second fork and later ones of one image.
    from_image: Summary,
    rollback: Summary,
    save: Summary,
    file_bytes: u64,
    /// In a kernel of its own, to the first result.
    restore: Summary,
}

/// Measures all of it.
pub fn measure(setup: &Setup) -> Result<Sessions> {
    let rounds = setup.rounds(200, 20);
    let kernel = setup.kernel()?;
    ensure!(
        kernel.info().host_owned_memory,
        "states can be kept only where the host owns the guest's memory"
    );
    let plain_turn = turns(kernel.session().rollback(false).start()?, rounds)?;
    let kept_turn = turns(kernel.session().start()?, rounds)?;
    let (mut started, mut burst) = (Vec::new(), Vec::new());
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/prebuilt");
    let with_tools = Tool::discover(&tools)?
        .into_iter()
        .fold(setup.builder(), agentkernel::KernelBuilder::tool)
        .build()?;
    let names: Vec<String> = with_tools.tools().into_iter().map(|tool| tool.name).collect();
    let image =
        names.iter().fold(with_tools.image(), |image, name| image.tool(name)).prelude(PRELUDE).build()?;
    for (name, kernel, image) in
        [("as it is", &kernel, None), ("seven tools, 12 modules, data", &with_tools, Some(&image))]
    {
        for pooled in [0, BURST] {
            kernel.keep_ready(image, pooled)?;
            let name = if pooled > 0 { format!("{name}, from a pool") } else { name.to_owned() };
            started.push((name.clone(), starts(kernel, image, pooled, rounds)?));
            burst.push((name, bursts(kernel, image, pooled, setup.rounds(20, 3))?));
        }
        kernel.keep_ready(image, 0)?;
    }
    let states =
        STATES.iter().map(|(name, code)| state(setup, &kernel, name, code)).collect::<Result<Vec<_>>>()?;
    let (read_plain, read_overlay) = reads(&kernel, setup.rounds(20, 3))?;
    Ok(Sessions { kept_turn, plain_turn, started, burst, states, read_plain, read_overlay })
}

/// A turn after others in one session.
pub fn turns(mut session: Session, rounds: usize) -> Result<Summary> {
    let mut times = Times::default();
    for round in 0..WARM_UP + rounds {
        if round == WARM_UP {
            times = Times::default();
        }
        check(&times.time(|| session.run_blocking(TURN))?)?;
    }
    Ok(times.summary())
}

/// Waits until a pool is full, or the processor is free.
fn settle(kernel: &Kernel, image: Option<&Image>, pooled: usize) {
    while kernel.pool_stats(image).ready < pooled {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

fn started(kernel: &Kernel, image: Option<&Image>) -> Result<Session> {
    let builder = kernel.session();
    let builder = match image {
        Some(image) => builder.image(image),
        None => builder,
    };
    Ok(builder.start()?)
}

/// From the start of a session to its first result; with `pooled`, from a pool that is full before.
pub fn starts(kernel: &Kernel, image: Option<&Image>, pooled: usize, rounds: usize) -> Result<Summary> {
    let mut times = Times::default();
    for round in 0..WARM_UP + rounds {
        if round == WARM_UP {
            times = Times::default();
        }
        settle(kernel, image, pooled);
        let (_session, outcome) = times.time(|| -> Result<_> {
            let mut session = started(kernel, image)?;
            let outcome = session.run_blocking(TURN)?;
            Ok((session, outcome))
        })?;
        check(&outcome)?;
    }
    Ok(times.summary())
}

/// That many sessions one after the other, until all have a result.
pub fn bursts(kernel: &Kernel, image: Option<&Image>, pooled: usize, rounds: usize) -> Result<Summary> {
    let mut times = Times::default();
    for _ in 0..rounds {
        settle(kernel, image, pooled);
        let mut sessions = Vec::with_capacity(BURST);
        times.time(|| -> Result<()> {
            for _ in 0..BURST {
                let mut session = started(kernel, image)?;
                check(&session.run_blocking(TURN)?)?;
                sessions.push(session);
            }
            Ok(())
        })?;
    }
    Ok(times.summary())
}

fn state(setup: &Setup, kernel: &Kernel, name: &str, code: &str) -> Result<State> {
    let mut parent = kernel.session().start()?;
    parent.run_blocking(code)?;
    check(&parent.run_blocking(TURN)?)?;
    let rounds = setup.rounds(50, 5);
    let (mut fork, mut from_image, mut rollback) = <(Times, Times, Times)>::default();
    for _ in 0..rounds {
        let mut made = fork.time(|| -> Result<Session> {
            let mut made = parent.fork()?;
            check(&made.run_blocking(TURN)?)?;
            Ok(made)
        })?;
        rollback.time(|| made.rollback())?;
    }
    let image = parent.snapshot()?;
    drop(started(kernel, Some(&image))?);
    for _ in 0..rounds {
        from_image.time(|| -> Result<()> { check(&started(kernel, Some(&image))?.run_blocking(TURN)?) })?;
    }
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("state.akimg");
    let (mut save, mut restore) = <(Times, Times)>::default();
    for _ in 0..setup.rounds(20, 3) {
        save.time(|| image.save(&file))?;
        let other = setup.kernel()?;
        // Its first session is not what is measured.
        check(&other.session().start()?.run_blocking(TURN)?)?;
        restore.time(|| -> Result<()> {
            let image = other.load_image(&file)?;
            check(&started(&other, Some(&image))?.run_blocking(TURN)?)
        })?;
    }
    Ok(State {
        name: name.to_owned(),
        changed_bytes: image.changed_bytes(),
        fork: fork.summary(),
        from_image: from_image.summary(),
        rollback: rollback.summary(),
        save: save.summary(),
        file_bytes: std::fs::metadata(&file)?.len(),
        restore: restore.summary(),
    })
}

/// Reading many small files, from a directory and through an overlay on it.
fn reads(kernel: &Kernel, rounds: usize) -> Result<(Summary, Summary)> {
    let directory = tempfile::tempdir()?;
    for number in 0..FILES {
        std::fs::write(directory.path().join(format!("{number}.txt")), format!("{number}\n"))?;
    }
    let read = format!(
        "for n in range({FILES}):\n    with open(f'{{n}}.txt') as f: assert int(f.read()) == n\n{TURN}"
    );
    let measured = |workspace: Workspace| -> Result<Summary> {
        let mut session = kernel.session().grants(Grants { workspace, ..Grants::default() }).start()?;
        let mut times = Times::default();
        for _ in 0..rounds {
            let begin = Instant::now();
            check(&session.run_blocking(read.as_str())?)?;
            times.push(begin.elapsed());
        }
        Ok(times.summary())
    };
    let plain = measured(Workspace::Directory(directory.path().into()))?;
    Ok((plain, measured(Workspace::Overlay(Overlay::over(directory.path())?))?))
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sessions { kept_turn, plain_turn, started, burst, states, read_plain, read_overlay } = self;
        let mut table = Table::new(format!("Sessions, one thread, `{TURN}`"), &["", "min", "median"])
            .times("a turn after others, without a way back", plain_turn)
            .times("a turn after others, with the state before it kept", kept_turn);
        for (name, times) in started {
            table = table.times(format!("start to result: {name}"), times);
        }
        for (name, times) in burst {
            table = table.times(format!("{BURST} starts to their results: {name}"), times);
        }
        table.fmt(f)?;
        writeln!(f)?;
        for state in states {
            let title =
                format!("A session with {}, {:.1} MB changed", state.name, state.changed_bytes as f64 / 1e6);
            Table::new(title, &["", "min", "median"])
                .times("fork to its result", &state.fork)
                .times("another start from one image to its result", &state.from_image)
                .times("rollback", &state.rollback)
                .times(format!("save ({:.1} MB)", state.file_bytes as f64 / 1e6), &state.save)
                .times("load in another kernel to its result", &state.restore)
                .fmt(f)?;
            writeln!(f)?;
        }
        Table::new(format!("Reading {FILES} small files"), &["", "min", "median"])
            .times("from a directory", read_plain)
            .times("through an overlay", read_overlay)
            .remark(format!(
                "an overlay takes {} of the directory's time",
                ratio(read_overlay.ratio(read_plain))
            ))
            .fmt(f)
    }
}
