//! Pages of trajectories in a headless Chromium, where there is one on the path; skipped elsewhere.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agentkernel::rlm::{CallKind, Event, Spent, Trajectory, view};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let browser = browser();
    if browser.is_none() {
        println!("skipped: no Chromium is on the path");
    }
    let trial = |name: &str, check: fn(&Path) -> Result<(), Failed>| {
        let (skipped, browser) = (browser.is_none(), browser.clone());
        let run = move || check(&browser.ok_or("no Chromium is on the path")?);
        Trial::test(name, run).with_ignored_flag(skipped)
    };
    let trials = vec![
        trial("answered", answered),
        trial("hostile", hostile),
        trial("stopped", stopped),
        trial("of_5000_calls", of_5000_calls),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|path| names.map(|name| path.join(name)))
        .find(|file| file.is_file())
}

/// The document after the page's script has run, opened at `part`. Whatever the page says on its console
/// is a failure: exceptions and what the content security policy stopped come out there.
fn document(browser: &Path, name: &str, jsonl: &Path, part: &str) -> Result<String, Failed> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trajectory");
    fs::create_dir_all(&directory)?;
    let page = directory.join(format!("{name}.html"));
    view(BufReader::new(File::open(jsonl)?), File::create(&page)?)?;
    let profile = tempfile::tempdir()?;
    let (standard, console) = (profile.path().join("stdout"), profile.path().join("stderr"));
    let mut child = Command::new(browser)
        // As root, which containers are, Chromium has no sandbox of its own.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}{part}", page.display()))
        .stdin(Stdio::null())
        .stdout(File::create(&standard)?)
        .stderr(File::create(&console)?)
        .spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > Duration::from_secs(100) {
            child.kill()?;
            child.wait()?;
            return Err("Chromium did not end in 100 seconds".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let console = String::from_utf8_lossy(&fs::read(console)?).into_owned();
    let said: Vec<_> = console.lines().filter(|line| line.contains("CONSOLE")).collect();
    if !status.success() || !said.is_empty() {
        return Err(format!("{status}: {said:?}").into());
    }
    Ok(fs::read_to_string(standard)?)
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("trajectory").join(format!("{name}.jsonl"))
}

/// The document without its data, script and style: what is on the page.
fn shown(document: &str) -> &str {
    let (_, body) = document.split_once("<body>").unwrap();
    body.split_once("<script").unwrap().0
}

fn has(document: &str, parts: &[&str]) -> Result<(), Failed> {
    match parts.iter().find(|part| !shown(document).contains(**part)) {
        Some(part) => Err(format!("`{part}` is not in the page: {}", shown(document)).into()),
        None => Ok(()),
    }
}

fn answered(browser: &Path) -> Result<(), Failed> {
    let document = document(browser, "answered", &sample("answered"), "#c14")?;
    has(
        &document,
        &[
            "Which of the four warehouses",
            "Porto, with 4,762 late deliveries",
            "<span class=\"badge good\">answered</span>",
            "13 calls",
            "<b>Node 0.1</b>",
            "Answer in one sentence.",
            "<span class=\"keyword\">import</span>",
            "Prompt, 3,922 characters",
        ],
    )
}

fn hostile(browser: &Path) -> Result<(), Failed> {
    let document = document(browser, "hostile", &sample("hostile"), "#never-called")?;
    has(
        &document,
        &[
            "&lt;/script&gt;&lt;script&gt;window.hit=1",
            "<span class=\"unseen\">\\u202e</span>",
            "<span class=\"unseen\">\\x1b</span>",
            "Shown as it stands: ",
            "a circle",
        ],
    )?;
    for absent in ["<img", "<style", "[object Object]", "NaN", "undefined"] {
        assert!(!shown(&document).contains(absent), "{absent}");
    }
    assert_eq!(document.matches("<script").count(), 3);
    let deceives = |c: &char| {
        c.is_control() && *c != '\n' || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
    };
    assert_eq!(shown(&document).chars().find(deceives), None);
    Ok(())
}

fn stopped(browser: &Path) -> Result<(), Failed> {
    let document = document(browser, "stopped", &sample("stopped"), "")?;
    has(&document, &["no end recorded", "5 lines are not shown", "tool-call", "not finished"])
}

/// A run of 5,000 calls is laid out as fast as one of few, and its last call is found.
fn of_5000_calls(browser: &Path) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let jsonl = directory.path().join("run.jsonl");
    let trajectory = Trajectory::create(&jsonl)?;
    let node = || "0".to_owned();
    let usage = Spent { input_tokens: 400, output_tokens: 60, cost: Some(0.0001), ..Spent::default() };
    trajectory.record(Event::Code { node: node(), iteration: 1, block: 1, code: "batch()".into() });
    for n in 0..5_000 {
        trajectory.record(Event::Call {
            call: format!("c{n}"),
            node: node(),
            iteration: 1,
            block: 1,
            kind: CallKind::AskLlm,
            model: "small".into(),
            system: None,
            prompt: format!("Entry {n}: {}", "lorem ipsum ".repeat(100)),
            prompt_chars: 1_210,
        });
        trajectory.record(Event::Returned {
            call: format!("c{n}"),
            node: node(),
            text: "label ".repeat(30),
            chars: 180,
            usage: Some(usage),
            cached: false,
            ms: 1.0,
            waited_ms: 0.0,
            error: None,
        });
    }
    trajectory.finish()?;
    let document = document(browser, "calls", &jsonl, "#c4999")?;
    has(&document, &["5,000 calls", "2,000,000 → 300,000", "$0.5000", "Entry 4999: lorem"])
}
