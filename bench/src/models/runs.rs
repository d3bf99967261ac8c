//! Questions about large texts, answered by programs of a model whose replies are fixed, beside the RLM
//! authors' package with the same replies.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use agentkernel::Context as Data;
use agentkernel::llm::{Budget, Llm, LlmLimits, OpenAi};
use agentkernel::rlm::Rlm;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::server::Server;
use crate::memory;
use crate::setup::Setup;
use crate::table::{Table, seconds};

const CLIENT: &str = include_str!("rlms_client.py");

/// Bytes of the text in which one line is looked for.
const HAYSTACK: usize = 100_000_000;

/// Entries that are labelled.
const ENTRIES: usize = 5000;

/// Two questions.
#[derive(Serialize)]
pub struct Runs {
    needle: Run,
    entries: Run,
}

/// One question, answered here and there.
#[derive(Serialize)]
struct Run {
    bytes: u64,
    seconds: f64,
    calls: u64,
    tokens: u64,
    /// The most memory that the process had meanwhile, less what it had before.
    peak_bytes: Option<u64>,
    rlms: Peer,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Peer {
    Measured(Answer),
    Skipped { skipped: String },
}

/// What the client prints, and how many requests it made.
#[derive(Serialize, Deserialize)]
struct Answer {
    version: String,
    answer: String,
    seconds: f64,
    #[serde(default)]
    calls: u64,
}

impl Runs {
    pub fn measure(setup: &Setup, server: &Server) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let bytes = if setup.quick { HAYSTACK / 100 } else { HAYSTACK };
        let haystack = directory.path().join("haystack.txt");
        write_haystack(&haystack, bytes)?;
        let entries = directory.path().join("entries.txt");
        write_entries(&entries, ENTRIES)?;
        let expected = |label: fn(usize) -> bool| (0..ENTRIES).filter(|number| label(*number)).count();
        let (good, bad) = (expected(is_good), expected(is_bad));
        let counts = format!("good={good} bad={bad} neither={}", ENTRIES - good - bad);
        Ok(Runs {
            needle: Run::measure(
                setup,
                server,
                "needle",
                &haystack,
                "Which is the magic number?",
                "7412889",
            )?,
            entries: Run::measure(setup, server, "entries", &entries, "How many of each?", &counts)?,
        })
    }
}

impl Run {
    fn measure(
        setup: &Setup,
        server: &Server,
        model: &str,
        file: &Path,
        question: &str,
        expected: &str,
    ) -> Result<Self> {
        let provider = OpenAi::builder().key("no-key-at-all").base_url(server.base_url()).build()?;
        let kernel = setup.builder().llm(Llm::new(model, provider).sub_model("reader")).build()?;
        let peak = memory::Peak::from_now();
        let start = Instant::now();
        let context = Data::open([file])?;
        let bytes = context.size();
        let mut limits = LlmLimits::none();
        limits.concurrency = Some(16);
        let rlm = Rlm::builder(&kernel).context(context).budget(Budget::new(limits)).build()?;
        let outcome = rlm.ask_blocking(question)?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(outcome.answer.as_deref() == Some(expected), "not `{expected}` but {outcome:?}");
        let total = outcome.usage.total();
        Ok(Run {
            bytes,
            seconds,
            calls: total.calls,
            tokens: total.input_tokens + total.output_tokens,
            peak_bytes: peak.and_then(|peak| peak.bytes()),
            rlms: match peer(setup, server, model, file, question, expected) {
                Ok(answer) => Peer::Measured(answer),
                Err(error) => Peer::Skipped { skipped: format!("{error:#}") },
            },
        })
    }
}

fn peer(
    setup: &Setup,
    server: &Server,
    model: &str,
    file: &Path,
    question: &str,
    expected: &str,
) -> Result<Answer> {
    let served = server.served();
    let arguments = [server.base_url(), model.to_owned()];
    let output = Command::new(&setup.python)
        .args(["-c", CLIENT])
        .args(arguments)
        .arg(file)
        .arg(question)
        .output()
        .with_context(|| format!("cannot run `{}`", setup.python.display()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("{}", message.lines().last().unwrap_or("it failed"));
    }
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().unwrap_or_default();
    let mut answer: Answer = serde_json::from_str(last).context("the client printed something else")?;
    ensure!(answer.answer.trim() == expected, "it answered `{}`", answer.answer);
    answer.calls = server.served() - served;
    Ok(answer)
}

fn write_haystack(path: &Path, bytes: usize) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let (mut written, mut hidden) = (0, false);
    for line in 1.. {
        if written >= bytes {
            break;
        }
        if !hidden && written > bytes / 10 * 9 {
            hidden = true;
            writeln!(out, "The magic number is 7412889.")?;
        }
        let text = format!("Line {line} of the haystack says that the weather was as expected that day.\n");
        out.write_all(text.as_bytes())?;
        written += text.len();
    }
    Ok(out.flush()?)
}

fn is_good(number: usize) -> bool {
    number % 7 == 3
}

fn is_bad(number: usize) -> bool {
    number % 5 == 1 && !is_good(number)
}

fn write_entries(path: &Path, count: usize) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for number in 0..count {
        let words = match number {
            number if is_good(number) => "I love how it works",
            number if is_bad(number) => "I hate to wait for it",
            _ => "It arrived on a Tuesday",
        };
        writeln!(out, "[entry] {number} | customer {} | {words}, and so say others.", number * 31 % 997)?;
    }
    Ok(out.flush()?)
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(
            "questions about texts, with fixed replies of the model",
            &["", "time", "calls", "tokens", "memory", "rlms", "its calls"],
        );
        for (name, run) in [("one line of", &self.needle), ("labels of 5,000 entries in", &self.entries)] {
            let mut cells = vec![
                seconds(run.seconds),
                run.calls.to_string(),
                run.tokens.to_string(),
                run.peak_bytes.map_or("?".into(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6)),
            ];
            if let Peer::Measured(peer) = &run.rlms {
                cells.push(seconds(peer.seconds));
                cells.push(peer.calls.to_string());
            }
            table = table.row(format!("{name} {:.1} MB", run.bytes as f64 / 1e6), cells);
        }
        table = match &self.needle.rlms {
            Peer::Measured(peer) => {
                table.remark(format!("rlms {} runs its programs in its own process", peer.version))
            }
            Peer::Skipped { skipped } => table.remark(format!("rlms: skipped: {skipped}")),
        };
        write!(f, "{table}")
    }
}
