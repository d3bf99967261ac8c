//! Sessions beside those of other sandboxes for Python, which are driven by their own Python packages.

mod driver;
mod own;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::Summary;
use crate::sessions::BURST;
use crate::setup::Setup;
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

/// Measures AgentKernel, and then each peer in a process of its own.
pub fn measure(setup: &Setup) -> Result<Peers> {
    let rounds = Rounds {
        starts: setup.rounds(200, 20),
        turns: setup.rounds(200, 20),
        bursts: setup.rounds(10, 2),
        saves: setup.rounds(5, 2),
    };
    let agentkernel = own::measure(setup, &rounds)?;
    let peer = |(name, package, script)| -> Result<Peer> {
        let side = match driver::check_installed(setup, package) {
            Ok(()) => driver::measure(setup, script, &rounds)
                .with_context(|| format!("{name} cannot be measured"))?,
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
    use serde_json::json;

    use super::*;

    fn printed(rows: impl IntoIterator<Item = (String, serde_json::Value)>) -> Result<Side> {
        let found: serde_json::Map<_, _> = rows.into_iter().collect();
        driver::side(serde_json::from_value(json!({"version": "1", "found": found}))?)
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
