//! Trajectories of earlier runs: where they are kept, what they tell in a line, and pages of them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agentkernel::llm::Dollars;
use agentkernel::rlm::{Event, Record, Trajectory, timestamp, view as page};
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::files;
use crate::terminal::{self, say};

/// How many are kept.
const KEPT: usize = 100;

/// Bytes of a first or last line that are read.
const LINE_BYTES: u64 = 1 << 20;

/// Lines at the end among which that of the end is: calls that were given up may come after it.
const LAST_LINES: usize = 64;

/// Characters of a question that `list` shows.
const SHOWN: usize = 60;

/// A new trajectory among the user's, and its file. Without a place for it the run goes on without.
pub fn keep() -> (Trajectory, Option<PathBuf>) {
    let Some(directory) = directory() else { return (Trajectory::none(), None) };
    let now = timestamp(SystemTime::now());
    let time: String = now.chars().filter(|letter| !"-:.".contains(*letter)).collect();
    // Two runs may begin in the same millisecond.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    let file = directory.join(format!("{time}-{:06x}.jsonl", random & 0xff_ffff));
    let made = files::private(&directory)
        .map_err(|error| Failure::new(format!("cannot make `{}`: {error}", directory.display())))
        .and_then(|()| Ok(Trajectory::create(&file)?));
    match made {
        Ok(trajectory) => {
            prune(&directory);
            (trajectory, Some(file))
        }
        Err(failure) => {
            terminal::remark(&format!("no trajectory is kept: {failure}"));
            (Trajectory::none(), None)
        }
    }
}

fn directory() -> Option<PathBuf> {
    Some(files::state()?.join("runs"))
}

/// Trajectories that are kept, the newest first.
fn kept(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    // Names begin with the time.
    found.sort_by(|one, other| other.cmp(one));
    found
}

/// Removes all but the newest, with their pages.
fn prune(directory: &Path) {
    for file in kept(directory).into_iter().skip(KEPT) {
        let _ = fs::remove_file(file.with_extension("html"));
        let _ = fs::remove_file(file);
    }
}

/// What `list` tells of a run.
#[derive(Default)]
struct Summary {
    time: String,
    question: String,
    model: String,
    /// How it ended; "unfinished" if it has not.
    ending: String,
    cost: Option<f64>,
}

impl Summary {
    /// Reads the first line and the last ones; what is not there stays empty.
    fn read(path: &Path) -> io::Result<Self> {
        let mut summary = Summary { ending: "unfinished".into(), ..Summary::default() };
        let mut file = File::open(path)?;
        let mut first = Vec::new();
        BufReader::new(Read::by_ref(&mut file).take(LINE_BYTES)).read_until(b'\n', &mut first)?;
        if let Ok(Record { event: Event::Start { time, question, model, .. }, .. }) =
            serde_json::from_slice(&first)
        {
            (summary.time, summary.question, summary.model) = (time, question, model);
        }
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LINE_BYTES)))?;
        let mut end = Vec::new();
        file.take(LINE_BYTES).read_to_end(&mut end)?;
        let lines = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').take(LAST_LINES);
        let last =
            lines.filter_map(|line| serde_json::from_slice(line).ok()).find_map(|record| match record {
                Record { event: Event::End { ending, totals, .. }, .. } => Some((ending, totals)),
                _ => None,
            });
        if let Some((ending, totals)) = last {
            let name = serde_json::to_value(ending)?;
            summary.ending = name.as_str().unwrap_or_default().to_owned();
            summary.cost = totals.values().filter_map(|total| total.cost).reduce(|sum, cost| sum + cost);
        }
        Ok(summary)
    }
}

/// `agentkernel rlm list`.
pub fn list(as_json: bool) -> Result<i32> {
    let directory = directory().ok_or_else(no_home)?;
    let mut runs = Vec::new();
    for path in kept(&directory) {
        let summary = Summary::read(&path)
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
        runs.push((path, summary));
    }
    if as_json {
        let runs = runs.iter().map(|(path, run)| {
            json!({
                "time": run.time, "ending": run.ending, "cost": run.cost, "model": run.model,
                "question": run.question, "trajectory": path.display().to_string(),
            })
        });
        say!("{}", serde_json::Value::from_iter(runs));
        return Ok(0);
    }
    say!("{}", directory.display());
    for (path, run) in &runs {
        // The model or who sent the file may have written these.
        let time = terminal::line(&run.time.replace('T', " "), 19);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let cost = run.cost.map_or("-".to_owned(), |cost| Dollars::new(cost).to_string());
        let question = terminal::line(&run.question, SHOWN);
        say!(
            "  {}  {:19}  {:11}  {cost:>8}  {question}",
            terminal::escaped(&name),
            time.trim_end_matches('…'),
            run.ending
        );
    }
    if runs.is_empty() {
        say!("  empty; `agentkernel rlm` leaves a trajectory of each run here");
    }
    Ok(0)
}

fn no_home() -> Failure {
    Failure::new("no trajectories are kept: neither HOME nor XDG_STATE_HOME is set")
        .hint("name the file that `--trajectory FILE` made")
}

/// `agentkernel rlm view`.
pub fn view(named: Option<PathBuf>, output: Option<&Path>) -> Result<i32> {
    let file = find(named)?;
    let shown = file.display();
    let cannot = |error: io::Error| Failure::new(format!("cannot read the trajectory `{shown}`: {error}"));
    let open = || File::open(&file).map(BufReader::new).map_err(cannot);
    if output == Some(Path::new("-")) {
        let mut out = BufWriter::new(io::stdout().lock());
        page(open()?, &mut out)?;
        out.flush().map_err(|error| Failure::new(format!("cannot write the page: {error}")))?;
        return Ok(0);
    }
    let out = output.map_or_else(|| file.with_extension("html"), Path::to_owned);
    if out == file {
        return Err(Failure::new(format!("the page would take the place of `{shown}`"))
            .hint("name another file with `--output`"));
    }
    let mut viewed = None;
    // It has all that the trajectory has.
    files::replace_private(&out, |to| {
        let mut to = BufWriter::new(to);
        viewed = Some(page(open()?, &mut to)?);
        to.flush().map_err(|error| Failure::new(format!("cannot write `{}`: {error}", out.display())))
    })?;
    if let Some(viewed) = viewed.filter(|viewed| viewed.problems > 0) {
        terminal::remark(&format!("{} lines could not be read; the page names them", viewed.problems));
    }
    say!("{}", out.display());
    Ok(0)
}

/// The file that is meant: a path, the name of one that is kept, or the newest.
fn find(named: Option<PathBuf>) -> Result<PathBuf> {
    let Some(named) = named else {
        let newest = kept(&directory().ok_or_else(no_home)?).into_iter().next();
        return newest.ok_or_else(|| {
            Failure::new("no trajectory is kept").hint("name one that `--trajectory FILE` made")
        });
    };
    let is_name = named.components().count() == 1;
    let kept = directory().map(|directory| directory.join(&named)).filter(|path| path.is_file());
    Ok(kept.filter(|_| is_name && !named.exists()).unwrap_or(named))
}
