//! Trajectories as they are written, and the page that shows them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agentkernel::ErrorKind;
use agentkernel::rlm::{
    AnswerKind, CallKind, ContextPart, Event, Failure, ModelTotals, PromptMessage, PromptRole, Raised,
    Record, RunEnding, Spent, TRAJECTORY_VERSION, Trajectory, Viewed, view,
};
use base64::Engine;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("trajectory").join(name)).unwrap()
}

fn page_of(jsonl: &[u8]) -> (String, Viewed) {
    let mut page = Vec::new();
    let viewed = view(jsonl, &mut page).unwrap();
    (String::from_utf8(page).unwrap(), viewed)
}

/// The content of the element that `start` begins, as an HTML parser finds it: scripts and styles end
/// at the first closing tag, whatever stands before it.
fn content<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = page.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

fn data(page: &str, id: &str) -> Value {
    let start = format!("<script type=\"application/json\" id=\"{id}\">");
    serde_json::from_str(content(page, &start, "</script")).unwrap()
}

/// The lines of `jsonl` that are JSON objects.
fn objects(jsonl: &[u8]) -> Vec<Value> {
    let lines = jsonl.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).filter(Value::is_object).collect()
}

/// One of each event, with all that it can hold.
fn each_event() -> Vec<Event> {
    let node = || "0.1".to_owned();
    let usage = Spent { input_tokens: 1, output_tokens: 2, cost: None, ..Spent::default() };
    let error = || Some(Failure { kind: "Refused".into(), message: "no".into() });
    let limits = json!({"max-calls": 3, "timeout": null}).as_object().unwrap().clone();
    let totals = ModelTotals {
        calls: 2,
        cached: 1,
        input_tokens: 3,
        output_tokens: 4,
        cost: Some(0.5),
        ..ModelTotals::default()
    };
    vec![
        Event::Start {
            version: TRAJECTORY_VERSION,
            time: "2026-01-31T12:00:00.000Z".into(),
            question: "why?".into(),
            model: "large".into(),
            sub_model: "small".into(),
            limits,
            agentkernel: "0.1.0".into(),
        },
        Event::Node {
            node: node(),
            parent: Some("0".into()),
            call: Some("c1".into()),
            depth: 1,
            question: "why?".into(),
            model: "large".into(),
            context: vec![ContextPart { name: "a.txt".into(), bytes: 2, chars: Some(1) }],
        },
        Event::Prompt {
            node: node(),
            iteration: 1,
            messages: vec![PromptMessage { role: PromptRole::System, content: "be".into() }],
        },
        Event::Reply {
            node: node(),
            iteration: 1,
            text: "so".into(),
            model: "large".into(),
            usage,
            cached: true,
            ms: 1.5,
            error: error(),
        },
        Event::Code { node: node(), iteration: 1, block: 1, code: "1".into() },
        Event::Call {
            call: "c2".into(),
            node: node(),
            iteration: 1,
            block: 1,
            kind: CallKind::AskLlm,
            model: "small".into(),
            system: Some("be".into()),
            prompt: "why?".into(),
            prompt_chars: 4,
        },
        Event::Returned {
            call: "c2".into(),
            node: node(),
            text: "so".into(),
            chars: 2,
            usage: Some(usage),
            cached: true,
            ms: 2.5,
            waited_ms: 1.25,
            error: error(),
        },
        Event::Output {
            node: node(),
            iteration: 1,
            block: 1,
            ending: "raised".into(),
            text: "1".into(),
            cut: 7,
            exception: Some(Raised { kind: "KeyError".into(), message: "'x'".into() }),
            ms: 0.5,
        },
        Event::Note { node: node(), iteration: 1, text: "a limit".into() },
        Event::Answer { node: node(), content: "so".into(), how: AnswerKind::FinalVar, best_effort: true },
        Event::End {
            ending: RunEnding::Limit,
            totals: BTreeMap::from([("large".into(), totals)]),
            message: Some("calls".into()),
        },
    ]
}

fn note(text: impl Into<String>) -> Event {
    Event::Note { node: "0".into(), iteration: 1, text: text.into() }
}

/// What is written, call by call.
#[derive(Clone, Default)]
struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

impl Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_event_reads_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.jsonl");
    let trajectory = Trajectory::create(&path).unwrap();
    assert!(trajectory.is_on());
    for event in each_event() {
        trajectory.record(event);
    }
    trajectory.finish().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.is_sorted_by(|a, b| a.at <= b.at), "{text}");
    assert_eq!(records.into_iter().map(|record| record.event).collect::<Vec<_>>(), each_event());
    assert!(text.lines().all(|line| line.starts_with("{\"at\":")), "{text}");

    let (page, viewed) = page_of(text.as_bytes());
    assert_eq!((viewed.events, viewed.problems), (11, 0));
    assert_eq!(data(&page, "notes"), json!({"problems": [], "more": 0, "raw": []}));
}

/// Each event and each of its keys has a row in the documentation.
#[test]
fn the_schema_is_documented() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/trajectory.md");
    let docs = fs::read_to_string(docs).unwrap();
    for event in each_event() {
        let event = serde_json::to_value(event).unwrap();
        let name = event["event"].as_str().unwrap();
        let part = docs.split_once(&format!("\n## `{name}`")).expect(name).1;
        let part = part.split("\n## ").next().unwrap();
        for key in event.as_object().unwrap().keys().filter(|key| *key != "event" && *key != "node") {
            assert!(part.contains(&format!("\n| `{key}` |")), "`{key}` of `{name}` is not documented");
        }
    }
}

#[test]
fn a_trajectory_is_its_owners_and_replaces_nothing_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.jsonl");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    Trajectory::create(&path).unwrap().record(note("first"));
    assert_eq!(mode(&path), 0o600);
    let error = Trajectory::create(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(error.to_string().ends_with("run.jsonl` exists already"), "{error}");
    assert!(fs::read_to_string(&path).unwrap().contains("first"));

    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    Trajectory::replace(&path).unwrap().record(note("second"));
    assert_eq!(mode(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("second") && !text.contains("first"), "{text}");

    let fresh = directory.path().join("fresh.jsonl");
    Trajectory::replace(&fresh).unwrap();
    assert_eq!(mode(&fresh), 0o600);
    let link = directory.path().join("link.jsonl");
    symlink(&path, &link).unwrap();
    assert!(Trajectory::create(&link).is_err());
    assert!(Trajectory::replace(&link).is_err());
    assert!(Trajectory::replace(directory.path()).is_err());
    assert!(Trajectory::create(directory.path().join("no/such/run.jsonl")).is_err());
    assert!(fs::read_to_string(&path).unwrap().contains("second"));
}

#[test]
fn threads_write_whole_lines_at_once() {
    let writes = Writes::default();
    let trajectory = Trajectory::to(writes.clone());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let trajectory = &trajectory;
            scope.spawn(move || (0..500).for_each(|n| trajectory.record(note(format!("{thread} {n}\n")))));
        }
    });
    trajectory.finish().unwrap();
    let writes = writes.0.lock().unwrap();
    assert_eq!(writes.len(), 8 * 500);
    let mut next = [0; 8];
    let mut last = 0.0;
    for line in writes.iter() {
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        let record: Record = serde_json::from_slice(line).unwrap();
        assert!(record.at >= last);
        last = record.at;
        let Event::Note { text, .. } = record.event else { panic!() };
        let (thread, n) = text.trim().split_once(' ').unwrap();
        let thread: usize = thread.parse().unwrap();
        assert_eq!(n, next[thread].to_string());
        next[thread] += 1;
    }
}

/// Takes `room` bytes, then the disk is full.
struct Full {
    room: usize,
    written: Writes,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = self.room.min(bytes.len());
        self.room -= taken;
        self.written.write(&bytes[..taken])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_at_the_end() {
    let written = Writes::default();
    let trajectory = Trajectory::to(Full { room: 150, written: written.clone() });
    (0..10).for_each(|n| trajectory.record(note(n.to_string())));
    for _ in 0..2 {
        let error = trajectory.finish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::System);
        let message = error.to_string();
        assert!(message.starts_with("the trajectory misses 8 events: "), "{message}");
    }
    // Two whole lines and the start of the third: the page shows the two.
    let (page, viewed) = page_of(&written.0.lock().unwrap().concat());
    assert_eq!((viewed.events, viewed.problems), (2, 1));
    assert!(data(&page, "notes")["problems"][0]["problem"].as_str().unwrap().contains("cut short"));

    let none = Trajectory::none();
    none.record(note("nowhere"));
    assert!(!none.is_on());
    none.finish().unwrap();
}

fn records(bytes: &[u8]) -> Vec<Event> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| serde_json::from_slice::<Record>(line).unwrap().event).collect()
}

#[test]
fn after_its_limit_only_the_answer_and_the_end_are_written() {
    let writes = Writes::default();
    let trajectory = Trajectory::to(writes.clone()).max_bytes(10_000);
    (0..2_000).for_each(|_| trajectory.record(note("\u{1}".repeat(100))));
    each_event().into_iter().for_each(|event| trajectory.record(event));
    let answer = Event::Answer {
        node: "0".into(),
        content: "so".repeat(10_000),
        how: AnswerKind::Final,
        best_effort: false,
    };
    let end = each_event().pop().unwrap();
    trajectory.record(answer.clone());
    trajectory.record(end.clone());
    let error = trajectory.finish().unwrap_err().to_string();
    assert!(error.contains("it may have no more than 10000 bytes"), "{error}");
    let events = records(&writes.0.lock().unwrap().concat());
    let texts: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Note { text, .. } if !text.starts_with('\u{1}') => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert!(texts[0].starts_with("the trajectory is at its limit of 10000 bytes"), "{texts:?}");
    assert!(texts[1].ends_with(" events are missing here"), "{texts:?}");
    assert_eq!(texts.len(), 2);
    let (before, last) = events.split_at(events.len() - 3);
    assert!(before.len() < 20, "{}", before.len());
    assert_eq!(last[1..], [answer, end]);
}

/// A disk that hangs until it is let go.
struct Hanging {
    go: std::sync::mpsc::Receiver<()>,
    written: Writes,
}

impl Write for Hanging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.go.recv();
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nobody_waits_for_a_disk_that_hangs() {
    let (let_go, go) = std::sync::mpsc::channel();
    let writes = Writes::default();
    let trajectory = Trajectory::to(Hanging { go, written: writes.clone() });
    let began = Instant::now();
    let text = "x".repeat(100_000);
    (0..1_000).for_each(|_| trajectory.record(note(text.clone())));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let began = Instant::now();
    let error = trajectory.finish().unwrap_err().to_string();
    assert!(error.contains("misses 1000 events: they could not be written within 5 s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
    // It goes on: what waited is written, and the rest is told of.
    drop(let_go);
    trajectory.record(each_event().pop().unwrap());
    drop(trajectory);
    let began = Instant::now();
    while !matches!(records(&writes.0.lock().unwrap().concat()).last(), Some(Event::End { .. })) {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    let events = records(&writes.0.lock().unwrap().concat());
    let Event::Note { text, .. } = &events[events.len() - 2] else { panic!() };
    let missing: usize = text.strip_suffix(" events are missing here").unwrap().parse().unwrap();
    assert_eq!(missing + events.len() - 2, 1_000);
}

/// What the page loads and what its script and style may do.
#[test]
fn the_page_stands_alone() {
    let (page, viewed) = page_of(&sample("answered.jsonl"));
    assert_eq!((viewed.events, viewed.problems), (59, 0));
    assert_eq!(data(&page, "events"), Value::Array(objects(&sample("answered.jsonl"))));
    assert_eq!(data(&page, "notes")["raw"], json!([]));
    let policy = content(&page, "Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| {
        let hash = Sha256::digest(text.as_bytes());
        format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(hash))
    };
    let script = hash(content(&page, "<script>", "</script"));
    let style = hash(content(&page, "<style>", "</style"));
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"
        )
    );
    for absent in ["src=", "href=", "@import", "url(", "innerHTML", "insertAdjacentHTML", "eval("] {
        assert!(!page.contains(absent), "the page has `{absent}`");
    }
    // The one address is a name: that of SVG.
    let (script, style) = (content(&page, "<script>", "</script"), content(&page, "<style>", "</style"));
    assert_eq!(script.matches("://").count(), script.matches("\"http://www.w3.org/2000/svg\"").count());
    assert!(!style.contains("://"));
}

#[test]
fn hostile_texts_are_data() {
    let (page, viewed) = page_of(&sample("hostile.jsonl"));
    assert_eq!((viewed.events, viewed.problems), (20, 0));
    assert_eq!(data(&page, "events"), Value::Array(objects(&sample("hostile.jsonl"))));
    let raw = data(&page, "notes")["raw"].clone();
    assert_eq!(raw.as_array().unwrap().len(), 2, "{raw}");
    let (innocent, _) = page_of(&sample("answered.jsonl"));
    for tag in ["<script", "</script", "<!--", "<img", "<style", "</style"] {
        assert_eq!(page.matches(tag).count(), innocent.matches(tag).count(), "{tag}");
    }
    let deceives = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    assert!(
        !page.chars().any(|c| deceives(c) || c.is_control() && c != '\n'),
        "something unseen is in the page"
    );
}

#[test]
fn what_a_crash_leaves_is_shown_with_what_is_wrong() {
    let jsonl = sample("stopped.jsonl");
    let (page, viewed) = page_of(&jsonl);
    assert_eq!((viewed.events, viewed.problems), (30, 5));
    assert_eq!(
        data(&page, "events"),
        Value::Array(objects(&jsonl).into_iter().filter(|event| event.get("at").is_some()).collect())
    );
    let notes = data(&page, "notes");
    let problems: Vec<_> = notes["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["line"].as_u64().unwrap(), p["problem"].as_str().unwrap()))
        .collect();
    let expected = [
        (11, "it is no JSON: "),
        (12, "it is no event: an object with `event` and `at`"),
        (13, "it is no event: an object with `event` and `at`"),
        (15, "it is not UTF-8: "),
        (36, "the last line is cut short: the run was stopped while it was written"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for ((line, problem), (at, starts)) in problems.iter().zip(expected) {
        assert!(*line == at && problem.starts_with(starts), "{line}: {problem}");
    }
    let raw = notes["raw"].as_array().unwrap();
    assert_eq!(raw.len(), 2, "{raw:?}");
    assert!(
        raw[0][0] == 8 && raw[0][1].as_str().unwrap().starts_with("unknown variant `tool-call`"),
        "{raw:?}"
    );
    assert!(
        raw[1][0] == 9 && raw[1][1].as_str().unwrap().contains("invalid type: string \"two\""),
        "{raw:?}"
    );

    // Wherever it is cut, the page is made, and all whole lines are in it.
    let jsonl = sample("answered.jsonl");
    for cut in (0..jsonl.len()).step_by(61) {
        let (_, viewed) = page_of(&jsonl[..cut]);
        let lines = jsonl[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!((lines..=lines + 1).contains(&viewed.events), "{cut}: {viewed:?}");
        assert!(viewed.problems <= 1);
    }
}

#[test]
fn too_much_is_told_and_left_out() {
    let event = |text: &str| {
        format!("{{\"at\":1,\"event\":\"note\",\"node\":\"0\",\"iteration\":1,\"text\":\"{text}\"}}\n")
    };
    let long = event(&"x".repeat(64 << 20));
    let deep =
        format!("{{\"at\":1,\"event\":\"x\",\"deep\":{}{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
    let jsonl = [event("before"), long, deep, "junk\n".repeat(2_000), event("after")].concat();
    let (page, viewed) = page_of(jsonl.as_bytes());
    assert_eq!((viewed.events, viewed.problems), (2, 2_002));
    assert!(page.len() < 1 << 20, "{}", page.len());
    let notes = data(&page, "notes");
    assert_eq!((notes["problems"].as_array().unwrap().len(), &notes["more"]), (1_000, &json!(1_002)));
    assert_eq!(notes["problems"][0]["problem"], "the line is longer than 67108864 bytes");
    assert!(notes["problems"][1]["problem"].as_str().unwrap().contains("recursion limit"), "{notes}");
}

proptest! {
    #[test]
    fn any_text_round_trips(text in any::<String>(), model in "(</|<!--|[&<>\u{2028}\u{202e}\u{7f}\\\\\"]|\\PC){0,20}") {
        let writes = Writes::default();
        let trajectory = Trajectory::to(writes.clone());
        let event = Event::Reply {
            node: "0".into(), iteration: 1, text, model: model.clone(),
            usage: Spent::default(), cached: false, ms: 0.0, error: None,
        };
        trajectory.record(event.clone());
        trajectory.finish().unwrap();
        let (page, _) = page_of(&writes.0.lock().unwrap().concat());
        let shown: Record = serde_json::from_value(data(&page, "events")[0].clone()).unwrap();
        prop_assert_eq!(shown.event, event);
    }

    #[test]
    fn any_bytes_make_a_page(jsonl in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'{')], 0..300)) {
        let (page, _) = page_of(&jsonl);
        prop_assert!(data(&page, "events").as_array().unwrap().is_empty());
        data(&page, "notes");
    }
}
