//! Searching a context of a gigabyte, against ripgrep on the same file.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use agentkernel::{Context, Ending, Session};
use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::measure::{Summary, Times};
use crate::setup::Setup;
use crate::table::{RATIO, Table, kibibytes, ratio, seconds};

/// Bytes of the file; less with `--quick`.
const BYTES: usize = 1 << 30;
const QUICK_BYTES: usize = 64 << 20;

/// What is looked for. The needle is in the last line but one.
const SEARCHES: [(&str, &str); 3] =
    [("a needle at the end", "needle-[0-9]+"), ("a word", "fox"), ("a class", r"[0-9]{7}[02468] the")];

/// What searches and reading take.
#[derive(Serialize)]
pub struct Contexts {
    bytes: usize,
    /// Why there is nothing to compare with, if that is so.
    without_rg: Option<String>,
    searches: Vec<Search>,
    /// The first `len`, which counts the characters of all.
    first_len: Summary,
    /// Memory of this process at most while all of this went on, over what it had before.
    peak_bytes: Option<u64>,
    /// The same of the program's own memory.
    guest_bytes: u64,
}

#[derive(Serialize)]
struct Search {
    name: &'static str,
    pattern: &'static str,
    /// Until the first match.
    first: Summary,
    rg_first: Option<Summary>,
    /// All matches.
    count: Summary,
    rg_count: Option<Summary>,
}

/// Measures all of it; the file is in the page cache.
pub fn measure(setup: &Setup) -> Result<Contexts> {
    let bytes = setup.rounds(BYTES, QUICK_BYTES);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("lines.txt");
    write(&path, bytes)?;
    let kernel = setup.kernel()?;
    let session = || -> Result<Session> {
        let mut limits = agentkernel::Limits::default();
        limits.timeout = None;
        let context = Context::open([&path])?;
        let mut session = kernel.session().limits(limits).context(context).start()?;
        run(&mut session, "from agentkernel import context")?;
        Ok(session)
    };
    let rounds = setup.rounds(7, 2);
    let without_rg = Command::new("rg").arg("--version").output().err().map(|error| error.to_string());
    let mut used = session()?;
    // Both sides find it in memory.
    run(&mut used, "context.count('x')")?;
    drop(used);
    reset_peak();
    let before = status("VmRSS:");
    let (mut searches, mut guest_bytes) = (Vec::new(), 0);
    for (name, pattern) in SEARCHES {
        let (mut first, mut count) = (Times::default(), Times::default());
        let (mut rg_first, mut rg_count) = (Times::default(), Times::default());
        for _ in 0..rounds {
            let mut session = session()?;
            let code = format!("next(iter(context.search(r'{pattern}'))).line");
            first.time(|| run(&mut session, &code))?;
            let code = format!("context.count(r'{pattern}')");
            let counted = count.time(|| run(&mut session, &code))?;
            guest_bytes = guest_bytes.max(session.run_blocking("1")?.usage.peak_memory_bytes);
            if without_rg.is_none() {
                rg_first.time(|| rg(&path, pattern, &["-m1", "-n"]))?;
                let found = rg_count.time(|| rg(&path, pattern, &["--count-matches"]))?;
                if found.trim() != counted {
                    bail!("rg counts {found} matches of `{pattern}`, and the context {counted}");
                }
            }
        }
        let rg = |times: Times| without_rg.is_none().then(|| times.summary());
        let (first, count) = (first.summary(), count.summary());
        searches.push(Search { name, pattern, first, rg_first: rg(rg_first), count, rg_count: rg(rg_count) });
    }
    let mut first_len = Times::default();
    for _ in 0..rounds {
        let mut session = session()?;
        first_len.time(|| run(&mut session, "len(context)"))?;
    }
    let peak_bytes = status("VmHWM:").zip(before).map(|(peak, before)| peak.saturating_sub(before));
    Ok(Contexts { bytes, without_rg, searches, first_len: first_len.summary(), peak_bytes, guest_bytes })
}

fn write(path: &Path, bytes: usize) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut written = 0;
    for number in 0u64.. {
        // Few lines have the word.
        let animal = if number % 1000 == 0 { "fox" } else { "cat" };
        let line = format!(
            "{number:08} the quick brown {animal} jumps over the lazy dog, and on it goes for a while\n"
        );
        file.write_all(line.as_bytes())?;
        written += line.len();
        if written + 200 > bytes {
            break;
        }
    }
    file.write_all(b"here it is: needle-42\nthe end\n")?;
    file.flush()?;
    Ok(())
}

/// The `repr` of what the code gives.
fn run(session: &mut Session, code: &str) -> Result<String> {
    match session.run_blocking(code)?.ending {
        Ending::Completed(value) => Ok(value.map_or_else(String::new, |value| value.repr)),
        other => bail!("`{code}` ended in {other:?}"),
    }
}

fn rg(path: &Path, pattern: &str, flags: &[&str]) -> Result<String> {
    let mut command = Command::new("rg");
    command.args(["--no-config", "--color=never"]).args(flags).args(["-e", pattern]).arg(path);
    let output = command.stdin(Stdio::null()).output().context("rg cannot be started")?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes the greatest memory of this process what it is now.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

impl fmt::Display for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("A context of {} MiB (median)", self.bytes >> 20);
        let mut table = Table::new(title, &["", "agentkernel", "rg", "ratio"]);
        for search in &self.searches {
            for (what, ours, theirs) in
                [("first", &search.first, &search.rg_first), ("count", &search.count, &search.rg_count)]
            {
                let mut cells = vec![seconds(ours.median_seconds)];
                if let Some(theirs) = theirs {
                    cells.push(seconds(theirs.median_seconds));
                    cells.push(ratio(ours.ratio(theirs)));
                }
                table = table.row(format!("{}, {what}: {}", search.name, search.pattern), cells);
            }
        }
        table = table.row("the first len", [seconds(self.first_len.median_seconds)]);
        if let Some(peak) = self.peak_bytes {
            table = table.row("memory of the host at most, over before", [kibibytes(peak as f64)]);
        }
        table = table.row("memory of the program", [kibibytes(self.guest_bytes as f64)]);
        table = match &self.without_rg {
            Some(why) => table.remark(format!("without rg: {why}")),
            None => table
                .remark(RATIO)
                .remark("rg: a process each time, on the same file; -m1 and --count-matches"),
        };
        write!(f, "{table}")
    }
}
