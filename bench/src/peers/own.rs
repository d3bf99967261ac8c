//! AgentKernel's side, in this process.

use std::collections::BTreeMap;
use std::path::Path;

use agentkernel::{Ending, Kernel, Outcome, Session};
use anyhow::{Result, bail, ensure};

use super::{Found, Kept, Rounds, STATES, rows};
use crate::measure::{Summary, Times};
use crate::memory;
use crate::sessions::{self, BURST};
use crate::setup::{Setup, TURN, check};

/// Goes through the rounds that the drivers go through as well.
pub fn measure(setup: &Setup, rounds: &Rounds) -> Result<BTreeMap<String, Found>> {
    let kernel = setup.kernel()?;
    let mut found = BTreeMap::new();
    let mut row = |name: &str, value: Found| found.insert(name.to_owned(), value);
    row("start", Found::Time(sessions::starts(&kernel, None, 0, rounds.starts)?));
    row("turn", Found::Time(sessions::turns(kernel.session().rollback(false).start()?, rounds.turns)?));
    row("burst", Found::Time(sessions::bursts(&kernel, None, 0, rounds.bursts)?));
    row(
        "idle",
        match memory::idle(&setup.kernel()?)?.private_bytes {
            Some(bytes) => Found::Bytes(bytes),
            None => Found::Missing("this system does not tell what memory is private".to_owned()),
        },
    );
    if !kernel.info().host_owned_memory {
        for (name, _) in rows() {
            let missing = || Found::Missing("the host does not own the guest's memory".to_owned());
            found.entry(name).or_insert_with(missing);
        }
        return Ok(found);
    }
    row("kept_turn", Found::Time(sessions::turns(kernel.session().start()?, rounds.turns)?));
    kernel.keep_ready(None, BURST)?;
    row("ready", Found::Time(sessions::starts(&kernel, None, BURST, rounds.starts)?));
    row("burst_ready", Found::Time(sessions::bursts(&kernel, None, BURST, rounds.bursts)?));
    kernel.keep_ready(None, 0)?;
    for (number, kept) in STATES.iter().enumerate() {
        let (save, bytes, restore) = state(setup, &kernel, kept, rounds.saves)?;
        row(&format!("save_{number}"), Found::Time(save));
        row(&format!("file_{number}"), Found::Bytes(bytes as f64));
        row(&format!("restore_{number}"), Found::Time(restore));
    }
    Ok(found)
}

/// From a live session to a file, and from the file to a result in another kernel.
fn state(setup: &Setup, kernel: &Kernel, kept: &Kept, rounds: usize) -> Result<(Summary, u64, Summary)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("state.akimg");
    let mut session = kernel.session().start()?;
    answer(&session.run_blocking(kept.code)?)?;
    let (mut save, mut restore) = <(Times, Times)>::default();
    for _ in 0..rounds {
        check(&session.run_blocking(TURN)?)?;
        save.time(|| session.snapshot()?.save(&file))?;
        let other = setup.kernel()?;
        // Its first session is not what is measured.
        check(&other.session().start()?.run_blocking(TURN)?)?;
        let (_session, outcome) = restore.time(|| restored(&other, &file, kept.expression))?;
        let found = answer(&outcome)?;
        ensure!(found.as_deref() == Some(kept.expected), "`{}` gave {found:?}", kept.expression);
    }
    Ok((save.summary(), std::fs::metadata(&file)?.len(), restore.summary()))
}

fn restored(kernel: &Kernel, file: &Path, expression: &str) -> Result<(Session, Outcome)> {
    let image = kernel.load_image(file)?;
    let mut session = kernel.session().image(&image).start()?;
    let outcome = session.run_blocking(expression)?;
    Ok((session, outcome))
}

/// What a turn gave, which must have come to its end.
fn answer(outcome: &Outcome) -> Result<Option<String>> {
    match &outcome.ending {
        Ending::Completed(value) => Ok(value.as_ref().map(|value| value.repr.clone())),
        other => bail!("a turn ended in {other:?}"),
    }
}
