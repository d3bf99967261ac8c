//! Sessions beside those of other sandboxes for Python, which are driven by their own Python packages.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use agentkernel::{Ending, Image, Kernel, Outcome, Session};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::measure::{Summary, Times};
use crate::memory;
use crate::process;
use crate::sessions::{self, BURST};
use crate::setup::{Setup, TURN, check};
use crate::table::{RATIO, Table, kibibytes, ratio, seconds};

/// What the peers are called, their packages, and the scripts in `bench/peers` that drive them.
const PEERS: [(&str, &str, &str); 2] =
    [("Monty", "pydantic-monty", "monty.py"), ("eryx", "pyeryx", "pyeryx.py")];

/// States that are saved and restored.
const STATES: [Kept; 3] = [
    Kept {
        name: "4 MiB of bytes",
        code: "data = b'x' * (4 << 20)",
        expression: "len(data)",
        expected: "4194304",
    },
    Kept {
        name: "100,000 numbers",
        code: "numbers = [n * 1001 for n in range(100_000)]",
        expression: "numbers[-1]",
        expected: "100098999",
    },
    Kept {
        name: "a generator half consumed",
        code: "def count():\n    for n in range(10):\n        yield n\nwalk = count()\nnext(walk)",
        expression: "next(walk)",
        expected: "1",
    },
];

struct Kept {
    name: &'static str,
    code: &'static str,
    /// What is asked of the restored state, and its answer.
    expression: &'static str,
    expected: &'static str,
}

/// How often all is done, on every side.
struct Rounds {
    starts: usize,
    turns: usize,
    bursts: usize,
    saves: usize,
}

/// AgentKernel and its peers.
#[derive(Serialize)]
pub struct Peers {
    agentkernel: BTreeMap<String, Found>,
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct Peer {
    name: &'static str,
    #[serde(flatten)]
    side: Side,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Side {
    Measured { version: String, found: BTreeMap<String, Found> },
    Skipped { skipped: String },
}

/// What a side has to say to a row.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Time(Summary),
    Bytes(f64),
    /// There is nothing of the kind, and why.
    Missing(String),
}

/// What a driver prints.
#[derive(Deserialize)]
struct Printed {
    version: String,
    found: BTreeMap<String, PrintedRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PrintedRow {
    Seconds(Vec<f64>),
    Bytes(f64),
    Missing(String),
}

/// Measures AgentKernel, and then each peer in a process of its own.
pub fn measure(setup: &Setup) -> Result<Peers> {
    let rounds = Rounds {
        starts: setup.rounds(200, 20),
        turns: setup.rounds(200, 20),
        bursts: setup.rounds(10, 2),
        saves: setup.rounds(5, 2),
    };
    let agentkernel = agentkernel(setup, &rounds)?;
    let peer = |(name, package, script)| -> Result<Peer> {
        let side = match check_installed(setup, package) {
            Ok(()) => drive(setup, script, &rounds).with_context(|| format!("{name} cannot be measured"))?,
            Err(error) => Side::Skipped { skipped: format!("{error:#}") },
        };
        Ok(Peer { name, side })
    };
    let peers = PEERS.into_iter().map(peer).collect::<Result<_>>()?;
    Ok(Peers { agentkernel, peers })
}

/// The names of all rows in the order of the table, and what is read there.
fn rows() -> Vec<(String, String)> {
    let row = |name: &str, title: String| (name.to_owned(), title);
    let mut rows = vec![
        row("start", "start to result".to_owned()),
        row("ready", "start to result, from what was made ready".to_owned()),
        row("turn", "a turn after others, without a way back".to_owned()),
        row("kept_turn", "a turn after others, with the state before it kept".to_owned()),
        row("burst", format!("{BURST} starts to their results, all kept")),
        row("burst_ready", format!("{BURST} starts, all made ready")),
        row("idle", "private memory of an idle session".to_owned()),
    ];
    for (number, Kept { name, .. }) in STATES.iter().enumerate() {
        rows.push((format!("save_{number}"), format!("{name}: save")));
        rows.push((format!("file_{number}"), format!("{name}: size of the file")));
        rows.push((format!("restore_{number}"), format!("{name}: restore to a result")));
    }
    rows
}

fn agentkernel(setup: &Setup, rounds: &Rounds) -> Result<BTreeMap<String, Found>> {
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
        for (name, _) in rows_of_kept_states() {
            row(&name, Found::Missing("the host does not own the guest's memory".to_owned()));
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

/// Rows that need memory of the host's own.
fn rows_of_kept_states() -> impl Iterator<Item = (String, String)> {
    rows().into_iter().filter(|(name, _)| !["start", "turn", "burst", "idle"].contains(&name.as_str()))
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
    let image: Image = kernel.load_image(file)?;
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

/// Fails where this Python does not have a package, and says what to do.
fn check_installed(setup: &Setup, package: &str) -> Result<()> {
    let python = setup.python.display();
    let about = format!("from importlib.metadata import version; version('{package}')");
    let output = process::command(&setup.python)
        .args(["-c", &about])
        .output()
        .with_context(|| format!("`{python}` cannot be started"))?;
    ensure!(
        output.status.success(),
        "`{python}` has no `{package}`; install it with `python3 -m venv env` and `env/bin/pip install {package}`, \
         and run this with `--python env/bin/python`"
    );
    Ok(())
}

/// Runs a peer's driver, which goes through the same rounds in its own process.
fn drive(setup: &Setup, script: &str, rounds: &Rounds) -> Result<Side> {
    let states: Vec<_> = STATES.iter().map(|kept| [kept.code, kept.expression, kept.expected]).collect();
    let Rounds { starts, turns, bursts, saves } = rounds;
    let plan = json!({
        "starts": starts, "turns": turns, "bursts": bursts, "burst": BURST, "saves": saves, "states": states,
    });
    let driver = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    // No compiled files beside the sources.
    let output = process::command(&setup.python).arg("-B").arg(driver).arg(plan.to_string()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{script}` ended with {}: {errors}", output.status);
    let printed = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`{script}` printed something else"))?;
    side(printed)
}

/// A driver must say something to every row.
fn side(printed: Printed) -> Result<Side> {
    let Printed { version, found: mut all } = printed;
    let mut found = BTreeMap::new();
    for (name, _) in rows() {
        let row = all.remove(&name).with_context(|| format!("the driver says nothing of `{name}`"))?;
        let value = match row {
            PrintedRow::Bytes(bytes) => Found::Bytes(bytes),
            PrintedRow::Missing(why) => Found::Missing(why),
            PrintedRow::Seconds(all) => {
                ensure!(!all.is_empty(), "the driver has no times for `{name}`");
                let mut times = Times::default();
                all.into_iter().for_each(|seconds| times.push_seconds(seconds));
                Found::Time(times.summary())
            }
        };
        found.insert(name, value);
    }
    ensure!(all.is_empty(), "the driver says something of {:?}, which nobody asked for", all.keys());
    Ok(Side::Measured { version, found })
}

impl Found {
    /// The least and the usual; a size has only one.
    fn cells(&self) -> [String; 2] {
        match self {
            Found::Time(times) => [seconds(times.min_seconds), seconds(times.median_seconds)],
            Found::Bytes(bytes) => [String::new(), kibibytes(*bytes)],
            Found::Missing(_) => [String::new(), "not there".to_owned()],
        }
    }

    /// How many times as much it is.
    fn ratio(&self, other: &Found) -> String {
        match (self, other) {
            (Found::Time(times), Found::Time(other)) => ratio(times.ratio(other)),
            (Found::Bytes(bytes), Found::Bytes(other)) => ratio(bytes / other),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut columns = vec!["".to_owned(), "agentkernel min".to_owned(), "median".to_owned()];
        let (mut measured, mut remarks) =
            (Vec::new(), vec![format!("{RATIO}; of sizes, how many times as large")]);
        for Peer { name, side } in &self.peers {
            match side {
                Side::Measured { version, found } => {
                    columns.extend([
                        format!("{name} {version} min"),
                        "median".to_owned(),
                        "ratio".to_owned(),
                    ]);
                    measured.push((name, found));
                }
                Side::Skipped { skipped } => remarks.push(format!("{name}: skipped: {skipped}")),
            }
        }
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut table = Table::new("Sessions beside those of peers", &columns);
        let sides = || std::iter::once((&"agentkernel", &self.agentkernel)).chain(measured.iter().copied());
        for (row, title) in rows() {
            let ours = &self.agentkernel[&row];
            let mut cells = Vec::from(ours.cells());
            for (_, found) in &measured {
                cells.extend(found[&row].cells());
                cells.push(ours.ratio(&found[&row]));
            }
            table = table.row(&title, cells);
            for (name, found) in sides() {
                // Of the rows of one state the last one says it for all.
                if let Found::Missing(why) = &found[&row]
                    && !row.starts_with("save_")
                    && !row.starts_with("file_")
                {
                    remarks.push(format!("not there, {name}, {title}: {why}"));
                }
            }
        }
        remarks.into_iter().fold(table, Table::remark).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rows: impl IntoIterator<Item = (String, serde_json::Value)>) -> Result<Side> {
        let found: serde_json::Map<_, _> = rows.into_iter().collect();
        side(serde_json::from_value(json!({"version": "1", "found": found}))?)
    }

    fn missing() -> impl Iterator<Item = (String, serde_json::Value)> {
        rows().into_iter().map(|(name, _)| (name, json!({"missing": "it has no such thing"})))
    }

    #[test]
    fn what_a_peer_lacks_is_said() -> Result<()> {
        let side = printed(missing())?;
        let agentkernel = rows().into_iter().map(|(name, _)| (name, Found::Bytes(1024.0))).collect();
        let text = Peers { agentkernel, peers: vec![Peer { name: "other", side }] }.to_string();
        let line =
            text.lines().find(|line| line.contains("a turn after others, without")).unwrap_or_default();
        assert!(line.contains("1 KiB") && line.contains("not there"), "{text}");
        assert!(
            text.contains("not there, other, a turn after others, without a way back: it has no such thing"),
            "{text}"
        );
        Ok(())
    }

    #[test]
    fn a_driver_leaves_no_row_out_and_adds_none() {
        assert!(printed(missing()).is_ok());
        assert!(printed(missing().skip(1)).is_err());
        assert!(printed(missing().chain([("more".to_owned(), json!({"bytes": 1}))])).is_err());
        let empty = missing().map(|(name, _)| (name, json!({"seconds": []})));
        assert!(printed(empty).is_err());
    }
}
