//! Calls of models by programs, beside bare requests of the same HTTP client.

use std::fmt;
use std::time::{Duration, Instant};

use agentkernel::llm::{Llm, LlmLimits, OpenAi};
use agentkernel::{Ending, Session};
use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::server::{SLOW, Server};
use crate::measure::{Summary, Times};
use crate::setup::Setup;
use crate::table::{Table, seconds};

/// Calls that run at the same time.
const AT_ONCE: u32 = 50;

/// Calls that are made at once.
const MANY: u32 = 200;

/// How long one call takes, and many that overlap.
#[derive(Serialize)]
pub struct Calls {
    /// `ask_llm` in a program.
    call: Summary,
    /// The same request by reqwest.
    bare: Summary,
    calls_that_overlap: u32,
    at_the_same_time: u32,
    /// By `ask_llm_batch`.
    batch: Summary,
    /// By `asyncio.gather`.
    gathered: Summary,
    /// The least that they can take.
    ideal_seconds: f64,
}

/// A session whose programs may ask the server's models without end.
pub fn session(setup: &Setup, server: &Server) -> Result<Session> {
    let provider = OpenAi::builder().key("no-key-at-all").base_url(server.base_url()).build()?;
    let mut limits = LlmLimits::none();
    limits.concurrency = Some(AT_ONCE);
    let llm = Llm::new("instant", provider).allow("slow").limits(limits);
    Ok(setup.builder().llm(llm).build()?.session().start()?)
}

/// How long a program takes that must end well.
fn run(session: &mut Session, code: &str) -> Result<Duration> {
    let outcome = session.run_blocking(code)?;
    match outcome.ending {
        Ending::Completed(_) => Ok(outcome.usage.wall),
        other => bail!("a program that asks models ended in {other:?}"),
    }
}

impl Calls {
    pub fn measure(setup: &Setup, server: &Server) -> Result<Self> {
        let mut session = session(setup, server)?;
        run(&mut session, "from agentkernel import ask_llm, ask_llm_async, ask_llm_batch\nimport asyncio")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // The client wants one, though it never speaks TLS here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        let url = format!("{}/chat/completions", server.base_url());
        let bare_call = || {
            let body =
                r#"{"model":"instant","messages":[{"role":"user","content":"Is it?"}],"max_tokens":8192}"#;
            let request = client.post(&url).header("content-type", "application/json").body(body);
            runtime.block_on(async { request.send().await?.bytes().await }).context("a bare request failed")
        };
        let (mut call, mut bare) = <(Times, Times)>::default();
        // In turn, so that what the machine does meanwhile meets both.
        for _ in 0..setup.rounds(400, 20) {
            call.push(run(&mut session, "ask_llm('Is it?')\nNone")?);
            let start = Instant::now();
            bare_call()?;
            bare.push(start.elapsed());
        }
        let (mut batch, mut gathered) = <(Times, Times)>::default();
        let many = format!("ask_llm_batch(['Is it?'] * {MANY}, model='slow')\nNone");
        let all = format!(
            "async def all_of_them():\n    await asyncio.gather(*(ask_llm_async('Is it?', model='slow') for _ in range({MANY})))\nasyncio.run(all_of_them())"
        );
        for _ in 0..setup.rounds(5, 1) {
            batch.push(run(&mut session, &many)?);
            gathered.push(run(&mut session, &all)?);
        }
        Ok(Calls {
            call: call.summary(),
            bare: bare.summary(),
            calls_that_overlap: MANY,
            at_the_same_time: AT_ONCE,
            batch: batch.summary(),
            gathered: gathered.summary(),
            ideal_seconds: SLOW.as_secs_f64() * f64::from(MANY.div_ceil(AT_ONCE)),
        })
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = self.call.median_seconds - self.bare.median_seconds;
        let ratio = |summary: &Summary| format!("{:.2}x", summary.median_seconds / self.ideal_seconds);
        let table = Table::new("calls of a model that answers at once", &["", "min", "median"])
            .times("ask_llm in a program", &self.call)
            .times("the same request by reqwest", &self.bare)
            .remark(format!("a call takes {} more than its request", seconds(over)));
        writeln!(f, "{table}")?;
        let title = format!(
            "{} calls of {} ms, {} at the same time",
            self.calls_that_overlap,
            SLOW.as_millis(),
            self.at_the_same_time
        );
        let table = Table::new(title, &["", "min", "median", "to the ideal"])
            .row(
                "ask_llm_batch",
                [seconds(self.batch.min_seconds), seconds(self.batch.median_seconds), ratio(&self.batch)],
            )
            .row(
                "asyncio.gather",
                [
                    seconds(self.gathered.min_seconds),
                    seconds(self.gathered.median_seconds),
                    ratio(&self.gathered),
                ],
            )
            .remark(format!("the ideal is {}", seconds(self.ideal_seconds)));
        write!(f, "{table}")
    }
}
